"""Landmarks go where they are sent, lips and lids close wholly, and captions say what is so."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from avgen.corpora.portraits.animation import Scene, affine_maps, animate
from avgen.corpora.portraits.articulation import mouth_shapes
from avgen.corpora.portraits.basis import EYES, INNER_LIPS, LOWER_LIDS, load_basis
from avgen.corpora.portraits.deformation import TRACK, deform
from avgen.corpora.portraits.descriptions import describe
from avgen.corpora.portraits.faces import Face, the_face
from avgen.corpora.portraits.framing import frame_scene
from avgen.corpora.portraits.heads import Portrait, find_portraits
from avgen.corpora.portraits.interior import draw_look
from avgen.errors import UserError
from avgen.models.phonemes import TimedPhoneme

UNIT, SIDE = 90.0, 256  # pixels of the eyes' distance and of the picture
RATE = 16_000


def neutral_face(unit=UNIT, middle=(SIDE / 2, SIDE / 2 - 30)) -> Face:
    """The basis' own head, its lips together."""
    points = load_basis().neutral.astype(np.float64) * unit
    points[:, :2] += middle
    upper, lower = (list(row) for row in INNER_LIPS)
    points[upper] = points[lower] = (points[upper] + points[lower]) / 2
    return Face(points, np.eye(3))


def still(num_frames=1, **moves) -> dict[str, np.ndarray]:
    tracks = {name: np.zeros(num_frames) for name in TRACK if name != "lipGap"}
    return tracks | {
        name: np.broadcast_to(np.float64(v), (num_frames,)) for name, v in moves.items()
    }


def scene_of(picture: np.ndarray, face: Face) -> Scene:
    look = draw_look(np.random.default_rng(0), np.full(3, 200.0), 0.0)
    return Scene(picture, face, (0.0, 0.0), picture.shape[:2], look)


def test_the_basis_is_small_and_parts_the_lips_by_the_jaw():
    basis = load_basis()
    assert basis.offsets.shape == (len(basis.names), 478, 3) and len(basis.triangles) == 852
    jaw = basis.offsets[basis.index("jawOpen")]
    assert jaw[14, 1] - jaw[13, 1] == pytest.approx(0.358, abs=0.01)
    # A person's left is at the right of the picture, where x is larger.
    shut = np.linalg.norm(basis.offsets[basis.index("eyeBlink_L")], axis=1)
    assert shut[386] > 5 * shut[159]


def test_affine_maps_take_a_triangle_to_its_source():
    rng = np.random.default_rng(3)
    target, source = rng.uniform(0, 50, (2, 20, 3, 2))
    a = affine_maps(target, source)
    x, y = target[..., 0], target[..., 1]
    np.testing.assert_allclose(a[:, :1] * x + a[:, 1:2] * y + a[:, 2:3], source[..., 0], atol=1e-2)
    np.testing.assert_allclose(a[:, 3:4] * x + a[:, 4:5] * y + a[:, 5:6], source[..., 1], atol=1e-2)


def test_the_jaw_opens_the_mouth_in_proportion():
    moved = deform(neutral_face(), still(3, jawOpen=[0.0, 0.25, 0.5]), 0.04)
    np.testing.assert_allclose(moved.gap, [0.0, 0.0895, 0.179], atol=0.004)
    assert moved.jaw[2] == pytest.approx(2 * moved.jaw[1])


@pytest.mark.parametrize("turn", [0.0, 12.0])
def test_closed_lips_meet_whatever_the_jaw_does(turn):
    tracks = still(2, jawOpen=[0.2, 0.5], mouthLowerDown=0.3, lipsClosed=1.0, roll=turn)
    moved = deform(neutral_face(), tracks, 0.04)
    upper, lower = (moved.points[:, list(row)] for row in INNER_LIPS)
    np.testing.assert_allclose(moved.gap, -0.05, atol=1e-6)  # pressed in their middle
    turned = np.radians(turn)
    gaps = (lower - upper)[..., :2] @ [-np.sin(turned), np.cos(turned)] / UNIT
    pressed = -0.05 * (1 - np.linspace(-1, 1, 11) ** 4)  # and at the corners only together
    np.testing.assert_allclose(gaps, np.broadcast_to(pressed, gaps.shape), atol=0.02)
    half = deform(neutral_face(), tracks | still(2, lipsClosed=0.5), 0.04).gap
    assert (half < 0.3).all()


def test_the_upper_lip_covers_the_lower_one_where_they_are_pressed():
    face = neutral_face()
    face.points[[14, 15, 16, *INNER_LIPS[1][1:-1]], 2] -= 15  # the lower one is nearer
    picture = np.full((SIDE, SIDE, 3), (200, 60, 60), np.uint8)
    picture[round(face.points[13, 1]) :] = (60, 60, 200)
    moved = deform(face, still(jawOpen=0.4, lipsClosed=1.0), 0.04)
    frame = animate(scene_of(picture, face), moved, np.zeros((1, 2)))[0].astype(int)
    x, seam = np.round(moved.points[0, 13, :2] / 2).astype(int)  # its edge, over the lower lip
    blue = (frame[:, x, 2] - frame[:, x, 0]) > 0
    assert np.flatnonzero(np.diff(blue)).tolist() == pytest.approx([seam], abs=1)


def test_lips_never_cross():
    moved = deform(neutral_face(), still(1, mouthPress=1.0, mouthRollLower=1.0), 0.04)
    assert moved.gap[0] >= -1e-9


def test_the_lower_lip_touches_the_teeth():
    moved = deform(neutral_face(), still(1, jawOpen=0.2, lipOnTeeth=1.0), 0.04)
    lip = moved.points[0, INNER_LIPS[1][5], :2]
    assert np.abs(lip[1] - moved.teeth[0, 1]) < 0.01 * UNIT
    assert moved.gap[0] > 0.02  # teeth are seen above it


def test_a_blink_shuts_both_eyes_and_nothing_else():
    open_, shut = (deform(neutral_face(), still(1, eyeBlink=v), 0.04).points[0] for v in (0, 1))
    for above, under in zip(EYES, LOWER_LIDS, strict=True):
        inner = slice(1, -1)
        apart = shut[list(under)][inner] - shut[list(above)][inner]
        assert np.abs(apart[:, 1]).max() < 1e-9
        assert (open_[list(under)][inner] - open_[list(above)][inner])[:, 1].min() > 2
    np.testing.assert_array_equal(shut[[13, 14, 152, 61]], open_[[13, 14, 152, 61]])


def test_the_head_turns_about_the_neck_and_far_away_nothing_moves():
    face = neutral_face()
    rest, turned = deform(face, still(2, yaw=[0.0, 10.0]), 0.04).points
    depth = face.points[[234, 454], 2].mean() - face.points[1, 2]
    shift = turned[1, 0] - rest[1, 0]
    assert abs(shift) == pytest.approx(depth * np.sin(np.radians(10)), rel=0.1)
    rings = deform(face, still(2, yaw=[0.0, 10.0], shiftX=[0.0, 0.1]), 0.04).rings
    moved = np.abs(rings[1] - rings[0]).max(1).reshape(5, 36)
    assert moved[-1, 0] == 0  # beyond the crown
    assert moved[0].max() > 5 > 2 > moved[-1].max()


def test_a_face_at_rest_is_the_picture_itself():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(256, size=(32, 32, 3)), 8, 0), 8, 1).astype(np.uint8)
    face = neutral_face()
    frames = animate(scene_of(picture, face), deform(face, still(), 0.04), np.zeros((1, 2)))
    assert frames.shape == (1, SIDE // 2, SIDE // 2, 3)
    plain = picture.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    error = np.abs(frames[0].astype(float) - plain)
    assert error[4:-4, 4:-4].mean() < 0.7 and np.quantile(error[4:-4, 4:-4], 0.99) < 8


def test_a_mark_goes_where_its_landmark_goes_and_the_border_stays():
    face = neutral_face()
    for landmark in (200, 50):  # on the chin, on a cheek
        picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
        x, y = np.round(face.points[landmark, :2]).astype(int)
        picture[y - 3 : y + 4, x - 3 : x + 4] = (250, 40, 40)
        moved = deform(face, still(jawOpen=0.4, yaw=6.0, pitch=3.0), 0.04)
        frame = animate(scene_of(picture, face), moved, np.zeros((1, 2)))[0].astype(float)
        red = np.clip(frame[..., 0] - frame[..., 2] - 60, 0, None)
        rows, columns = np.mgrid[: SIDE // 2, : SIDE // 2]
        found = np.array([(columns * red).sum(), (rows * red).sum()]) / red.sum()
        wanted = (moved.points[0, landmark, :2] - 0.5) / 2
        assert np.linalg.norm(found - wanted) < 0.7
        assert np.linalg.norm(wanted * 2 - face.points[landmark, :2]) > 2
        assert (frame[:8] == 60).all()


def test_teeth_stay_while_the_jaw_drops_and_a_closed_mouth_shows_nothing():
    face = neutral_face()
    picture = np.full((SIDE, SIDE, 3), (150, 90, 80), np.uint8)
    moved = deform(face, still(2, jawOpen=[0.0, 0.5]), 0.04)
    shut, opened = animate(scene_of(picture, face), moved, np.zeros((2, 2))).astype(int)
    assert np.abs(shut - picture[0, 0]).max() <= 1
    x, y = np.round(moved.teeth[1] / 2).astype(int)
    teeth, dark = opened[y - 1, x + 1 : x + 4].mean(), opened[y + 4, x + 1 : x + 4].mean()
    assert teeth > 110 > 70 > dark


def says(phonemes, loud=0.3, tail_s=0.2):
    """Shapes of phonemes of 80 ms each, said as a tone, and the middles of frames."""
    timed = [
        TimedPhoneme(name, 0.2 + 0.08 * k, 0.2 + 0.08 * (k + 1)) for k, name in enumerate(phonemes)
    ]
    end_s = timed[-1].end_s + tail_s
    times_s = np.arange(round(end_s * RATE)) / RATE
    inside = (times_s > 0.2) & (times_s < timed[-1].end_s)
    waveform = (inside * np.sin(2 * np.pi * 150 * times_s) * loud).astype(np.float32)
    frames_s = (np.arange(int(end_s * 25)) + 0.5) / 25
    shapes = mouth_shapes(timed, waveform, RATE, frames_s)
    tracks = still(len(frames_s)) | {k: np.clip(v, 0, 1.2) for k, v in shapes.items()}
    return timed, frames_s, deform(neutral_face(), tracks, 0.04)


def test_lips_close_on_every_p_b_and_m_and_open_on_vowels():
    rng = np.random.default_rng(1)
    closed, vowels = [], []
    for _ in range(8):
        order = rng.permutation(["P", "B", "M", "AA1", "EH0", "S", "T", "L", "AY2", "K", "OW1"])
        timed, frames_s, moved = says(list(order))
        for one in timed:
            inside = (frames_s > one.start_s - 0.02) & (frames_s < one.end_s + 0.02)
            if one.phoneme in ("P", "B", "M"):
                closed.append(moved.gap[inside].min() < 1e-6)
            elif one.phoneme == "AA1":
                vowels.append(moved.gap[inside].max())
    assert np.mean(closed) >= 0.95 and len(closed) == 24
    assert np.median(vowels) > 0.06


def test_f_and_v_bring_the_lip_to_the_teeth():
    timed, frames_s, moved = says(["AA1", "F", "IY1", "V", "AA1", "F", "EH1"])
    for one in timed:
        if one.phoneme in "FV":
            middle = int(np.abs(frames_s - (one.start_s + one.end_s) / 2).argmin())
            lip = moved.points[middle, INNER_LIPS[1][5], :2]
            assert abs(lip[1] - moved.teeth[middle, 1]) < 0.02 * UNIT, one


def test_a_mouth_rests_in_silence_and_opens_with_the_voice():
    _, frames_s, moved = says(["AA1"] * 6, tail_s=0.6)
    silent = frames_s > 0.2 + 6 * 0.08 + 0.3
    assert moved.gap[silent].max() < 0.02
    assert moved.gap[~silent].max() > 0.1
    widths = {}
    for vowel in ("IY1", "AA1", "UW1"):
        _, _, one = says([vowel] * 6)
        corners = one.points[:, 291, 0] - one.points[:, 61, 0]
        widths[vowel] = one.gap.max(), np.median(corners[5:15])
    assert widths["AA1"][0] > 1.3 * widths["UW1"][0]
    assert widths["IY1"][1] > widths["UW1"][1]


def portrait_face(**changes) -> Face:
    face = neutral_face(unit=120.0, middle=(300, 240))
    return replace(face, **changes)


def yawed(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def opened(face: Face, by: float, row) -> Face:
    points = face.points.copy()
    points[list(row), 1] += by * face.unit
    return replace(face, points=points)


def test_pictures_are_refused_with_the_reason():
    face, size = portrait_face(), (640, 640)
    assert the_face([face], size) is face
    assert the_face([face, neutral_face(20.0, (40, 40))], size) is face
    lids = opened(face, 0.0, ())
    for above, under in zip(EYES, LOWER_LIDS, strict=True):
        lids.points[list(above)] = lids.points[list(under)]
    for faces, reason in (
        ([], "no face"),
        ([face, neutral_face(80.0, (120, 120))], "several faces"),
        ([replace(face, rotation=yawed(40))], "profile: yaw is 40 degrees"),
        ([opened(face, 0.1, INNER_LIPS[1][1:-1])], r"mouth open: the lips are 0\.100"),
        ([lids], "eyes closed"),
        ([neutral_face(30.0, (300, 300))], "too small: 30 pixels"),
        ([neutral_face(120.0, (40, 300))], "head at the border: the picture's left"),
    ):
        with pytest.raises(UserError, match=reason):
            the_face(faces, size)


def test_an_open_mouth_may_be_asked_for():
    face = opened(portrait_face(), 0.1, INNER_LIPS[1][1:-1])
    assert face.gap == pytest.approx(0.1, abs=0.002) and portrait_face().gap < 0.005
    assert the_face([face], (640, 640), max_gap=0.11) is face
    with pytest.raises(UserError, match="mouth open"):
        the_face([face], (640, 640), max_gap=0.09)


ABOUT = {
    "kind": "man", "age": "old", "skin": "tan", "hair": "white", "hair_style": "short",
    "beard": "beard", "glasses": True, "headwear": "hat", "clothes": "green",
    "background": "grey wall", "caption": "an old man with a hat",
}  # fmt: skip


def test_captions_vary_and_say_nothing_that_is_not_so():
    rng = np.random.default_rng(2)
    captions = [describe(ABOUT, "a deep, calm voice", rng) for _ in range(200)]
    assert len(set(captions)) > 120
    told = " ".join(captions)
    for word in ("hat", "beard", "green", "glasses", "white hair", "grey wall", "deep, calm voice"):
        assert sum(word in caption for caption in captions) > 40, word
    for wrong in ("woman", "young", "a old", "an young", "  ", "none", "True", "a elderly", ", ,"):
        assert wrong not in told
    assert describe({}, "", rng) == "a person"
    only_voice = {describe({}, "a high voice", rng) for _ in range(40)}
    assert "a person with a high voice" in only_voice and "a person" in only_voice


def test_cells_that_are_missing_say_nothing_and_names_stay_in_the_folder(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    table = tmp_path / "captions.jsonl"
    table.write_text('{"file": "a.png", "kind": null, "hair": "", "caption": null, "age": "old"}\n')
    (one,) = find_portraits(tmp_path)
    assert one.about == {"file": "a.png", "age": "old"}
    table.write_text('{"file": "a.png", "id": "../x"}\n')
    with pytest.raises(UserError, match=r"captions\.jsonl:1: id '\.\./x' cannot name a file"):
        find_portraits(tmp_path)


def test_a_table_names_what_does_not_fit(tmp_path):
    for name in ("a.png", "b.jpg", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [one.path.name for one in find_portraits(tmp_path)] == ["a.png", "b.jpg", "c.png"]
    rows = [{"file": "a.png", "id": "ann", "kind": "woman"}, {"file": "gone.png"}]
    table = tmp_path / "captions.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, *others = find_portraits(tmp_path)
    assert isinstance(first, Portrait) and first.name == "ann" and first.about["kind"] == "woman"
    assert [(one.path, one.reason[:7]) for one in others] == [
        ("b.jpg", "caption"), ("sub/c.png", "caption"), ("gone.png", "the tab"),
    ]  # fmt: skip
    table.write_text(table.read_text() + json.dumps(rows[0]) + "\n")
    with pytest.raises(UserError, match=r"captions\.jsonl:3: a\.png has two rows"):
        find_portraits(tmp_path)
    table.write_text('{"id": "x"}\n')
    with pytest.raises(UserError, match=r"captions\.jsonl:1: has no file"):
        find_portraits(tmp_path)


@pytest.mark.parametrize("size", [(128, 128), (128, 192), (192, 128)])
def test_a_face_is_in_the_middle_of_frames_of_any_shape(size):
    face = neutral_face(60.0, (260.0, 240.0))
    picture = np.full((512, 512, 3), 90, np.uint8)
    scene = frame_scene(picture, face, np.random.default_rng(2), size)
    low, high = scene.face.points[:, :2].min(0), scene.face.points[:, :2].max(0)
    across, down = (low + high) / 2 / np.array(scene.size[::-1])
    assert abs(across - 0.5) < 0.12
    assert abs(down - 0.45) < 0.12


def test_people_are_of_one_split_for_ever():
    names = [f"person-{k}" for k in range(400)]
    splits = [Portrait(None, name).split for name in names]
    assert splits.count("test") == pytest.approx(60, abs=15)
    assert Portrait(None, "faker-female-01").split == Portrait(None, "faker-female-01").split
    assert {Portrait(None, n).split for n in names} == {"train", "validation", "test"}
