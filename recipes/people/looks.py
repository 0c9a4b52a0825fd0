"""What a picture shows of a person, read by a classifier: is it who was asked for?

    python recipes/people/looks.py fit PREPARED looks.joblib --codec CODEC      (of the train split)
    python recipes/people/looks.py measure PREPARED looks.joblib --codec CODEC   (of the test split)
    python recipes/people/looks.py score CLIPS looks.joblib --asked asked.jsonl

PREPARED are portraits that `avgen prepare portraits` made speak, with what is known of each in the
manifest. `asked.jsonl` has a line a clip: its file's name without suffix as "id", and what should
be seen of it as "seen" (see other_words.jsonl, whose n-th line is asked of clip n where lines have
no id). Each attribute is a logistic regression on dlib's embedding of the face, colours of a grid
of eight by eight, and gradients; clothes are one on the colours of the lowest rows alone. Glasses
are read by a support vector machine from fine gradients about the eyes of the upright face, and
where it divides them is chosen on people that it has not learned from. All learn from portraits as
they are and as the picture's codec shows them, softer. Accuracy on real test portraits as they are,
as a mean over an attribute's values, is what a score is to be compared with.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import torch
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from avgen.clips import read_clip
from avgen.codecs.base import load_module
from avgen.corpora.manifest import read_manifest
from avgen.evaluation.faces.identity import face_embedding, upright_face
from avgen.evaluation.subject import Unscored

SIDE = 128
CLOTHES_ROWS = 20  # the lowest, of SIDE
CLOTHES_BINS = 8  # of colours, each way
CLOTHES = slice(0, 30 + CLOTHES_BINS**2 + CLOTHES_BINS)  # where their numbers are
FACE, EYE_ROWS = 96, slice(16, 72)  # pixels of an upright face, and which rows have eyes
NUM_EYES = 11 * 6 * 32  # gradients: blocks across, down, four cells of eight directions
OTHERS = slice(CLOTHES.stop, -NUM_EYES)
# Which numbers tell an attribute, and scikit-learn's C of a regression on them.
TELLING = {"clothes": (CLOTHES, 0.03)}
EYES, NUM_FACTORS, FOLDS = slice(-NUM_EYES, None), 120, 6
ATTRIBUTES = {  # value that is asked for -> values of the table that are the same to the eye
    "kind": {},
    "age": {},
    "hair": {"white": "grey", "none": "none", "hidden": "hidden"},
    "beard": {"goatee": "beard"},
    "glasses": {"True": "yes", "true": "yes", "False": "no", "false": "no"},
    "headwear": {
        **dict.fromkeys(("hat", "cap", "beanie", "turban", "headscarf", "bandana"), "covered"),
        **dict.fromkeys(("headband", "headphones", "crown", "none"), "bare"),
    },
    "clothes": {"navy": "blue", "maroon": "red", "beige": "brown"},
}


def features(frames: np.ndarray) -> np.ndarray:
    """Numbers of a picture: the middle of frames uint8 [T, H, W, 3].

    Raises:
        Unscored: there is no face.
    """
    frame = cv2.resize(frames[len(frames) // 2], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    grid = cv2.resize(colours, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 50
    face = 4 * face_embedding(frames[len(frames) // 2][None])
    describe = cv2.HOGDescriptor((SIDE, SIDE), (32, 32), (32, 32), (16, 16), 8)
    gradients = np.ravel(describe.compute(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)))
    return np.concatenate([clothes(colours[-CLOTHES_ROWS:]), face, grid, gradients, eyes(frames)])


def eyes(frames: np.ndarray) -> np.ndarray:
    """Numbers of what is about the eyes: gradients of the middle of frames uint8 [T, H, W, 3]."""
    face = upright_face(frames[len(frames) // 2], FACE, padding=0.15)
    rows = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[EYE_ROWS]
    describe = cv2.HOGDescriptor((FACE, len(rows)), (16, 16), (8, 8), (8, 8), 8)
    return np.ravel(describe.compute(rows))


def clothes(rows: np.ndarray) -> np.ndarray:
    """Numbers of the lowest rows, Lab [h, SIDE, 3]: five places' medians and means, histograms."""
    width = SIDE // 4
    places = [rows[:, x : x + width].reshape(-1, 3) for x in (0, 24, 40, 72, SIDE - width)]
    means = [np.concatenate([np.median(place, 0), place.mean(0)]) / 30 for place in places]
    light, *chroma = rows.reshape(-1, 3).T
    counts = np.histogram2d(*chroma, bins=CLOTHES_BINS, range=[(-60, 60)] * 2)[0].ravel()
    lights = np.histogram(light, CLOTHES_BINS, (0, 100))[0]
    return np.concatenate([*means, *(3 * np.sqrt(n / light.size) for n in (counts, lights))])


def value(attribute: str, told: Any) -> str:
    """What a value of the table is to the eye."""
    return ATTRIBUTES[attribute].get(str(told), str(told))


Show = Callable[[np.ndarray], np.ndarray]


def table(
    prepared: Path, is_test: bool, *shown: Show
) -> tuple[np.ndarray, list[Mapping[str, Any]], np.ndarray]:
    """Features of the portraits of one side of the split, what is known of each, and who it is.

    Each portrait is there as each of `shown` shows it (`as_it_is`, `through`), and mirrored.
    """
    rows, known, people = [], [], []
    records = [r for r in read_manifest(prepared / "manifest.jsonl") if r.tracks]
    for record in tqdm([r for r in records if (r.split == "test") == is_test], desc="portraits"):
        frames = np.load(prepared / record.media, mmap_mode="r")
        whole = np.array(frames[len(frames) // 2])[None]
        for picture in (show(whole)[:, :, ::step] for show in shown for step in (1, -1)):
            try:
                rows.append(features(np.ascontiguousarray(picture)))
            except Unscored:
                continue
            known.append(record.labels)
            people.append(record.speaker)
    return np.array(rows), known, np.array(people)


def as_it_is(picture: np.ndarray) -> np.ndarray:
    """A picture uint8 [1, H, W, 3], itself."""
    return picture


def through(folder: Path) -> Show:
    """A picture uint8 [1, H, W, 3] -> what a picture codec makes of it, likewise."""
    codec: Any = load_module(folder)

    def show(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            latents = codec.encode(torch.from_numpy(picture).movedim(-1, 0)[None] / 127.5 - 1)
            size = {"num_frames": 1, "height": picture.shape[1], "width": picture.shape[2]}
            made = codec.decode(latents, **size)[0].movedim(0, -1)
        return (127.5 * (made.clamp(-1, 1) + 1)).round().byte().numpy()

    return show


def fit(prepared: Path, out: Path, codec: Path) -> None:
    """Fit a classifier for every attribute, and keep them."""
    rows, known, people = table(prepared, False, as_it_is, through(codec))
    fitted = {}
    for name in ATTRIBUTES:
        values = [value(name, labels[name]) for labels in known]
        if name == "glasses":
            fitted[name] = glasses(rows, values, people)
            continue
        columns, strength = TELLING.get(name, (OTHERS, 0.003))
        fitted[name] = make_pipeline(
            make_column_transformer((StandardScaler(), columns)),
            LogisticRegression(C=strength, max_iter=2000, class_weight="balanced"),
        ).fit(rows, values)
    joblib.dump(fitted, out)
    print(f"{len(rows)} pictures, {out}")


def glasses(rows: np.ndarray, values: Sequence[str], people: np.ndarray) -> Any:
    """Fit what tells glasses from none, as cross-validation over people would have it.

    Few wear any: a machine that weighs both alike still says "none" too readily of who is new.

    Args:
        rows: Features [N, F].
        values: "yes" or "no" of each.
        people: Whose they are [N]: nobody is on both sides of a fold.

    Returns:
        What predicts such values of rows.
    """
    machine = make_pipeline(
        make_column_transformer((StandardScaler(), EYES)),
        PCA(NUM_FACTORS, random_state=0),
        SVC(class_weight="balanced"),
    )
    folds = list(GroupKFold(FOLDS).split(rows, values, people))
    return TunedThresholdClassifierCV(machine, scoring="balanced_accuracy", cv=folds).fit(
        rows, values
    )


def agreement(
    fitted: Mapping[str, Any], rows: np.ndarray, asked: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[float, int]]:
    """How often each attribute is seen as asked: a mean over its values, and of how many.

    An attribute that no picture was asked to have is left out.
    """
    found = {}
    for name, model in fitted.items():
        told = {i: seen[name] for i, seen in enumerate(asked) if seen.get(name) is not None}
        wanted = {i: value(name, one) for i, one in told.items()}
        wanted = {i: one for i, one in wanted.items() if one in model.classes_}
        if wanted:
            seen = model.predict(rows[list(wanted)])
            found[name] = float(balanced_accuracy_score(list(wanted.values()), seen)), len(wanted)
    return found


def clips_of(folder: Path, asked: Path) -> tuple[np.ndarray, list[Mapping[str, Any]]]:
    """Features of clips, or of pictures, and what is asked of each."""
    lines = [json.loads(line) for line in asked.read_text().splitlines()]
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".mkv", ".png"))
    rows, wanted = [], []
    for number, path in enumerate(paths):
        line = next((one for one in lines if one.get("id") == path.stem), None)
        line = lines[number] if line is None and "id" not in lines[0] else line
        if line is None:
            continue
        try:
            is_picture = path.suffix == ".png"
            frames = np.array(Image.open(path))[None] if is_picture else read_clip(path).frames
            rows.append(features(frames))
        except Unscored as reason:
            print(f"{path}: {reason}")
            continue
        wanted.append(line["seen"])
    return np.array(rows), wanted


def show(found: Iterable[tuple[str, tuple[float, int]]]) -> None:
    """Print a line an attribute."""
    for name, (rate, count) in found:
        print(f"{name:10} {rate:.3f} (mean over its values), {count} pictures")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fit", "measure", "score"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("looks", type=Path)
    parser.add_argument("--asked", type=Path, help="a file that says what should be seen")
    parser.add_argument("--codec", type=Path, help="whose pictures are to be read: its folder")
    args = parser.parse_args()
    needed = "asked" if args.what == "score" else "codec"
    if getattr(args, needed) is None:
        parser.error(f"{args.what} needs --{needed}")
    if args.what == "fit":
        fit(args.folder, args.looks, args.codec)
    elif args.what == "measure":
        fitted = joblib.load(args.looks)
        for name, shown in {"as they are": as_it_is, "codec": through(args.codec)}.items():
            print(f"real portraits, {name}:")
            show(agreement(fitted, *table(args.folder, True, shown)[:2]).items())
    else:
        show(agreement(joblib.load(args.looks), *clips_of(args.folder, args.asked)).items())


if __name__ == "__main__":
    main()
