"""A prepared folder's clips in, WebDataset shards and a table of them out, always the same bytes.

    shards/train-000000.tar    ID.mkv (FFV1 and FLAC: the pixels and samples of the folder), ID.json
    manifest.parquet           a row for each clip, with the shard that it is in

frames/ and waveforms/ are what avgen trains from, memory-mapped, at 3 bytes a pixel; shards hold
the same, without loss, in about a third of that, for other readers and for moving about. They are
made from the folder when every clip is done: whatever happened on the way, they are the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avgen.clips.clip import Clip
from avgen.clips.files import atomic
from avgen.clips.media.read import write_clip
from avgen.errors import UserError
from avgen.preparation.outcome import Kept
from avgen.preparation.store import Store, write_bytes, write_json

CLIPS_PER_SHARD = 256
FOLDER, INDEX, TABLE = "shards", "index.json", "manifest.parquet"


@dataclass(frozen=True)
class ShardJob:
    """A shard to write.

    Attributes:
        name: Of the file.
        folder: The prepared folder.
        clips: What it holds, in order.
        fps: Of all of them.
        sample_rate: Likewise.
    """

    name: str
    folder: Path
    clips: tuple[Kept, ...]
    fps: Fraction
    sample_rate: int

    @property
    def digest(self) -> str:
        """Of what is known of the clips: two shards of one digest are the same."""
        lines = [json.dumps(asdict(kept), sort_keys=True) for kept in self.clips]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pack(
    store: Store,
    clips: Sequence[Kept],
    rates: tuple[Fraction, int],
    run: Callable[[Callable[[Any], str], Sequence[ShardJob]], Iterator[str]],
) -> list[ShardJob]:
    """Write the shards that are not there yet, take away those that no longer are, and the table.

    Args:
        store: The prepared folder.
        clips: All that were kept, in order.
        rates: Frames and samples a second.
        run: Calls a function with each of some jobs, as an engine does.

    Returns:
        All shards.
    """
    folder = store.folder / FOLDER
    folder.mkdir(exist_ok=True)
    index_path = folder / INDEX
    index = json.loads(index_path.read_text()) if index_path.is_file() else {}
    jobs = [
        ShardJob(f"{split}-{number:06d}.tar", store.folder, tuple(part), *rates)
        for split in ("train", "validation", "test")
        for number, part in enumerate(_parts([k for k in clips if k.record.split == split]))
    ]
    wanted = {job.name: job.digest for job in jobs}
    missing = [
        job
        for job in jobs
        if index.get(job.name) != job.digest or not (folder / job.name).is_file()
    ]
    for job in missing:
        _require_frames(store, job)
    for _ in run(write_shard, missing):
        pass
    write_json(index_path, wanted)
    for stale in folder.glob("*.tar"):
        if stale.name not in wanted:
            stale.unlink()
    _write_table(store, jobs)
    return jobs


def write_shard(job: ShardJob) -> str:
    """Write one shard, beside its place first; returns its name."""
    store = Store(job.folder)
    target = job.folder / FOLDER / job.name
    with (
        atomic(target) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for kept in job.clips:
            name = kept.record.id
            about = asdict(kept.record) | {
                "origin": asdict(kept.origin),
                "num_frames": kept.num_frames,
                "fps": str(job.fps),
                "sample_rate": job.sample_rate,
                "measures": dict(kept.measures),
            }
            _add(tar, f"{name}.json", json.dumps(about, indent=1).encode())
            _add(tar, f"{name}.mkv", _media(store, name, job))
    return job.name


def _media(store: Store, name: str, job: ShardJob) -> bytes:
    """The clip as Matroska with FFV1 and FLAC."""
    frames = np.load(store.frames(name))
    waveform = np.load(store.waveform(name)).astype(np.float32) / 32768
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.mkv"
        write_clip(Clip(frames, job.fps, waveform, job.sample_rate), path)
        return path.read_bytes()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member that says nothing of when and by whom it was written."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _parts(clips: Sequence[Kept]) -> Iterator[Sequence[Kept]]:
    for start in range(0, len(clips), CLIPS_PER_SHARD):
        yield clips[start : start + CLIPS_PER_SHARD]


def _require_frames(store: Store, job: ShardJob) -> None:
    for kept in job.clips:
        if not (
            store.frames(kept.record.id).is_file() and store.waveform(kept.record.id).is_file()
        ):
            raise UserError(
                f"{store.frames(kept.record.id)}: not found, and {FOLDER}/{job.name} has to be "
                f"written anew; remove {store.folder / 'outcomes'} to prepare the clips again"
            )


def _write_table(store: Store, jobs: Sequence[ShardJob]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("preparing needs pyarrow: pip install 'avgen[prepare]'") from error
    rows = []
    for job in jobs:
        for kept in job.clips:
            row = asdict(kept.record) | {"shard": job.name, "num_frames": kept.num_frames}
            row["seconds"] = float(kept.num_frames / job.fps)
            row["words"] = json.dumps(row["words"])
            for name, value in (("labels", row["labels"]), ("measures", kept.measures)):
                row[name] = json.dumps(dict(value))
            rows.append(row | {"origin": json.dumps(asdict(kept.origin))})
    buffer = io.BytesIO()
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        write_bytes(store.folder / TABLE, buffer.getvalue())
    else:
        (store.folder / TABLE).unlink(missing_ok=True)
