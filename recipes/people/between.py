"""Pictures of people -> single frames of people between them, for the first picture.

    python recipes/people/between.py OUT --portraits PICTURES
        --face-landmarker face_landmarker.task --segmenter selfie_segmenter.tflite (in one line)

writes a prepared folder of clips of one frame without sound: faces of pairs of portraits mixed,
half of them before the background of a third (avgen/corpora/portraits/between.py), many in clothes
and hats of other colours and some with glasses (wardrobe.py there), each with a caption of what is
true of it, and the portraits themselves. A mouth that is open takes another's face whole: heads may
smile, pictures do not. Who looks or wears what few do is drawn more often. Those
of the training split are mixed, those of the validation split are what the network's loss is told
of, test people are left alone.
The segmenter is on MediaPipe's model page, as the landmarker is, and runs by `ai-edge-litert`;
without one everybody stays before their own background.
"""

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.corpora.portraits.between import MAX_TURN, can_mix, mix, set_before, without_person
from avgen.corpora.portraits.descriptions import LABELS, describe
from avgen.corpora.portraits.faces import Face, Landmarker, read_picture, the_face
from avgen.corpora.portraits.framing import frame_scene, relight
from avgen.corpora.portraits.heads import NAME, Portrait, find_portraits
from avgen.corpora.portraits.wardrobe import (
    COLOURS,
    clothes_of,
    headwear_of,
    recoloured,
    with_glasses,
)
from avgen.corpora.voices.character import draw_voice
from avgen.errors import UserError
from avgen.preparation.store import Store, write_json

SIZE = (128, 128)
SAMPLE_RATE, FPS = 24000, "25"  # of prepared/people
UNIT = 110  # pixels between the eyes' corners: a portrait that is larger is brought down to it
AROUND = 2.6  # of these, around a face, are kept of a portrait
SHARES = (0.35, 1.0)  # of the other's face
APART = 0.02  # of the eyes' distance, above which lips are open: nothing is seen of that face
ELSEWHERE = 0.55  # share of the pictures before another background
RECOLOURED = 0.6  # share of clothes and of hats
HATS = ("hat", "cap", "beanie", "bandana")  # headwear that is cut out well by its colours
GLASSES = 0.2  # share of those without any who are given some
FEW = 8  # people who show something: fewer are drawn as often
# By what somebody is rare: keys of the table, each tuple taken together.
RARE = (("kind", "age"), ("hair",), ("hair_style",), ("beard",), ("kind", "glasses"),
        ("kind", "headwear"))  # fmt: skip
VIEWS, NEARER, BESIDE = 2, 0.12, 0.05  # of a mixture: how many, how much nearer, how far off centre
TRIES = 200  # at finding a pair


class Seen(NamedTuple):
    """A portrait as it is mixed.

    Attributes:
        portrait: Which one.
        picture: uint8 [H, W, 3], mirrored or not.
        face: In it.
        person: How much of each pixel is the person, float32 [H, W].
        worn: Where "clothes" and "headwear" are, bool [H, W], those that can be cut out.
    """

    portrait: Portrait
    picture: np.ndarray
    face: Face
    person: np.ndarray
    worn: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """Pictures that one process makes: of pairs by their numbers, and of people as they are.

    Attributes:
        out: The prepared folder.
        portraits: Whose faces are mixed.
        shares: How often each is the first of a pair, in all 1.
        landmarker: A file.
        segmenter: A file.
        numbers: Of the pairs.
        alone: Portraits as they are, and numbers of the pictures.
        seed: Of all.
    """

    out: Path
    portraits: list[Portrait]
    shares: np.ndarray
    landmarker: Path
    segmenter: Path | None
    numbers: range
    alone: list[tuple[Portrait, int]]
    seed: int


def main() -> None:
    """Write OUT/frames, its manifest and its rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--face-landmarker", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, help="selfie_segmenter.tflite")
    parser.add_argument("--pairs", type=int, default=12000, help="default: %(default)s")
    parser.add_argument("--alone", type=int, default=6, help="pictures of each portrait itself")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = [one for one in find_portraits(args.portraits) if isinstance(one, Portrait)]
    train = [one for one in found if one.split == "train"]
    shares = how_often(train)
    alone = [(one, k) for one in found if one.split != "test" for k in range(args.alone)]
    store, workers = Store(args.out), args.workers
    store.make()
    parts = [(range(k, args.pairs, workers), alone[k::workers]) for k in range(workers)]
    jobs = [
        Job(args.out, train, shares, args.face_landmarker, args.segmenter, *part, args.seed)
        for part in parts
    ]
    with ProcessPoolExecutor(workers) as pool:
        kept = [record for records in pool.map(make, jobs) for record in records]
    kept.sort(key=lambda record: record.id)
    write_json(args.out / "lexicon.json", {})
    write_json(args.out / "rates.json", {"fps": FPS, "sample_rate": SAMPLE_RATE})
    write_json(args.out / "prepare.json", {"size": list(SIZE)})
    write_manifest(kept, args.out / "manifest.jsonl")
    mixed = sum(record.id.startswith("between-") for record in kept)
    print(f"{mixed} pictures of people between two, {len(kept) - mixed} of one, in {args.out}")


class People:
    """Portraits, the faces and the people in them, each looked for once.

    Args:
        landmarker: Finds faces.
        segmenter: MediaPipe's selfie segmenter, a file; None finds no people, but faces.
    """

    def __init__(self, landmarker: Landmarker, segmenter: Path | None) -> None:
        self.landmarker, self.network = landmarker, None
        if segmenter is not None:
            from ai_edge_litert.interpreter import Interpreter

            self.network = Interpreter(str(segmenter), num_threads=1)
            self.network.allocate_tensors()
        self.seen: dict[tuple[str, bool], Seen | None] = {}
        self.places: dict[int, np.ndarray] = {}

    def __call__(self, portrait: Portrait, is_mirrored: bool) -> Seen | None:
        """What is seen of a portrait; None where it cannot be used."""
        key = portrait.name, is_mirrored
        if key not in self.seen:
            try:
                self.seen[key] = self.look(portrait, is_mirrored)
            except UserError:
                self.seen[key] = None
        return self.seen[key]

    def look(self, portrait: Portrait, is_mirrored: bool) -> Seen:
        """Read a portrait, and find its face and its person.

        Raises:
            UserError: it cannot be made to speak.
        """
        picture = read_picture(portrait.path)
        picture = np.ascontiguousarray(picture[:, ::-1]) if is_mirrored else picture
        face = the_face(self.landmarker(picture), picture.shape[:2], max_gap=np.inf)
        if (scale := UNIT / face.unit) < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            face = replace(face, points=face.points * scale)
        first = np.floor(np.maximum(0, face.middle - AROUND * face.unit)).astype(int)
        last = np.ceil(face.middle + AROUND * face.unit).astype(int)
        picture = np.ascontiguousarray(picture[first[1] : last[1], first[0] : last[0]])
        face = replace(face, points=face.points - [*first, 0])
        person, worn = self.person(picture), {}
        if self.network is not None:
            worn["clothes"] = clothes_of(picture, face, person)
            if portrait.about.get("headwear") in HATS:
                worn["headwear"] = headwear_of(picture, face, person)
        worn = {name: where for name, where in worn.items() if where is not None}
        return Seen(portrait, picture, face, person, worn)

    def place_of(self, seen: Seen) -> np.ndarray:
        """What is behind a person that was looked at: uint8 [H, W, 3]."""
        if id(seen) not in self.places:  # which `self.seen` keeps
            self.places[id(seen)] = without_person(seen.picture, seen.person)
        return self.places[id(seen)]

    def person(self, picture: np.ndarray) -> np.ndarray:
        """How much of each pixel is a person, float32 [H, W]; all of it without a segmenter."""
        if self.network is None:
            return np.ones(picture.shape[:2], np.float32)
        given, made = self.network.get_input_details()[0], self.network.get_output_details()[0]
        size = tuple(given["shape"][2:0:-1])
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        self.network.set_tensor(given["index"], small[None])
        self.network.invoke()
        return cv2.resize(self.network.get_tensor(made["index"])[0, ..., 0], picture.shape[1::-1])


def make(job: Job) -> list[ClipRecord]:
    """Make pictures; the records of those that could be made."""
    cv2.setNumThreads(1)
    records = []
    with closing(Landmarker(job.landmarker)) as landmarker:
        people = People(landmarker, job.segmenter)
        for number in tqdm(job.numbers, desc="mixing", disable=job.numbers.start > 0):
            rng = np.random.default_rng([job.seed, number])
            pair = draw_pair(job, people, rng)
            if pair is None:
                continue
            one, other = pair
            records += made(Store(job.out), f"between-{number:05d}", one, other, people, job, rng)
        for portrait, number in job.alone:
            rng = np.random.default_rng([job.seed, number, 1, *portrait.name.encode()])
            seen = people(portrait, bool(rng.integers(2)))
            if seen is not None and seen.face.gap <= APART:
                name = f"{portrait.name}-{number:02d}"
                records += made(Store(job.out), name, seen, seen, people, job, rng)
    return records


def made(
    store: Store,
    name: str,
    one: Seen,
    other: Seen,
    people: People,
    job: Job,
    rng: np.random.Generator,
) -> list[ClipRecord]:
    """Pictures of one person, or of one between two, written; their records."""
    is_mixed, about = one is not other, dict(one.portrait.about)
    sources = [one.portrait, other.portrait]
    if is_mixed:
        one, about = in_other_colours(one, about, rng)
    shown = [one, other]
    if is_mixed and rng.random() < ELSEWHERE and people.network is not None:
        third = people(job.portraits[int(rng.integers(len(job.portraits)))], bool(rng.integers(2)))
        if third is not None:
            place = people.place_of(third)
            place = cv2.resize(place, one.picture.shape[1::-1], interpolation=cv2.INTER_AREA)
            shown[0] = one._replace(picture=set_before(one.picture, one.person, place))
            about |= {"background": third.portrait.about.get("background", ""), "caption": ""}
            sources.append(third.portrait)
    try:
        scenes = [
            frame_scene(seen.picture, seen.face, rng, SIZE, str(about.get("age", "")))
            for seen in shown
        ]
    except UserError:  # a head too near to the border
        return []
    shape, share = (rng.uniform(), rng.uniform(*SHARES)) if is_mixed else (0.0, 0.0)
    if one.face.gap > APART:
        shape, share, about = 1.0, 1.0, about | {"caption": ""}  # it may tell of a smile
    mixed, face = mix(scenes[0], scenes[1], shape, share)
    if is_mixed and about.get("glasses") is False and rng.random() < GLASSES:
        mixed, about = with_glasses(mixed, face, rng), about | {"glasses": True, "caption": ""}
    records = []
    for number, view in enumerate(views(mixed, rng, VIEWS if is_mixed else 1)):
        record = record_of(f"{name}-{number}" if is_mixed else name, about, sources, rng)
        store.write_clip(record.id, view[None], None)
        records.append(record)
    return records


def views(picture: np.ndarray, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """A picture in the size of the corpus: as it is, then nearer, in other light."""
    yield cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA)
    for _ in range(count - 1):
        side = np.array(picture.shape[:2]) * (1 - rng.uniform(0, NEARER))
        middle = np.array(picture.shape[:2]) / 2 * (1 + BESIDE * rng.uniform(-1, 1, 2))
        top, left = np.clip(middle - side / 2, 0, picture.shape[:2] - side).round().astype(int)
        rows, columns = side.round().astype(int)
        part = picture[top : top + rows, left : left + columns]
        yield relight(cv2.resize(part, SIZE[::-1], interpolation=cv2.INTER_AREA), rng)


def in_other_colours(
    seen: Seen, about: dict[str, object], rng: np.random.Generator
) -> tuple[Seen, dict[str, object]]:
    """Someone in clothes or a hat of another colour, and what is true of them then."""
    for name, where in seen.worn.items():
        if rng.random() < RECOLOURED:
            colour = str(rng.choice(list(COLOURS)))
            seen = seen._replace(picture=recoloured(seen.picture, where, colour))
            told = f"{colour} {about[name]}" if name == "headwear" else colour
            about = about | {name: told, "caption": ""}
    return seen, about


def how_often(portraits: Sequence[Portrait]) -> np.ndarray:
    """How often each of some portraits is drawn, in all 1: the rarer what it shows, the more."""

    def shown(one: Portrait, keys: Sequence[str]) -> tuple[str, ...]:
        return tuple(str(one.about.get(key)) for key in keys)

    count = Counter((keys, shown(one, keys)) for keys in RARE for one in portraits)
    rarest = [min(count[keys, shown(one, keys)] for keys in RARE) for one in portraits]
    weights = 1 / np.sqrt(np.maximum(rarest, FEW))
    return weights / weights.sum()


def draw_pair(job: Job, people: People, rng: np.random.Generator) -> tuple[Seen, Seen] | None:
    """Two portraits that can be mixed, each mirrored or not; None if no such are found."""
    portraits = job.portraits
    for _ in range(TRIES):
        one = portraits[int(rng.choice(len(portraits), p=job.shares))]
        fits = [
            other for other in portraits if other is not one and can_mix(one.about, other.about)
        ]
        if not fits:
            continue
        other = fits[int(rng.integers(len(fits)))]
        pair = people(one, bool(rng.integers(2))), people(other, bool(rng.integers(2)))
        if pair[0] is None or pair[1] is None or pair[1].face.gap > APART:
            continue
        turned = np.subtract(pair[0].face.angles, pair[1].face.angles)
        if np.abs(turned[:2]).max() <= MAX_TURN:
            return pair[0], pair[1]
    return None


def record_of(
    name: str, about: dict[str, object], people: Sequence[Portrait], rng: np.random.Generator
) -> ClipRecord:
    """What is known of a picture; `about` describes it."""
    sex, age = (str(about[key]) if key in about else None for key in ("kind", "age"))
    voice = draw_voice("hibari", int(rng.integers(2**31)), sex, age).description
    licences, sources = (
        sorted({str(one.about.get(key, missing)) for one in people} - {""})
        for key, missing in (("licence", "unknown"), ("source", ""))
    )
    names = sorted({one.name for one in people})
    return ClipRecord(
        name,
        f"frames/{name}.npy",
        NAME,
        names[0] if len(names) == 1 else name,
        people[0].split,
        describe(about, voice, rng),
        licence=f"picture: {', '.join(licences)}",
        source="; ".join(sources),
        labels={key: str(about[key]) for key in LABELS if about.get(key) not in (None, "")}
        | {"people": " ".join(names)},
    )


if __name__ == "__main__":
    main()
