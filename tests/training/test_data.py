"""Stretches of clips: which latents and words they are, and how often they are drawn."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
from avgen.preparation.encode import encode_stills
from avgen.preparation.latent_store import ClipShape, read_latent_config, read_shape, save_latents
from avgen.preparation.merge import merge
from avgen.training.batches import Buckets
from avgen.training.clip_latents import ClipDraw, Stretches
from avgen.training.data import ClipData


def stretches_of(folder, share, num_frames, count):
    """What is drawn of clips of 9 frames (3 latent frames, 27 audio latents) in `count` steps."""
    data = ClipData(folder, Buckets(2, [0.36]), Stretches(share, num_frames))
    loader, batches = data.train_dataloader(), []
    while len(batches) < count:
        batches += loader
    return batches


def test_a_stretch_starts_with_a_still_and_has_its_own_sound_and_time(prepared_latents):
    """5 frames are drawn, from frame 0 or 4 on."""
    starts = set()
    for batch in stretches_of(prepared_latents, 1.0, 5, 20):
        for clip in batch["clips"]:
            start = round(clip.start_s * 25)
            whole = load_file(prepared_latents / "latents" / f"{clip.record.id}.safetensors")
            first, heard = start // 4, start * 3
            still = whole["still" if start else "video"][:, first]
            assert torch.equal(clip.video[:, 0], still)
            assert torch.equal(clip.video[:, 1:], whole["video"][:, first + 1 : first + 2])
            assert torch.equal(clip.audio, whole["audio"][:, heard : heard + 15])
            starts.add(start)
    assert starts == {0, 4}


def test_stretches_are_as_frequent_as_asked_and_the_same_again(prepared_latents):
    def lengths():
        batches = stretches_of(prepared_latents, 0.25, 5, 400)
        return [batch["clips"][0].video.shape[1] for batch in batches]

    assert np.mean([length == 2 for length in lengths()]) == pytest.approx(0.25, abs=0.06)
    assert lengths() == lengths()
    data = ClipData(prepared_latents, Buckets(2, [0.36]), Stretches(1.0, 5))
    assert {clip.video.shape[1] for b in data.val_dataloader() for clip in b["clips"]} == {3}


def test_a_stretch_is_from_anywhere_in_a_clip_that_is_cut(prepared_latents):
    data = ClipData(prepared_latents, Buckets(8, [0.2]), Stretches(1.0, 5))
    loader = data.train_dataloader()
    starts = {clip.start_s for _ in range(5) for batch in loader for clip in batch["clips"]}
    assert starts == {0.0, 0.16}


@pytest.mark.parametrize(
    ("num_frames", "match"),
    [(0, "stretches of 0 frames"), (10, "stretches of 10 frames; clips have 9 at most")],
)
def test_a_stretch_is_part_of_a_clip(prepared_latents, num_frames, match):
    with pytest.raises(ValueError, match=match):
        stretches_of(prepared_latents, 0.5, num_frames, 1)


def test_no_latents_are_opened_before_they_are_drawn(prepared_latents, tmp_path):
    """With shapes.json, which `encode` and `merge` write, only what is drawn is read."""
    merge([prepared_latents], tmp_path / "merged")
    latents = tmp_path / "merged" / "latents"
    for path in latents.glob("*.safetensors"):
        path.unlink()
    clips = ClipData(tmp_path / "merged", Buckets(2, [0.36])).clips("train")
    assert len(clips.shapes) == 8
    assert set(clips.shapes) == {ClipShape(9, 32, 32, Fraction(25), True)}
    with pytest.raises(ValueError, match=r"c\d\.safetensors: is not a clip's latents"):
        clips[[ClipDraw(0, 0)]]
    shape = ClipShape(9, 32, 32, Fraction(25), has_sound=True)
    short = {"video": torch.zeros(4, 2, 2, 2), "still": torch.zeros(4, 2, 2, 2)}
    save_latents(latents / "c0.safetensors", short | {"audio": torch.zeros(4, 27)}, shape)
    with pytest.raises(ValueError, match=r"c0\.safetensors: video latents \(4, 2, 2, 2\)"):
        clips[[ClipDraw(0, 0)]]


def test_single_frames_may_be_first_ones(prepared_latents):
    """From anywhere in a clip, or its first alone."""
    starts = []
    for first in (False, True):
        stretches = Stretches(0.0, 5, first_stills=first)
        data = ClipData(prepared_latents, Buckets(4, [0.36]), stretches, still_share=1.0)
        loader = data.train_dataloader()
        clips = [clip for _ in range(6) for batch in loader for clip in batch["clips"]]
        assert {clip.video.shape[1] for clip in clips} == {1}
        starts.append({round(clip.start_s * 25) for clip in clips})
    assert starts == [{0, 4, 8}, {0}]


@pytest.mark.parametrize(("num_frames", "ends"), [(1, [0]), (5, [0, 4]), (7, [0, 4, 6])])
def test_stills_are_the_frames_that_latents_end_with(num_frames, ends):
    torch.manual_seed(0)
    codec = ConvVideoCodec(ConvVideoCodecConfig(4, (16, 16, 16), (16, 16, 16)))
    video = torch.rand(1, 3, num_frames, 32, 32) * 2 - 1
    with torch.inference_mode():
        stills = encode_stills(video, codec)
        assert stills.shape[1] == codec.encode(video).shape[2]
        for latent, frame in enumerate(ends):
            alone = codec.encode(video[:, :, frame : frame + 1])[0, :, 0]
            assert torch.allclose(stills[:, latent], alone, atol=1e-5)


def test_the_same_latents_are_the_same_bytes(prepared_latents, tmp_path):
    """Safetensors writes metadata of several keys in an order that changes."""
    shape = ClipShape(9, 8, 6, Fraction(24000, 1001), has_sound=False)
    latents = {"video": torch.zeros(2, 3, 4, 3), "still": torch.ones(2, 3, 4, 3)}
    for number in range(20):
        save_latents(tmp_path / f"{number}.safetensors", latents, shape)
    assert len({path.read_bytes() for path in tmp_path.glob("[0-9]*.safetensors")}) == 1
    config = read_latent_config(prepared_latents)
    assert read_shape(tmp_path / "0.safetensors", config) == shape
    facts = {"num_frames": "9", "height": "8", "width": "6", "fps": "24000/1001"}
    save_file(latents, tmp_path / "old.safetensors", metadata=facts)  # as it was until 2026-11-23
    assert read_shape(tmp_path / "old.safetensors", config) == shape
