"""A waveform in, how well it speaks out: words understood, quality, whose voice it is.

A recogniser is any callable of (waveform, sample_rate) to words; the one here knows GRID's
sentences only. DNSMOS comes with its weights in the package speechmos, speaker similarity with
Resemblyzer's. All are optional and imported when used.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from avgen.errors import UserError
from avgen.evaluation.subject import Unscored

DNSMOS_PROTOCOL = "dnsmos-p835@speechmos-0.0.1.1/1"
SPEAKER_PROTOCOL = "ge2e@resemblyzer-0.1.4/1"
SPEECH_RATE = 16_000  # Hz, of everything here
LEAST_SPEECH_S = 0.5  # of a voice, to be somebody's
LEAST_RATED_S = 1.0  # of sound, for DNSMOS: what is shorter would be heard ten times over

# Chosen on clips of GRID's train split alone. The cepstral mean is the clip's own, so that no
# clip's words depend on those before it; the grammar weighs little, as every sentence is as likely.
RECOGNIZER: dict[str, Any] = {"cmn": "batch", "lw": 2.0}

# GRID's six places; Cooke et al. 2006, "An audio-visual corpus for speech perception and automatic
# speech recognition", table I. There is no w: its name has three syllables.
GRAMMAR = """#JSGF V1.0;
grammar grid;
public <sentence> = <command> <colour> <preposition> <letter> <digit> <adverb>;
<command> = bin | lay | place | set;
<colour> = blue | green | red | white;
<preposition> = at | by | in | with;
<letter> = a | b | c | d | e | f | g | h | i | j | k | l | m
         | n | o | p | q | r | s | t | u | v | x | y | z;
<digit> = zero | one | two | three | four | five | six | seven | eight | nine;
<adverb> = again | now | please | soon;
"""

# As the speakers, who are British, say them; a second line is a second way to say a word.
PRONUNCIATIONS = """\
a EY; again AH G EH N; again(2) AH G EY N; at AE T; b B IY; bin B IH N; blue B L UW; by B AY;
c S IY; d D IY; e IY; eight EY T; f EH F; five F AY V; four F AO R; four(2) F AO; g JH IY;
green G R IY N; h EY CH; i AY; in IH N; j JH EY; k K EY; l EH L; lay L EY; m EH M; n EH N;
nine N AY N; now N AW; o OW; one W AH N; p P IY; place P L EY S; please P L IY Z; q K Y UW;
r AA R; r(2) AA; red R EH D; s EH S; set S EH T; seven S EH V AH N; six S IH K S;
soon S UW N; t T IY; three TH R IY; two T UW; u Y UW; v V IY; white W AY T;
white(2) HH W AY T; with W IH DH; with(2) W IH TH; x EH K S; y W AY; z Z EH D;
zero Z IH R OW; zero(2) Z IY R OW"""


class Recognizer(Protocol):
    """Whatever hears words; its attribute PROTOCOL, if it has one, is the id of its error rate."""

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> list[str]:
        """Words in a waveform float32 [1, N] in [-1, 1], in order; none where it hears none."""
        ...


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


def at_speech_rate(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """A waveform float32 [1, N] in [-1, 1] at 16 kHz: [n], clipped."""
    import torch
    import torchaudio

    sound = torchaudio.functional.resample(
        torch.from_numpy(waveform[0].copy()), sample_rate, SPEECH_RATE
    )
    return sound.clamp(-1, 1).numpy()


# Words


def word_errors(real: Sequence[str], heard: Sequence[str]) -> int:
    """Insertions, deletions and substitutions from one list of words to the other."""
    row = np.arange(len(heard) + 1)
    for i, word in enumerate(real, 1):
        above, row = row, np.empty_like(row)
        row[0] = i
        for j, other in enumerate(heard, 1):
            row[j] = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (word != other))
    return int(row[-1])


def word_error_rate(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Word errors of (said, heard) over the words said, of all clips together; may exceed 1.

    Raises:
        Unscored: no words were said.
    """
    errors = words = 0
    for said, heard in pairs:
        errors, words = errors + word_errors(said, heard), words + len(said)
    if not words:
        raise Unscored("no words were said; a word error rate needs at least one")
    return errors / words


@cache
def load_recognizer(path: str) -> Recognizer:
    """The recogniser of an import path: a class, which is made without arguments, or a function.

    Raises:
        UserError: it cannot be imported or made, or cannot be called.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
        recognizer = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"recognizer {path}: cannot be had ({error}); it must be an import path, as "
            "avgen.evaluation.speech.recognition.GridRecognizer"
        ) from error
    if not callable(recognizer):
        raise UserError(f"recognizer {path}: a {type(recognizer).__name__}; it must be callable")
    return cast(Recognizer, recognizer)


def recognizer_protocol(path: str) -> str:
    """Id of the word error rate by the recogniser of an import path."""
    return str(getattr(load_recognizer(path), "PROTOCOL", f"wer@{path}"))


class GrammarRecognizer:
    """Hears a sentence of a grammar: pocketsphinx with its acoustic model of American English.

    It hears a sentence of the grammar in whatever sounds, so its error rate says nothing of other
    speech.

    Args:
        grammar: In JSGF.
        pronunciations: Words as the speakers say them, a line each; None for the CMU dictionary.
    """

    def __init__(self, grammar: str, pronunciations: str | None = None) -> None:
        from pocketsphinx import Config, Decoder

        settings = {"samprate": SPEECH_RATE, "lm": None, "loglevel": "FATAL", **RECOGNIZER}
        with tempfile.NamedTemporaryFile("w", suffix=".dict") as file:
            if pronunciations is not None:
                file.write(pronunciations)
                file.flush()
                settings["dict"] = file.name
            self.decoder = Decoder(Config(**settings))
        self.decoder.add_jsgf_string("sentences", grammar)
        self.decoder.activate_search("sentences")

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> list[str]:
        """Words in a waveform float32 [1, N]; none where no sentence of the grammar fits."""
        sound = (at_speech_rate(waveform, sample_rate) * 32767).astype(np.int16)
        self.decoder.start_utt()
        self.decoder.process_raw(sound.tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return [] if hypothesis is None else hypothesis.hypstr.split()


class GridRecognizer(GrammarRecognizer):
    """Hears a GRID sentence, with the corpus' grammar and pronunciations."""

    PROTOCOL = "wer@pocketsphinx-grid/1"

    def __init__(self) -> None:
        super().__init__(GRAMMAR, re.sub(r";\s+", "\n", PRONUNCIATIONS) + "\n")


# Quality and voice


def dnsmos(waveform: np.ndarray, sample_rate: int) -> Quality:
    """Predicted quality of speech in a waveform float32 [1, N]: DNSMOS P.835 (Reddy et al. 2022).

    The network takes 9.01 s; a shorter sound is repeated, as in its release.

    Raises:
        Unscored: speechmos is not installed, or the sound is silent or too short.
    """
    try:
        from speechmos import dnsmos as network
    except ImportError as error:
        raise Unscored("DNSMOS needs speechmos: pip install 'avgen[evaluate]'") from error
    _refuse_silence(waveform)
    length_s = waveform.shape[1] / sample_rate
    if length_s < LEAST_RATED_S:
        raise Unscored(f"{length_s:.2f} s of sound; DNSMOS rates {LEAST_RATED_S:.0f} s and more")
    found: Any = network.run(at_speech_rate(waveform, sample_rate), SPEECH_RATE)
    names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    return Quality(*(float(found[name]) for name in names))


def speaker_similarity(real: np.ndarray, made: np.ndarray, real_rate: int, made_rate: int) -> float:
    """Cosine of the voices in two waveforms float32 [1, N], of any words and lengths: 0 to 1.

    Embeddings are those of Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification",
    of what its voice detector takes for speech. Two voices of one language and sex often have 0.6
    or more: compare with what two clips of one speaker have.

    Raises:
        Unscored: Resemblyzer is not installed, or less than LEAST_SPEECH_S of speech in one.
    """
    voices = [_voice(x, rate) for x, rate in ((real, real_rate), (made, made_rate))]
    return float(voices[0] @ voices[1])


def _voice(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    encoder, preprocess = _resemblyzer()
    _refuse_silence(waveform)
    sound = preprocess(at_speech_rate(waveform, sample_rate))
    if len(sound) < LEAST_SPEECH_S * SPEECH_RATE:
        raise Unscored(
            f"{len(sound) / SPEECH_RATE:.2f} s of speech; a voice needs {LEAST_SPEECH_S} s"
        )
    return encoder.embed_utterance(sound)


@cache
def _resemblyzer() -> tuple[Any, Any]:
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav  # pyright: ignore[reportMissingImports]
    except ImportError as error:  # also its webrtcvad's, which looks for an old setuptools
        raise Unscored(
            f"speaker similarity needs resemblyzer and webrtcvad-wheels ({error})"
        ) from error
    return VoiceEncoder(device="cpu", verbose=False), preprocess_wav


def _refuse_silence(waveform: np.ndarray) -> None:
    if not np.any(waveform):
        raise Unscored("the sound is silent")
