"""When words are said: what every source of lengths shares, and the means of a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from avgen.clips.timed_words import Word
from avgen.errors import UserError
from avgen.models.english import SpokenWord, pronounce, read
from avgen.models.phonemes import VOWELS, TimedPhoneme, without_stress

FASTEST = 4.0  # times its own pace that speech may be hurried to fit a clip
RATES = (0.25, 4.0)  # what may be asked for

# Mean seconds of a phoneme in read speech, as a share of a vowel's; they divide a word's own length
# where nothing else is known.
_SHARE = {"vowel": 1.0, "fricative": 0.9, "stop": 0.6, "other": 0.6}
_FRICATIVES = frozenset(["CH", "F", "S", "SH", "TH", "Z", "ZH", "JH", "V", "HH", "DH"])
_STOPS = frozenset(["B", "D", "G", "K", "P", "T"])


@dataclass(frozen=True)
class TimedSpeech:
    """What is said, and when.

    Attributes:
        words: In seconds of the clip.
        phonemes: Likewise, with the pauses that are spoken as such.
        tail_s: Silence that belongs after the last word.
    """

    words: tuple[Word, ...]
    phonemes: tuple[TimedPhoneme, ...]
    tail_s: float


class SpeechTiming(Protocol):
    """Where times of speech come from: a model's, or a corpus' means."""

    @property
    def tail_s(self) -> float:
        """Silence after the last word, in seconds."""
        ...

    def time(self, text: str, seconds: float | None = None, rate: float = 1.0) -> TimedSpeech:
        """Times for a text; see `place`."""
        ...

    def spread(self, words: Sequence[Word]) -> tuple[TimedPhoneme, ...]:
        """The phonemes of words whose times are known."""
        ...


@dataclass(frozen=True)
class Lengths:
    """How long everything takes at its own pace.

    Attributes:
        word_s: Seconds of each word.
        weights: Shares of each word's phonemes in its time.
        pause_s: Seconds of silence after each word; of the last word they are not used.
        lead_s: Seconds before the first word.
        tail_s: Seconds after the last.
    """

    word_s: Sequence[float]
    weights: Sequence[Sequence[float]]
    pause_s: Sequence[float]
    lead_s: float
    tail_s: float


def place(
    words: Sequence[SpokenWord], lengths: Lengths, seconds: float | None, rate: float
) -> TimedSpeech:
    """Put words one after another, after a first silence.

    Args:
        words: What is said.
        lengths: How long that takes.
        seconds: Length of the clip; speech that is too long for it is made faster, the silence
            around it first shrinking. None lets it take as long as it takes.
        rate: Times as fast as the model's own pace.

    Raises:
        UserError: a rate outside `RATES`, or words that do not fit the clip.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"rate {rate:g}; it must be from {RATES[0]:g} to {RATES[1]:g}")
    spoken = (sum(lengths.word_s) + sum(lengths.pause_s[:-1])) / rate
    lead, tail, pace = lengths.lead_s, lengths.tail_s, 1 / rate
    if seconds is not None:
        around = lead + tail
        kept = min(1.0, max(seconds - spoken, 0.1 * seconds) / around) if around else 0.0
        lead, tail = lead * kept, tail * kept
        hurry = min(1.0, (seconds - lead - tail) / spoken)
        if hurry * FASTEST < 1:
            raise UserError(
                f"{len(words)} words take {spoken:.3g} s and do not fit {seconds:.3g} s; "
                f"speech is at most {FASTEST:g} times as fast as usual"
            )
        pace *= hurry
    timed: list[Word] = []
    phonemes: list[TimedPhoneme] = []
    start = lead
    for word, length, weights, pause in zip(
        words, lengths.word_s, lengths.weights, lengths.pause_s, strict=True
    ):
        timed.append(Word(word.text, start, start + pace * length))
        phonemes += divide(timed[-1], word.phonemes, weights)
        start += pace * length
        if word.pause:
            silence = tail if word is words[-1] else pace * pause
            if silence:
                phonemes.append(TimedPhoneme(word.pause, start, start + silence))
            start += silence
    return TimedSpeech(tuple(timed), tuple(phonemes), tail)


def spread(
    words: Sequence[Word], lexicon: Mapping[str, Sequence[str]] | None = None
) -> tuple[TimedPhoneme, ...]:
    """Phonemes of words, each given its share of its word's time (long vowels, short stops)."""
    timed = []
    said = pronounce([word.text for word in words], lexicon)
    for word, phonemes in zip(words, said, strict=True):
        timed += divide(word, phonemes, _shares(phonemes))
    return tuple(timed)


def divide(word: Word, phonemes: Sequence[str], weights: Sequence[float]) -> Iterable[TimedPhoneme]:
    """The phonemes of a word, its time divided among them by weight."""
    unit = (word.end_s - word.start_s) / sum(weights)
    start = word.start_s
    for phoneme, weight in zip(phonemes, weights, strict=True):
        yield TimedPhoneme(phoneme, start, start + weight * unit)
        start += weight * unit


def _kind(phoneme: str) -> str:
    bare = without_stress(phoneme)
    if bare in VOWELS:
        return "vowel"
    if bare in _FRICATIVES:
        return "fricative"
    return "stop" if bare in _STOPS else "other"


@dataclass(frozen=True)
class SpeechTimer:
    """How long words take, and the silence around them: the means of a corpus with timed words.

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
        """Fit to (words, seconds of the clip) of a corpus.

        Raises:
            UserError: no utterance has words.
        """
        lexicon = dict(lexicon or {})
        lengths: dict[str, list[float]] = {}
        kinds: dict[str, list[float]] = {}
        leads, tails = [], []
        for words, seconds in utterances:
            if not words:
                continue
            leads.append(words[0].start_s)
            tails.append(seconds - words[-1].end_s)
            for word in words:
                lengths.setdefault(word.text.lower(), []).append(word.end_s - word.start_s)
            for phoneme in spread(words, lexicon):
                kinds.setdefault(_kind(phoneme.phoneme), []).append(phoneme.end_s - phoneme.start_s)
        if not leads:
            raise UserError("no words to fit times to; at least one utterance is needed")
        mean = {name: sum(values) / len(values) for name, values in sorted(kinds.items())}
        for name, share in _SHARE.items():
            mean.setdefault(name, share * max(mean.values()))
        return cls(
            lexicon,
            {word: sum(values) / len(values) for word, values in sorted(lengths.items())},
            mean,
            sum(leads) / len(leads),
            max(0.0, sum(tails) / len(tails)),
        )

    def length(self, word: SpokenWord) -> float:
        """Seconds that a word takes: the corpus' mean, or the sum of its phonemes' means."""
        if word.text in self.word_s:
            return self.word_s[word.text]
        return sum(self.phoneme_s[_kind(phoneme)] for phoneme in word.phonemes)

    def time(self, text: str, seconds: float | None = None, rate: float = 1.0) -> TimedSpeech:
        """Times for the words of `text`; see `place`. It makes no pauses.

        Raises:
            UserError: no word in the text, or one that cannot be pronounced.
        """
        if not self.phoneme_s:
            raise UserError("the model was trained on clips without words; it cannot say any")
        words = [SpokenWord(word.text, word.phonemes) for word in read(text, self.lexicon)]
        lengths = Lengths(
            [self.length(word) for word in words],
            [_shares(word.phonemes) for word in words],
            [0.0] * len(words),
            self.lead_s,
            self.tail_s,
        )
        return place(words, lengths, seconds, rate)

    def spread(self, words: Sequence[Word]) -> tuple[TimedPhoneme, ...]:
        """Phonemes of words whose times are known."""
        return spread(words, self.lexicon)


def _shares(phonemes: Sequence[str]) -> list[float]:
    return [_SHARE[_kind(phoneme)] for phoneme in phonemes]
