"""English text -> words with their phonemes. No network of ours, no torch.

What is read: numbers, money, years, ordinals, times, dates, units, abbreviations, acronyms,
initials, hyphens, quotes and apostrophes of every kind; "read", "lives" and the like by their part
of speech; words that no dictionary has by a small network. All of that is hibari-tts's
grapheme-to-phoneme model (Apache-2.0, 14 MB with its data, no download), which is misaki's rules
and lexicon without spaCy. What is not spoken is left out: stage directions in [], () or <>, and
pictographs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from avgen.errors import UserError
from avgen.models.phonemes import MISAKI, MISAKI_PAUSES, MISAKI_STRESS, VOWELS

_APOSTROPHES = "\u2019\u02bc\u00b4\u0060\u02b9\u2032"
_QUOTES = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2018\u201a\u300c\u300d\u300e\u300f'
_DIRECTION = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^\s<>][^<>]*>")
_UNSEEN = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")  # soft hyphens, joiners
_SIGNS = {
    "\u00b2": " squared", "\u00b3": " cubed", "\u00d7": " times ", "\u00f7": " divided by ",
    "\u00b1": " plus or minus ", "\u00a7": " section ", "\u2192": " to ",
    "\u2122": "", "\u00ae": "",
}  # fmt: skip
_LATIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
     "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}  # noqa: RUF001
)  # fmt: skip
_MICRO = "\u03bc"  # what NFKC makes of the sign of micro
_TITLES = {"Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Prof": "Professor"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b\.?(?=\s+[A-Z])")
_SPOKEN_SYMBOLS = set("&%$£€¥₹₩¢#+=@°/*<>~^|._-',;:!?…\u2014")
_NUMBER_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
thousand million billion trillion first second third fourth fifth sixth seventh eighth ninth tenth
eleventh twelfth thirteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth
ninetieth hundredth thousandth half halves and oh point minus plus percent dollar dollars cent
cents pound
pounds pence penny euro euros yen to slash equals at hash
"""


@dataclass(frozen=True)
class SpokenWord:
    """A word as it is said.

    Attributes:
        text: In lower case, numbers in words.
        phonemes: Of `avgen.models.phonemes.PHONEMES`; vowels carry their stress where it is known.
        pause: What follows: "" nothing, or one of `avgen.models.phonemes.PAUSES`.
    """

    text: str
    phonemes: tuple[str, ...]
    pause: str = ""


def read(text: str, lexicon: Mapping[str, Sequence[str]] | None = None) -> tuple[SpokenWord, ...]:
    """The words of a text, as they are said.

    Args:
        text: Anything written in English.
        lexicon: Lower-case words -> phonemes that go before everybody else's.

    Raises:
        UserError: a part of the text cannot be said (another script), or none of it can.
    """
    spoken: list[SpokenWord] = []
    for token in _tokens(_normalize(_clean(text))):
        said = (token.phonemes or "").strip()
        pauses = [MISAKI_PAUSES[mark] for mark in said if mark in MISAKI_PAUSES]
        pause = _longest(pauses)
        words = list(_words_of(token, lexicon or {})) if said else []
        spoken += words
        if pause and spoken:
            before = spoken[-1]
            spoken[-1] = SpokenWord(before.text, before.phonemes, _longest([before.pause, pause]))
    if not spoken:
        raise UserError(f"no words to say in {text!r}; at least one is needed")
    return tuple(spoken)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, numbers in words, without punctuation.

    Raises:
        UserError: see `read`.
    """
    return [word.text for word in read(text)]


def pronounce(
    words: Sequence[str], lexicon: Mapping[str, Sequence[str]] | None = None
) -> list[tuple[str, ...]]:
    """Phonemes of each of several words that are said one after another.

    A word that is read as several (a number) has the phonemes of all of them.

    Raises:
        UserError: a word cannot be said.
    """
    found = []
    for word in words:
        key = word.lower()
        if lexicon and key in lexicon:
            found.append(tuple(lexicon[key]))
        else:
            found.append(tuple(p for part in _alone(word) for p in part.phonemes))
    return found


@cache
def _alone(word: str) -> tuple[SpokenWord, ...]:
    return read(word)


def _longest(pauses: Sequence[str]) -> str:
    return max(pauses, key=("", ",", ".").index, default="")


def _clean(text: str) -> str:
    """The text without what is not spoken, its typographic marks as typewriters have them.

    Raises:
        UserError: it has letters of another script.
    """
    for apostrophe in _APOSTROPHES:
        text = text.replace(apostrophe, "'")
    text = re.sub(r"(?<=\w)\u2018(?=\w)", "'", text)
    text = _as_typed(_DIRECTION.sub(" ", _UNSEEN.sub("", text)))
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").translate(_LATIN)
    text = _TITLE.sub(lambda title: _TITLES[title[1]], text)
    text = re.sub(r"(\d+)'(\d+)\"?", r"\1 foot \2", text)
    text = re.sub(f"[{re.escape(_QUOTES)}]", " ", text)
    text = re.sub(r"(?<!\w)'(?=\w+'(?!\w))|(?<!\w)'(?=[^']*\w'(?!\w))", " ", text)
    text = re.sub(r"(\d)\s*[\u2012-\u2015-]\s*(\d+)(?=\s?%)", r"\1 to \2", text)
    text = re.sub(r"(\d)\s*[\u2012-\u2015]\s*(\d)", r"\1-\2", text)
    text = re.sub(r"\s*(?:[\u2012-\u2015]|--+)\s*", " \u2014 ", text)
    text = re.sub(r"(?:\.{2,}|\u2026)(?=\s*[\w'])", ", ", text)
    text = re.sub(r"\s/\s", ", ", text)
    text = re.sub(r"(?<=[^\W\d])([,;:!?])(?=[^\W\d])", r"\1 ", text)
    for character in text:
        is_letter = character.isalpha() and character != _MICRO
        if is_letter and not unicodedata.name(character, "").startswith("LATIN"):
            raise UserError(
                f"{text.strip()!r} cannot be pronounced: {character!r} is not a Latin letter, "
                "in which words are written"
            )
    kept = (
        c if c.isalnum() or c.isspace() or c in _SPOKEN_SYMBOLS or unicodedata.combining(c) else " "
        for c in text
    )
    return "".join(kept)


def _as_typed(text: str) -> str:
    """Signs as the normaliser knows them; NFKC would make other numbers of some."""
    text = re.sub(r"\u2212\s*(?=\d)", "-", text).replace("\u2212", " minus ")
    text = re.sub("(?<=\\d)\\s*(?=[\u00bc-\u00be\u2153-\u215e])", " and ", text)  # 3 1/2
    text = re.sub(r"([\d.,]*\d)\s?([\u20ac\u00a3$])(?!\w)", r"\2\1", text)  # 50 euros
    for sign, words in _SIGNS.items():
        text = text.replace(sign, words)
    return text


def _normalize(text: str) -> str:
    from hibari.g2p.normalize import normalize

    text = normalize(text.replace(_MICRO, "\u00b5"))  # which knows km/h, w/o and the like
    return re.sub(r"(?<=[^\W\d])/(?=[^\W\d])", " ", text)


@cache
def _g2p() -> Any:
    from hibari.g2p import G2P

    return G2P()


def _tokens(text: str) -> Sequence[Any]:
    g2p = _g2p()
    return g2p.phonemize_tokens(g2p.tokenize(text)) if text else []


def _words_of(token: Any, lexicon: Mapping[str, Sequence[str]]) -> Iterator[SpokenWord]:
    """The words that a token of the grapheme-to-phoneme model is said as."""
    text = token.text.lower()
    if text in lexicon:
        yield SpokenWord(text, tuple(lexicon[text]))
        return
    parts = [(part, _arpabet(part)) for part in token.phonemes.split()]
    parts = [(part, phonemes) for part, phonemes in parts if phonemes]
    if not parts:
        return
    names = [_number_words().get(_unstressed(part)) for part, _ in parts]
    if not text.isalpha() and all(names):
        for name, (_, phonemes) in zip(names, parts, strict=True):
            yield SpokenWord(str(name), phonemes)
    else:
        yield SpokenWord(text, tuple(p for _, phonemes in parts for p in phonemes))


@cache
def _number_words() -> dict[str, str]:
    """How the words of numbers are pronounced -> the words."""
    found: dict[str, str] = {}
    for word in _NUMBER_WORDS.split():
        for token in _tokens(word):
            found.setdefault(_unstressed(token.phonemes), word)
    return found


def _unstressed(said: str) -> str:
    return said.translate({ord(mark): None for mark in MISAKI_STRESS})


def _arpabet(said: str) -> tuple[str, ...]:
    """Misaki's letters as `PHONEMES`; marks that are no phoneme are left out."""
    phonemes: list[str] = []
    stress = "0"
    for index, letter in enumerate(said):
        phoneme = MISAKI.get(letter)
        if letter in MISAKI_STRESS:
            stress = MISAKI_STRESS[letter]
        elif letter == "\u0279" and phonemes and said[index - 1] in "\u025c\u0259":  # one sound
            phonemes[-1] = f"ER{phonemes[-1][-1]}"
        elif phoneme in VOWELS:
            phonemes.append(phoneme + stress)
            stress = "0"
        elif phoneme is not None:
            phonemes.append(phoneme)
    return tuple(phonemes)
