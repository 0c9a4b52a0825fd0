"""Records -> a prepared folder: face crops and waveforms first, then the latents of both codecs.

Clips may differ in size, rate and length (`ClipShape`, kept in the header of each latents file). A
clip without sound has a waveform of no channels and no audio latents, which is not what silence
has: that is latents like any other.

Everything is written beside its place and renamed, and what is there already is skipped, so that a
run that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from avgen.clips.files import atomic
from avgen.clips.media.read import read_clip
from avgen.clips.timebase import num_samples
from avgen.clips.transforms import crop, resize
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.codecs.normalize import LatentStatistics
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.errors import UserError
from avgen.latents.geometry import AudioGrid, VideoGrid

SHAPE = "shape"  # where a file of latents says what clip they are of


@dataclass(frozen=True)
class ClipShape:
    """How large, long and fast a clip is, and whether it has sound.

    Attributes:
        num_frames: Frames.
        height: Rows of pixels.
        width: Columns of pixels.
        fps: Frames per second.
        has_sound: Whether there is any; silence is sound.
    """

    num_frames: int
    height: int
    width: int
    fps: Fraction
    has_sound: bool


@dataclass(frozen=True)
class LatentConfig:
    """What cached latents were made with.

    Written beside them, and into the model that is trained on them.

    Attributes:
        height: Rows of pixels of clips whose latents do not say their own.
        width: Columns of pixels, likewise.
        fps: Frames per second, as a fraction's text, likewise.
        video_stride: Of the video codec.
        video_channels: Of the video codec.
        video_patch: Latents each way in a video token.
        sample_rate: Of the audio codec, in Hz.
        hop_length: Of the audio codec.
        audio_channels: Latent channels of the audio codec.
        audio_patch: Latents in an audio token.
        fingerprint: Of both codecs' encoders; latents of another encoder mean something else.
    """

    height: int
    width: int
    fps: str
    video_stride: tuple[int, int, int]
    video_channels: int
    video_patch: int
    sample_rate: int
    hop_length: int
    audio_channels: int
    audio_patch: int
    fingerprint: str

    def grids(self, num_frames: int) -> tuple[VideoGrid, AudioGrid]:
        """The grids of a clip of `num_frames` frames and of the sound that covers them."""
        return self.clip_grids(
            ClipShape(num_frames, self.height, self.width, Fraction(self.fps), True)
        )

    def clip_grids(self, shape: ClipShape) -> tuple[VideoGrid, AudioGrid]:
        """The grids of a clip of any shape, and of the sound that it has or would have."""
        samples = num_samples(shape.num_frames, shape.fps, self.sample_rate)
        stride = tuple(self.video_stride)
        return (
            VideoGrid(
                shape.num_frames,
                shape.height,
                shape.width,
                shape.fps,
                stride,  # pyright: ignore[reportArgumentType]
                self.video_channels,
                self.video_patch,
            ),
            AudioGrid(
                samples, self.sample_rate, self.hop_length, self.audio_channels, self.audio_patch
            ),
        )


def read_latent_config(folder: Path) -> LatentConfig:
    """Read `latents/config.json` of a prepared folder."""
    path = folder / "latents" / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; encode the folder first")
    return LatentConfig(**json.loads(path.read_text()))


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
    folder: Path, video: VideoCodec, audio: AudioCodec, patches: tuple[int, int] = (2, 3)
) -> None:
    """Cache the raw latents of every prepared clip, and the statistics of the training split.

    Args:
        folder: A prepared folder.
        video: Encodes the frames.
        audio: Encodes the waveforms; its sample rate must be the folder's.
        patches: Latents each way in a video token, and latents in an audio token.
    """
    rates = json.loads((folder / "rates.json").read_text())
    if rates["sample_rate"] != audio.sample_rate:
        raise UserError(
            f"{folder}: sound at {rates['sample_rate']} Hz; "
            f"the audio codec needs {audio.sample_rate}"
        )
    records = read_manifest(folder / "manifest.jsonl")
    out = folder / "latents"
    out.mkdir(exist_ok=True)
    frames = np.load(folder / "frames" / f"{records[0].id}.npy", mmap_mode="r")
    config = LatentConfig(
        height=frames.shape[1],
        width=frames.shape[2],
        fps=str(clip_rate(folder, records[0].id, rates["fps"])),
        video_stride=video.stride,
        video_channels=video.latent_channels,
        video_patch=patches[0],
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        audio_patch=patches[1],
        fingerprint=encoder_fingerprint(video, audio),
    )
    if (out / "config.json").is_file() and asdict(read_latent_config(folder)) != json.loads(
        json.dumps(asdict(config))
    ):
        for stale in out.glob("*.safetensors"):
            stale.unlink()
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    for record in tqdm(records, desc="encoding", unit="clip"):
        path = out / f"{record.id}.safetensors"
        if path.is_file():
            continue
        pixels = torch.from_numpy(np.load(folder / "frames" / f"{record.id}.npy"))
        waveform = (
            torch.from_numpy(np.load(folder / "waveforms" / f"{record.id}.npy")).float() / 32768
        )
        fps = clip_rate(folder, record.id, rates["fps"])
        num_frames, height, width, _ = pixels.shape
        shape = ClipShape(num_frames, height, width, fps, has_sound=len(waveform) > 0)
        pixels = pixels.movedim(-1, 0)[None].float() / 127.5 - 1
        latents = {"video": video.encode(pixels)[0], "still": encode_stills(pixels, video)}
        if shape.has_sound:
            latents["audio"] = audio.encode(waveform[None])[0]
        save_latents(path, latents, shape)
    write_statistics(out, [record for record in records if record.split == "train"])


def save_latents(path: Path, latents: Mapping[str, Tensor], shape: ClipShape) -> None:
    """Write a clip's latents with its shape.

    Args:
        path: The file.
        latents: "video" and "still" [C, T, H, W]; "audio" [C, T'] where the clip has sound.
        shape: Of the clip.
    """
    assert shape.has_sound == ("audio" in latents)
    tensors = {name: value.float().contiguous() for name, value in latents.items()}
    facts = {name: str(getattr(shape, name)) for name in ("num_frames", "height", "width", "fps")}
    with atomic(path) as temporary:  # one key of metadata: never reordered
        save_file(tensors, temporary, metadata={SHAPE: json.dumps(facts)})


def read_shape(path: Path, config: LatentConfig) -> ClipShape:
    """The shape of a clip whose latents are in `path`; no tensor is read.

    Raises:
        UserError: it is not a whole safetensors file, or holds no latents of a clip.
    """
    try:
        with safe_open(path, "pt") as file:
            facts, names = file.metadata() or {}, file.keys()
            if SHAPE in facts:  # before 2026-11-23 they were keys of their own
                facts = json.loads(facts[SHAPE])
            num_latents = file.get_slice("video").get_shape()[1]
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is not a clip's latents ({error})") from error
    return ClipShape(
        int(facts.get("num_frames", 1 + config.video_stride[0] * (num_latents - 1))),
        int(facts.get("height", config.height)),
        int(facts.get("width", config.width)),
        Fraction(facts.get("fps", config.fps)),
        has_sound="audio" in names,
    )


def encode_stills(pixels: Tensor, video: VideoCodec) -> Tensor:
    """Every frame of [1, 3, T, H, W] that a latent ends with, alone: latents [C, T', H', W']."""
    last = pixels.shape[2] - 1
    ends = [min(k, last) for k in range(0, last + video.stride[0], video.stride[0])]
    alone = pixels[0, :, ends].movedim(1, 0)[:, :, None]
    return video.encode(alone)[:, :, 0].movedim(0, 1)


def write_statistics(out: Path, records: Iterable[ClipRecord]) -> None:
    """Fit and write `statistics.json` over the cached latents of some records."""
    paths = [out / f"{record.id}.safetensors" for record in records]
    statistics = {
        name: asdict(LatentStatistics.fit(latents_named(name, paths)))
        for name in ("video", "audio")
    }
    (out / "statistics.json").write_text(json.dumps(statistics))


def latents_named(name: str, paths: Iterable[Path]) -> Iterator[Tensor]:
    """The latents "video" or "audio" of those files that have them."""
    for path in paths:
        latents = load_file(path)
        if name in latents:
            yield latents[name]


def merge(folders: Sequence[Path], out: Path) -> None:
    """Several prepared folders as one of their latents, for `MixedData`; statistics are of all.

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
        same = replace(config, height=configs[0].height, width=configs[0].width, fps=configs[0].fps)
        if same != configs[0]:
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
    (out / "latents" / "config.json").write_text(json.dumps(asdict(configs[0]), indent=2))
    (out / "lexicon.json").write_text(json.dumps(lexicon))
    write_manifest(records.values(), out / "manifest.jsonl")
    write_statistics(out / "latents", [r for r in records.values() if r.split == "train"])


def encoder_fingerprint(*codecs: nn.Module | VideoCodec | AudioCodec) -> str:
    """SHA-256 over the tensors of the codecs' encoders, as bfloat16: the precision they ship in.

    A decoder may be trained on without changing it. A codec whose encoder is a formula has a
    `fingerprint` of its own.
    """
    digest = hashlib.sha256(b"video, still, audio")  # what is cached of a clip
    for codec in codecs:
        digest.update(getattr(codec, "fingerprint", "").encode())
        for name, tensor in sorted(codec.state_dict().items()):  # type: ignore[union-attr]
            if name.startswith("encoder."):
                digest.update(name.encode())
                digest.update(tensor.bfloat16().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
