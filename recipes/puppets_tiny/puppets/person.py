"""A seed in, a puppet out: who it is, how it looks and sounds, and a caption that says so."""

from dataclasses import dataclass

import numpy as np

from avgen.errors import UserError


def _palette(**colours: tuple[int, int, int]) -> dict[str, np.ndarray]:
    return {name: np.array(rgb, np.float32) for name, rgb in colours.items()}


# sRGB, 0 to 255. The names are those that captions use.
SKIN = _palette(
    pale=(250, 222, 200), light=(238, 194, 160), tan=(208, 154, 110), brown=(156, 104, 70),
    dark=(104, 66, 46),
)  # fmt: skip
HAIR = _palette(
    black=(40, 34, 36), brown=(98, 62, 40), blond=(220, 184, 108), red=(172, 80, 38),
    grey=(162, 162, 168),
)  # fmt: skip
EYES = _palette(brown=(88, 54, 30), blue=(70, 118, 176), green=(72, 128, 84), grey=(112, 122, 130))
CLOTHES = _palette(
    red=(194, 48, 50), blue=(48, 86, 178), green=(48, 128, 74), yellow=(230, 188, 56),
    purple=(116, 66, 152), orange=(230, 122, 44), black=(44, 44, 50), white=(236, 236, 238),
)  # fmt: skip
BACKGROUNDS = _palette(
    blue=(112, 160, 210), green=(134, 188, 140), yellow=(240, 214, 128), pink=(236, 168, 186),
    grey=(172, 176, 182), purple=(170, 146, 206), orange=(240, 168, 110), teal=(84, 170, 168),
)  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """How a puppet sounds.

    Attributes:
        pitch: factor on the packaged voice's pitch (a woman's, about 200 Hz).
        formant: factor on the frequencies of its resonances; below 1 for a longer vocal tract.
    """

    pitch: float = 1.0
    formant: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("pitch", self.pitch), ("formant", self.formant)):
            if not 0.4 <= value <= 2.5:
                raise UserError(f"{name} is {value}; a voice's factors lie within 0.4 to 2.5")


@dataclass(frozen=True)
class Puppet:
    """Who is drawn. Names of colours are those of this module's palettes.

    Attributes:
        kind: "man" or "woman".
        skin: name of a colour in SKIN.
        hair: in HAIR.
        hair_style: "bald", "short", "parted", "fringe", "bob", "long", "curly" or "bun".
        beard: "none", "stubble", "moustache" or "beard".
        glasses: "none", "round" or "square".
        eyes: in EYES.
        clothes: in CLOTHES.
        neckline: "crew", "v" or "collar".
        background: in BACKGROUNDS.
        face_width: half of it, in half heads.
        jaw: how much the face narrows to the chin, 0 to 0.3.
        nose: size of the nose, about 1.
        eye_spacing: how much further apart than usual the eyes are.
        brow: slant of the brows, -1 to 1.
        mouth_width: half of it.
        lip_fullness: about 1.
        lips: how red the lips are, 0 to 1.
        voice: how it sounds.
    """

    kind: str
    skin: str
    hair: str
    hair_style: str
    beard: str
    glasses: str
    eyes: str
    clothes: str
    neckline: str
    background: str
    face_width: float
    jaw: float
    nose: float
    eye_spacing: float
    brow: float
    mouth_width: float
    lip_fullness: float
    lips: float
    voice: Voice

    @property
    def caption(self) -> str:
        """How it looks, in one sentence without a full stop."""
        traits = [f"{self.skin} skin"]
        if self.hair_style == "bald":
            traits.append("no hair")
        else:
            traits.append(f"{self.hair_style} {self.hair} hair")
        if self.beard != "none":
            traits.append("stubble" if self.beard == "stubble" else f"a {self.beard}")
        if self.glasses != "none":
            traits.append(f"{self.glasses} glasses")
        looks = ", ".join(traits[:-1]) + " and " + traits[-1]
        top = "shirt" if self.neckline == "collar" else "top"
        article = "an" if self.clothes == "orange" else "a"
        wall = "an" if self.background == "orange" else "a"
        return (
            f"a {self.kind} with {looks} in {article} {self.clothes} {top} "
            f"before {wall} {self.background} wall"
        )


def draw_puppet(seed: int) -> Puppet:
    """The puppet of this seed; all its attributes are drawn independently but by kind."""
    rng = np.random.default_rng(seed)

    def one_of(names: object) -> str:
        return str(rng.choice(list(names)))  # type: ignore[call-overload]

    man = bool(rng.random() < 0.5)
    styles = ("bald", "short", "short", "parted", "fringe", "curly")
    if not man:
        styles = ("bob", "long", "long", "bun", "parted", "curly")
    beards = ("none", "none", "stubble", "moustache", "beard") if man else ("none",)
    return Puppet(
        kind="man" if man else "woman",
        skin=one_of(SKIN),
        hair=one_of(HAIR),
        hair_style=one_of(styles),
        beard=one_of(beards),
        glasses=one_of(("none", "none", "round", "square")),
        eyes=one_of(EYES),
        clothes=one_of(CLOTHES),
        neckline=one_of(("crew", "v", "collar")),
        background=one_of(BACKGROUNDS),
        face_width=float(rng.uniform(0.45, 0.5) if man else rng.uniform(0.43, 0.48)),
        jaw=float(rng.uniform(0.04, 0.14) if man else rng.uniform(0.12, 0.22)),
        nose=float(rng.uniform(0.85, 1.25)),
        eye_spacing=float(rng.uniform(-0.015, 0.02)),
        brow=float(rng.uniform(-0.4, 0.5)),
        mouth_width=float(rng.uniform(0.165, 0.2)),
        lip_fullness=float(rng.uniform(0.75, 1.1) if man else rng.uniform(0.9, 1.35)),
        lips=float(rng.uniform(0.15, 0.3) if man else rng.uniform(0.3, 0.6)),
        voice=Voice(float(rng.uniform(0.52, 0.68)), float(rng.uniform(0.84, 0.9)))
        if man
        else Voice(float(rng.uniform(0.88, 1.15)), float(rng.uniform(0.96, 1.06))),
    )
