"""Records -> a prepared folder: face crops and waveforms first, then the latents of both codecs.

Clips may differ in size, rate and length (`ClipShape`, kept in the header of each latents file). A
clip without sound has a waveform of no channels and no audio latents, which is not what silence
has: that is latents like any other.

Everything is written beside its place and renamed, and what is there already is skipped, so that a
run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from avgen.clips.clip import Clip
from avgen.clips.files import atomic
from avgen.clips.media.read import read_audio, read_clip
from avgen.clips.timebase import to_index, to_seconds
from avgen.clips.transforms import crop, resize
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.corpora.manifest import ClipRecord, Split, read_manifest, write_manifest
from avgen.errors import UserError
from avgen.training.latent_store import (
    ClipShape,
    LatentConfig,
    encoder_fingerprint,
    read_latent_config,
    read_shape,
    save_latents,
    write_shapes,
    write_statistics,
)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder of crops and waveforms.

    Attributes:
        folder: Where it is.
        split: Which records of its manifest.
    """

    folder: Path
    split: Split

    def records(self) -> list[ClipRecord]:
        """Its records.

        Raises:
            UserError: none are of this split.
        """
        path = self.folder / "manifest.jsonl"
        records = [record for record in read_manifest(path) if record.split == self.split]
        if not records:
            raise UserError(f"{path}: no clip is of the split {self.split!r}")
        return records

    def clip(self, record: ClipRecord) -> Clip:
        """A record's frames and sound as they were prepared."""
        rates = json.loads((self.folder / "rates.json").read_text())
        frames = np.load(self.folder / "frames" / f"{record.id}.npy")
        sound = np.load(self.folder / "waveforms" / f"{record.id}.npy").astype(np.float32) / 32768
        fps = clip_rate(self.folder, record.id, rates["fps"])
        if not len(sound):
            return Clip(frames, fps)
        return Clip(frames, fps, sound, rates["sample_rate"])


def prepare(
    records: Sequence[ClipRecord],
    root: Path,
    folder: Path,
    size: tuple[int, int] | None,
    fps: Fraction | None,
    sample_rate: int,
    lexicon: Mapping[str, Sequence[str]] | None = None,
    keep_silent: bool = False,
) -> list[str]:
    """Crop, resize and store every record's frames and sound.

    Returns a line for every clip that could not be.

    Args:
        records: What to prepare; `box` is cropped first where there is one.
        root: Where their media are.
        folder: The prepared folder.
        size: Height and width in pixels; None leaves each clip its own.
        fps: Frames per second, for all; None leaves each clip its own.
        sample_rate: Samples per second, for all; sound is mixed down to one channel.
        lexicon: Pronunciations that the corpus needs besides the dictionary's.
        keep_silent: Keep clips that have no sound; the picture can be learned from them.
    """
    for name in ("frames", "waveforms"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    kept, failures = [], []
    for record in tqdm(records, desc="preparing", unit="clip"):
        frames_path, waveform_path = (
            folder / "frames" / f"{record.id}.npy",
            folder / "waveforms" / f"{record.id}.npy",
        )
        if not (frames_path.is_file() and waveform_path.is_file()):
            try:
                clip = read_clip(
                    root / record.media, fps=fps, sample_rate=sample_rate, num_channels=1
                )
                if clip.waveform is None and not keep_silent:
                    raise UserError(f"{record.media}: has no sound; these recipes train both")
            except ValueError as error:
                failures.append(str(error))
                continue
            frames = clip.frames if record.box is None else crop(clip.frames, record.box)
            sound = np.zeros((0, 0), np.float32) if clip.waveform is None else clip.waveform
            if fps is None:
                with atomic(rate_path(folder, record.id)) as temporary:
                    temporary.write_text(str(clip.fps))
            save_array(frames_path, frames if size is None else resize(frames, *size))
            save_array(waveform_path, np.round(sound * 32767).astype(np.int16))
        kept.append(record)
    rates = {"fps": None if fps is None else str(fps), "sample_rate": sample_rate}
    (folder / "rates.json").write_text(json.dumps(rates))
    (folder / "lexicon.json").write_text(json.dumps(dict(lexicon or {})))
    write_manifest(kept, folder / "manifest.jsonl")
    return failures


def rate_path(folder: Path, clip: str) -> Path:
    """Where the frame rate of a clip is kept that has its own."""
    return folder / "frames" / f"{clip}.fps"


def clip_rate(folder: Path, clip: str, common: str | None) -> Fraction:
    """Frames per second of a prepared clip: its own, or the one that all have in `rates.json`."""
    return Fraction(rate_path(folder, clip).read_text() if common is None else common)


def read_lexicon(folder: Path) -> dict[str, list[str]]:
    """Pronunciations that a prepared corpus needs besides the dictionary's."""
    return json.loads((folder / "lexicon.json").read_text())


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy file."""
    with atomic(path) as temporary:
        np.save(temporary, array)


@torch.inference_mode()
def encode(
    folder: Path,
    video: VideoCodec,
    audio: AudioCodec,
    patches: tuple[int, int] = (2, 3),
    device: str = "cpu",
) -> None:
    """Cache the raw latents of every prepared clip, and the statistics of the training split.

    Args:
        folder: A prepared folder.
        video: Encodes the frames.
        audio: Encodes the waveforms; its sample rate must be the folder's.
        patches: Latents each way in a video token, and latents in an audio token.
        device: Where to encode.
    """
    rates = json.loads((folder / "rates.json").read_text())
    if rates["sample_rate"] != audio.sample_rate:
        raise UserError(
            f"{folder}: sound at {rates['sample_rate']} Hz; "
            f"the audio codec needs {audio.sample_rate}"
        )
    records = read_manifest(folder / "manifest.jsonl")
    frames = np.load(folder / "frames" / f"{records[0].id}.npy", mmap_mode="r")
    fps = clip_rate(folder, records[0].id, rates["fps"])
    fingerprint = encoder_fingerprint(video, audio)  # type: ignore[arg-type]
    config = config_of(video, audio, frames.shape[1:3], fps, patches, fingerprint)
    begin(folder, config)
    for codec in (video, audio):
        codec.to(device)  # type: ignore[attr-defined]
    for record in tqdm(records, desc="encoding", unit="clip"):
        path = folder / "latents" / f"{record.id}.safetensors"
        if path.is_file():
            continue
        pixels = torch.from_numpy(np.load(folder / "frames" / f"{record.id}.npy"))
        waveform = torch.from_numpy(np.load(folder / "waveforms" / f"{record.id}.npy"))
        fps = clip_rate(folder, record.id, rates["fps"])
        num_frames, height, width, _ = pixels.shape
        shape = ClipShape(num_frames, height, width, fps, has_sound=len(waveform) > 0)
        pixels = pixels.to(device).movedim(-1, 0)[None].float() / 127.5 - 1
        latents = {"video": video.encode(pixels)[0], "still": encode_stills(pixels, video)}
        if shape.has_sound:
            latents["audio"] = audio.encode(waveform.to(device)[None].float() / 32768)[0]
        save_latents(path, latents, shape)
    finish(folder, records, config)


@torch.inference_mode()
def encode_voices(
    root: Path,
    folder: Path,
    audio: AudioCodec,
    like: LatentConfig,
    device: str = "cpu",
) -> list[str]:
    """Make a prepared folder of the latents of voices alone, straight from a corpus' manifest.

    Returns a line for every record whose sound cannot be read.

    Args:
        root: A corpus whose `manifest.jsonl` has records without pictures.
        folder: The prepared folder; records that it has latents of are skipped.
        audio: Encodes the sound, at its own rate.
        like: Of pictures that the network is to learn besides: frames a second that lengths are
            told in, sizes, and the picture codec's numbers, which decide how wide a token is.
        device: Where to encode.
    """
    config = replace(
        like,
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        fingerprint=encoder_fingerprint(None, audio),  # type: ignore[arg-type]
    )
    begin(folder, config)
    audio.to(device)  # type: ignore[attr-defined]
    kept, failures = [], []
    for record in tqdm(read_manifest(root / "manifest.jsonl"), desc="encoding", unit="voice"):
        path = folder / "latents" / f"{record.id}.safetensors"
        if not path.is_file():
            try:
                sound, _ = read_audio(
                    root / record.media, sample_rate=audio.sample_rate, num_channels=1
                )
            except ValueError as error:
                failures.append(str(error))
                continue
            fps = Fraction(config.fps)
            num_frames = to_index(to_seconds(sound.shape[1], audio.sample_rate), fps)
            shape = ClipShape(num_frames, config.height, config.width, fps, True, False)
            waveform = torch.from_numpy(sound).to(device)[None]
            save_latents(path, {"audio": audio.encode(waveform)[0]}, shape)
        kept.append(record)
    (folder / "lexicon.json").write_text("{}")
    write_manifest(kept, folder / "manifest.jsonl")
    finish(folder, kept, config)
    return failures


def config_of(
    video: VideoCodec,
    audio: AudioCodec,
    size: tuple[int, int],
    fps: Fraction,
    patches: tuple[int, int],
    fingerprint: str,
) -> LatentConfig:
    """What latents of two codecs are, of clips of a size and rate."""
    return LatentConfig(
        height=size[0],
        width=size[1],
        fps=str(fps),
        video_stride=video.stride,
        video_channels=video.latent_channels,
        video_patch=patches[0],
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        audio_patch=patches[1],
        fingerprint=fingerprint,
    )


def begin(folder: Path, config: LatentConfig) -> None:
    """Make `latents/` ready for clips of this configuration; those of another are removed."""
    out = folder / "latents"
    out.mkdir(parents=True, exist_ok=True)
    own = json.loads(json.dumps(asdict(config)))
    if (out / "config.json").is_file() and asdict(read_latent_config(folder)) != own:
        for stale in (*out.glob("*.safetensors"), *out.glob("shapes.json")):
            stale.unlink()
    (out / "config.json").write_text(json.dumps(own, indent=2))


def finish(folder: Path, records: Sequence[ClipRecord], config: LatentConfig) -> None:
    """Write the shapes of all clips, and the statistics of the training split."""
    write_shapes(folder, records, config)
    train = [record for record in records if record.split == "train"]
    write_statistics(folder / "latents", train, config)


def encode_stills(pixels: Tensor, video: VideoCodec) -> Tensor:
    """Every frame of [1, 3, T, H, W] that a latent ends with, alone: latents [C, T', H', W']."""
    last = pixels.shape[2] - 1
    ends = [min(k, last) for k in range(0, last + video.stride[0], video.stride[0])]
    alone = pixels[0, :, ends].movedim(1, 0)[:, :, None]
    return video.encode(alone)[:, :, 0].movedim(0, 1)


def merge(folders: Sequence[Path], out: Path) -> None:
    """Several prepared folders as one of their latents, for training; statistics are of all.

    Args:
        folders: With latents of the same codecs; sizes and rates may differ.
        out: The new folder. Latents are copied.

    Raises:
        UserError: latents of other codecs or patches, two clips of one name, or a word with two
            pronunciations.
    """
    configs = [read_latent_config(folder) for folder in folders]
    (out / "latents").mkdir(parents=True, exist_ok=True)
    records: dict[str, ClipRecord] = {}
    lexicon: dict[str, list[str]] = {}
    for folder, config in zip(folders, configs, strict=True):
        if not config.fits(configs[0]):
            raise UserError(f"{folder}: latents of other codecs or patches than {folders[0]}'s")
        for word, phonemes in read_lexicon(folder).items():
            if lexicon.setdefault(word, phonemes) != phonemes:
                raise UserError(f"{folder}: {word!r} is pronounced otherwise than in the others")
        for record in read_manifest(folder / "manifest.jsonl"):
            if record.id in records:
                raise UserError(f"{folder}: there is another clip named {record.id}")
            records[record.id] = record
            path = folder / "latents" / f"{record.id}.safetensors"
            save_latents(out / "latents" / path.name, load_file(path), read_shape(path, config))
            for track in record.tracks.values():
                (out / track).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / track, out / track)
    whole = max(configs, key=lambda config: len(config.fingerprint))  # one that has pictures
    (out / "latents" / "config.json").write_text(json.dumps(asdict(whole), indent=2))
    (out / "lexicon.json").write_text(json.dumps(lexicon))
    write_manifest(records.values(), out / "manifest.jsonl")
    finish(out, list(records.values()), whole)
