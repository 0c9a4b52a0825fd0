"""What a table says of a person, and a voice's description, in; one of many captions out.

People ask for the same in many words. Every clip gets another phrasing: which of the attributes are
named, in which words and order, is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LABELS = (
    "kind", "age", "skin", "hair", "hair_style", "beard", "glasses", "headwear", "clothes",
    "background",
)  # fmt: skip
_AS_TOLD = 0.3  # how often the table's own caption is used
_AGES = {
    "young": ("young", "young", "youthful", "twenty-something"),
    "middle-aged": ("middle-aged", "middle-aged", "mature"),
    "old": ("old", "old", "elderly", "aged"),
}
_DECADES = {
    "young": ("in {} twenties", "of about twenty-five"),
    "middle-aged": ("in {} forties", "of about fifty"),
    "old": ("in {} seventies", "of about seventy"),
}
_PEOPLE = {
    "man": ("man", "man", "man", "gentleman", "guy"),
    "woman": ("woman", "woman", "woman", "lady"),
}
_HIS = {"man": "his", "woman": "her"}
_HAIR = {
    "grey": ("grey", "gray", "silver"), "blond": ("blond", "blonde", "fair"),
    "red": ("red", "ginger"), "brown": ("brown", "brunette", "chestnut"),
    "black": ("black", "dark"),
}  # fmt: skip
_SKIN = {
    "pale": ("pale", "fair", "very light"), "light": ("light", "fair"),
    "tan": ("tan", "tanned", "olive"), "brown": ("brown",), "dark": ("dark", "deep brown"),
}  # fmt: skip
_STYLES = {
    "bun": ("{} hair in a bun", "{} hair tied up"),
    "bob": ("a {} bob", "chin-length {} hair"),
    "braids": ("{} braids", "braided {} hair"),
    "ponytail": ("a {} ponytail", "{} hair in a ponytail"),
    "afro": ("a {} afro",),
    "spiky": ("spiky {} hair",),
}
_BEARDS = {
    "stubble": ("stubble", "a stubbly chin"), "beard": ("a beard", "a full beard"),
    "goatee": ("a goatee", "a small beard"), "moustache": ("a moustache", "a mustache"),
}  # fmt: skip
_GLASSES = ("glasses", "glasses", "spectacles", "eyeglasses")
_BEFORE = ("before", "in front of", "against", "with")
_VOICES = ("speaking in {}", "who speaks in {}", "talking in {}", "with {}")


def describe(about: Mapping[str, Any], voice: str, rng: np.random.Generator) -> str:
    """A caption in lower case, without a full stop.

    Args:
        about: Any of LABELS and a `caption`; empty says "a person".
        voice: Such as "a deep, calm voice"; "" where nothing is known.
        rng: Decides the words.
    """
    told = str(about.get("caption", ""))
    looks = (
        told if told and (rng.random() < _AS_TOLD or "kind" not in about) else _looks(about, rng)
    )
    if not voice or rng.random() < 0.25:
        return looks
    phrase = _one(rng, _VOICES).format(voice)
    if rng.random() < 0.2:
        return f"{voice}: {looks}"
    return f"{looks}{', ' if ' with ' in looks or ', ' in looks else ' '}{phrase}"


def _looks(about: Mapping[str, Any], rng: np.random.Generator) -> str:
    kind, age = str(about.get("kind", "person")), str(about.get("age", ""))
    noun = _one(rng, _PEOPLE.get(kind, (kind,)))
    adjective, behind = "", ""
    if age in _AGES and rng.random() < 0.85:
        if rng.random() < 0.25:
            behind = " " + _one(rng, _DECADES[age]).format(_HIS.get(kind, "their"))
        else:
            adjective = _one(rng, _AGES[age])
    parts = _parts(about, rng)
    if "bald" in parts:
        parts.remove("bald")
        adjective = f"bald {adjective}".strip()
    rng.shuffle(parts)
    words = f"{adjective} {noun}".strip()
    start = f"{'an' if words[0] in 'aeiou' else 'a'} {words}{behind}"
    if rng.random() < 0.12:
        start = f"portrait of {start}" if rng.random() < 0.5 else f"{start} looking at the camera"
    return start + _joined(parts, rng) + _worn(about, rng) + _place(about, rng)


def _parts(about: Mapping[str, Any], rng: np.random.Generator) -> list[str]:
    """Skin, hair, beard and glasses, those that are named."""
    parts = []
    skin, hair, style = (str(about.get(key, "")) for key in ("skin", "hair", "hair_style"))
    if skin in _SKIN and rng.random() < 0.5:
        parts.append(f"{_one(rng, _SKIN[skin])} skin")
    if style == "bald":
        parts.append("bald")
    elif hair and hair not in ("hidden", "none") and rng.random() < 0.9:
        colour = _one(rng, _HAIR.get(hair, (hair,)))
        form = _one(rng, _STYLES.get(style, (f"{style} {{}} hair" if style else "{} hair",)))
        parts.append(form.format(colour))
    beard = str(about.get("beard", "none"))
    if beard in _BEARDS and rng.random() < 0.9:
        parts.append(_one(rng, _BEARDS[beard]))
    if about.get("glasses") is True and rng.random() < 0.95:
        parts.append(_one(rng, _GLASSES))
    return parts


def _worn(about: Mapping[str, Any], rng: np.random.Generator) -> str:
    headwear, clothes = (str(about.get(key, "none")) for key in ("headwear", "clothes"))
    text = ""
    if headwear not in ("none", "") and rng.random() < 0.95:
        text = f", wearing {_article(headwear)}{headwear}"
    if clothes not in ("none", "") and rng.random() < 0.7:
        form = _one(rng, ("in {}", "dressed in {}", "wearing {}", "in {} clothes"))
        text += ("," if text else "") + " " + form.format(clothes)
    return text


def _place(about: Mapping[str, Any], rng: np.random.Generator) -> str:
    place = str(about.get("background", ""))
    if not place or rng.random() < 0.4:
        return ""
    before = _one(rng, _BEFORE)
    tail = " behind" if before == "with" else ""
    return f"{',' if tail else ''} {before} {_article(place)}{place}{tail}"


def _article(thing: str) -> str:
    return "" if thing.endswith("s") else "an " if thing[0] in "aeiou" else "a "


def _joined(parts: list[str], rng: np.random.Generator) -> str:
    if not parts:
        return ""
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{' with' if rng.random() < 0.9 else ', having'} {listed}"


def _one(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
