"""Cached latents in tar files, locally or in object storage, read by ranges of bytes.

    latents/index.json      which clip is where, its split, speaker and shape
    URL/NAME.tar            of every clip ID.json, its record, then ID.safetensors (a WebDataset)

Of a corpus of a thousand hours neither millions of small files are made nor one is opened before it
is drawn. Latents are stored in bfloat16. Whoever draws a clip reads the bytes of that clip alone,
so processes and workers need no shards of their own; draws are ordered so that they come from a few
tars at a time (`avgen.training.draws.bounded_permutation`).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from avgen.clips.files import atomic, read_json
from avgen.codecs.normalize import LatentStatistics, Moments, moments
from avgen.corpora.manifest import ClipRecord, record_from_json
from avgen.errors import UserError
from avgen.preparation.latent_store import (
    SHAPE,
    ClipShape,
    facts_of_shape,
    read_latent_config,
    read_shape,
)

INDEX = "index.json"  # in latents/
CLIPS_A_TAR = 1000
COLUMNS = ("id", "split", "speaker", "tar", "offset", "size", "shape")


def file_system(url: str) -> tuple[Any, str]:
    """What reads and writes a place, and the place as it knows it.

    Raises:
        UserError: its package is missing.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: cannot be reached: {error}") from error


def pack(
    folder: Path, url: str, records: Sequence[ClipRecord], name: str, *, remove: bool = False
) -> None:
    """Write the latents of some clips as one tar, and where each is in it, as NAME.json beside it.

    The same clips give the same bytes. Both are there whole or not at all.

    Args:
        folder: A prepared folder with latents of these clips.
        url: Where tars go.
        records: The clips.
        name: Of the tar.
        remove: Whether the clips' own files of latents are removed when the tar is there.
    """
    try:
        from webdataset.writer import TarWriter
    except ImportError as error:
        raise UserError("shards need webdataset: pip install 'avgen[shards]'") from error
    system, place = file_system(url)
    config = read_latent_config(folder)
    files = [folder / "latents" / f"{record.id}.safetensors" for record in records]
    entries: dict[str, Any] = {column: [] for column in COLUMNS}
    entries["moments"] = {}
    system.makedirs(place, exist_ok=True)
    with io.BytesIO() as whole:
        writer = TarWriter(whole, mtime=0, encoder=False, compress=False)
        for record, file in zip(records, files, strict=True):
            start, shape = writer.tarstream.offset, read_shape(file, config)
            latents = load_file(file)
            writer.write(_members(record, latents, shape))
            if record.split == "train":
                _add_moments(entries["moments"], latents)
            row = (record.id, record.split, f"{record.corpus}/{record.speaker}", name)
            for column, value in zip(
                COLUMNS, (*row, start, writer.tarstream.offset - start), strict=False
            ):
                entries[column].append(value)
            entries["shape"].append(list(facts_of_shape(shape).values()))
        writer.close()
        _write(system, f"{place}/{name}.tar", whole.getvalue())
    _write(system, f"{place}/{name}.json", json.dumps(entries).encode())
    if remove:
        for file in files:
            file.unlink()


def _add_moments(found: dict[str, list[Any]], latents: Mapping[str, Tensor]) -> None:
    """Add those of a clip's latents to a tar's: modality -> count, sums, sums of squares."""
    for name in ("video", "audio"):
        if name in latents:
            count, *sums = moments(latents[name])
            before = found.get(name, [0, *(torch.zeros_like(part).tolist() for part in sums)])
            own = zip(before[1:], sums, strict=True)
            added = [(torch.tensor(old, dtype=torch.float64) + new).tolist() for old, new in own]
            found[name] = [before[0] + count, *added]


def _members(record: ClipRecord, latents: Mapping[str, Tensor], shape: ClipShape) -> dict[str, Any]:
    """A clip as TarWriter takes it; a dot in its name would cut it."""
    halves = {name: tensor.bfloat16().contiguous() for name, tensor in latents.items()}
    header = {SHAPE: json.dumps({k: str(v) for k, v in facts_of_shape(shape).items()})}
    return {
        "__key__": record.id.replace(".", "_"),
        "json": json.dumps(asdict(record)).encode(),
        "safetensors": save(halves, metadata=header),
    }


def _write(system: Any, path: str, data: bytes) -> None:
    """Write a file: an object appears whole, a local file is written beside its place first."""
    temporary = f"{path}.part"
    system.pipe_file(temporary, data)
    system.mv(temporary, path)


def pack_all(
    folder: Path,
    url: str,
    records: Sequence[ClipRecord],
    shard: tuple[int, int] = (0, 1),
    clips_a_tar: int = CLIPS_A_TAR,
    encode: Callable[[Sequence[ClipRecord]], None] = lambda records: None,
    own: Mapping[str, LatentStatistics] | None = None,
) -> bool:
    """Pack clips of a folder, `clips_a_tar` at a time, those tars that are a share's.

    The same tars are made whatever the number of shares; one that is there is not made again. The
    task that finds all of them there writes the index, which two may do at once.

    Args:
        folder: The prepared folder.
        url: Where tars go.
        records: All of its clips.
        shard: This task, and how many there are.
        clips_a_tar: Clips in one.
        encode: Called with the clips of each tar before it is made, to cache their latents.
        own: Statistics that the codecs came with.

    Returns:
        Whether all is there.
    """
    system, place = file_system(url)
    groups = [records[i : i + clips_a_tar] for i in range(0, len(records), clips_a_tar)]
    names = [f"{number:06d}" for number in range(len(groups))]
    for number, (name, group) in enumerate(zip(names, groups, strict=True)):
        if number % shard[1] == shard[0] and not system.exists(f"{place}/{name}.json"):
            encode(group)
            pack(folder, url, group, name, remove=True)
    if not all(system.exists(f"{place}/{name}.json") for name in names):
        return False
    for name, group in zip([*names, f"{len(groups):06d}"], [*groups, []], strict=True):
        path = f"{place}/{name}.json"
        held = json.loads(system.cat_file(path))["id"] if system.exists(path) else []
        if held != [record.id for record in group]:
            raise UserError(f"{place}/{name}.tar: holds other clips than the manifest has now; "
                            "remove the tars, or write them elsewhere")  # fmt: skip
    write_index(folder, url, names, own)
    return True


class Packer:
    """Packs the clips of a share as they come, and at last all that are left.

    Args:
        folder: The prepared folder.
        url: Where tars go.
        share: Begins their names: of each task another.
        clips_a_tar: Clips in one.

    Attributes:
        done: Clips that are in a tar of anybody's, or wait here for one.
    """

    def __init__(self, folder: Path, url: str, share: int, clips_a_tar: int = CLIPS_A_TAR) -> None:
        self.folder, self.url, self.prefix, self.size = folder, url, f"{share:04d}", clips_a_tar
        self.waiting: list[ClipRecord] = []
        self.done: set[str] = set()
        self.look()

    def look(self) -> None:
        """Find the clips that are in tars by now, other tasks' too."""
        packed = {clip for name in self.names() for clip in self._entries(name)["id"]}
        self.done = packed | {record.id for record in self.waiting}

    def names(self) -> list[str]:
        """Of all tars that are there."""
        system, place = file_system(self.url)
        found = system.glob(f"{place}/*.json") if system.exists(place) else []
        return sorted(path.rsplit("/", 1)[-1].removesuffix(".json") for path in found)

    def _entries(self, name: str) -> dict[str, Any]:
        system, place = file_system(self.url)
        return json.loads(system.cat_file(f"{place}/{name}.json"))

    def _new_name(self) -> str:
        own = [name for name in self.names() if name.startswith(self.prefix)]
        return f"{self.prefix}-{int(own[-1].rpartition('-')[2]) + 1 if own else 0:06d}"

    def add(self, records: Sequence[ClipRecord], at_least: int | None = None) -> None:
        """Pack as many as fill a tar, or `at_least` so many."""
        self.waiting += [record for record in records if record.id not in self.done]
        self.done |= {record.id for record in records}
        while len(self.waiting) >= (self.size if at_least is None else at_least):
            group, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
            pack(self.folder, self.url, group, self._new_name(), remove=True)

    def finish(
        self, records: Sequence[ClipRecord], own: Mapping[str, LatentStatistics] | None
    ) -> None:
        """Pack what waits, take out of the tars whatever is not of `records`, write the index."""
        self.add((), at_least=1)
        left = {record.id for record in records}
        for name in self.names():
            found = self._entries(name)["id"]
            if not left.issuperset(found):
                self._pack_anew(name, left)
            left -= set(found)  # what a killed run packed anew is in an older tar as well
        write_index(self.folder, self.url, self.names(), own)

    def _pack_anew(self, name: str, wanted: set[str]) -> None:
        """Make a tar of those of a tar's clips that are wanted, and remove the old one."""
        system, place = file_system(self.url)
        entries, records = self._entries(name), []
        for clip, start, size in zip(*(entries[c] for c in ("id", "offset", "size")), strict=True):
            if clip in wanted:
                data = system.cat_file(f"{place}/{name}.tar", start=start, end=start + size)
                record, latents = contents(data)
                with atomic(self.folder / "latents" / f"{clip}.safetensors") as temporary:
                    temporary.write_bytes(latents)
                records.append(record)
        if records:
            pack(self.folder, self.url, records, self._new_name(), remove=True)
        for suffix in ("json", "tar"):
            system.rm(f"{place}/{name}.{suffix}")


def write_index(
    folder: Path,
    url: str,
    names: Sequence[str],
    own: Mapping[str, LatentStatistics] | None = None,
) -> None:
    """Write `latents/index.json` and `statistics.json` from what stands beside the tars."""
    system, place = file_system(url)
    parts: dict[str, list[Moments]] = {"video": [], "audio": []}
    where = url if "://" in url else str(Path(url).resolve())
    index: dict[str, Any] = {"url": where, "tars": list(names), "shapes": []}
    index |= {column: [] for column in COLUMNS}
    shapes: dict[str, int] = {}
    for number, name in enumerate(names):
        entries = json.loads(system.cat_file(f"{place}/{name}.json"))
        for column in COLUMNS:
            index[column] += entries[column]
        for kind, (count, *sums) in entries["moments"].items():
            total, square = (torch.tensor(values, dtype=torch.float64) for values in sums)
            parts[kind].append((count, total, square))
        index["tar"][-len(entries["tar"]) :] = [number] * len(entries["tar"])
    with atomic(folder / "latents" / "shapes.json") as temporary:
        temporary.write_text(json.dumps(dict(zip(index["id"], index["shape"], strict=True))))
    numbers = [shapes.setdefault(json.dumps(shape), len(shapes)) for shape in index["shape"]]
    index |= {"shape": numbers, "shapes": [json.loads(shape) for shape in shapes]}
    with atomic(folder / "latents" / INDEX) as temporary:
        temporary.write_text(json.dumps(index))
    config, statistics = read_latent_config(folder), dict(own or {})
    for kind, channels in (("video", config.video_channels), ("audio", config.audio_channels)):
        if kind not in statistics:  # of what no clip has, those of numbers that are normal already
            normal = LatentStatistics((0.0,) * channels, (1.0,) * channels)
            statistics[kind] = LatentStatistics.of_moments(parts[kind]) if parts[kind] else normal
    with atomic(folder / "latents" / "statistics.json") as temporary:
        found = {kind: asdict(values) for kind, values in statistics.items()}
        temporary.write_text(json.dumps(found))


@dataclass(frozen=True)
class Slices:
    """The tensors of a clip as safetensors' own reader gives them."""

    tensors: Mapping[str, Tensor]

    def get_slice(self, name: str) -> Tensor:
        """One of them, whose parts can be taken."""
        return self.tensors[name]

    def keys(self) -> list[str]:
        """Their names."""
        return list(self.tensors)


class Shards:
    """The clips of one split in tars.

    Args:
        folder: The prepared folder with the index.
        split: Which clips.

    Attributes:
        shapes: Of the clips.
        speakers: Corpus and name, likewise.
        tars: Number of the tar that each is in.

    Raises:
        UserError: none is of the split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        index = read_json(folder / "latents" / INDEX)
        self.url = index["url"]
        own = [i for i, other in enumerate(index["split"]) if other == split]
        if not own:
            raise UserError(f"{folder}: no clip is of the split {split!r}")
        shapes = [
            ClipShape(frames, height, width, Fraction(fps), *has)
            for frames, height, width, fps, *has in index["shapes"]
        ]
        self.names = index["tars"]
        self.shapes = [shapes[index["shape"][i]] for i in own]
        self.ids, self.speakers, self.tars = (
            [index[column][i] for i in own] for column in ("id", "speaker", "tar")
        )
        self.places = [(index["offset"][i], index["size"][i]) for i in own]

    @cached_property
    def system(self) -> Any:
        """What reads them; each process has its own."""
        return file_system(self.url)

    def __getstate__(self) -> dict[str, Any]:
        """Without what reads them, which other processes make anew."""
        return {name: value for name, value in vars(self).items() if name != "system"}

    def read(self, clip: int) -> tuple[ClipRecord, Slices]:
        """Record and latents of a clip, in float32: one request for its bytes.

        Raises:
            UserError: they cannot be read.
        """
        system, place = self.system
        path, (start, size) = f"{place}/{self.names[self.tars[clip]]}.tar", self.places[clip]
        try:
            record, latents = contents(system.cat_file(path, start=start, end=start + size))
            tensors = {name: tensor.float() for name, tensor in load(latents).items()}
            return record, Slices(tensors)
        except (OSError, tarfile.TarError, ValueError, KeyError) as error:
            raise UserError(f"{path}: clip {self.ids[clip]} cannot be read ({error})") from error


def contents(data: bytes) -> tuple[ClipRecord, bytes]:
    """A clip's record and its latents' file, of its bytes in a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        record, latents = (_content(tar) for _ in range(2))
    return record_from_json(json.loads(record)), latents


def _content(tar: tarfile.TarFile) -> bytes:
    member = tar.next()
    file = None if member is None else tar.extractfile(member)
    if file is None:
        raise tarfile.TarError("ends within a clip")
    return file.read()
