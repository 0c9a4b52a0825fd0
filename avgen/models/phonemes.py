"""Text -> words with times -> phonemes with times. No network, no torch.

Pronunciations are CMUdict's, as the `pocketsphinx` package carries them (BSD), without stress.
Times come from the corpus in training; in generation from `SpeechTimer`, or from the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from avgen.clips.clip import Word
from avgen.errors import UserError

PHONEMES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
    "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
    "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
VOWELS = frozenset((*PHONEMES[:6], "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"))
DIGITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip

_PUNCTUATION = '.,;:!?\u2026"()[]{}\u00ab\u00bb\u201e\u2018\u2013\u2014-'

# Mean seconds of a phoneme in read speech, as a share of a vowel's; they only divide a word's own
# length.
_RELATIVE = {"vowel": 1.0, "fricative": 0.9, "stop": 0.6, "other": 0.6}
_FRICATIVES = frozenset(["CH", "F", "S", "SH", "TH", "Z", "ZH", "JH", "V", "HH", "DH"])
_STOPS = frozenset(["B", "D", "G", "K", "P", "T"])


@dataclass(frozen=True)
class TimedPhoneme:
    """A phoneme of `PHONEMES` and its seconds [start_s, end_s)."""

    phoneme: str
    start_s: float
    end_s: float


def parse_prompt(prompt: str) -> tuple[str, str]:
    """Split a prompt into (caption, speech): words in double quotes, straight or curly, are spoken.

    Raises:
        UserError: a quote is opened and not closed.
    """
    straight = prompt.replace("\u201c", '"').replace("\u201d", '"')
    if straight.count('"') % 2:
        raise UserError(
            f"prompt {prompt!r}: a double quote is not closed; quotes hold what is spoken"
        )
    spoken = re.findall(r'"([^"]*)"', straight)
    caption = re.sub(r'"[^"]*"', " ", straight)
    return " ".join(caption.split()), " ".join(" ".join(spoken).split())


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case; digits are read one by one, punctuation is dropped.

    Raises:
        UserError: a part of the text holds no letter or digit.
    """
    words = []
    for part in text.split():
        bare = part.strip(_PUNCTUATION).lower().replace("\u2019", "'")
        if bare not in dictionary():  # which has 'em and players'; 'red' is a quotation
            bare = bare.strip("'")
        for piece in re.findall(r"[0-9]|[^0-9-]+", bare):
            if not re.search(r"[a-z0-9]", piece):
                raise UserError(
                    f"{part!r} cannot be pronounced: {piece!r} holds no letter from a to z and "
                    "no digit"
                )
            words.append(DIGITS[int(piece)] if piece.isdigit() else piece)
    return words


def phonemize(word: str, lexicon: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
    """Phonemes of one word, from `lexicon` first, then from the dictionary.

    Raises:
        UserError: neither has the word.
    """
    key = word.lower()
    if lexicon and key in lexicon:
        return tuple(lexicon[key])
    phonemes = dictionary().get(key)
    if phonemes is None:
        raise UserError(
            f"{word!r} cannot be pronounced: "
            f"it is not among the dictionary's {len(dictionary())} words"
        )
    return phonemes


@cache
def dictionary() -> dict[str, tuple[str, ...]]:
    """CMUdict in US English: word -> phonemes of its first pronunciation."""
    from pocketsphinx import get_model_path

    entries = {}
    for line in (
        Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines()
    ):
        word, *phonemes = line.split()
        if "(" not in word:
            entries[word] = tuple(phonemes)
    return entries


def spread(
    words: Sequence[Word], lexicon: Mapping[str, Sequence[str]] | None = None
) -> tuple[TimedPhoneme, ...]:
    """Phonemes of words, each given its share of its word's time (long vowels, short stops)."""
    timed = []
    for word in words:
        phonemes = phonemize(word.text, lexicon)
        weights = [_RELATIVE[_class(phoneme)] for phoneme in phonemes]
        unit = (word.end_s - word.start_s) / sum(weights)
        start = word.start_s
        for phoneme, weight in zip(phonemes, weights, strict=True):
            timed.append(TimedPhoneme(phoneme, start, start + weight * unit))
            start += weight * unit
    return tuple(timed)


def during(
    phonemes: Iterable[TimedPhoneme], start_s: float, stop_s: float
) -> tuple[TimedPhoneme, ...]:
    """The phonemes heard within [start_s, stop_s), in seconds from its start.

    Those that are cut keep their whole span, which then begins below 0 or ends beyond the stretch.
    """
    return tuple(
        TimedPhoneme(p.phoneme, p.start_s - start_s, p.end_s - start_s)
        for p in phonemes
        if p.end_s > start_s and p.start_s < stop_s
    )


def _class(phoneme: str) -> str:
    if phoneme in VOWELS:
        return "vowel"
    if phoneme in _FRICATIVES:
        return "fricative"
    return "stop" if phoneme in _STOPS else "other"


@dataclass(frozen=True)
class SpeechTimer:
    """How long words take, and the silence around them: the means of a corpus.

    Attributes:
        lexicon: Pronunciations that the corpus needs besides the dictionary's.
        word_s: Word -> mean seconds.
        phoneme_s: Class of phoneme -> mean seconds, for words that the corpus lacks.
        lead_s: Silence before the first word.
        tail_s: Silence after the last.
    """

    lexicon: Mapping[str, Sequence[str]]
    word_s: Mapping[str, float]
    phoneme_s: Mapping[str, float]
    lead_s: float
    tail_s: float

    @classmethod
    def fit(
        cls,
        utterances: Iterable[tuple[Sequence[Word], float]],
        lexicon: Mapping[str, Sequence[str]] | None = None,
    ) -> SpeechTimer:
        """Fit to (words, seconds of the clip) of a corpus."""
        lexicon = dict(lexicon or {})
        lengths: dict[str, list[float]] = {}
        classes: dict[str, list[float]] = {}
        leads, tails = [], []
        for words, seconds in utterances:
            if not words:
                continue
            leads.append(words[0].start_s)
            tails.append(seconds - words[-1].end_s)
            for word in words:
                lengths.setdefault(word.text.lower(), []).append(word.end_s - word.start_s)
            for phoneme in spread(words, lexicon):
                classes.setdefault(_class(phoneme.phoneme), []).append(
                    phoneme.end_s - phoneme.start_s
                )
        if not leads:
            raise UserError("no words to fit times to; at least one utterance is needed")
        mean = {name: sum(values) / len(values) for name, values in sorted(classes.items())}
        for name, share in _RELATIVE.items():
            mean.setdefault(name, share * max(mean.values()))
        return cls(
            lexicon,
            {word: sum(values) / len(values) for word, values in sorted(lengths.items())},
            mean,
            sum(leads) / len(leads),
            max(0.0, sum(tails) / len(tails)),
        )

    def length(self, word: str) -> float:
        """Seconds that a word takes: the corpus' mean, or the sum of its phonemes' means."""
        if word in self.word_s:
            return self.word_s[word]
        return sum(self.phoneme_s[_class(phoneme)] for phoneme in phonemize(word, self.lexicon))

    def time(self, text: str, seconds: float | None) -> tuple[Word, ...]:
        """Times for the words of `text`, one after another, after `lead_s`.

        Args:
            text: What is said.
            seconds: Length of the clip; speech that is too long for it is made faster, silence
                first shrinking. None lets it take as long as it takes.

        Raises:
            UserError: no word in the text, or one that cannot be pronounced.
        """
        texts = words_of(text)
        if not texts:
            raise UserError(f"no words to say in {text!r}")
        lengths = [self.length(word) for word in texts]
        lead, pace = self.lead_s, 1.0
        if seconds is not None:
            silence = self.lead_s + self.tail_s
            room = seconds - sum(lengths)
            lead = self.lead_s * min(1.0, max(room, 0.1 * seconds) / silence) if silence else 0.0
            tail = self.tail_s * min(1.0, max(room, 0.1 * seconds) / silence) if silence else 0.0
            pace = min(1.0, (seconds - lead - tail) / sum(lengths))
        timed, start = [], lead
        for word, length in zip(texts, lengths, strict=True):
            timed.append(Word(word, start, start + pace * length))
            start += pace * length
        return tuple(timed)
