"""A waveform -> how good the speech sounds (DNSMOS), and whose voice it is (speaker similarity).

DNSMOS comes with its weights in the package speechmos; the speaker embedding with Resemblyzer's
(Apache-2.0). Both are optional.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from avgen.evaluation.faces.identity import stretch_s
from avgen.evaluation.measure import Measure, Value, Values, optional
from avgen.evaluation.subject import (
    SAMPLE_RATE,
    Subject,
    Unscored,
    own_sound,
    read_audio_quietly,
)
from avgen.evaluation.waveforms import SPEECH_RATE, at_speech_rate, require_samples

LEAST_SPEECH_S = 0.5  # of a voice, to be somebody's
LEAST_RATED_S = 1.0  # of sound, for DNSMOS: what is shorter would be repeated ten times over


@dataclass(frozen=True)
class Quality:
    """Predicted opinions of a sound, 1 to 5.

    Attributes:
        overall: DNSMOS P.835 OVRL.
        speech: SIG, of the speech alone.
        background: BAK, of what is behind it.
        p808: Of the listening test of ITU-T P.808.
    """

    overall: float
    speech: float
    background: float
    p808: float


def dnsmos(waveform: np.ndarray, sample_rate: int) -> Quality:
    """Predicted quality of speech in a waveform float32 [1, N]: DNSMOS P.835 (Reddy et al. 2022).

    The network takes 9.01 s; a shorter sound is repeated, as in its release.

    Raises:
        Unscored: speechmos is not installed, or the sound is silent or too short.
    """
    network = optional("speechmos.dnsmos", "'avgen[evaluate]'")
    require_samples(waveform)
    length_s = waveform.shape[1] / sample_rate
    if length_s < LEAST_RATED_S:
        raise Unscored(f"{length_s:.2f} s of sound; DNSMOS rates {LEAST_RATED_S:.0f} s and more")
    found: Any = network.run(at_speech_rate(waveform, sample_rate), SPEECH_RATE)
    names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    return Quality(*(float(found[name]) for name in names))


def speaker_similarity(real: np.ndarray, made: np.ndarray, real_rate: int, made_rate: int) -> float:
    """Cosine of the voices in two waveforms float32 [1, N], of any words and lengths: 0 to 1.

    Two voices of one language and sex often reach 0.6 or more: compare with another clip's.

    Raises:
        Unscored: Resemblyzer is not installed, or less than LEAST_SPEECH_S of speech in one.
    """
    return float(voice_embedding(real, real_rate) @ voice_embedding(made, made_rate))


def voice_embedding(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """The voice in a waveform float32 [1, N], of what Resemblyzer takes for speech: unit [256].

    Reference: Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification".

    Raises:
        Unscored: as for `speaker_similarity`.
    """
    encoder, preprocess = _resemblyzer()
    require_samples(waveform)
    sound = preprocess(at_speech_rate(waveform, sample_rate))
    if len(sound) < LEAST_SPEECH_S * SPEECH_RATE:
        raise Unscored(
            f"{len(sound) / SPEECH_RATE:.2f} s of speech; a voice needs {LEAST_SPEECH_S} s"
        )
    return encoder.embed_utterance(sound)


@cache
def _resemblyzer() -> tuple[Any, Any]:
    package = optional("resemblyzer", "Resemblyzer webrtcvad-wheels")
    return package.VoiceEncoder(device="cpu", verbose=False), package.preprocess_wav


def _asked_for(subject: Subject) -> np.ndarray:
    """The voice that a clip should have."""
    own_sound(subject)
    if subject.voice is None:
        return voice_embedding(own_sound(subject.real), SAMPLE_RATE)
    return voice_embedding(*read_audio_quietly(subject.voice, SAMPLE_RATE))


def _similarity(voice: np.ndarray, waveform: np.ndarray, rate: int) -> Values:
    return {"similarity": float(voice @ voice_embedding(waveform, rate))}


def _first_stretch(subject: Subject) -> tuple[np.ndarray, float, float]:
    """The voice of a clip's first stretch, how alike its halves are, and its seconds."""
    sound, length_s = own_sound(subject), stretch_s(subject)
    count = int(length_s * SAMPLE_RATE)
    parts = (sound[:, :count], sound[:, : count // 2], sound[:, count // 2 : count])
    first, one, two = (voice_embedding(part, SAMPLE_RATE) for part in parts)
    return first, float(one @ two), length_s


def _drift(seen: tuple[np.ndarray, float, float], waveform: np.ndarray, rate: int) -> Values:
    first, within, length_s = seen
    last = voice_embedding(waveform[:, -int(length_s * rate) :], rate)
    similar = float(first @ last)
    return {"within_first": within, "last_to_first": similar, "kept": similar / within}


MEASURES = (
    Measure(
        "dnsmos",
        "dnsmos-p835@speechmos-0.0.1.1/1",
        dict.fromkeys(("overall", "speech", "background", "p808"), Value(1)),
        lambda subject: asdict(dnsmos(own_sound(subject), SAMPLE_RATE)),
        by_default=False,
    ),
    Measure(
        "speaker",
        "ge2e@resemblyzer-0.1.4/1",
        {"similarity": Value(1)},
        _asked_for,
        _similarity,
        needs=("voice",),
        by_default=False,
        has_delayed=False,
        is_of_person=True,
    ),
    Measure(
        "voice_drift",
        "ge2e-drift@resemblyzer-0.1.4/1",
        {"kept": Value(1), "last_to_first": Value(1), "within_first": Value(1)},
        _first_stretch,
        _drift,
        by_default=False,
        has_delayed=False,
        is_of_person=True,
    ),
)
