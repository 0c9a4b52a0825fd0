"""Metrics that need no mouth, as `avgen evaluate` takes them: AV-Align, onsets, reference, voice.

AV-Align hears each sound at the rate of its release; everything else at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avgen.evaluation.subject import FPS, SAMPLE_RATE, Subject, Unscored, own_sound
from avgen.evaluation.timing import silence

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

Weights = dict[str, "Path"]
Values = dict[str, Any]
BOTH_WAYS = {"psnr": 1, "ssim": 1, "mouth_distance": -1, "log_mel_db": -1}
BOTH_WAYS |= {"si_sdr_db": 1, "stoi": 1, "pesq": 1}


@dataclass(frozen=True)
class AvAlign:
    """One release of AV-Align, by its name in `av_align.VERSIONS`."""

    name: str

    def protocol(self) -> str:
        """Its id."""
        from avgen.evaluation.sync.av_align import VERSIONS

        return VERSIONS[self.name].protocol

    def look(self, subject: Subject, _: Weights) -> Any:
        """Motion of the picture at its own size and rate, and the rates of both."""
        own_sound(subject)
        return subject.motion, subject.native.fps

    def judge(self, seen: Any, waveform: np.ndarray, rate: int) -> Values:
        """The score of a sound [1, N]."""
        from avgen.evaluation.sync import av_align

        motion, fps = seen
        if silence(waveform, rate) == 1:
            raise Unscored("the sound is silent")
        version = av_align.VERSIONS[self.name]
        onsets = av_align.sound_features(waveform, rate, version)
        return {"score": av_align.score(motion, onsets, fps, version)}


def see_motion(subject: Subject, _: Weights) -> np.ndarray:
    """Motion at 25 frames a second."""
    from avgen.evaluation.sync.av_align import ONSET_SIDE, picture_features

    own_sound(subject)
    return picture_features(subject.clip.frames, ONSET_SIDE)


def hear_onsets(motion: np.ndarray, waveform: np.ndarray, rate: int) -> Values:
    """How motion and onsets correlate, and the offset between them."""
    from avgen.evaluation.sync import av_align, lags

    sounding = av_align.onset_features(waveform, rate, len(motion), FPS)
    found = av_align.onset_motion(motion, sounding)
    return {
        "r0": found.r0,
        "offset_ms": lags.milliseconds(found.offset.frames, FPS),
        "confidence": found.offset.confidence,
        "curve": found.curve,
        "words": lags.sentence(found.offset, FPS),
    }


def against_reference(subject: Subject, weights: Weights) -> Values:
    """Every distance from the real clip that can be had; notes say why the others cannot.

    Both are read at 25 frames a second and 16 kHz mono.

    Raises:
        Unscored: none can be had.
    """
    from avgen.evaluation.comparison import reference

    assert subject.reference is not None
    real = Subject(subject.reference, landmarker=subject.landmarker)
    measures: dict[str, Callable[[], float]] = {}
    try:
        frames = reference.overlap(real.clip.frames, subject.clip.frames)[:2]
        measures["psnr"] = lambda: reference.psnr(*frames)
        measures["ssim"] = lambda: reference.ssim(*frames)
    except Unscored as reason:
        measures["psnr"] = _refusal(reason)
    if "face_landmarker" in weights:
        measures["mouth_distance"] = lambda: reference.mouth_distance(
            *reference.overlap(real.landmarks, subject.landmarks)[:2]
        )
    try:
        sounds = _sounds(real, subject)
        measures["log_mel_db"] = lambda: reference.log_mel_distance(*sounds, SAMPLE_RATE)
        measures["si_sdr_db"] = lambda: reference.si_sdr(*sounds)
        measures["stoi"] = lambda: reference.stoi(*sounds, SAMPLE_RATE)
        measures["pesq"] = lambda: reference.pesq(*sounds, SAMPLE_RATE)
    except Unscored as reason:
        measures["log_mel_db"] = _refusal(reason)
    values: Values = {}
    notes = []
    for name, compute in measures.items():
        try:
            values[name] = compute()
        except Unscored as reason:
            notes.append(f"{name}: {reason}")
    if not values:
        raise Unscored(notes[0])
    return values | ({"notes": notes} if notes else {})


def _sounds(real: Subject, made: Subject) -> tuple[np.ndarray, np.ndarray]:
    from avgen.evaluation.comparison.reference import overlap

    if real.clip.waveform is None or made.clip.waveform is None:
        raise Unscored("one of the two has no sound")
    return overlap(real.clip.waveform, made.clip.waveform, -1)[:2]


def _refusal(reason: Unscored) -> Callable[[], float]:
    def refuse() -> float:
        raise reason

    return refuse


def voice_quality(subject: Subject, _: Weights) -> Values:
    """DNSMOS of the clip's sound."""
    from avgen.evaluation.speech.recognition import dnsmos

    if subject.clip.waveform is None:
        raise Unscored("has no sound")
    found = dnsmos(subject.clip.waveform, SAMPLE_RATE)
    names = ("overall", "speech", "background", "p808")
    return {name: getattr(found, name) for name in names}


def words_said(subject: Subject, _: Weights) -> tuple[list[str], str]:
    """The words of the clip's transcript, and what is to hear them.

    Raises:
        Unscored: nobody says which words they are, or it has no sound.
    """
    from avgen.evaluation.speech.transcripts import spoken_words

    assert subject.recognizer is not None
    if subject.transcript is None:
        raise Unscored("no transcript: not in --transcripts, nor in its sidecar or tags")
    words = spoken_words(subject.transcript)
    if not words:
        raise Unscored("its transcript has no words")
    if subject.clip.waveform is None:
        raise Unscored("has no sound")
    return words, subject.recognizer


def words_heard(seen: tuple[list[str], str], waveform: np.ndarray, rate: int) -> Values:
    """Errors of the words that are heard in a sound [1, N] against those said."""
    from avgen.evaluation.speech.recognition import load_recognizer, word_errors
    from avgen.evaluation.speech.transcripts import spoken_words

    said, recognizer = seen
    heard = spoken_words(" ".join(load_recognizer(recognizer)(waveform, rate)))
    errors = word_errors(said, heard)
    return {
        "rate": errors / len(said),
        "num_errors": errors,
        "num_words": len(said),
        "words": f'said "{" ".join(said)}", heard "{" ".join(heard)}"',
    }


def same_voice(subject: Subject, _: Weights) -> Values:
    """Likeness of the clip's voice and the reference's."""
    from avgen.evaluation.speech.recognition import speaker_similarity

    assert subject.reference is not None
    real = Subject(subject.reference)
    if real.clip.waveform is None or subject.clip.waveform is None:
        raise Unscored("one of the two has no sound")
    sounds = real.clip.waveform, subject.clip.waveform
    return {"similarity": speaker_similarity(*sounds, SAMPLE_RATE, SAMPLE_RATE)}
