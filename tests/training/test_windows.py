"""Numbered draws: every clip once an epoch, whoever draws, wherever one resumes."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from avgen.clips.timed_words import Word
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.preparation.store import Prepared
from avgen.training.draws import clip_of_draw, hash_seed
from avgen.training.windows import Variation, WindowData, Windows, flow_from, zoomed

NUM_CLIPS, NUM_FRAMES, RATE = 7, 12, 1600


@pytest.fixture
def prepared(tmp_path):
    """Seven clips whose every frame and sample says which clip it is of and where it lies."""
    for name in ("frames", "waveforms"):
        (tmp_path / name).mkdir()
    records = []
    for clip in range(NUM_CLIPS):
        frames = np.zeros((NUM_FRAMES, 4, 6, 3), np.uint8)
        frames[..., 0] = clip
        frames[..., 1] = np.arange(NUM_FRAMES)[:, None, None]
        frames[..., 2] = np.arange(6)
        np.save(tmp_path / "frames" / f"c{clip}.npy", frames)
        np.save(
            tmp_path / "waveforms" / f"c{clip}.npy",
            (1000 * clip + np.arange(800, dtype=np.int16))[None],
        )
        words = (Word("red", 0.1, 0.3),)
        split = "validation" if clip == NUM_CLIPS - 1 else "train"
        records.append(
            ClipRecord(
                f"c{clip}", f"c{clip}.mp4", "fake", "s0", split, "a man", words, None, "none"
            )
        )
    write_manifest(records, tmp_path / "manifest.jsonl")
    (tmp_path / "rates.json").write_text(json.dumps({"fps": "30000/1001", "sample_rate": RATE}))
    return tmp_path


def test_a_clip_is_read_as_it_was_prepared(prepared):
    folder = Prepared(prepared, "train")
    clip = folder.clip(folder.records()[2])
    assert clip.fps == Fraction(30000, 1001)
    assert clip.sample_rate == RATE
    assert clip.frames[5, 1, 3].tolist() == [2, 5, 3]
    np.testing.assert_array_equal(clip.waveform[0, :3] * 32767, [2000, 2001, 2002])
    np.save(prepared / "waveforms" / "c0.npy", np.zeros((0, 0), np.int16))
    assert folder.clip(folder.records()[0]).waveform is None


@pytest.mark.parametrize("num_clips", [1, 5, 12])
def test_every_clip_once_an_epoch_in_another_order(num_clips):
    epochs = [
        [clip_of_draw(e * num_clips + i, num_clips, 3) for i in range(num_clips)] for e in range(4)
    ]
    assert all(sorted(epoch) == list(range(num_clips)) for epoch in epochs)
    if num_clips > 1:
        assert len({tuple(epoch) for epoch in epochs}) > 1
        other = [clip_of_draw(i, num_clips, 4) for i in range(num_clips)]
        assert sorted(other) == list(range(num_clips))


def test_a_loader_resumes_after_the_batch_it_gave(prepared):
    def loader():
        return WindowData(prepared, "video", length=3, batch_size=2).train_dataloader()

    whole = loader()
    expected = [batch["video"] for _ in range(2) for batch in whole]
    first = loader()
    walk = iter(first)
    next(walk)
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    rest = [batch["video"] for _ in range(2) for batch in second]
    assert len(expected) == 6
    assert len(rest) == 5
    assert all(torch.equal(a, b) for a, b in zip(expected[1:], rest, strict=True))


def test_no_clip_is_left_out_where_batches_do_not_fit(prepared):
    """Six clips in batches of four: the two that an epoch has no batch for begin the next one."""
    loader = WindowData(prepared, "video", length=3, batch_size=4).train_dataloader()
    epochs = [[batch["video"] for batch in loader] for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [1, 1, 1]
    drawn = [int(clip[0, 0, 0, 0]) for epoch in epochs for batch in epoch for clip in batch]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == list(range(6))


def test_a_window_is_decided_by_its_draw(prepared):
    windows = Windows(Prepared(prepared, "train"), "video", 5)
    assert len(windows) == NUM_CLIPS - 1
    starts = set()
    for draw in range(40):
        video = windows[draw]["video"]
        assert video.shape == (5, 4, 6, 3)
        assert torch.equal(video, windows[draw]["video"])
        assert set(video[..., 0].flatten().tolist()) == {clip_of_draw(draw, NUM_CLIPS - 1, 0)}
        places = video[:, 0, 0, 1].tolist()
        assert places == list(range(places[0], places[0] + 5))
        starts.add(places[0])
    assert min(starts) == 0
    assert max(starts) == NUM_FRAMES - 5


def test_a_short_clip_holds_its_last_frame(prepared):
    video = Windows(Prepared(prepared, "train"), "video", 15)[0]["video"]
    assert video[:, 0, 0, 1].tolist() == [*range(NUM_FRAMES), 11, 11, 11]
    sound = Windows(Prepared(prepared, "train"), "waveform", 1000)[0]["waveform"]
    assert sound.shape == (1, 1000)
    assert not bool(sound[:, 800:].any())


def test_half_the_pictures_are_mirrored(prepared):
    windows = Windows(Prepared(prepared, "train"), "video", None, Variation(flip=True))
    mirrored = 0
    for draw in range(60):
        columns = windows[draw]["video"][0, 0, :, 2].tolist()
        assert columns in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])
        mirrored += columns[0] == 5
    assert 15 < mirrored < 45


def test_a_window_comes_with_the_first_frame_of_its_clip(prepared):
    """Mirrored with it, and without its flash."""
    windows = Windows(Prepared(prepared, "train"), "video", 3, Variation(flip=True, flash=0.5))
    for draw in range(40):
        anchor = windows[draw]["anchor"]
        assert anchor.shape == (4, 6, 3)
        assert set(anchor[..., 0].flatten().tolist()) == {clip_of_draw(draw, NUM_CLIPS - 1, 0)}
        assert not bool(anchor[..., 1].any())
        columns = windows[draw]["video"][:, 0, :, 2]
        same = (columns == anchor[0, :, 2]).all(1)
        assert bool(same.any()) or bool((columns == columns[:, :1]).all(1).any())


def test_an_anchor_may_be_any_frame_of_the_clip(prepared):
    """With its own expressions, whatever the window is."""
    records = []
    for record in read_manifest(prepared / "manifest.jsonl"):
        np.save(prepared / f"{record.id}.npy", np.arange(NUM_FRAMES)[:, None] + 30.0)
        records.append(replace(record, tracks={"expressions": f"{record.id}.npy"}))
    write_manifest(records, prepared / "manifest.jsonl")
    windows = Windows(Prepared(prepared, "train"), "video", 3, Variation(anywhere=True))
    places = []
    for draw in range(80):
        found = windows[draw]
        assert set(found["anchor"][..., 0].flatten().tolist()) == {clip_of_draw(draw, 6, 0)}
        (place,) = set(found["anchor"][..., 1].flatten().tolist())
        assert found["anchor_expressions"].tolist() == [30 + place]
        places.append(place)
    assert set(places) == set(range(NUM_FRAMES))


def test_a_window_is_seen_from_nearer_and_beside():
    """A corner 20 columns right of the middle, in its row, from 4 left and 4 down of it."""
    frames = np.zeros((2, 41, 81, 3), np.uint8)
    frames[1, 20:, 60:] = 200
    seen = zoomed(frames, np.array([0.2, -0.1, 0.2]))
    assert seen.shape == frames.shape and not seen[0].any()
    columns, rows = (np.flatnonzero(line > 100) for line in (seen[1, -1, :, 0], seen[1, :, -1, 0]))
    assert columns[0] == pytest.approx(40 + 1.2 * (20 + 4.05), abs=0.6)
    assert rows[0] == pytest.approx(20 - 1.2 * 4.1, abs=0.6)
    assert np.array_equal(zoomed(frames, np.zeros(3)), frames)


def test_close_ups_are_of_the_mouth_and_of_whole_batches(prepared):
    """Half of rows and columns, from where the mouth is on; the flow is of the same pixels."""
    frames = np.zeros((NUM_FRAMES, 32, 64, 3), np.uint8)
    frames[..., 1], frames[..., 2] = np.arange(32)[:, None], np.arange(64)
    for clip in range(NUM_CLIPS):
        np.save(prepared / "frames" / f"c{clip}.npy", frames)
    variation = Variation(close=0.4, flow=True)
    loader = WindowData(prepared, "video", 5, 2, variation, seed=3).train_dataloader()
    batches = [batch for _ in range(30) for batch in loader]
    close = [batch for batch in batches if batch["video"].shape[2:4] == (16, 32)]
    assert 0.25 < len(close) / len(batches) < 0.55
    corners = set()
    for batch in close:
        assert batch["anchor"].shape == (2, 16, 32, 3) and batch["flow"].shape == (2, 5, 2, 16, 32)
        top, left = batch["anchor"][0, 0, 0, 1:].tolist()
        assert abs(top - (22 - 8)) <= 2 and abs(left - (32 - 16)) <= 4
        assert batch["anchor"][0, -1, -1, 1:].tolist() == [top + 15, left + 31]
        assert torch.equal(batch["video"][0, 2], batch["anchor"][0])
        corners.add((top, left))
    assert len(corners) > 4
    rest = {batch["video"].shape[2:4] for batch in batches} - {(16, 32)}
    assert rest == {(32, 64)}


def test_a_window_comes_with_the_expressions_of_its_frames(prepared):
    """Where all faces' are known and none is mirrored; frames left out have theirs left out."""
    records = []
    for record in read_manifest(prepared / "manifest.jsonl"):
        track = np.stack([np.arange(NUM_FRAMES) + 30, np.full(NUM_FRAMES, int(record.id[1:]))], 1)
        np.save(prepared / f"{record.id}.npy", track.astype(np.float16))
        records.append(replace(record, tracks={"expressions": f"{record.id}.npy"}))
    write_manifest(records, prepared / "manifest.jsonl")
    folder = Prepared(prepared, "train")
    windows = Windows(folder, "video", 4, Variation(fast=0.5))
    for draw in range(20):
        found = windows[draw]
        places = found["video"][:, 0, 0, 1].tolist()
        assert found["expressions"][:, 0].tolist() == [30 + place for place in places]
        clip = clip_of_draw(draw, NUM_CLIPS - 1, 0)
        assert set(found["expressions"][:, 1].tolist()) == {clip}
        assert found["anchor_expressions"].tolist() == [30, clip]
    assert "expressions" not in Windows(folder, "video", 4, Variation(flip=True))[0]
    write_manifest([replace(records[0], tracks={}), *records[1:]], prepared / "manifest.jsonl")
    assert "expressions" not in Windows(Prepared(prepared, "train"), "video", 4)[0]


def test_flow_says_where_in_the_first_frame_a_pixel_is():
    """A picture that moves 2 right and 1 up: what is shown was 2 to the left and 1 below."""
    noise = np.random.default_rng(4).normal(size=(72, 72, 3))
    smooth = np.stack([np.convolve(line, np.ones(9) / 9, "same") for line in noise.reshape(72, -1)])
    picture = np.uint8(128 + 400 * smooth.reshape(72, 72, 3).mean(2, keepdims=True).repeat(3, 2))
    frames = np.stack([picture, np.roll(picture, (-1, 2), (0, 1))])
    flow = flow_from(picture, frames)
    assert flow.shape == (2, 2, 72, 72) and flow.dtype == np.float32
    assert np.abs(flow[0]).max() < 0.1
    inside = flow[1][:, 20:-20, 20:-20]
    np.testing.assert_allclose(np.median(inside, (1, 2)), [-2, 1], atol=0.2)


def test_fast_windows_leave_out_frames(prepared):
    windows = Windows(Prepared(prepared, "train"), "video", 4, Variation(fast=0.5))
    steps = [set(windows[draw]["video"][:, 0, 0, 1].diff().tolist()) for draw in range(80)]
    assert {step for found in steps for step in found} == {1, 2, 3}
    assert all(len(found) == 1 for found in steps)
    assert np.mean([found == {1} for found in steps]) == pytest.approx(0.5, abs=0.2)


def test_a_flash_is_a_few_frames(prepared):
    windows = Windows(Prepared(prepared, "train"), "video", 6, Variation(flash=0.5))
    flashes = flat = 0
    lengths = set()
    for draw in range(80):
        video = windows[draw]["video"]
        of_one_colour = (video == video[:, :1, :1]).flatten(1).all(1)
        flashes += bool(of_one_colour.any())
        flat += bool(of_one_colour.all())
        changes = (video.diff(dim=0) != 0).flatten(1).any(1)
        if of_one_colour.all():
            assert 1 <= int(changes.sum()) <= 2  # into the flash and out of it
        elif of_one_colour.any():
            assert int(of_one_colour.sum()) <= 5
            lengths.add(int(of_one_colour.sum()))
    assert 25 < flashes < 55
    assert len(lengths) >= 3
    assert 8 < flat < 35


def test_sound_is_its_samples_over_full_scale(prepared):
    window = Windows(Prepared(prepared, "validation"), "waveform", 100)[3]["waveform"]
    assert window.dtype == torch.float32
    counts = (window * 32767).round().int()[0]
    assert torch.equal(counts, counts[0] + torch.arange(100, dtype=torch.int32))
    assert int(counts[0]) // 1000 == NUM_CLIPS - 1


def test_data_module_gives_batches_of_its_splits(prepared):
    data = WindowData(prepared, "video", length=4, batch_size=3)
    batches = [batch["video"] for batch in data.train_dataloader()]
    assert [tuple(batch.shape) for batch in batches] == [(3, 4, 4, 6, 3)] * 2
    assert sorted(int(clip[0, 0, 0, 0]) for batch in batches for clip in batch) == list(
        range(NUM_CLIPS - 1)
    )
    (validation,) = list(data.val_dataloader())
    assert validation["video"].shape == (1, NUM_FRAMES, 4, 6, 3)
    assert int(validation["video"][0, 0, 0, 0, 0]) == NUM_CLIPS - 1


def test_folders_of_two_sizes_take_turns(prepared, tmp_path):
    """A batch is of one size; every clip of either comes before any comes again."""
    wide = tmp_path / "wide"
    wide.mkdir()
    for name in ("manifest.jsonl", "rates.json", "waveforms"):
        (wide / name).symlink_to(prepared / name)
    (wide / "frames").mkdir()
    for path in (prepared / "frames").glob("*.npy"):
        np.save(wide / "frames" / path.name, np.repeat(np.load(path), 2, axis=2))
    data = WindowData([prepared, wide], "video", length=4, batch_size=3)
    batches = [batch["video"] for batch in data.train_dataloader()]
    assert [tuple(batch.shape[2:4]) for batch in batches] == [(4, 6), (4, 12)] * 2
    for part in (batches[::2], batches[1::2]):
        seen = sorted(int(clip[0, 0, 0, 0]) for batch in part for clip in batch)
        assert seen == list(range(NUM_CLIPS - 1))
    widths = [clip["video"].shape[3] for clip in data.val_dataloader()]
    assert widths == [6, 12]


def test_folders_of_two_sizes_validate_every_clip_once(prepared, tmp_path):
    """One folder has three validation clips, the other one."""
    many = tmp_path / "many"
    many.mkdir()
    for name in ("frames", "waveforms", "rates.json"):
        (many / name).symlink_to(prepared / name)
    records = read_manifest(prepared / "manifest.jsonl")
    write_manifest([replace(r, split="validation") for r in records[:3]], many / "manifest.jsonl")
    data = WindowData([prepared, many], "video", length=4, batch_size=3)
    seen = [int(clip["video"][0, 0, 0, 0, 0]) for clip in data.val_dataloader()]
    assert sorted(seen) == [0, 1, 2, NUM_CLIPS - 1]


def test_records_are_those_of_a_split(prepared):
    assert [record.id for record in Prepared(prepared, "validation").records()] == ["c6"]


def test_errors(prepared):
    with pytest.raises(ValueError, match=r"manifest\.jsonl: no clip is of the split 'test'"):
        Prepared(prepared, "test").records()
    with pytest.raises(ValueError, match="batches of 7 clips over all processes; there are 6"):
        WindowData(prepared, "video", 4, batch_size=7).train_dataloader()


def test_seeds_of_other_numbers_differ():
    seeds = {hash_seed(*numbers) for numbers in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 1)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
