"""Latents in tars: the bytes of one task by two, statistics, an index that is read at once."""

import json
import tarfile
import time
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avgen.cli import main
from avgen.clips import Clip, write_clip
from avgen.codecs.base import load_module
from avgen.corpora.manifest import read_manifest
from avgen.preparation.encode import encode
from avgen.preparation.latent_store import (
    ClipShape,
    load_statistics,
    read_latent_config,
    read_shapes,
)
from avgen.preparation.run import Request, prepare
from avgen.preparation.settings import Settings
from avgen.preparation.shards import COLUMNS, Packer, Shards, pack_all
from avgen.preparation.store import Prepared
from avgen.training.batches import Packs
from avgen.training.card import data
from avgen.training.clip_latents import ClipDraw, Clips
from avgen.training.draws import OPEN_TARS, bounded_permutation

webdataset = pytest.importorskip("webdataset", reason="pip install 'avgen[shards]'")
SIZE, COUNT = (32, 48), 5


@pytest.fixture
def corpus(record, tmp_path):
    """Five clips, one of them without sound, one for validation."""
    root, draw = tmp_path / "films", np.random.default_rng(3)
    root.mkdir()
    for index in range(COUNT):
        frames = draw.integers(0, 256, (9 + index, *SIZE, 3), np.uint8)
        sound = 0.4 * draw.standard_normal((1, (9 + index) * 960)).clip(-1, 1).astype(np.float32)
        clip = (frames, Fraction(25), sound, 24000) if index != 3 else (frames, Fraction(25))
        write_clip(Clip(*clip), root / f"c{index}.mkv")
    splits = ["train"] * (COUNT - 1) + ["validation"]
    return root, [record(f"c{i}.mkv", split=split) for i, split in enumerate(splits)]


def prepared(corpus, out):
    root, records = corpus
    settings = Settings(SIZE, stages="none", keep_silent=True)
    assert prepare(Request("own", root, out, settings), records).clips == COUNT
    return out


def encode_command(folder, url, model, *more):
    shards = ["--shards", str(url), "--clips-per-shard", "2"]
    return main(["encode", str(folder), "--codecs", str(model), *shards, *more])


def test_two_tasks_make_the_tars_of_one(corpus, tmp_path, tiny_model, capsys):
    one, two = (prepared(corpus, tmp_path / name) for name in ("one", "two"))
    files = prepared(corpus, tmp_path / "files")
    encode(files, *(load_module(tiny_model / name) for name in ("video_codec", "audio_codec")))
    assert encode_command(one, tmp_path / "tars1", tiny_model, "--no-frames") == 0
    for shard in (1, 0):
        task = ["--num-shards", "2", "--shard", str(shard)]
        assert encode_command(two, tmp_path / "tars2", tiny_model, *task) == 0
    assert "this share is done" in capsys.readouterr().out
    tars = sorted((tmp_path / "tars1").iterdir())
    assert [path.name for path in tars] == [
        f"{number:06d}.{kind}" for number in range(3) for kind in ("json", "tar")
    ]
    for path in tars:
        assert path.read_bytes() == (tmp_path / "tars2" / path.name).read_bytes()
    assert not list((one / "latents").glob("*.safetensors"))
    assert not list((one / "frames").iterdir())
    for folder in (one, two):
        for own, other in zip(load_statistics(folder), load_statistics(files), strict=True):
            assert own.mean == pytest.approx(other.mean, rel=1e-6)
            assert own.std == pytest.approx(other.std, rel=1e-6)

    shards, records = Shards(one, "train"), read_manifest(files / "manifest.jsonl")
    assert shards.shapes == read_shapes(files, records, read_latent_config(files))[:-1]
    for number, own in enumerate(records[:-1]):
        record, slices = shards.read(number)
        assert record == own
        expected = load_file(files / "latents" / f"{own.id}.safetensors")
        assert set(slices.keys()) == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(slices.get_slice(name), tensor.bfloat16().float())


def test_a_maintained_library_reads_the_tars(corpus, tmp_path, tiny_model):
    folder = prepared(corpus, tmp_path / "out")
    assert encode_command(folder, tmp_path / "tars", tiny_model) == 0
    read = webdataset.WebDataset(str(tmp_path / "tars/{000000..000002}.tar"), shardshuffle=False)
    clips = list(read)
    assert [clip["__key__"] for clip in clips] == [f"c{i}" for i in range(COUNT)]
    assert json.loads(clips[4]["json"])["split"] == "validation"
    with tarfile.open(tmp_path / "tars/000000.tar") as tar:
        assert tar.getnames() == ["c0.json", "c0.safetensors", "c1.json", "c1.safetensors"]


def test_training_draws_from_tars_what_it_draws_from_files(corpus, tmp_path, tiny_model):
    folder, files = (prepared(corpus, tmp_path / name) for name in ("out", "files"))
    codecs = [load_module(tiny_model / name) for name in ("video_codec", "audio_codec")]
    encode(files, *codecs)
    records, url = read_manifest(folder / "manifest.jsonl"), "memory://bucket/tars"

    def cache(clips):
        encode(folder, *codecs, records=clips)

    assert pack_all(folder, url, records, clips_a_tar=2, encode=cache)
    own, other = (Clips(Prepared(f, "train"), Packs(200, 10.0)) for f in (folder, files))
    assert own.shapes == other.shapes and own.tars == [0, 0, 1, 1]
    for clip in range(COUNT - 1):
        a, b = (clips.clip(ClipDraw(clip, 7)) for clips in (own, other))
        assert (a.record, a.shape) == (b.record, b.shape)
        assert torch.equal(a.video, b.video.bfloat16().float())
        assert (a.audio is None) == (clip == 3)


def test_preparation_packs_as_it_goes(corpus, tmp_path, tiny_model):
    """Frames and latents of their own are gone when it ends; a second run changes nothing."""
    root, records = corpus
    out, url = tmp_path / "out", str(tmp_path / "tars")
    asked = ["prepare", "folder", str(root), str(out), "--stages", "none", "--size", "32x48"]
    asked += ["--keep-silent", "--codecs", str(tiny_model), "--shards", url, "--no-frames"]
    asked += ["--engine", "process", "--split-by", "clip"]
    assert main(asked) == 0
    index = json.loads((out / "latents/index.json").read_text())
    assert len(index["id"]) == COUNT and index["tars"] == ["0000-000000"]
    assert not list((out / "latents").glob("*.safetensors")) and not list(
        (out / "frames").iterdir()
    )
    before = (tmp_path / "tars/0000-000000.tar").read_bytes()
    assert main(asked) == 0
    assert [path.name for path in (tmp_path / "tars").glob("*.tar")] == ["0000-000000.tar"]
    assert (tmp_path / "tars/0000-000000.tar").read_bytes() == before
    assert len(Packer(out, url, 0).done) == len(records)
    assert f"({COUNT} clips)" in data(out)  # the card of a model needs no files of its own


def test_who_opts_out_later_is_in_no_tar(corpus, tmp_path, tiny_model):
    """Nor in the index or the statistics; the others' numbers stay as they were."""
    (root, _), url = corpus, tmp_path / "tars"
    for name in ("out", "without"):
        asked = ["prepare", "folder", str(root), str(tmp_path / name), "--stages", "none"]
        asked += ["--size", "32x48", "--keep-silent", "--codecs", str(tiny_model), "--no-frames"]
        asked += ["--engine", "process", "--split-by", "clip", "--shards"]
        assert main([*asked, str(url if name == "out" else tmp_path / "others")]) == 0
        if name == "out":
            before = shown(tmp_path / name)
            gone = min(before)
            (tmp_path / "no.txt").write_text(f"{gone}\n")
            out = ["--opt-out", str(tmp_path / "no.txt")]
            assert main([*asked, str(url), *out]) == 0
            after = shown(tmp_path / name)
            (root / f"{gone.split('-')[0]}.mkv").unlink()
    assert sorted(after) == sorted(set(before) - {gone}) == sorted(shown(tmp_path / "without"))
    for clip, tensors in after.items():
        for kind, tensor in tensors.items():
            assert torch.equal(tensor, before[clip][kind])
    assert [path.name for path in sorted(url.iterdir())] == ["0000-000001.json", "0000-000001.tar"]
    assert gone.encode() not in (url / "0000-000001.tar").read_bytes()
    for own, other in zip(
        *(load_statistics(tmp_path / n) for n in ("out", "without")), strict=True
    ):
        assert own.mean == pytest.approx(other.mean, rel=0.02, abs=0.02)
        assert own.std == pytest.approx(other.std, rel=0.02)


def shown(folder):
    """Clip -> its tensors, as training reads them."""
    found = {}
    for split in ("train", "validation", "test"):
        with suppress(ValueError):
            shards = Shards(folder, split)
            for number, clip in enumerate(shards.ids):
                _, slices = shards.read(number)
                found[clip] = {kind: slices.get_slice(kind) for kind in list(slices.keys())}
    return found


def test_a_hundred_thousand_clips_are_known_at_once(tmp_path):
    count = 100_000
    index = {"url": "tars", "tars": [f"{i:06d}" for i in range(100)], "shapes": [
        [125, 256, 256, "25", True, True], [250, 512, 512, "30000/1001", True, True]]}  # fmt: skip
    names, speakers = ([f"{a}{i // b}" for i in range(count)] for a, b in (("c", 1), ("v/", 200)))
    tars, offsets = [i // 1000 for i in range(count)], [i * 1000 for i in range(count)]
    places = tars, offsets, [1000] * count, [i % 2 for i in range(count)]
    values = names, ["train"] * count, speakers, *places
    (tmp_path / "latents").mkdir()
    text = json.dumps(index | dict(zip(COLUMNS, values, strict=True)))
    (tmp_path / "latents/index.json").write_text(text)
    started = time.process_time()
    shards = Shards(tmp_path, "train")
    assert time.process_time() - started < 2
    assert len(shards.shapes) == count and shards.shapes[1].fps == Fraction(30000, 1001)
    assert isinstance(shards.shapes[0], ClipShape)
    with pytest.raises(ValueError, match="no clip is of the split 'test'"):
        Shards(tmp_path, "test")


def test_an_order_takes_a_few_tars_at_a_time():
    tars = [i // 10 for i in range(1000)]
    order = bounded_permutation(tars, 5)
    assert sorted(order) == list(range(1000)) and order == bounded_permutation(tars, 5)
    assert order != bounded_permutation(tars, 6)
    for start in range(0, 1000, 10 * OPEN_TARS):
        assert len({tars[clip] for clip in order[start : start + 10 * OPEN_TARS]}) <= OPEN_TARS
    assert len({tars[clip] for clip in order[:40]}) > 5  # mixed
