"""Trains the picture's codec: pixels in, the same pixels out through the latents.

The loss is what one sees: absolute and squared error, edges (gradients in space, so that lips and
teeth stay sharp), motion (differences in time, so that the joins of latent frames do not flicker),
all weighted towards the part of the crop where the mouth is. A second phase freezes the encoder and
sharpens the decoder alone. Of a codec that has a mover (avgen/codecs/convolutions.py) it is trained
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from avgen.codecs.base import load_tensors
from avgen.codecs.convolutions import ConvVideoCodecConfig, ResidualBlock
from avgen.codecs.video import ConvVideoCodec, Flaws
from avgen.codecs.warp import warp
from avgen.training.draws import hash_seed
from avgen.training.optimization import OptimizerConfig, configure

TRUSTED = 0.1  # error of a pixel in [-1, 1] at which a known flow counts 1 / e
LITTLE_NOISE = Flaws(noise=0.02)


@dataclass(frozen=True)
class PixelLoss:
    """What an error in a pixel costs.

    Args:
        squared: Weight of the squared error against the absolute one.
        edge: Weight of differences between neighbouring pixels.
        motion: Weight of differences between neighbouring frames.
        mouth: How much more an error counts inside `mouth_region`.
        mouth_region: Rows and columns (top, bottom, left, right) of the mouth, as shares of the
            crop.
        warped: Weight of the absolute error of the first picture, warped, by a codec with a mover.
        flow: Weight of the flow's absolute error in pixels, where it is known (`flow` of the data's
            variation) and by as much as it makes the frame of the first picture.
        painted: Weight of the mask's mean share of what is not the first picture, warped. A squared
            error alone blends the two to a blur wherever the flow is a little off.
    """

    squared: float = 20.0
    edge: float = 1.0
    motion: float = 1.0
    mouth: float = 2.0
    mouth_region: tuple[float, float, float, float] = (0.72, 0.97, 0.32, 0.70)
    warped: float = 1.0
    flow: float = 1.0
    painted: float = 0.05

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of the mouth in a picture of this size."""
        top, bottom, left, right = self.mouth_region
        return slice(round(top * height), round(bottom * height)), slice(
            round(left * width), round(right * width)
        )


class VideoCodecSystem(L.LightningModule):
    """Reconstruction training of a `ConvVideoCodec`.

    Args:
        codec: Sizes of the autoencoder.
        optimizer: Learning rate and its course.
        loss: What errors cost.
        flaws: Of the latents that the decoder sees.
        initial_weights: A `model.safetensors` to start from: of this codec, or of one with fewer
            residual blocks, where those that are new start as the identity, or without a mover, or
            with one that tells no frames apart.
        freeze_encoder: Leave the encoder as it is, so that latents cached from it stay valid.
        compile: Compile encoder and decoder (a minute at the start, then about three times as fast
            on a CPU).
        seed: Of the flaws, which depend on it, the batch and the process alone.
    """

    def __init__(
        self,
        codec: ConvVideoCodecConfig,
        optimizer: OptimizerConfig,
        loss: PixelLoss,
        flaws: Flaws = LITTLE_NOISE,
        initial_weights: Path | None = None,
        freeze_encoder: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.optimizer, self.loss, self.flaws, self.seed = optimizer, loss, flaws, seed
        self.codec = ConvVideoCodec(codec)
        if initial_weights is not None:
            modules = self.codec.named_modules()
            blocks = [name for name, module in modules if isinstance(module, ResidualBlock)]
            load_tensors(self.codec, initial_weights, optional=["mover", "mover.frames", *blocks])
        if freeze_encoder or codec.mover_widths:
            self.codec.encoder.requires_grad_(False)
        if codec.mover_widths:
            self.codec.decoder.requires_grad_(False)
        if compile:
            for part in (self.codec.encoder, self.codec.decoder, self.codec.mover):
                if part is not None:  # sizes are few, and inductor trips over some unknown ones
                    part.compile(dynamic=False)

    def weights(self, height: int, width: int) -> Tensor:
        """Weight of each pixel [H, W], 1 on average."""
        weights = torch.ones(height, width, device=self.device)
        weights[self.loss.inside(height, width)] += self.loss.mouth
        return weights / weights.mean()

    def losses(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The terms of the loss for pixels [B, 3, T, H, W] in [-1, 1]."""
        weights = self.weights(*real.shape[-2:])
        error = made - real
        across, down, along = error.diff(dim=-1), error.diff(dim=-2), error.diff(dim=2)
        return {
            "absolute": (error.abs() * weights).mean(),
            "squared": (error.square() * weights).mean(),
            "edge": ((across.abs() * weights[:, 1:]).mean() + (down.abs() * weights[1:]).mean())
            / 2,
            "motion": (along.abs() * weights).mean() if real.shape[2] > 1 else error.new_zeros(()),
        }

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on `batch["video"]`, uint8 [B, T, H, W, 3].

        Besides there are `batch["anchor"]`, the clips' first pictures, uint8 [B, H, W, 3], and, of
        faces whose expressions are known, `batch["expressions"]`, float32 [B, T, K], and those of
        the first pictures, `batch["anchor_expressions"]`, [B, K].
        """
        real, anchor = to_video(batch["video"]), to_video(batch["anchor"][:, None])
        seed = hash_seed(self.seed, self.global_step, batch_idx, self.global_rank)
        generator = torch.Generator().manual_seed(seed)
        made = self.codec(real, self.flaws, generator, anchor[:, :, 0], told_of(batch))
        terms = self.losses(made.frames, real)
        loss = self.total(terms)
        if made.warped is not None and made.mask is not None:
            weights = self.weights(*real.shape[-2:])
            terms["warped"] = ((made.warped - real).abs() * weights).mean()
            terms["painted"] = 1 - made.mask.mean()
            loss = loss + self.loss.warped * terms["warped"] + self.loss.painted * terms["painted"]
        if made.flow is not None and (known := batch.get("flow")) is not None:
            terms["flow"] = flow_error(made.flow, known.movedim(2, 1), anchor[:, :, 0], real)
            loss = loss + self.loss.flow * terms["flow"]
        self.log_dict({f"train/{name}": term for name, term in terms.items()})
        self.log("train/psnr", psnr(made.frames.detach(), real), prog_bar=True)
        return loss

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """What `losses` cost together."""
        own = self.loss
        weights = {"absolute": 1.0, "squared": own.squared, "edge": own.edge, "motion": own.motion}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """PSNR of whole validation clips, all of the picture and the mouth alone."""
        real, anchor = to_video(batch["video"]), to_video(batch["anchor"][:, None])
        with torch.compiler.set_stance("force_eager"):  # every clip has a length of its own
            made = self.codec(real, anchor=anchor[:, :, 0], expressions=told_of(batch)).frames
        rows, columns = self.loss.inside(*real.shape[-2:])
        self.log("validation/psnr", psnr(made, real), prog_bar=True, sync_dist=True)
        self.log(
            "validation/psnr_mouth",
            psnr(made[..., rows, columns], real[..., rows, columns]),
            sync_dist=True,
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """Muon and Adam with warm-up and cosine decay over what is trainable."""
        return configure(self, self.optimizer)


def told_of(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Expressions of a batch's frames and of its first pictures, if they are known."""
    own, first = batch.get("expressions"), batch.get("anchor_expressions")
    return None if own is None or first is None else (own, first)


def flow_error(made: Tensor, known: Tensor, first: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of flows [B, 2, T, H, W] in pixels.

    A pixel counts exp(-error / 0.1), of what the known flow makes of the first pictures
    [B, 3, H, W] and what is there in the frames [B, 3, T, H, W]: where it is wrong, little.
    """
    batch, _, time = made.shape[:3]
    flat = known.movedim(2, 1).flatten(0, 1)
    seen = warp(first.repeat_interleave(time, 0), flat).unflatten(0, (batch, time)).movedim(1, 2)
    counts = torch.exp(-(seen - real).abs().mean(1, keepdim=True) / TRUSTED)
    return ((made - known).abs() * counts).mean()


def to_video(frames: Tensor) -> Tensor:
    """Turn uint8 [B, T, H, W, 3] into float [B, 3, T, H, W] in [-1, 1]."""
    return frames.movedim(-1, 1).float() / 127.5 - 1


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, mean over clips, of pixels in [-1, 1]: a peak of 2."""
    error = (made.clamp(-1, 1) - real).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / error.clamp_min(1e-10))).mean()
