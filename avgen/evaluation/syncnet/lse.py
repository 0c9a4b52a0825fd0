"""LSE-C, LSE-D and offset: how far SyncNet's embeddings of picture and sound lie apart.

    network = load_syncnet(path)
    picture = picture_features(frames, fps, network, LATENTSYNC, boxes)
    sound = sound_features(waveform, sample_rate, network, picture)
    score(picture, sound), score_valid(picture, sound)

The protocol is that of github.com/joonson/syncnet_python (SyncNetInstance.py, commit 6efbb1c) to
the letter; Prajwal et al. 2020, "A Lip Sync Expert Is All You Need for Speech to Lip Generation In
the Wild", section 4, named its numbers LSE. Two things to know. It is **blind to a constant
offset**: the distance is taken at the best shift. And it **depends on the clip's length**, because
embeddings of zeros stand in for sound before the clip and after it: compare clips of one length
only, or `score_valid`, which leaves those windows out.

An offset above 0 means that **the sound comes before the picture**.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

import numpy as np
import torch
from torch.nn import functional as F

from avgen.errors import UserError
from avgen.evaluation.faces.tracking import the_speaker, tracks_of
from avgen.evaluation.measure import Measure, Value, Values
from avgen.evaluation.subject import FPS, Subject, Unscored, own_sound
from avgen.evaluation.syncnet.crops import VARIANTS, Variant, crops, face_tracks, whole_frames
from avgen.evaluation.syncnet.mfcc import HOP, SAMPLE_RATE, int16_samples, mfcc
from avgen.evaluation.syncnet.towers import SYNCNET, WINDOW_FRAMES, WINDOW_ROWS, SyncNet

MAX_SHIFT = 15  # frames each way that the sound is shifted by
MIN_REAL = 10  # windows that must be left at the largest shift, where only real ones count

_FRAME_SAMPLES = int(SAMPLE_RATE / FPS)  # 640
_FRAME_ROWS = _FRAME_SAMPLES // HOP  # 4
_BATCH = 16  # windows that go through the network at once: 0.2 GB


@dataclass(frozen=True)
class Stretch:
    """A track of `num_frames` frames from frame `first` of the clip on, and its embeddings.

    They are float32 [num_frames - 5, 1024]; row t is of frames t to t + 4. (The last window is left
    out, as in the released code.)
    """

    first: int
    num_frames: int
    embeddings: np.ndarray


@dataclass(frozen=True)
class Lse:
    """The scores of a clip: the mean over its tracks.

    Attributes:
        confidence: LSE-C, higher is better: median over shifts of the distance, less its minimum.
        distance: LSE-D, lower is better: the minimum.
        offset: Frames of 25 fps by which the sound leads the picture (below 0: trails it); over
            several tracks, their mean with its fraction cut off, as LatentSync has it.
        curve: Mean distance at offsets -15 to 15: float32 [31].
        num_windows: Windows that were compared; a clip has 5 fewer than frames.
    """

    confidence: float
    distance: float
    offset: int
    curve: np.ndarray
    num_windows: int

    @property
    def offset_ms(self) -> float:
        """The offset in ms."""
        return float(self.offset * 1000 / FPS)

    @property
    def words(self) -> str:
        """The offset as a sentence."""
        if self.offset == 0:
            return "sound and picture are in sync"
        verb = "leads" if self.offset > 0 else "trails"
        edge = ", the end of the search" if abs(self.offset) == MAX_SHIFT else ""
        count = abs(self.offset)
        frames = "1 frame" if count == 1 else f"{count} frames"
        return f"the sound {verb} the picture by {abs(self.offset_ms):.0f} ms ({frames}{edge})"


def picture_features(
    frames: np.ndarray,
    fps: Fraction,
    network: SyncNet,
    variant: Variant,
    boxes: np.ndarray | None = None,
) -> list[Stretch]:
    """SyncNet's embeddings of a clip's picture, once for any number of sounds.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        fps: 25.
        network: In evaluation mode.
        variant: Which protocol's crops and tracks.
        boxes: [T, 4] of the face: x, y, width, height in pixels, NaN where it is not seen; not used
            by a variant that shows whole frames.

    Raises:
        Unscored: no face, no track that is long and large enough, or too few frames.
        UserError: another frame rate, or boxes that are missing or do not fit the frames.
    """
    if fps != FPS:
        raise UserError(f"fps {fps}; SyncNet sees {FPS} frames a second")
    if variant.min_track is None:
        pictures = [(0, whole_frames(frames))]
    else:
        if boxes is None or len(boxes) != len(frames):
            count = "no" if boxes is None else len(boxes)
            raise UserError(f"{count} boxes, {len(frames)} frames; {variant.name} needs one each")
        tracks = face_tracks(boxes, variant.min_track)
        pictures = [(track.first, crops(frames, track)) for track in tracks]
    shortest = min(len(picture) for _, picture in pictures)
    if shortest <= WINDOW_FRAMES:
        raise Unscored(f"{shortest} frames; SyncNet needs more than {WINDOW_FRAMES}")
    return [
        Stretch(first, len(picture), _embed_picture(picture, network))
        for first, picture in pictures
    ]


def sound_features(
    waveform: np.ndarray, sample_rate: int, network: SyncNet, picture: Sequence[Stretch]
) -> list[np.ndarray]:
    """SyncNet's embeddings of the sound beside each stretch, cut out as the released scripts do.

    Args:
        waveform: float32 [1, N] in [-1, 1].
        sample_rate: 16 000.
        network: In evaluation mode.
        picture: From `picture_features`.

    Returns:
        For each stretch, float32 [W, 1024]: row t is of 0.2 s from frame t of the stretch on; fewer
        rows than the picture has if the sound ends first.

    Raises:
        Unscored: a sound that is silent or ends before a stretch begins.
        UserError: another sample rate, or more channels than one.
    """
    if sample_rate != SAMPLE_RATE or waveform.shape[0] != 1:
        raise UserError(
            f"{waveform.shape[0]} channels at {sample_rate} Hz; SyncNet hears 1 at {SAMPLE_RATE} Hz"
        )
    samples = int16_samples(waveform[0])
    if not samples.any():
        raise Unscored("the sound is silence")
    sounds = []
    for stretch in picture:
        start = stretch.first * _FRAME_SAMPLES
        part = samples[start : start + stretch.num_frames * _FRAME_SAMPLES]
        num_windows = len(part) // _FRAME_SAMPLES - WINDOW_FRAMES
        if num_windows < 1:
            raise Unscored(
                f"the sound ends {len(part) / SAMPLE_RATE:.2f} s after the face's first frame; "
                f"SyncNet needs more than {WINDOW_FRAMES} frames of it"
            )
        sounds.append(_embed_sound(part, num_windows, network))
    return sounds


def score(picture: Sequence[Stretch], sound: Sequence[np.ndarray]) -> Lse:
    """LSE-C, LSE-D and offset by the released code: sound beyond the clip's ends is zeros."""
    return _mean([_scored(p.embeddings, s, False) for p, s in zip(picture, sound, strict=True)])


def score_valid(picture: Sequence[Stretch], sound: Sequence[np.ndarray]) -> Lse:
    """The same with, at each shift, only the windows that have sound: no bias by the clip's length.

    What is left is that a minimum over means of few windows is lower by chance: on embeddings that
    have nothing in common LSE-C is 0.2 at 25 windows and 0.05 at 300 (released code: 0.5 to 2.2 and
    0.06 to 0.2), and of those that have, the same to 2 %.

    Raises:
        Unscored: fewer than MIN_REAL windows would be left at the largest shift.
    """
    return _mean([_scored(p.embeddings, s, True) for p, s in zip(picture, sound, strict=True)])


def _scored(picture: np.ndarray, sound: np.ndarray, only_real: bool) -> Lse:
    length = min(len(picture), len(sound))
    if only_real and length < MAX_SHIFT + MIN_REAL:
        raise Unscored(
            f"{length} windows; {MAX_SHIFT + MIN_REAL} are needed for shifts of {MAX_SHIFT} frames"
        )
    distances = _distances(torch.from_numpy(picture[:length]), torch.from_numpy(sound[:length]))
    curve = distances.mean(1)
    if only_real:
        at = torch.arange(length) + torch.arange(-MAX_SHIFT, MAX_SHIFT + 1)[:, None]
        real = (at >= 0) & (at < length)
        curve = (distances * real).sum(1) / real.sum(1)
    best = int(curve.argmin())
    return Lse(
        confidence=float(curve.median() - curve[best]),
        distance=float(curve[best]),
        offset=MAX_SHIFT - best,
        curve=curve.flip(0).numpy(),
        num_windows=length,
    )


def _distances(picture: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """Distance of picture window t from sound window t + k - 15, or from zeros: [31, W]."""
    padded = F.pad(sound, (0, 0, MAX_SHIFT, MAX_SHIFT))
    shifts = range(2 * MAX_SHIFT + 1)
    # pairwise_distance adds 1e-6 to every difference, as it does in the released code.
    return torch.stack([F.pairwise_distance(picture, padded[k : k + len(picture)]) for k in shifts])


def _mean(tracks: list[Lse]) -> Lse:
    return Lse(
        confidence=fmean(track.confidence for track in tracks),
        distance=fmean(track.distance for track in tracks),
        offset=int(fmean(track.offset for track in tracks)),
        curve=np.mean([track.curve for track in tracks], axis=0),
        num_windows=sum(track.num_windows for track in tracks),
    )


@torch.inference_mode()
def _embed_picture(frames: np.ndarray, network: SyncNet) -> np.ndarray:
    """Embeddings [L - 5, 1024] of frames uint8 [L, 224, 224, 3], RGB."""
    rows = []
    for start in range(0, len(frames) - WINDOW_FRAMES, _BATCH):
        stop = min(start + _BATCH, len(frames) - WINDOW_FRAMES) + WINDOW_FRAMES - 1
        bgr = torch.from_numpy(frames[start:stop, :, :, ::-1].copy())
        rows.append(network.picture(bgr.permute(3, 0, 1, 2).float()))
    return torch.cat(rows).numpy()


@torch.inference_mode()
def _embed_sound(samples: np.ndarray, num_windows: int, network: SyncNet) -> np.ndarray:
    """Embeddings [num_windows, 1024] of int16 [N]."""
    cepstra = mfcc(samples).T.astype(np.float32)  # [13, M]
    windows = np.stack(
        [cepstra[:, _FRAME_ROWS * t : _FRAME_ROWS * t + WINDOW_ROWS] for t in range(num_windows)]
    )
    parts = torch.from_numpy(windows).split(4 * _BATCH)
    return torch.cat([network.sound(part) for part in parts]).numpy()


def _lse(variant: Variant) -> Measure:
    def extract(subject: Subject) -> tuple[SyncNet, list[Stretch]]:
        own_sound(subject)
        boxes = None if variant.min_track is None else the_speaker(tracks_of(subject)).boxes
        network = subject.network(SYNCNET)
        return network, picture_features(subject.clip.frames, FPS, network, variant, boxes)

    return Measure(
        variant.name,
        variant.protocol,
        {
            "lse_c": Value(1),
            "lse_d": Value(-1),
            "lse_c_valid": Value(1),
            "lse_d_valid": Value(-1),
            "abs_offset_frames": Value(-1, "frames"),
        },
        extract,
        _values,
        networks=(SYNCNET,),
    )


def _values(seen: tuple[SyncNet, list[Stretch]], waveform: np.ndarray, rate: int) -> Values:
    network, picture = seen
    sound = sound_features(waveform, rate, network, picture)
    found = score(picture, sound)
    values: Values = {
        "lse_c": found.confidence,
        "lse_d": found.distance,
        "offset_frames": found.offset,
        "abs_offset_frames": abs(found.offset),
        "num_windows": found.num_windows,
        "curve": -found.curve,  # nearer is better, as in every other curve
        "words": found.words,
    }
    try:
        valid = score_valid(picture, sound)
    except Unscored as reason:
        return values | {"notes": [f"no length-unbiased variant: {reason}"]}
    return values | {"lse_c_valid": valid.confidence, "lse_d_valid": valid.distance}


MEASURES = tuple(map(_lse, VARIANTS.values()))
