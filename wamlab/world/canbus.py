"""One drive's vehicle signals as the messages of nuScenes' CAN-bus expansion: same files, keys and units, thinned and rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wamlab.geometry import nearest
from wamlab.world.recording import CanBus

#: Messages a second. nuScenes has 2 to 970; all of these are multiples of the keyframes' 2 Hz, so a message falls on every keyframe.
RATES_HZ = {
    "ms_imu": 4,
    "pose": 10,
    "steeranglefeedback": 20,
    "vehicle_monitor": 2,
    "zoe_veh_info": 2,
    "zoesensors": 4,
}
GRAVITY_MPS2 = 9.81
WHEEL_RADIUS_M = 0.31
TRACK_WIDTH_M = 1.51
STEER_OFFSET_DEG = -12.6

Messages = list[dict[str, Any]]


def can_messages(can: CanBus, route: NDArray, start_us: int) -> dict[str, Messages | dict[str, Any] | list]:
    """Message name -> content of its JSON file, for the six signals and the derived `meta` and `route`.

    `start_us` is the first keyframe; the messages lie on a grid through it.
    """
    signals = _signals(can)
    files: dict[str, Any] = {
        name: _rows(can.timestamps_us, signals[name], _thin(can.timestamps_us, rate, start_us))
        for name, rate in RATES_HZ.items()
    }
    files["meta"] = {name: _stats(rows) for name, rows in files.items()}
    files["route"] = np.round(np.asarray(route, np.float64)[:, :2], 3).tolist()
    return files


def _signals(can: CanBus) -> dict[str, dict[str, tuple[NDArray, int]]]:
    """Message -> key -> (values (N,) or (N, k), decimals; 0 decimals means an integer)."""
    zero = np.zeros(len(can.timestamps_us))
    yaw, speed, yaw_rate = can.pose[:, 2], can.speed_mps, can.yaw_rate_radps
    orientation = np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=1)
    accel = np.stack([can.accel_mps2[:, 0], can.accel_mps2[:, 1], zero + GRAVITY_MPS2], axis=1)
    rotation_rate = np.stack([zero, zero, yaw_rate], axis=1)
    steering_deg, throttle = np.degrees(can.steering_rad), np.round(1000 * can.throttle)
    seconds = (can.timestamps_us - can.timestamps_us[0]) / 1e6
    left_mps, right_mps = speed - yaw_rate * TRACK_WIDTH_M / 2, speed + yaw_rate * TRACK_WIDTH_M / 2
    rpm = 60 / (2 * np.pi * WHEEL_RADIUS_M)
    distance_m = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(seconds))])
    torque_nm = np.clip(1500 * WHEEL_RADIUS_M / 9.3 * can.accel_mps2[:, 0], -400, 1647)
    return {
        "ms_imu": {"linear_accel": (accel, 3), "q": (orientation, 6), "rotation_rate": (rotation_rate, 5)},
        "pose": {
            "accel": (accel, 4),
            "orientation": (orientation, 7),
            "pos": (np.stack([can.pose[:, 0], can.pose[:, 1], zero], axis=1), 3),
            "rotation_rate": (rotation_rate, 5),
            "vel": (np.stack([speed, zero, zero], axis=1), 4),
        },
        "steeranglefeedback": {"value": (can.steering_rad, 5)},
        "vehicle_monitor": {
            "available_distance": (zero + 150, 0),
            "battery_level": (zero + 90, 0),
            "brake": (126 * can.brake, 0),
            "brake_switch": (1 + (can.brake > 0.01), 0),
            "gear_position": (zero + 7, 0),
            "left_signal": (zero, 0),
            "rear_left_rpm": (left_mps * rpm, 2),
            "rear_right_rpm": (right_mps * rpm, 2),
            "right_signal": (zero, 0),
            "steering": (steering_deg, 1),
            "steering_speed": (np.gradient(steering_deg, seconds), 0),
            "throttle": (throttle, 0),
            "vehicle_speed": (3.6 * speed, 2),
            "yaw_rate": (np.degrees(yaw_rate), 1),
        },
        "zoe_veh_info": {
            "FL_wheel_speed": (left_mps * rpm, 2),
            "FR_wheel_speed": (right_mps * rpm, 2),
            "RL_wheel_speed": (left_mps * rpm, 2),
            "RR_wheel_speed": (right_mps * rpm, 2),
            "left_solar": (zero, 0),
            "longitudinal_accel": (can.accel_mps2[:, 0], 2),
            "meanEffTorque": (torque_nm, 1),
            "odom": (np.floor(100 * distance_m) % 125, 0),
            "odom_speed": (3.6 * speed, 0),
            "pedal_cc": (throttle, 0),
            "regen": (zero, 0),
            "requestedTorqueAfterProc": (torque_nm, 1),
            "right_solar": (zero, 0),
            "steer_corrected": (steering_deg, 1),
            "steer_offset_can": (zero + STEER_OFFSET_DEG, 1),
            "steer_raw": (steering_deg - STEER_OFFSET_DEG, 1),
            "transversal_accel": (can.accel_mps2[:, 1] / GRAVITY_MPS2, 3),
        },
        "zoesensors": {
            "brake_sensor": (0.375 + 0.036 * can.brake, 4),
            "steering_sensor": (steering_deg, 1),
            "throttle_sensor": (throttle, 0),
        },
    }


def _thin(timestamps_us: NDArray, rate_hz: int, start_us: int) -> NDArray:
    """Indices of the signals nearest to a grid of `rate_hz` through `start_us`."""
    period = 1_000_000 // rate_hz
    first = start_us - (start_us - timestamps_us[0]) // period * period
    grid = np.arange(first, timestamps_us[-1] + 1, period)
    return np.unique(nearest(timestamps_us, grid))


def _rows(timestamps_us: NDArray, signals: dict[str, tuple[NDArray, int]], keep: NDArray) -> Messages:
    """One dict a kept message: `utime` and the rounded values."""
    columns = {"utime": timestamps_us[keep].astype(int).tolist()}
    for key, (values, decimals) in signals.items():
        rounded = np.round(np.asarray(values, np.float64)[keep], decimals) + 0.0  # -0.0 -> 0.0
        columns[key] = (rounded if decimals else rounded.astype(int)).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _stats(rows: Messages) -> dict[str, Any]:
    """The `meta` entry of one message type."""
    timespan = (rows[-1]["utime"] - rows[0]["utime"]) / 1e6
    stats: dict[str, Any] = {}
    for key in rows[0]:
        values = np.asarray([row[key] for row in rows], np.float64)
        for prefix, series in (("", values), ("diff_", np.diff(values, axis=0) if len(rows) > 1 else values * 0)):
            for name in ("max", "mean", "min", "std"):
                stats.setdefault(key, {})[prefix + name] = np.round(getattr(series, name)(axis=0), 4).tolist()
    freq = round((len(rows) - 1) / timespan, 3) if timespan else 0.0
    return {"message_count": len(rows), "message_freq": freq, "timespan": round(timespan, 3), "var_stats": stats}
