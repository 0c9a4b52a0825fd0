"""Real clips with their words -> how the mouth moves with phonemes, as avgen ships it.

`python recipes/people/measure_articulation.py GRID OUT --landmarker face_landmarker.task`

GRID (s1/*.mpg, alignments/s1/*.align): MediaPipe finds the landmarks of every frame, pocketsphinx
the times of the phonemes. The speaker's landmarks are brought to one head pose; the weights of the
expressions that explain them best are regressed on the phonemes around (ridge). What is kept are
the coefficients. Measurements lie in OUT, and those that are there are not made again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from avgen.clips.media.read import read_clip
from avgen.clips.transforms import remix
from avgen.corpora.portraits import articulation
from avgen.corpora.portraits.basis import INNER_LIPS, load_basis
from avgen.evaluation.faces.tracking import LandmarkTracker
from avgen.evaluation.waveforms import SPEECH_RATE, at_speech_rate
from avgen.models.phonemes import TimedPhoneme

# Points that speech does not move: corners of the eyes, brow, bridge of the nose.
STILL = (33, 133, 362, 263, 168, 6, 197, 195, 9, 8, 193, 417, 122, 351)
# Expressions of the mouth, and the names in the basis of what does each.
MOVED = ("jawOpen", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper",
         "mouthShrugLower", "mouthShrugUpper")  # fmt: skip
MOVED_BOTH = ("mouthStretch", "mouthLowerDown", "mouthUpperUp", "mouthSmile", "mouthPress")
RIDGE_WEIGHTS, RIDGE_MODEL = 0.01, 5.0
MAX_GAIN = 1.3  # by which what the regression smooths away is given back
HELD_OUT = 5  # of so many clips one, for R2


def main() -> None:
    """Measure, fit, and write avgen/corpora/portraits/articulation.npz."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--landmarker", type=Path, required=True)
    parser.add_argument("--speaker", default="s1")
    parser.add_argument("--every", type=int, default=6, help="of so many clips one")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tracker = LandmarkTracker(args.landmarker, num_faces=1)
    for clip in sorted((args.grid / args.speaker).glob("*.mpg"))[:: args.every]:
        align = args.grid / "alignments" / args.speaker / f"{clip.stem}.align"
        place = args.out / f"{clip.stem}.npz"
        if not place.exists():
            measure(clip, align, place, tracker)
    fit(sorted(args.out.glob("*.npz")))


def measure(path: Path, align: Path, place: Path, tracker: LandmarkTracker) -> None:
    """Landmarks, phonemes and sound of a clip; one that cannot be measured is left out."""
    clip = read_clip(path)
    assert clip.waveform is not None and clip.sample_rate is not None
    tracks = tracker(clip.frames)
    words = [line.split()[2] for line in align.read_text().splitlines()]
    sound = at_speech_rate(remix(clip.waveform, 1), clip.sample_rate)
    phonemes = aligned([word for word in words if word not in ("sil", "sp")], sound)
    if not tracks or tracks[0].landmarks is None or not tracks[0].present.all() or not phonemes:
        print(f"{path}: left out")
        return
    np.savez(place, L=tracks[0].landmarks, wav=sound, phones=json.dumps(phonemes))


def aligned(words: list[str], sound: np.ndarray) -> list[tuple[str, float, float]]:
    """Phonemes and their seconds by forced alignment; empty where it fails."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SPEECH_RATE, lm=None, cmn="batch", loglevel="FATAL")
    letters = [f"{word}." if len(word) == 1 and word != "a" else word for word in words]
    decoder.set_align_text(" ".join(letters))
    samples = (sound * 32767).astype(np.int16).tobytes()
    for _ in range(2):  # words first, then phonemes in them
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        decoder.set_alignment()
    return [
        (phone.name, phone.start / 100, (phone.start + phone.duration) / 100)
        for word in decoder.get_alignment()
        for phone in word
    ]


def fit(paths: list[Path]) -> None:
    """Expressions of every frame, then their regression on what is said around it."""
    clips = [np.load(path) for path in paths]
    landmarks = [clip["L"].astype(np.float64) for clip in clips]
    reference = upright(np.concatenate([closed(points) for points in landmarks]).mean(0))
    weights, inputs, rows = [], [], []
    names, columns, gaps = expression_columns()
    for number, (clip, points) in enumerate(zip(clips, landmarks, strict=True)):
        offsets = to_reference(points, reference) - reference
        weights.append(solve(offsets, columns))
        said = [
            TimedPhoneme(name, start_s, end_s)
            for name, start_s, end_s, *_ in json.loads(str(clip["phones"]))
            if name in articulation.SHAPES
        ]
        times_s = (np.arange(len(points)) + 0.5) / 25
        inputs.append(articulation.features(said, clip["wav"], SPEECH_RATE, times_s))
        rows += [number] * len(points)
    x, y, row = np.concatenate(inputs), np.concatenate(weights), np.array(rows)
    quiet = x[:, : -len(articulation.LOUD_LAGS_S)].sum(1) == 0
    rest = y[quiet].mean(0)
    held = row % HELD_OUT == 0
    matrix = ridge(x[~held], y[~held] - rest)
    made = x[held] @ matrix
    real = y[held] - rest
    score = 1 - ((made - real) ** 2).sum(0) / ((real - real.mean(0)) ** 2).sum(0)
    matrix = ridge(x, y - rest)
    gain = np.clip(y.std(0) / (x @ matrix).std(0).clip(1e-6), 1, MAX_GAIN)
    print(f"{len(paths)} clips, {len(x)} frames")
    for name, r2, sd, g, still in zip(names, score, y.std(0), gain, rest, strict=True):
        print(f"{name:16s} R2 {r2:5.2f}  sd {sd:.3f}  gain {g:.2f}  rest {still:.3f}")
    lips = [1 - np.var((a - b) @ gaps) / np.var(b @ gaps) for a, b in ((made, real),)]
    print(f"gap of the lips: R2 {lips[0]:.2f}")
    np.savez_compressed(
        articulation.MODEL,
        names=np.array(names),
        matrix=(matrix * gain).astype(np.float16),
        rest=np.zeros(len(names), np.float32),
    )


def closed(points: np.ndarray) -> np.ndarray:
    """The frames of a clip in which the lips are nearest to each other: a tenth of them."""
    gap = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=1)
    return np.stack([upright(p) for p in points[np.argsort(gap)[: max(len(gap) // 10, 1)]]])


def upright(points: np.ndarray) -> np.ndarray:
    """Landmarks [478, 3] turned and scaled as the basis' neutral head is, by points that keep."""
    neutral = load_basis().neutral
    return similarity(points, points[list(STILL)], neutral[list(STILL)])


def to_reference(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Landmarks [T, 478, 3] brought to the reference's pose by the points that speech leaves."""
    still = list(STILL)
    return np.stack([similarity(p, p[still], reference[still]) for p in points])


def similarity(points: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Points moved as takes `source` nearest to `target` (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    return (points - source.mean(0)) @ turn.T * scale + target.mean(0)


def expression_columns() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, displacements [K, 478, 3] and what each does to the gap of the lips [K]."""
    basis = load_basis()
    columns = [basis.offsets[basis.index(name)] for name in MOVED]
    columns += [
        basis.offsets[basis.index(f"{name}_L")] + basis.offsets[basis.index(f"{name}_R")]
        for name in MOVED_BOTH
    ]
    stacked = np.stack(columns)
    gap = stacked[:, INNER_LIPS[1][5], 1] - stacked[:, INNER_LIPS[0][5], 1]
    return [*MOVED, *MOVED_BOTH], stacked, gap


def solve(offsets: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Weights [T, K], none below 0, that explain the offsets of mouth and jaw best."""
    moved = np.linalg.norm(columns, axis=2).max(0) > 0.03
    scale = np.array([1.0, 1.0, 0.3])  # depth is a guess of MediaPipe's
    a = (columns[:, moved] * scale).reshape(len(columns), -1).T
    a = np.concatenate([a, RIDGE_WEIGHTS * len(a) ** 0.5 * np.eye(len(columns))])
    targets = (offsets[:, moved] * scale).reshape(len(offsets), -1)
    zeros = np.zeros(len(columns))
    return np.stack([nnls(a, np.concatenate([target, zeros]))[0] for target in targets])


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients [features, K] of y on x."""
    return np.linalg.solve(x.T @ x + RIDGE_MODEL * np.eye(x.shape[1]), x.T @ y)


if __name__ == "__main__":
    main()
