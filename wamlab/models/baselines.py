"""What any model must beat: a future that looks like the present, and one in which only the camera moves on."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.geometry import STEERING_RATIO, WHEELBASE_M
from wamlab.models.anchored_dit import AnchoredDiT
from wamlab.models.blocks import check_inputs, check_shape
from wamlab.types import ACTIONS, Batch, Rollout, Scene


class Baseline(nn.Module):
    """A model without trained weights: `predict` is all there is to it."""

    name: str

    def see_as(self, scene: Scene) -> None:
        """Take what the model must know of the camera and the frame rate from one of the dataset's scenes."""

    def predict(self, present: Tensor, actions: Tensor) -> Tensor:
        """present: (B, c, h, w), actions: (B, F, A) -> (B, F, c, h, w)."""
        raise NotImplementedError

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """MSE in raw latents, and `vs_copy`: as a fraction of that of copying the present."""
        check_inputs(batch.context, batch.actions)
        shape = (len(batch), batch.actions.shape[1], *batch.context.shape[2:])
        check_shape("future", batch.future, "B F c h w", shape)
        present = batch.context[:, -1]
        loss = F.mse_loss(self.predict(present, batch.actions), batch.future)
        change = (batch.future - present[:, None]).square().mean()
        return loss, {"vs_copy": float(loss / change.clamp(min=1e-12))}

    @torch.no_grad()
    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        *,
        callback: Callable[[int, int], None] | None = None,
        **ignored: object,
    ) -> Rollout:
        """context: (B, C, c, h, w), actions: (B, F, A), any F. Settings of samplers are accepted and have no effect.

        Raises `InvalidShape` and `InvalidAction`.
        """
        check_inputs(context, actions)
        latents = self.predict(context[:, -1], actions)
        if callback is not None:
            callback(1, 1)
        return Rollout(latents, actions, self.name, generator.initial_seed())


class CopyPresent(Baseline):
    """Every future frame is the present."""

    name = "copy"

    def predict(self, present: Tensor, actions: Tensor) -> Tensor:
        return present[:, None].expand(-1, actions.shape[1], -1, -1, -1).clone()


class ConstantVelocityWarp(Baseline):
    """The present, seen from where the car would be if it kept its speed and its steering.

    Speed and steering of the first action give the car's arc (the kinematic bicycle), whatever the later actions say. The scene is taken
    to be still: flat ground below the horizon, everything above it `FAR_M` away. The latents are resampled along the flow that
    this gives through the scene's camera. Nothing is learned. So it moves the road as the road moves, and turns the rest; but cannot fill
    what comes into view (the border is repeated), moves what stands upright near by as if painted on the ground, knows no other car's
    motion, and blurs: latents, unlike pixels, change in kind when moved by a fraction of a cell. (Fitted to training windows by least
    squares instead, the ground sinks until it hardly moves, for that reason.)
    """

    name = "warp"
    FAR_M = 80.0
    #: Of nuScenes' CAM_FRONT: focal length and row of the horizon as fractions of the square picture's side; its height above the ground.
    FOCAL, HORIZON, HEIGHT_M = 1.41, 0.55, 1.5

    def __init__(self, interval_s: float = 0.5) -> None:
        """interval_s: between frames."""
        super().__init__()
        self.register_buffer("camera", torch.tensor([self.FOCAL, self.HORIZON, interval_s]))

    def see_as(self, scene: Scene) -> None:
        focal, horizon, interval_s = self.camera.tolist()
        if scene.intrinsics is not None and scene.image_size is not None:
            side = min(scene.image_size)
            top = (scene.image_size[1] - side) / 2  # cropped from the middle: `wamlab.data.frames.load_frames`
            focal, horizon = scene.intrinsics[1, 1] / side, (scene.intrinsics[1, 2] - top) / side
        if len(scene) > 1:
            interval_s = (scene.timestamps_s[-1] - scene.timestamps_s[0]) / (len(scene) - 1)
        self.camera.copy_(torch.tensor([focal, horizon, interval_s]))

    def predict(self, present: Tensor, actions: Tensor) -> Tensor:
        focal, horizon, _ = self.camera.tolist()
        (batch, c, h, w), frames, device = present.shape, actions.shape[1], present.device
        x_m, y_m, yaw = (p[..., None, None] for p in self.arc(actions.to(present)).unbind(-1))  # each (B, F, 1, 1)
        right = ((torch.arange(w, device=device) + 0.5) / w - 0.5) / focal  # (w,): tangent of the angle to the axis
        down = (((torch.arange(h, device=device) + 0.5) / h - horizon) / focal)[:, None]  # (h, 1)
        # the point that a pixel of the future shows, as seen then ...
        ahead = torch.where(down > 0, self.HEIGHT_M / down.clamp(min=1e-4), self.FAR_M).clamp(max=self.FAR_M)  # (h, 1)
        left = -right * ahead  # (h, w)
        # ... and as seen now, (B, F, h, w)
        ahead_now = (yaw.cos() * ahead - yaw.sin() * left + x_m).clamp(min=0.1)
        left_now = yaw.sin() * ahead + yaw.cos() * left + y_m
        column = 0.5 - focal * left_now / ahead_now
        row = horizon + focal * down * ahead / ahead_now
        grid = torch.stack([column, row], dim=-1) * 2 - 1  # (B, F, h, w, 2) in [-1, 1]
        source = present[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
        moved = F.grid_sample(source, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        return moved.view(batch, frames, c, h, w)

    def arc(self, actions: Tensor) -> Tensor:
        """Poses (B, F, 3) of x_m, y_m, yaw_rad at the future frames, from the present's, if the first action is held."""
        steering, speed = (actions[:, :1, ACTIONS.index(name)] for name in ("steering_rad", "speed_mps"))
        times_s = self.camera[2].to(actions) * torch.arange(1, actions.shape[1] + 1, device=actions.device)
        distance = speed * times_s  # (B, F)
        yaw = distance * torch.tan(steering / STEERING_RATIO) / WHEELBASE_M
        along = distance * torch.sinc(yaw / torch.pi)
        across = distance * torch.sin(yaw / 2) * torch.sinc(yaw / (2 * torch.pi))  # (1 - cos yaw) / yaw
        return torch.stack([along, across, yaw], dim=-1)


class AnchorAlone(nn.Module):
    """What a trained model predicts its change from, with the change left out: what moves here, nobody had to learn."""

    name = "anchor"

    def __init__(self, model: AnchoredDiT) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    @torch.no_grad()
    def rollout(self, context: Tensor, actions: Tensor, generator: torch.Generator, **ignored: object) -> Rollout:
        """context: (B, C, c, h, w), actions: (B, F, A). Raises `InvalidShape` and `InvalidAction`."""
        check_inputs(context, actions)
        device = self.model.head.weight.device
        context, actions = context.to(device), actions.to(device)
        standard = self.model.latents(context)
        change = self.model.latents.scale(self.model.condition(standard, actions).anchor - standard[:, -1:])
        latents = (context[:, -1:] + change).expand(-1, actions.shape[1], -1, -1, -1)
        return Rollout(latents, actions, self.name, generator.initial_seed())
