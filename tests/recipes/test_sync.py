"""recipes/sync: what avgen-sync learns from is cut out of prepared clips as they are."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from avgen.corpora.manifest import ClipRecord, write_manifest
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.sync.features import log_mel, motion
from avgen.preparation.store import Store, write_json
from avgen.training.sync_scorer import AS_IT_IS, SyncClips
from puppets.drawing import Pose, draw
from puppets.mouth import Mouth
from puppets.person import draw_puppet

RECIPE = Path(__file__).resolve().parents[2] / "recipes/sync/prepare.py"
RATE = 24_000


@pytest.fixture
def prepared(tmp_path):
    """A prepared folder: three puppets' clips of 163, 152 and 60 frames, and a voice alone."""
    store, records = Store(tmp_path / "prepared"), []
    store.make()
    write_json(store.folder / "rates.json", {"fps": "25", "sample_rate": RATE})
    for name, split, length in (("a", "train", 163), ("b", "test", 152), ("c", "train", 60)):
        rng = np.random.default_rng(length)
        puppet, sound = draw_puppet(0), rng.normal(0, 0.1, (1, length * 960)).astype(np.float32)
        looks = [draw(puppet, Mouth(opening=i / 7), Pose(), (144, 180)) for i in range(8)]
        frames = np.stack([looks[i] for i in rng.integers(0, 8, length)])
        store.write_clip(name, frames, sound)
        records.append(ClipRecord(name, f"frames/{name}.npy", "own", name, split, "a puppet"))
    records.append(ClipRecord("v", "waveforms/v.npy", "own", "v", "train", "a voice"))
    write_manifest(records, store.folder / "manifest.jsonl")
    return store


def test_whole_windows_of_prepared_clips_one_after_another(prepared, tmp_path):
    recipe, out = runpy.run_path(str(RECIPE)), tmp_path / "sync"
    records = recipe["records_of"](prepared.folder)
    assert [record.id for record in records] == ["a", "c"]
    said = [recipe["write"](prepared.folder, record, out) for record in records]
    assert said == ["", "c: 60 frames; a window is 75"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.npz")) == [
        "train/a-1.npz", "train/a.npz",
    ]  # fmt: skip
    frames, sound = np.load(prepared.frames("a")), prepared.read_waveform("a")
    moved = motion(frames, the_face(CascadeTracker()(frames)).boxes)
    second, first = SyncClips(out, "train", None).clips
    for window, start in ((first, 0), (second, 75)):
        np.testing.assert_allclose(window["motion"], moved[start : start + 75], atol=2e-3)
        mels = log_mel(sound[:, start * 960 :], RATE, 75)
        np.testing.assert_allclose(window["mels"][AS_IT_IS], mels, atol=4e-3)
