"""Looking while it trains.

Clips made with the averaged weights: of fixed prompts, to TensorBoard; of validation sentences,
measured as `avgen evaluate` measures clips.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from avgen.clips import write_clip
from avgen.clips.clip import Clip
from avgen.codecs.base import load_module
from avgen.errors import UserError
from avgen.evaluation.report.summary_of_rows import values_of
from avgen.evaluation.run.rows import Job, row_of
from avgen.models.timing import SpeechTimer
from avgen.pipeline import AVPipeline, PipelineConfig
from avgen.training.data import Prepared
from avgen.training.prepared import encoder_fingerprint
from avgen.training.system import DiffusionSystem

SHEET_FRAMES = 12  # frames in a row of a contact sheet
LOG = logging.getLogger(__name__)
GROUPS = {"clips": "", "mismatched": "_mismatched", "delayed": "_delayed"}  # and names' endings


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
        UserError: the codecs' encoders are not those that made the folder's latents.
    """
    latents = system.latents
    parts = [load_module(codecs / name) for name in ("video_codec", "audio_codec")]
    if encoder_fingerprint(*parts) != latents.fingerprint:
        raise UserError(
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


class Synchrony(Callback):
    """Makes validation sentences every so often and logs how well their sound and picture fit.

        callbacks:
          - class_path: avgen.training.callbacks.Synchrony
            init_args:
              folder: prepared/grid
              codecs: runs/grid/codecs
              num_frames: 73
              num_clips: 8
              recognizer: avgen.evaluation.speech.recognition.GridRecognizer

    To every logger go `sync/r0` and `sync/z` of avgen-sync, `sync/within_one_frame`, the share of
    the scored clips whose offset is at most a frame, `sync/scored`, the share of all clips that
    could be scored, and `speech/word_error_rate` of all words together; all but the share scored
    also of another clip's sound and of the sound 5 frames late (`_mismatched`, `_delayed`). What
    cannot be scored is said in the log, with its reason. These are to look at: what is trained or
    chosen by a score cannot be reported with it.

    Place it before `EMAWeightAveraging`, which takes its averaged weights out of the model again at
    the end of validation.

    Args:
        folder: The prepared folder.
        codecs: A folder with video_codec and audio_codec.
        num_frames: Frames of a clip.
        num_clips: How many sentences, the first of the validation split.
        recognizer: Import path of what hears words (avgen/evaluation/speech/recognition.py);
            None leaves out the error rate.
        seed: Of every clip.
    """

    def __init__(
        self,
        folder: Path,
        codecs: Path,
        num_frames: int,
        num_clips: int = 8,
        recognizer: str | None = None,
        seed: int = 0,
    ) -> None:
        self.folder, self.codecs, self.num_frames = folder, codecs, num_frames
        self.num_clips, self.recognizer, self.seed = num_clips, recognizer, seed

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate, measure and log, on the first process alone."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DiffusionSystem)
        pipe = build_pipeline(pl_module, self.folder, self.codecs, self.num_frames)
        records = Prepared(self.folder, "validation").records()[: self.num_clips]
        said = [" ".join(word.text for word in record.words) for record in records]
        clips = [
            pipe(
                record.caption,
                speech=text or None,
                num_frames=self.num_frames,
                seed=self.seed,
                progress=False,
            )
            for record, text in zip(records, said, strict=True)
        ]
        values = measure_clips(clips, said, self.recognizer)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)


def measure_clips(
    clips: Sequence[Clip], said: Sequence[str], recognizer: str | None = None
) -> dict[str, float]:
    """What `Synchrony` logs of clips; a value that no clip has is left out.

    Args:
        clips: With sound.
        said: Of each, its words; "" for none.
        recognizer: Import path of what hears words.
    """
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.mkv" for index in range(len(clips))]
        for clip, path in zip(clips, paths, strict=True):
            write_clip(clip, path)
        rows = [
            row_of(
                Job(
                    group="clips",
                    id=path.name,
                    path=path,
                    metrics=("sync", "wer") if recognizer else ("sync",),
                    weights={},
                    reference=None,
                    partner=paths[(index + 1) % len(paths)] if len(paths) > 1 else None,
                    transcript=text or None,
                    recognizer=recognizer,
                )
            )
            for index, (path, text) in enumerate(zip(paths, said, strict=True))
        ]
    for index, row in enumerate(rows):
        for name, result in row["metrics"].items():
            if result["status"] != "scored":
                LOG.warning("validation clip %d: no %s: %s", index, name, result["reason"])
    return _values(rows)


def _values(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means of the rows' values by the names that they are logged under."""
    values = {"sync/scored": len(values_of(rows, "sync", "r0", "clips")) / max(len(rows), 1)}
    for group, ending in GROUPS.items():
        r0, z, offsets, errors, words = (
            list(values_of(rows, metric, value, group).values())
            for metric, value in (
                ("sync", "r0"),
                ("sync", "z"),
                ("sync", "offset_frames"),
                ("wer", "num_errors"),
                ("wer", "num_words"),
            )
        )
        if r0:
            values[f"sync/r0{ending}"] = float(np.mean(r0))
            values[f"sync/z{ending}"] = float(np.mean(z))
            values[f"sync/within_one_frame{ending}"] = float(np.mean(np.abs(offsets) <= 1))
        if words:
            values[f"speech/word_error_rate{ending}"] = sum(errors) / sum(words)
    return values
