"""A prepared folder -> the raw latents of its clips by two codecs, and their statistics.

What is there already is skipped, so that a run that was stopped goes on. A clip whose frames or
waveform are newer than its latents is encoded anew. Shares of the clips can be encoded at a time,
each with a device of its own; latents do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avgen.clips.media.read import read_audio
from avgen.clips.timebase import to_seconds
from avgen.codecs.base import AudioCodec, VideoCodec
from avgen.codecs.normalize import LatentStatistics
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.errors import UserError
from avgen.models.text_pretrained import TextEncoder
from avgen.preparation.latent_store import (
    ClipShape,
    LatentConfig,
    begin_latents,
    encoder_fingerprint,
    finish_latents,
    save_latents,
)
from avgen.preparation.store import Store, write_json

PATCHES = (2, 3)  # latents each way in a video token, and latents in an audio token
STILLS = 16  # frames that are encoded alone at a time


@torch.inference_mode()
def encode(
    folder: Path,
    video: VideoCodec,
    audio: AudioCodec,
    patches: tuple[int, int] = PATCHES,
    device: str = "cpu",
    records: Sequence[ClipRecord] | None = None,
    captions: TextEncoder | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Cache the latents of clips, and, of all, the statistics of the training split.

    Args:
        folder: A prepared folder; a clip may lack sound or picture.
        video: Encodes the frames.
        audio: Encodes the waveforms; its sample rate must be the folder's.
        patches: Latents each way in a video token, and latents in an audio token.
        device: Where to encode.
        records: Only these clips, as a share of several does; None is all of the manifest.
        captions: Caches what it makes of captions as well.
        overwrite: Whether latents of other codecs or patches may be removed.

    Raises:
        UserError: no clips, other rates, latents of other codecs that may not be removed, or a clip
            with neither latents nor frames.
    """
    store, everything = Store(folder), records is None
    records = read_manifest(folder / "manifest.jsonl") if records is None else records
    if everything and not records:
        raise UserError(f"{folder}: has no clips to encode")
    rate = store.rates()["sample_rate"]
    if rate != audio.sample_rate:
        raise UserError(f"{folder}: sound at {rate} Hz; the audio codec needs {audio.sample_rate}")
    channels = store.num_channels()
    if channels != audio.num_channels:
        raise UserError(
            f"{folder}: sound of {channels} channels; the audio codec needs {audio.num_channels} "
            f"(prepare it with --channels {audio.num_channels})"
        )
    config = _config(store, records, video, audio, patches)
    config = replace(config, captions="" if captions is None else captions.key)
    begin_latents(folder, config, overwrite=overwrite)
    codecs = [codec.to(device) for codec in (video, audio)]  # type: ignore[attr-defined]
    for record in tqdm(records, desc="encoding", unit="clip"):
        if not _is_current(store, record):
            latents, shape = _encode_clip(store, record, codecs[0], codecs[1], config, device)
            if captions is not None:
                latents["caption"] = encode_caption(record.caption, captions, device)
            save_latents(store.latents(record.id), latents, shape)
    if everything:
        finish_latents(folder, records, config, own_statistics(video, audio))


def own_statistics(*codecs: VideoCodec | AudioCodec) -> dict[str, LatentStatistics]:
    """The statistics that codecs of picture and sound were published with, as far as they were."""
    own = zip(
        ("video", "audio"), (getattr(codec, "statistics", None) for codec in codecs), strict=True
    )
    return {name: statistics for name, statistics in own if statistics is not None}


def encode_caption(caption: str, captions: TextEncoder, device: str) -> Tensor:
    """What a text encoder makes of a caption: [p, F]; nothing of an empty one."""
    ids = torch.tensor([captions.tokenize(caption)], dtype=torch.int64, device=device)
    if not ids.numel():
        return torch.zeros(0, captions.width)
    return captions(ids, torch.ones_like(ids, dtype=torch.bool))[0]


def _config(
    store: Store,
    records: Sequence[ClipRecord],
    video: VideoCodec,
    audio: AudioCodec,
    patches: tuple[int, int],
) -> LatentConfig:
    """What latents of two codecs are; size and rate are of those that do not say their own."""
    size, fps = store.size() or (128, 128), store.rates()["fps"] or "25"
    seen = [record.id for record in records if store.frames(record.id).is_file()]
    if seen:
        size = np.load(store.frames(seen[0]), mmap_mode="r").shape[1:3]
        fps = str(store.fps(seen[0]))
    return LatentConfig(
        height=size[0],
        width=size[1],
        fps=fps,
        video_stride=video.stride,
        video_channels=video.latent_channels,
        video_patch=patches[0],
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        audio_patch=patches[1],
        fingerprint=encoder_fingerprint(video, audio),  # type: ignore[arg-type]
        audio_lead=audio.lead,
        windows_are_exact=video.windows_are_exact,
    )


def _is_current(store: Store, record: ClipRecord) -> bool:
    """Whether a clip's latents are there, and no older than what they are of.

    Raises:
        UserError: neither they nor the clip's media are there.
    """
    latents, media = store.latents(record.id), [store.waveform(record.id)]
    if store.has_picture(record):
        media.append(store.frames(record.id))
    missing = [path for path in media if not path.is_file()]
    if missing and latents.is_file():
        return True
    if missing:
        raise UserError(f"{missing[0]}: not found, and the clip has no latents yet")
    newest = max(path.stat().st_mtime_ns for path in media)
    return latents.is_file() and latents.stat().st_mtime_ns >= newest


def _encode_clip(
    store: Store,
    record: ClipRecord,
    video: VideoCodec,
    audio: AudioCodec,
    config: LatentConfig,
    device: str,
) -> tuple[dict[str, Tensor], ClipShape]:
    """The latents of a clip, and its shape."""
    latents: dict[str, Tensor] = {}
    waveform = store.read_waveform(record.id)
    if waveform is not None:
        latents["audio"] = audio.encode(torch.from_numpy(waveform).to(device)[None])[0]
    if not store.has_picture(record):
        assert waveform is not None, f"{record.id} has neither picture nor sound"
        return latents, _voice_shape(waveform, config)
    frames = np.load(store.frames(record.id), mmap_mode="r")
    num_frames, height, width, _ = frames.shape
    pixels = _floats(frames, device)
    latents["video"] = video.encode(pixels)[0]
    if config.windows_are_exact:
        alone = num_frames == 1  # which is what its only latent stands for
        latents["still"] = latents["video"].clone() if alone else encode_stills(pixels, video)
    fps = store.fps(record.id)
    return latents, ClipShape(num_frames, height, width, fps, waveform is not None)


def _voice_shape(waveform: np.ndarray, config: LatentConfig) -> ClipShape:
    """The shape of a voice alone: that of the whole frames which it would have."""
    fps = Fraction(config.fps)
    num_frames = int(to_seconds(waveform.shape[1], config.sample_rate) * fps)
    return ClipShape(num_frames, config.height, config.width, fps, True, has_picture=False)


def _floats(frames: np.ndarray, device: str) -> Tensor:
    """Frames uint8 [T, H, W, 3] as float [1, 3, T, H, W] in [-1, 1]."""
    pixels = torch.from_numpy(np.array(frames)).to(device)
    return pixels.movedim(-1, 0)[None].float() / 127.5 - 1


def encode_stills(pixels: Tensor, video: VideoCodec) -> Tensor:
    """Every frame of [1, 3, T, H, W] that a latent ends with, alone: latents [C, T', H', W']."""
    last = pixels.shape[2] - 1
    ends = [min(k, last) for k in range(0, last + video.stride[0], video.stride[0])]
    return torch.cat(list(_stills(pixels, ends, video)), 1)


def _stills(pixels: Tensor, ends: Sequence[int], video: VideoCodec) -> Iterator[Tensor]:
    for start in range(0, len(ends), STILLS):
        alone = pixels[0, :, list(ends[start : start + STILLS])].movedim(1, 0)[:, :, None]
        yield video.encode(alone)[:, :, 0].movedim(0, 1)


@torch.inference_mode()
def encode_voices(
    root: Path, folder: Path, audio: AudioCodec, like: LatentConfig, device: str = "cpu"
) -> list[str]:
    """Make a prepared folder of the latents of voices alone, straight from a corpus' manifest.

    No waveform is stored besides the corpus' own.

    Args:
        root: A corpus whose `manifest.jsonl` has records without pictures.
        folder: The prepared folder; records that it has latents of are skipped.
        audio: Encodes the sound, at its own rate.
        like: Of pictures that the network is to learn besides: frames a second that lengths are
            told in, sizes, and the picture codec's numbers, which decide how wide a token is.
        device: Where to encode.

    Returns:
        A line for every record whose sound cannot be read or is shorter than a frame.
    """
    config = replace(
        like,
        sample_rate=audio.sample_rate,
        hop_length=audio.hop_length,
        audio_channels=audio.latent_channels,
        fingerprint=encoder_fingerprint(None, audio),  # type: ignore[arg-type]
        audio_lead=audio.lead,
    )
    begin_latents(folder, config)
    audio.to(device)  # type: ignore[attr-defined]
    store, kept, failures = Store(folder), [], []
    for record in tqdm(read_manifest(root / "manifest.jsonl"), desc="encoding", unit="voice"):
        if not store.latents(record.id).is_file():
            try:
                sound, _ = read_audio(
                    root / record.media,
                    sample_rate=audio.sample_rate,
                    num_channels=audio.num_channels,
                )
            except UserError as error:
                failures.append(str(error))
                continue
            if sound.shape[1] * Fraction(config.fps) < audio.sample_rate:
                failures.append(
                    f"{root / record.media}: {sound.shape[1]} samples; less than a frame"
                )
                continue
            waveform = torch.from_numpy(sound).to(device)[None]
            shape = _voice_shape(sound, config)
            save_latents(store.latents(record.id), {"audio": audio.encode(waveform)[0]}, shape)
        kept.append(record)
    write_json(folder / "lexicon.json", {})
    write_manifest(kept, folder / "manifest.jsonl")
    own = getattr(audio, "statistics", None)
    finish_latents(folder, kept, config, {} if own is None else {"audio": own})
    return failures
