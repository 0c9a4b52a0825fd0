"""Looking while it trains.

Clips made with the averaged weights: of fixed prompts, to a logger that takes pictures; of
validation sentences, measured as `avgen evaluate` measures clips.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from avgen.clips import write_clip
from avgen.clips.clip import Clip
from avgen.codecs.base import load_module
from avgen.corpora.manifest import ClipRecord
from avgen.errors import UserError
from avgen.evaluation.rows import values_of
from avgen.evaluation.run.jobs import Job, row_of
from avgen.evaluation.speech.transcripts import Transcript
from avgen.models.timing import SpeechTimer
from avgen.pipeline import AVPipeline, PipelineConfig
from avgen.pipeline.parts import load_optional
from avgen.preparation.latent_store import ClipShape, encoder_fingerprint, read_shapes
from avgen.preparation.store import Prepared
from avgen.training.sharding import ShardedEMA
from avgen.training.system import DiffusionSystem

SHEET_FRAMES = 12  # frames in a row of a contact sheet
LOG = logging.getLogger(__name__)
WORDLESS = SpeechTimer({}, {}, {}, 0.0, 0.0)  # of a corpus without words: it can say none
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
        codecs: A folder with video_codec and audio_codec, and with such of the OPTIONAL parts as
            there are.
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
    records = Prepared(folder, "train").records()
    timer = timer_of(records, read_shapes(folder, records, latents), system.lexicon)
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
        timer=WORDLESS if timer is None else timer,
        caption=usual_caption(records),
        needs_words=timer is not None,
        **system.sampling,
    )
    parts = [part.to(system.device) for part in parts]
    width = config.picture_width(latents.video_channels, latents.audio_channels)
    more = load_optional(codecs, width, parts[1], system.device)
    return AVPipeline(system.transformer, *parts, config, **more)  # type: ignore[arg-type]


def timer_of(
    records: Sequence[ClipRecord],
    shapes: Sequence[ClipShape],
    lexicon: Mapping[str, Sequence[str]],
) -> SpeechTimer | None:
    """How long words take in clips, each with its own length; None where there are no words."""
    spoken = [
        (record.words, float(shape.num_frames / shape.fps))
        for record, shape in zip(records, shapes, strict=True)
        if record.words
    ]
    return SpeechTimer.fit(spoken, lexicon) if spoken else None


def usual_caption(records: Sequence[ClipRecord]) -> str:
    """The caption of more than half of the clips; none where they are of many people."""
    ((caption, count),) = Counter(record.caption for record in records).most_common(1)
    return caption if count > len(records) / 2 else ""


class Watching(Callback):
    """Makes clips with the averaged weights at the end of every validation, on all processes.

    All of them, since weights may be spread over them; what comes out is logged by one. It stands
    before the callback that averages weights, which takes them out of the model again then.

    Args:
        folder: The prepared folder.
        codecs: A folder with video_codec and audio_codec, and with such of the OPTIONAL parts as
            there are.
        num_frames: Frames of a clip.
        seed: Of every clip.
    """

    def __init__(self, folder: Path, codecs: Path, num_frames: int, seed: int = 0) -> None:
        self.folder, self.codecs, self.num_frames, self.seed = folder, codecs, num_frames, seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the order of the callbacks.

        Raises:
            UserError: the weights' average stands before this.
        """
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for other in callbacks[: callbacks.index(self)]:
            if isinstance(other, WeightAveraging | ShardedEMA):
                raise UserError(
                    f"callbacks: {type(self).__name__} stands after {type(other).__name__}; it "
                    "must stand before it, to see the averaged weights"
                )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate everywhere, and log on the first process.

        What cannot be made, since a prompt asks for what the model cannot do, is said in a warning:
        a training is not lost for it.
        """
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DiffusionSystem)
        pipe = build_pipeline(pl_module, self.folder, self.codecs, self.num_frames)
        if "bf16" in str(trainer.precision):  # in which sharded weights are gathered
            pipe.dtype = torch.bfloat16
        own, clips = {"num_frames": self.num_frames, "seed": self.seed, "progress": False}, {}
        for index, (prompt, speech) in enumerate(self.requests()):
            try:
                clips[index] = pipe(prompt, speech=speech, **own)
            except UserError as error:
                LOG.warning("%s: clip %d is not made: %s", type(self).__name__, index, error)
        if trainer.is_global_zero:
            self.log_clips(clips, trainer)

    def requests(self) -> Sequence[tuple[str, str | None]]:
        """Prompt and speech of every clip."""
        raise NotImplementedError

    def log_clips(self, clips: Mapping[int, Clip], trainer: L.Trainer) -> None:
        """Log the clips by the number of their requests."""
        raise NotImplementedError


class Samples(Watching):
    """Makes the same clips every so often and logs a contact sheet and the sound of each.

    Of Lightning's loggers those of TensorBoard and Weights & Biases take them; another is named in
    a warning, once.

    Args:
        folder: The prepared folder.
        codecs: A folder with video_codec and audio_codec, and with such of the OPTIONAL parts as
            there are.
        prompts: What to make.
        num_frames: Frames of a clip.
        seed: Of every clip.
    """

    def __init__(
        self, folder: Path, codecs: Path, prompts: list[str], num_frames: int, seed: int = 0
    ) -> None:
        super().__init__(folder, codecs, num_frames, seed)
        self.prompts = prompts
        self.skipped: set[str] = set()

    def requests(self) -> Sequence[tuple[str, str | None]]:
        """Every prompt, with what it has in quotes."""
        return [(prompt, None) for prompt in self.prompts]

    def log_clips(self, clips: Mapping[int, Clip], trainer: L.Trainer) -> None:
        """Log to every logger that takes pictures."""
        for logger in trainer.loggers:
            name = type(logger).__name__
            for index, clip in clips.items():
                if log_clip(logger, f"sample_{index}", clip, trainer.global_step):
                    continue
                if name not in self.skipped:
                    LOG.warning("samples are not logged by %s: it takes no pictures", name)
                self.skipped.add(name)


def log_clip(logger: Logger, name: str, clip: Clip, step: int) -> bool:
    """Log a clip's contact sheet and its sound, if any; False where a logger takes none."""
    sheet, rate = contact_sheet(clip.frames), clip.sample_rate
    sound = None if clip.waveform is None else clip.waveform.mean(0)  # they take one channel
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, sheet, step, dataformats="HWC")
        if sound is not None:
            logger.experiment.add_audio(name, sound, step, sample_rate=rate)
    elif isinstance(logger, WandbLogger):
        logger.log_image(f"{name}/frames", [sheet], step)
        if sound is not None:
            logger.log_audio(f"{name}/sound", [sound], step, sample_rate=[rate])
    else:
        return False
    return True


class Synchrony(Watching):
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

    Args:
        folder: The prepared folder.
        codecs: A folder with video_codec and audio_codec, and with such of the OPTIONAL parts as
            there are.
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
        super().__init__(folder, codecs, num_frames, seed)
        self.num_clips, self.recognizer = num_clips, recognizer

    def requests(self) -> Sequence[tuple[str, str | None]]:
        """Caption and words of the first validation clips."""
        records = Prepared(self.folder, "validation").records()[: self.num_clips]
        return [
            (record.caption, " ".join(word.text for word in record.words) or None)
            for record in records
        ]

    def log_clips(self, clips: Mapping[int, Clip], trainer: L.Trainer) -> None:
        """Measure, and log to every logger."""
        requests = self.requests()
        said = [requests[index][1] or "" for index in clips]
        values = measure_clips(list(clips.values()), said, self.recognizer)
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
                    transcript=Transcript(text or None),
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
