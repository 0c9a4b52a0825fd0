"""A puppet, the shape of its mouth and the pose of its head in, a frame out.

Everything is a signed distance painted in order from back to front. The head is drawn in
coordinates of its own that sway; eyes, nose and mouth shift further than its outline, as the front
of a turning head does.
"""

from dataclasses import dataclass

import numpy as np

from puppets.mouth import Mouth
from puppets.person import BACKGROUNDS, CLOTHES, EYES, HAIR, SKIN, Puppet
from puppets.shapes import Canvas, box, capsule, ellipse, join, lens, mix

_BLACK = np.array((24, 18, 22), np.float32)
_WHITE = np.array((250, 248, 244), np.float32)
_RED = np.array((196, 62, 66), np.float32)
_MOUTH = np.array((72, 18, 26), np.float32)
_TONGUE = np.array((206, 98, 100), np.float32)
_TEETH = np.array((246, 242, 234), np.float32)

# Size of the head in the picture.
_SCALE = 1.12

# Places in the head's coordinates, whose origin is between the eyes and the nose.
_FACE_Y = 0.62
_EYE_X, _EYE_Y = 0.2, -0.06
_BROW_Y = -0.2
_NOSE_Y = 0.13
_MOUTH_Y = 0.345
# How much of a turn the front of the face moves, and the body.
_FRONT = 0.1
# How far the chin falls when the mouth is open.
_JAW = 0.09


@dataclass(frozen=True)
class Pose:
    """Where the head is and what it does; all 0 is straight ahead.

    Attributes:
        x: to the right, in half shorter sides of the picture.
        y: down, likewise.
        roll: radians, clockwise as the viewer sees it.
        yaw: -1 to 1, to the right.
        pitch: -1 to 1, down.
        blink: 1 has the eyes closed.
        brow: 1 has the brows raised.
    """

    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    blink: float = 0.0
    brow: float = 0.0


def draw(puppet: Puppet, mouth: Mouth, pose: Pose, size: tuple[int, int]) -> np.ndarray:
    """One frame, uint8 [H, W, 3].

    Args:
        puppet: who is drawn.
        mouth: the shape of the mouth.
        pose: of the head.
        size: height and width in pixels; the head fits the shorter side.
    """
    canvas = Canvas.blank(*size)
    x, y = (canvas.x - pose.x) / _SCALE, (canvas.y - pose.y + 0.07) / _SCALE
    # The head turns on its neck.
    pivot = 0.6
    sin, cos = np.float32(np.sin(pose.roll)), np.float32(np.cos(pose.roll))
    hx = cos * x + sin * (y - pivot)
    hy = cos * (y - pivot) - sin * x + pivot
    pixel = canvas.pixel / _SCALE
    head = Canvas(canvas.image, hx, hy, pixel)
    front = Canvas(canvas.image, hx - _FRONT * pose.yaw, hy - _FRONT * 0.7 * pose.pitch, pixel)
    body = Canvas(canvas.image, canvas.x - 0.3 * pose.x, canvas.y - 0.3 * pose.y, canvas.pixel)
    _draw_background(canvas, puppet)
    _draw_back_hair(head, puppet)
    _draw_body(body, head, puppet)
    face = _draw_face(head, puppet, mouth)
    _draw_beard(front, face, puppet)
    _draw_nose(front, puppet)
    _draw_mouth(front, puppet, mouth)
    _draw_moustache(front, puppet)
    _draw_eyes(front, puppet, pose)
    _draw_front_hair(head, face, puppet)
    _draw_brows(front, puppet, pose)
    _draw_glasses(front, head, puppet)
    return canvas.pixels()


def _draw_background(canvas: Canvas, puppet: Puppet) -> None:
    colour = BACKGROUNDS[puppet.background]
    light = 1.05 - 0.08 * (canvas.y + 1) - 0.03 * canvas.x
    canvas.image[:] = colour * light[..., None]
    # Light on the wall behind the head.
    canvas.glow(
        ellipse(canvas.x + 0.25, canvas.y + 0.3, 0.75, 0.75),
        mix(colour, _WHITE, 0.35), softness=0.45, alpha=0.5,
    )  # fmt: skip


def _draw_back_hair(head: Canvas, puppet: Puppet) -> None:
    colour = mix(HAIR[puppet.hair], _BLACK, 0.3)
    x, y, wide = head.x, head.y, puppet.face_width
    if puppet.hair_style == "long":
        fall = box(x, y - 0.42, wide + 0.11, 0.72, 0.3)
        head.paint(join(ellipse(x, y + 0.12, wide + 0.13, 0.68), fall, 0.2), colour)
    elif puppet.hair_style == "bob":
        fall = box(x, y - 0.1, wide + 0.15, 0.42, 0.22)
        head.paint(join(ellipse(x, y + 0.12, wide + 0.13, 0.68), fall, 0.2), colour)
    elif puppet.hair_style == "curly":
        angle, radius = np.arctan2(x, -(y + 0.16)), np.hypot(x, y + 0.16)
        edge = wide + 0.22 + 0.03 * np.cos(11 * angle)
        head.paint(radius - edge, colour)
    elif puppet.hair_style == "bun":
        head.paint(ellipse(x, y + 0.8, 0.21, 0.19), colour)
        head.glow(ellipse(x + 0.05, y + 0.85, 0.1, 0.07), HAIR[puppet.hair], softness=0.05)


def _draw_body(body: Canvas, head: Canvas, puppet: Puppet) -> None:
    skin, cloth = SKIN[puppet.skin], CLOTHES[puppet.clothes]
    x, y = body.x, body.y
    broad = 0.86 if puppet.kind == "man" else 0.76
    neck = 0.2 if puppet.kind == "man" else 0.165
    shoulders = join(
        ellipse(x, y - 1.16, broad, 0.44), box(x, y - 0.8, neck + 0.06, 0.16, 0.06), 0.25
    )
    shading = (1.0 - 0.1 * np.abs(x) - 0.06 * (y - 0.8))[..., None]
    body.paint(shoulders, cloth * shading)
    neckline = {
        "crew": ellipse(x, y - 0.7, neck + 0.1, 0.13),
        "v": np.maximum((np.abs(x) * 0.9 + (y - 0.98) * 0.44), 0.6 - y),
        "collar": np.maximum((np.abs(x) * 0.9 + (y - 0.9) * 0.5), 0.6 - y),
    }[puppet.neckline]
    throat = box(x, y - 0.5, neck, 0.28, 0.05)
    opening = np.maximum(neckline, shoulders)
    body.paint(np.minimum(throat, opening), skin * 0.94)
    # The chin's shadow on the neck.
    shadow = np.maximum(ellipse(head.x, head.y - 0.62, 0.3, 0.17), np.minimum(throat, opening))
    body.glow(shadow, skin * 0.68, softness=0.05, alpha=0.8)
    if puppet.neckline == "collar":
        for side in (-1, 1):
            collar = capsule(side * x, y, (neck + 0.02, 0.7), (0.05, 0.93), 0.06)
            body.paint(collar, mix(cloth, _WHITE, 0.3) * np.float32(0.96 + 0.04 * side))
        body.paint(capsule(x, y, (0.0, 0.94), (0.0, 1.4), 0.008), cloth * 0.75)
    else:
        body.paint(np.maximum(np.abs(neckline) - 0.014, shoulders), cloth * 0.82)


def _draw_face(head: Canvas, puppet: Puppet, mouth: Mouth) -> np.ndarray:
    """Ears and face; returns the distance to the face."""
    skin, wide = SKIN[puppet.skin], puppet.face_width
    x, y = head.x, head.y
    for side in (-1, 1):
        ear = ellipse(side * x - wide - 0.01, y - 0.03, 0.07, 0.12)
        head.paint(ear, skin * 0.93)
        head.glow(
            ellipse(side * x - wide - 0.015, y - 0.03, 0.03, 0.07), skin * 0.72, softness=0.02
        )
    # The jaw: narrower below, lower when open.
    below = np.clip(y / _FACE_Y, 0, 1.2)
    narrow = 1 - puppet.jaw * below**2
    chin = _FACE_Y + _JAW * mouth.opening
    height = np.where(y > 0, chin, 0.66).astype(np.float32)
    face = _oval(x / narrow, y, wide, height)
    light = 1.03 - 0.16 * np.clip(x / wide + 0.15, 0, 1) ** 2 - 0.1 * np.clip(y - 0.1, 0, 1)
    head.paint(face, skin * light[..., None].astype(np.float32))
    blush = mix(skin, _RED, 0.45)
    for side in (-1, 1):
        cheek = np.maximum(ellipse(side * x - 0.3, y - 0.2, 0.13, 0.09), face)
        head.glow(cheek, blush, softness=0.09, alpha=0.35)
    return face


def _oval(x: np.ndarray, y: np.ndarray, rx: float, ry: np.ndarray) -> np.ndarray:
    """A rounder ellipse (power 2.3) whose height differs above and below."""
    power = 2.3
    u, v = np.abs(x) / rx, np.abs(y) / ry
    value = (u**power + v**power) ** (1 / power)
    slope = np.hypot(u ** (power - 1) / rx, v ** (power - 1) / ry) / np.maximum(value, 1e-3) ** (
        power - 1
    )
    return (value - 1) / np.maximum(slope, 0.5)


def _draw_beard(front: Canvas, face: np.ndarray, puppet: Puppet) -> None:
    if puppet.beard not in ("beard", "stubble"):
        return
    x, y = front.x, front.y
    # From the ears down and around the mouth.
    line = 0.2 + 0.14 * (1 - np.clip(np.abs(x) / puppet.face_width, 0, 1) ** 2) - y
    line = join(line, ellipse(x, y - 0.24, 0.2, 0.06), 0.05)
    bare = ellipse(x, y - _MOUTH_Y + 0.01, 0.2, 0.075)
    beard = np.maximum(np.maximum(line, face), -bare)
    stubble = puppet.beard == "stubble"
    front.glow(
        beard,
        HAIR[puppet.hair],
        softness=0.04 if stubble else 0.015,
        alpha=0.35 if stubble else 0.95,
    )


def _draw_nose(front: Canvas, puppet: Puppet) -> None:
    skin, size = SKIN[puppet.skin], puppet.nose
    part = _window(front, -0.2, -0.2, 0.2, 0.3)
    x, y = part.x, part.y
    part.glow(
        capsule(x - 0.045 * size, y, (0.0, -0.06), (0.02, 0.1), 0.015), skin * 0.84,
        softness=0.03, alpha=0.6,
    )  # fmt: skip
    part.glow(ellipse(x, y - _NOSE_Y, 0.075 * size, 0.05), skin * 0.9, softness=0.02, alpha=0.7)
    part.glow(ellipse(x + 0.015, y - _NOSE_Y + 0.03, 0.035, 0.03), mix(skin, _WHITE, 0.4),
              softness=0.025, alpha=0.6)  # fmt: skip
    for side in (-1, 1):
        nostril = ellipse(side * x - 0.036 * size, y - _NOSE_Y - 0.03, 0.02 * size, 0.011)
        part.glow(nostril, skin * 0.5, softness=0.008, alpha=0.85)


def _draw_mouth(front: Canvas, puppet: Puppet, mouth: Mouth) -> None:
    skin = SKIN[puppet.skin]
    part = _window(front, -0.4, 0.1, 0.4, 0.75)
    half = puppet.mouth_width * (1 + 0.14 * mouth.width - 0.3 * mouth.rounding)
    fullness = 0.75 - 0.25 * max(mouth.rounding, mouth.opening)
    upper = 0.035 * mouth.opening * (1 - 0.5 * mouth.tuck)
    lower = (0.19 + 0.02 * mouth.rounding) * mouth.opening
    x, y = part.x, part.y - _MOUTH_Y - 0.03 * mouth.opening
    lips = mix(skin * np.float32(0.86), _RED, puppet.lips)
    thick = puppet.lip_fullness * (1 + 0.25 * mouth.rounding)
    bow = 1 - 0.22 * np.exp(-((x / (0.22 * half)) ** 2))
    top = lens(x, y, half * 1.06, upper + 0.05 * thick, 0.01, 0.8) + 0.05 * thick * (1 - bow)
    bottom_up = 0.05 * thick * (1 - 0.6 * mouth.tuck)
    bottom = lens(x, y, half * 1.02, 0.01, lower + bottom_up, 0.8)
    part.glow(ellipse(x, y - lower - bottom_up - 0.035, 0.1, 0.02), skin * 0.82, softness=0.025,
              alpha=0.6)  # fmt: skip
    part.paint(bottom, lips)
    part.paint(top, lips * 0.88)
    part.glow(ellipse(x, y - lower - 0.5 * bottom_up, 0.3 * half, 0.012), mix(lips, _WHITE, 0.4),
              softness=0.015, alpha=0.6 * (1 - mouth.tuck))  # fmt: skip
    gap = lens(x, y, half * 0.92, upper + 0.004, lower + 0.006, fullness)
    part.paint(gap, _MOUTH)
    if mouth.opening > 0:
        _draw_inside(part, gap, x, y, mouth, (upper, lower, half))
    corner = np.abs(x) - half
    part.glow(np.hypot(corner, y) - 0.012, skin * 0.6, softness=0.012, alpha=0.6)


def _draw_inside(
    part: Canvas, gap: np.ndarray, x: np.ndarray, y: np.ndarray, mouth: Mouth,
    extent: tuple[float, float, float],
) -> None:  # fmt: skip
    """Tongue and teeth, within the gap between the lips."""
    upper, lower, half = extent
    height = upper + lower
    raised = lower * (1.0 - 0.75 * mouth.tongue)
    tongue = ellipse(x, y - raised - 0.25 * height, half * 0.62, 0.05 + 0.3 * height)
    part.paint(np.maximum(tongue, gap), _TONGUE)
    shown = max(0.075 * mouth.teeth * min(1.0, 2 * mouth.opening), 0.9 * height * mouth.tuck)
    edge = y + upper - shown * (1 - 0.25 * (x / half) ** 2)
    teeth = np.maximum(np.maximum(edge, gap + 0.006), np.abs(x) - 0.8 * half)
    part.paint(teeth, _TEETH * (1 - 0.12 * (x[..., None] / half) ** 2))
    below = np.maximum(lower - 0.35 * shown - y, gap + 0.006)
    part.paint(below, _TEETH * 0.88, alpha=max(0.0, 2 * mouth.teeth - 1) * (1 - mouth.rounding))


def _draw_moustache(front: Canvas, puppet: Puppet) -> None:
    if puppet.beard not in ("moustache", "beard"):
        return
    part = _window(front, -0.4, 0.1, 0.4, 0.5)
    shape = lens(part.x, part.y - 0.285, 0.2, 0.055, -0.012, 0.7)
    notch = 0.03 * np.exp(-((part.x / 0.03) ** 2))
    part.paint(shape + notch, HAIR[puppet.hair] * np.float32(0.92))


def _draw_eyes(front: Canvas, puppet: Puppet, pose: Pose) -> None:
    skin = SKIN[puppet.skin]
    for side in (-1, 1):
        centre = side * (_EYE_X + puppet.eye_spacing)
        part = _window(front, centre - 0.16, _EYE_Y - 0.14, centre + 0.16, _EYE_Y + 0.12)
        x, y = part.x - centre, part.y - _EYE_Y
        open_ = 1 - pose.blink
        up, down = 0.062 * open_ - 0.022 * pose.blink, 0.036
        part.glow(ellipse(x, y + 0.01, 0.12, 0.08), skin * 0.82, softness=0.04, alpha=0.5)
        lash = 0.018 if puppet.kind == "man" else 0.027
        part.paint(lens(x, y, 0.103, up + lash, down + 0.006, 0.75), _BLACK, alpha=0.9)
        white = lens(x, y, 0.094, up, down, 0.75)
        part.paint(white, _WHITE * 0.97)
        gaze = x - 0.02 * pose.yaw, y + 0.012 - 0.01 * pose.pitch
        iris = np.maximum(np.hypot(*gaze) - 0.046, white)
        part.paint(iris, EYES[puppet.eyes])
        part.paint(np.maximum(np.hypot(*gaze) - 0.023, white), _BLACK)
        light = np.maximum(np.hypot(gaze[0] + 0.016, gaze[1] + 0.018) - 0.012, white)
        part.paint(light, _WHITE)


def _draw_brows(front: Canvas, puppet: Puppet, pose: Pose) -> None:
    colour = mix(HAIR[puppet.hair], _BLACK, 0.25)
    y0 = _BROW_Y - 0.035 * pose.brow
    thick = 0.024 if puppet.kind == "man" else 0.016
    for side in (-1, 1):
        centre = side * (_EYE_X + puppet.eye_spacing)
        part = _window(front, centre - 0.2, y0 - 0.12, centre + 0.2, y0 + 0.12)
        x = side * (part.x - centre)
        tilt = part.y - y0 - puppet.brow * 0.25 * x
        part.paint(lens(x + 0.01, tilt - 0.02, 0.125, 0.05, -0.05 + thick, 0.9) - 0.006, colour)


def _draw_front_hair(head: Canvas, face: np.ndarray, puppet: Puppet) -> None:
    if puppet.hair_style == "bald":
        shine = np.maximum(ellipse(head.x + 0.14, head.y + 0.45, 0.12, 0.07), face)
        head.glow(shine, _WHITE, softness=0.05, alpha=0.35)
        return
    x, y, wide = head.x, head.y, puppet.face_width
    side = np.abs(x) / wide
    if puppet.hair_style in ("short", "curly"):
        line = -0.33 + 0.05 * np.cos(4.2 * x) + 0.42 * np.clip(side - 0.78, 0, 1) * 4
        cap = ellipse(x, y + 0.13, wide + 0.045, 0.62)
    elif puppet.hair_style == "parted":
        line = -0.34 + 0.34 * np.clip(x + 0.16, -0.02, 1) ** 1.0 * (x > -0.18)
        line = line + 0.2 * np.clip(-x - 0.16, 0, 1) + 0.5 * np.clip(side - 0.85, 0, 1) * 4
        cap = ellipse(x, y + 0.14, wide + 0.06, 0.64)
    elif puppet.hair_style == "fringe" or puppet.hair_style == "bob":
        line = -0.22 + 0.012 * np.cos(34 * x) + 0.8 * np.clip(side - 0.76, 0, 1) * 4
        cap = ellipse(x, y + 0.13, wide + 0.09, 0.66)
    else:  # long, bun: swept to both sides from the middle
        line = -0.46 + 0.9 * np.abs(x) ** 1.6 + 1.2 * np.clip(side - 0.86, 0, 1) * 4
        cap = ellipse(x, y + 0.13, wide + 0.075, 0.65)
    low = 0.5 if puppet.hair_style in ("long", "bob") else 0.02
    down, across = np.gradient(line - y, head.pixel)
    slope = np.hypot(down, across).astype(np.float32)
    hair = np.maximum(np.maximum((y - line) / np.maximum(slope, 1), cap), y - low)
    colour = HAIR[puppet.hair]
    streaks = 1 + 0.06 * np.sin(26 * np.arctan2(x - 0.1, 0.9 + y))
    shade = (streaks * (1.04 - 0.16 * np.clip(x / wide, 0, 1))).astype(np.float32)
    head.glow(np.maximum(hair - 0.03, face), _BLACK, softness=0.03, alpha=0.3)
    head.paint(hair, colour * shade[..., None])
    gloss = np.maximum(np.abs(np.hypot(x, y + 0.1) - 0.5) - 0.02, hair + 0.05)
    head.glow(np.maximum(gloss, -0.3 - x), mix(colour, _WHITE, 0.35), softness=0.05, alpha=0.3)


def _draw_glasses(front: Canvas, head: Canvas, puppet: Puppet) -> None:
    if puppet.glasses == "none":
        return
    x, y = front.x, front.y - _EYE_Y - 0.005
    frame = np.full_like(x, np.inf)
    for side in (-1, 1):
        across = side * x - (_EYE_X + puppet.eye_spacing)
        if puppet.glasses == "round":
            glass = np.hypot(across, y) - 0.145
        else:
            glass = box(across, y, 0.155, 0.11, 0.035)
        frame = np.minimum(frame, np.abs(glass) - 0.012)
        front.paint(glass, _WHITE, alpha=0.1)
        # The arm ends where the head does, which turns less than its front.
        end = puppet.face_width + 0.02 + side * (front.x - head.x).mean()
        arm = capsule(side * x, y, (0.345 + puppet.eye_spacing, -0.02), (end, -0.03), 0.011)
        frame = np.minimum(frame, arm)
    frame = np.minimum(frame, capsule(x, y + 0.02, (-0.06, 0.0), (0.06, 0.0), 0.012))
    front.paint(frame, _BLACK)


def _window(front: Canvas, left: float, top: float, right: float, bottom: float) -> Canvas:
    """The part of a turned canvas that holds these bounds (with room for the turn)."""
    room = 0.02
    inside = (
        (front.x >= left - room)
        & (front.x <= right + room)
        & (front.y >= top - room)
        & (front.y <= bottom + room)
    )
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        part = np.s_[:0, :0]
    else:
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Canvas(front.image[part], front.x[part], front.y[part], front.pixel)
