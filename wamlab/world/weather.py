"""Looks: what time of day and weather do to light, sky and air. Numbers only, no drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wamlab.errors import UnknownName

TIMES = ("day", "dusk", "night")
WEATHERS = ("clear", "overcast", "rain", "fog")


@dataclass(frozen=True)
class Look:
    """Light and air of a scene, in linear colour.

    Attributes:
        sun: (3,) unit vector towards the sun. sunlight, ambient: (3,) irradiance from the sun and from the sky.
        zenith, horizon: (3,) sky colours. cloud: 0..1, how much of the sky is covered.
        haze_per_m: extinction; what is far away takes the colour `haze`.
        wetness: 0 dry .. 1 wet. lights: street lamps, windows and vehicle lights are on. exposure: of the picture.
    """

    time: str
    weather: str
    sun: np.ndarray
    sunlight: np.ndarray
    ambient: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    haze: np.ndarray
    haze_per_m: float
    cloud: float
    wetness: float
    lights: bool
    exposure: float

    @property
    def attributes(self) -> dict[str, str]:
        return {"time": self.time, "weather": self.weather}


#         sun elevation, sunlight,        ambient,            zenith,              horizon,          exposure
_TIME = {
    "day": ((28, 60), (2.6, 2.4, 2.1), (0.62, 0.74, 0.92), (0.12, 0.28, 0.66), (0.62, 0.76, 0.92), 0.62),
    "dusk": ((5, 11), (1.7, 0.75, 0.32), (0.42, 0.36, 0.46), (0.14, 0.18, 0.40), (1.0, 0.50, 0.24), 0.85),
    "night": ((20, 50), (0.03, 0.035, 0.05), (0.05, 0.058, 0.095), (0.006, 0.009, 0.024), (0.045, 0.043, 0.055), 1.5),
}


def make_look(time: str, weather: str, rng: np.random.Generator) -> Look:
    """The look for a time of day and a weather; `rng` sets the sun's position and how thick clouds and haze are.

    Raises `UnknownName` for a time or weather that is not in `TIMES` or `WEATHERS`.
    """
    if time not in TIMES:
        raise UnknownName("time of day", time, TIMES)
    if weather not in WEATHERS:
        raise UnknownName("weather", weather, WEATHERS)
    elevations, *colours, exposure = _TIME[time]
    sunlight, ambient, zenith, horizon = (np.array(c) for c in colours)
    elevation, azimuth = np.deg2rad(rng.uniform(*elevations)), rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    cloud, haze_per_m, wetness = rng.uniform(0.1, 0.5), rng.uniform(0.0008, 0.002), 0.0
    if weather != "clear":
        level = ambient.mean() + 0.18 * sunlight.mean()
        grey = level * np.array([0.95, 1.0, 1.06])
        sunlight, ambient = sunlight * 0.12, 0.35 * ambient + 0.65 * grey
        tint = 0.3 if time == "dusk" else 0.1
        sky = horizon.mean() * np.array([0.88, 0.93, 1.0])
        zenith, horizon = 0.75 * sky + tint * zenith, (1 - tint) * sky + tint * horizon
        cloud = rng.uniform(0.75, 1.0)
    if weather == "rain":
        zenith, horizon, ambient = zenith * 0.72, horizon * 0.78, ambient * 0.8
        haze_per_m, wetness = rng.uniform(0.004, 0.008), rng.uniform(0.7, 1.0)
    if weather == "fog":
        haze_per_m, zenith, cloud = rng.uniform(0.014, 0.03), horizon * 0.97, 0.0
    lights = time != "day" or weather in ("rain", "fog")
    return Look(
        time,
        weather,
        sun,
        sunlight,
        ambient,
        zenith,
        horizon,
        horizon.copy(),
        haze_per_m,
        cloud,
        wetness,
        lights,
        exposure,
    )
