"""A seed in, a voice out: whose it is, how it is made, and the words that describe it.

The name of a voice (`hibari-woman-old-000012`) is all that makes it again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

from avgen.corpora.voices.synthesis import Warp
from avgen.errors import UserError

Engine = Literal["hibari", "kokoro"]
SEXES = ("man", "woman")
AGES = ("young", "middle-aged", "old")

_HIBARI_HZ = 190.0
# Kokoro's English voices and their pitch in Hz (median of one sentence). The first letter is the
# accent, American or British; the second the sex. Voices of one accent and sex are mixed.
_KOKORO_HZ: Mapping[str, int] = MappingProxyType(
    {
        "af_alloy": 157, "af_aoede": 181, "af_bella": 196, "af_heart": 200, "af_jessica": 213,
        "af_kore": 152, "af_nicole": 147, "af_nova": 171, "af_river": 183, "af_sarah": 203,
        "af_sky": 172, "am_adam": 125, "am_echo": 128, "am_eric": 166, "am_fenrir": 137,
        "am_liam": 124, "am_michael": 129, "am_onyx": 102, "am_puck": 120, "am_santa": 132,
        "bf_alice": 231, "bf_emma": 186, "bf_isabella": 211, "bf_lily": 203, "bm_daniel": 137,
        "bm_fable": 135, "bm_george": 152, "bm_lewis": 100,
    }
)  # fmt: skip
_KOKORO_AGES = AGES[:2]  # none sounds old
_MIXED = 3  # voices in a mixture

_NAME = re.compile(r"(hibari|kokoro)-(man|woman)-(young|middle-aged|old)-([0-9]{6,})")


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        name: Makes the voice again; says engine, sex, age group and seed.
        sex: "man" or "woman".
        age: "young", "middle-aged" or "old".
        description: As in "a deep, calm voice".
        speed: 1 is the network's own pace, 2 twice as fast.
        warp: How hibari's voice is bent; None where Kokoro speaks.
        styles: Kokoro's voices and their weights, which sum to 1; empty where hibari speaks.
        british: Whether text is read as British English.
    """

    name: str
    sex: str
    age: str
    description: str
    speed: float
    warp: Warp | None = None
    styles: Mapping[str, float] = field(default_factory=dict, hash=False)
    british: bool = False

    @property
    def caption(self) -> str:
        """A sentence that says who is heard."""
        article = "an" if self.age.startswith("o") else "a"
        return f"{article} {self.age} {self.sex} speaks in {self.description}"


def draw_voice(engine: Engine, seed: int, sex: str | None = None, age: str | None = None) -> Voice:
    """A voice of an engine, of the given sex and age group where they are given.

    Raises:
        UserError: no such sex or age group, or Kokoro is to sound old.
    """
    rng = np.random.default_rng([seed, 0])
    ages = _KOKORO_AGES if engine == "kokoro" else AGES
    sex = sex or str(rng.choice(SEXES))
    age = age or str(rng.choice(ages))
    if sex not in SEXES or age not in ages:
        raise UserError(f"a voice of a {age} {sex}: {engine} has {SEXES} of the ages {ages}")
    return voice_named(f"{engine}-{sex}-{age}-{seed:06d}")


def voice_named(name: str) -> Voice:
    """The voice of a name.

    Raises:
        UserError: it is no voice's name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"voice {name!r}: must be as hibari-woman-old-000012")
    engine, sex, age, digits = match.groups()
    rng = np.random.default_rng([int(digits), 1 + SEXES.index(sex), AGES.index(age)])
    make = _hibari_voice if engine == "hibari" else _kokoro_voice
    return make(name, sex, age, rng)


def _hibari_voice(name: str, sex: str, age: str, rng: np.random.Generator) -> Voice:
    """A longer tract goes with a lower pitch; with age voices get rougher, slower, less apart."""
    place = rng.normal()  # high or low for the sex; most warps are mild
    old = age == "old"
    if sex == "man":
        centre = {"young": 0.62, "middle-aged": 0.59, "old": 0.64}[age]
        formant, pitch = 0.875 + 0.025 * place, centre * np.exp(0.11 * place)
    else:
        centre = {"young": 1.12, "middle-aged": 0.98, "old": 0.90}[age]
        formant, pitch = 1.01 + 0.035 * place, centre * np.exp(0.09 * place)
        formant += 0.03 * (age == "young")
    warp = Warp(
        formant=float(np.clip(formant + rng.normal(0, 0.012), 0.82, 1.15)),
        pitch=float(np.clip(pitch * np.exp(rng.normal(0, 0.05)), 0.45, 1.35)),
        range=float(np.clip(np.exp(rng.normal(0, 0.22)), 0.6, 1.6)),
        tilt=float(np.clip(rng.normal(-0.3 * old, 0.45), -1.2, 0.9)),
        breath=float(np.clip(abs(rng.normal(0, 0.3)) + 0.25 * old, 0, 0.9)),
    )
    speed = float(np.clip(np.exp(rng.normal(-0.08 * old, 0.11)), 0.78, 1.25))
    traits = [
        *_pitch_traits(sex, warp.pitch * _HIBARI_HZ),
        *_traits(warp.range, 0.78, 1.3, ("flat", "even", "monotone"), ("lively", "expressive")),
        *_traits(warp.tilt, -0.55, 0.5, ("dark", "warm", "mellow"), ("bright", "crisp", "sharp")),
        *_traits(warp.breath, -1.0, 0.45, (), ("breathy", "soft", "husky")),
        *_speed_traits(speed),
    ]
    return Voice(name, sex, age, _described(traits, rng), speed, warp=warp)


def _kokoro_voice(name: str, sex: str, age: str, rng: np.random.Generator) -> Voice:
    """One voice, or as often a mixture of three of the same accent."""
    british = bool(rng.random() < 0.3)
    prefix = ("b" if british else "a") + ("m" if sex == "man" else "f")
    names = [voice for voice in _KOKORO_HZ if voice.startswith(prefix)]
    chosen = rng.choice(names, _MIXED, replace=False)
    weights = rng.dirichlet(np.ones(_MIXED))
    if rng.random() < 0.5:
        weights = np.array([1.0, *[0.0] * (_MIXED - 1)])
    styles = {str(v): float(w) for v, w in zip(chosen, weights, strict=True) if w > 0}
    pitch = np.exp(sum(w * np.log(_KOKORO_HZ[v]) for v, w in styles.items()))
    speed = float(np.clip(np.exp(rng.normal(0.03, 0.1)), 0.8, 1.25))
    traits = [*_pitch_traits(sex, float(pitch)), *_speed_traits(speed)]
    description = _described(traits, rng) + (" with a British accent" if british else "")
    return Voice(name, sex, age, description, speed, styles=styles, british=british)


def _traits(
    value: float, low: float, high: float, below: tuple[str, ...], above: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """The words that go with a value below `low` or above `high`; else none."""
    if value < low:
        return [below]
    return [above] if value > high else []


def _pitch_traits(sex: str, pitch_hz: float) -> list[tuple[str, ...]]:
    if sex == "man":
        return _traits(pitch_hz, 104, 132, ("deep", "low", "bass"), ("high", "light"))
    return _traits(pitch_hz, 172, 214, ("low", "deep", "alto"), ("high", "light", "girlish"))


def _speed_traits(speed: float) -> list[tuple[str, ...]]:
    return _traits(speed, 0.92, 1.1, ("calm", "slow", "unhurried"), ("quick", "fast", "hurried"))


def _described(traits: list[tuple[str, ...]], rng: np.random.Generator) -> str:
    """Three of the traits at most, each by one of its words, in any order."""
    traits = traits or [("clear", "ordinary", "plain", "natural")]
    order = rng.permutation(len(traits))[:3]
    words = [str(rng.choice(traits[i])) for i in order]
    article = "an" if words[0][0] in "aeiou" else "a"
    return f"{article} {', '.join(words)} voice"
