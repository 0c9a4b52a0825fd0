"""Looking while it trains.

Clips of fixed prompts, made with the averaged weights, to TensorBoard.
"""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from avgen.codecs.base import load_module
from avgen.models.speech import SpeechTimer
from avgen.pipeline import AVPipeline, PipelineConfig
from avgen.training.data import Prepared
from avgen.training.diffusion import DiffusionSystem
from avgen.training.prepared import encoder_fingerprint

SHEET_FRAMES = 12  # frames in a row of a contact sheet


def contact_sheet(frames: np.ndarray, count: int = SHEET_FRAMES) -> np.ndarray:
    """`count` evenly spaced frames of uint8 [T, H, W, 3] side by side: [H, count * W, 3]."""
    return np.concatenate(
        frames[np.linspace(0, len(frames) - 1, count).round().astype(int)], axis=1
    )


def build_pipeline(
    system: DiffusionSystem, folder: Path, codecs: Path, num_frames: int
) -> AVPipeline:
    """The pipeline around a system's transformer, with what a prepared folder knows.

    Args:
        system: Holds the transformer.
        folder: The prepared folder that it trains on.
        codecs: A folder with video_codec and audio_codec.
        num_frames: Frames of a training clip.

    Raises:
        ValueError: the codecs' encoders are not those that made the folder's latents.
    """
    latents = system.latents
    parts = [load_module(codecs / name) for name in ("video_codec", "audio_codec")]
    if encoder_fingerprint(*parts) != latents.fingerprint:
        raise ValueError(
            f"{codecs}: not the codecs that made the latents in {folder}; encode it with them first"
        )
    seconds = float(num_frames / latents.grids(num_frames)[0].fps)
    records = Prepared(folder, "train").records()
    timer = SpeechTimer.fit(((record.words, seconds) for record in records), system.lexicon)
    stride = latents.video_stride[0]
    config = PipelineConfig(
        height=latents.height,
        width=latents.width,
        fps=latents.fps,
        num_frames=num_frames,
        context_frames=1 + stride * max(1, round(num_frames / 6 / stride)),
        video_patch=latents.video_patch,
        audio_patch=latents.audio_patch,
        video_statistics=system.video_statistics,
        audio_statistics=system.audio_statistics,
        timer=timer,
        caption=records[0].caption,
    )
    parts = [part.to(system.device) for part in parts]
    return AVPipeline(system.transformer, *parts, config)  # type: ignore[arg-type]


class Samples(Callback):
    """Makes the same clips every so often and logs a contact sheet and the sound of each.

    Place it before `EMAWeightAveraging`, which takes its averaged weights out of the model again at
    the end of validation.

    Args:
        folder: The prepared folder.
        codecs: A folder with video_codec and audio_codec.
        prompts: What to make.
        num_frames: Frames of a clip.
        seed: Of every clip.
    """

    def __init__(
        self, folder: Path, codecs: Path, prompts: list[str], num_frames: int, seed: int = 0
    ) -> None:
        self.folder, self.codecs, self.prompts = folder, codecs, prompts
        self.num_frames, self.seed = num_frames, seed

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate and log, on the first process alone."""
        if trainer.sanity_checking or not trainer.is_global_zero or pl_module.logger is None:
            return
        assert isinstance(pl_module, DiffusionSystem)
        pipe = build_pipeline(pl_module, self.folder, self.codecs, self.num_frames)
        board = pl_module.logger.experiment  # type: ignore[attr-defined]
        for index, prompt in enumerate(self.prompts):
            clip = pipe(prompt, num_frames=self.num_frames, seed=self.seed, progress=False)
            assert clip.waveform is not None and clip.sample_rate is not None
            board.add_image(
                f"sample_{index}",
                contact_sheet(clip.frames),
                trainer.global_step,
                dataformats="HWC",
            )
            sound = torch.from_numpy(clip.waveform)
            board.add_audio(
                f"sample_{index}", sound, trainer.global_step, sample_rate=clip.sample_rate
            )
