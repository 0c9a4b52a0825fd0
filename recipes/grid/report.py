"""Clips and figures -> pictures and Markdown tables that a person reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from measures import DELAY, MAX_LAG, distribution, mismatched, mouth_region, pooled_lag
from PIL import Image

from avgen.clips.clip import Clip
from avgen.training.callbacks import contact_sheet

ENLARGED = 2  # the mouth's region in its own sheet
SPECTROGRAM = {"n_fft": 1024, "hop_length": 240, "n_mels": 80, "power": 2.0}
LOUDNESS_DB = 80.0  # shown, below the loudest of both
CODEC = ("psnr", "ssim", "mouth_psnr", "mouth_sharpness", "step_error_join", "step_error_inside")
CODEC_SOUND = ("stoi", "dnsmos")
PICTURE = (
    "identity_psnr",
    "identity_cosine",
    "other_psnr",
    "other_cosine",
    "real_psnr",
    "real_cosine",
)
JUMPS = ("picture_jump", "real_picture_jump", "sound_jump", "real_sound_jump")
WORDS = (
    "clips of", "number", "WER %", "WER % real", "DNSMOS", "DNSMOS p10", "seconds to make",
)  # fmt: skip
LIPS = (
    "clips of", "mean", "p10", "p50", "p90", "of real",
    "best lag p10", "p50", "p90", "within 1", "pooled lag",
)  # fmt: skip
MOUTHS = (
    "clips of", "spread of opening", "of real", "motionless", "faces found", "frozen in speech",
    "step at joins", "step inside", "flicker", "p90",
)  # fmt: skip
MOTIONLESS = 0.25  # of the real clips' median spread; a mouth that opens less stands still


def write_sheets(pairs: Sequence[tuple[Clip, Clip]], folder: Path) -> None:
    """Write sheet, mouths and spectrograms as PNG: each real clip above the one made from it."""
    rows = [clip.frames for pair in pairs for clip in pair]
    mouths = [mouth_region(frames).repeat(ENLARGED, 1).repeat(ENLARGED, 2) for frames in rows]
    pictures = {
        "sheet": [contact_sheet(frames) for frames in rows],
        "mouths": [contact_sheet(frames) for frames in mouths],
        "spectrograms": [spectrograms(pair) for pair in pairs],
    }
    for name, parts in pictures.items():
        Image.fromarray(np.concatenate(parts)).save(folder / f"{name}.png")


def spectrograms(pair: tuple[Clip, Clip]) -> np.ndarray:
    """Mel spectrograms of two clips, one above the other, low tones below: uint8 [rows, time]."""
    mels = []
    for clip in pair:
        assert clip.waveform is not None and clip.sample_rate is not None
        mels.append(
            librosa.feature.melspectrogram(y=clip.waveform[0], sr=clip.sample_rate, **SPECTROGRAM)
        )
    levels = [10 * np.log10(np.maximum(mel[::-1], 1e-10)) for mel in mels]
    loudest = max(level.max() for level in levels)
    grey = [np.clip(1 + (level - loudest) / LOUDNESS_DB, 0, 1) * 255 for level in levels]
    line = np.full((4, grey[0].shape[1]), 255.0)
    return np.concatenate([grey[0], line, grey[1], line * 0]).astype(np.uint8)


def summarize(clips: Sequence[dict[str, Any]], real: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one set of clips, beside the real clips of the same sentences.

    Args:
        clips: What was measured, clip by clip.
        real: The same of all real clips; those with the same ids count.
    """
    ids = {clip["id"] for clip in clips}
    real = [clip for clip in real if clip["id"] in ids]
    names = [name for name, value in clips[0].items() if isinstance(value, float)]
    summary: dict[str, Any] = {name: distribution([clip[name] for clip in clips]) for name in names}
    anchors = {
        name: distribution([clip[name] for clip in real])
        for name in (
            "sound_correlation",
            "words_correlation",
            "detail_correlation",
            "opening_spread",
        )
    }
    still = MOTIONLESS * anchors["opening_spread"]["p50"]
    summary |= {
        "clips": len(clips),
        "word_error_rate": error_rate(clips),
        "real_word_error_rate": error_rate(real),
        "motionless_mouths": float(np.mean([not c["opening_spread"] >= still for c in clips])),
    }
    for name, anchor in anchors.items():
        summary[f"{name}_of_real"] = summary[name]["mean"] / anchor["mean"]
    for name in ("sound", "words", "detail"):
        near = [abs(clip[f"{name}_lag"]) <= 1 for clip in clips]
        summary[f"{name}_lag_within_1"] = float(np.mean(near))
        summary[f"{name}_pooled_lag"] = pooled_lag([clip[f"{name}_by_lag"] for clip in clips])
    delayed = MAX_LAG + DELAY  # place of that lag in a curve
    controls = {
        "mismatched": mismatched([c["mouth"] for c in clips], [c["energy"] for c in clips]),
        "delayed": [clip["detail_by_lag"][delayed] for clip in clips],
    }
    summary |= {name: distribution(values) for name, values in controls.items()}
    summary["unscored"] = sum(math.isnan(clip["detail_correlation"]) for clip in clips)
    return summary


def error_rate(clips: Sequence[dict[str, Any]]) -> float:
    """Word errors of all clips over their words, in percent."""
    return 100 * sum(clip["word_errors"] for clip in clips) / sum(clip["words"] for clip in clips)


def tables(summaries: dict[str, dict[str, Any]]) -> str:
    """Markdown of every set of clips that was measured."""
    parts = [_words(summaries), _lips(summaries), _pictures(summaries)]
    for title, name, columns in (
        ("Codecs", "codec", CODEC + CODEC_SOUND),
        ("From one picture: the mean face against given and other faces", "picture", PICTURE),
        ("At the join of a continuation", "extend", JUMPS),
    ):  # fmt: skip
        if name in summaries:
            rows = [(column, *_spread(summaries[name][column])) for column in columns]
            parts.append(_table(title, ("figure", "mean", "p10", "p50", "p90"), rows))
    return "\n".join(parts)


def _words(summaries: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, s in summaries.items():
        rates = (_fixed(s[key], 1) for key in ("word_error_rate", "real_word_error_rate"))
        quality, worst = _spread(s["dnsmos"])[:2]
        rows.append((name, str(s["clips"]), *rates, quality, worst, _fixed(s["made_s"]["mean"], 1)))
    return _table("Words", WORDS, rows)


def _lips(summaries: dict[str, dict[str, Any]]) -> str:
    parts = []
    for driver in ("sound", "words", "detail"):
        rows = []
        for name, s in summaries.items():
            of_real = _fixed(s[f"{driver}_correlation_of_real"])
            lags = _spread(s[f"{driver}_lag"], 0)[1:]
            near = _fixed(s[f"{driver}_lag_within_1"])
            pooled = _fixed(s[f"{driver}_pooled_lag"], 0)
            rows.append((name, *_spread(s[f"{driver}_correlation"]), of_real, *lags, near, pooled))
        parts.append(_table(f"Opening of the mouth against {driver}, correlation", LIPS, rows))
    rows = [
        (
            name,
            *(_fixed(s[key]["mean"], 3) for key in ("detail_correlation", "delayed", "mismatched")),
            str(s["unscored"]),
        )
        for name, s in summaries.items()
    ]
    columns = ("clips of", "own sound", f"delayed by {DELAY} frames", "another clip's", "unscored")
    parts.append(_table("Controls: mouth against sound in detail", columns, rows))
    return "\n".join(parts)


def _pictures(summaries: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            name, _fixed(s["opening_spread"]["mean"], 4), _fixed(s["opening_spread_of_real"]),
            _fixed(s["motionless_mouths"]), _fixed(s["detected"]["mean"], 3),
            _fixed(s["frozen"]["mean"], 3), _fixed(s["step_join"]["mean"]),
            _fixed(s["step_inside"]["mean"]), _fixed(s["flicker"]["mean"]),
            _fixed(s["flicker"]["p90"]),
        )
        for name, s in summaries.items()
    ]  # fmt: skip
    return _table("Mouths and frames", MOUTHS, rows)


def _fixed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}"


def _spread(figure: dict[str, float], digits: int = 3) -> tuple[str, str, str, str]:
    names = ("mean", "p10", "p50", "p90")
    mean, low, middle, high = (_fixed(figure[name], digits) for name in names)
    return mean, low, middle, high


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def jsonable(value: Any) -> Any:
    """The same with None for numbers that JSON has no name for."""
    if isinstance(value, dict):
        return {name: jsonable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [jsonable(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
