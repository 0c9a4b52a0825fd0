"""Stretches of clips: which latents and words they are, and how often they are drawn."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avgen.codecs.video import ConvVideoCodec, ConvVideoCodecConfig
from avgen.training.data_latents import Collate, LatentData, Stretches
from avgen.training.prepared import (
    ClipShape,
    encode_stills,
    read_latent_config,
    read_shape,
    save_latents,
)


def test_a_stretch_starts_with_a_still_and_has_its_own_sound_and_time(prepared_latents):
    """Of 9 frames (3 latent frames, 27 audio latents) 5 are drawn, from frame 0 or 4 on."""
    data = LatentData(prepared_latents, 9, 2, stretches=Stretches(1.0, 5))
    collate = Collate(read_latent_config(prepared_latents), data.stretches)
    clips, starts = data.latents("train"), set()
    for draw in range(40):
        batch = collate([clips[draw]])
        record, start = clips[draw]["record"], round(batch["starts_s"][0] * 25)
        assert batch["records"] == [record]
        whole = load_file(prepared_latents / "latents" / f"{record.id}.safetensors")
        first, heard = start // 4, start * 3
        assert torch.equal(batch["video"][0, :, 0], whole["still"][:, first])
        assert torch.equal(batch["video"][0, :, 1:], whole["video"][:, first + 1 : first + 2])
        assert torch.equal(batch["audio"][0], whole["audio"][:, heard : heard + 15])
        starts.add(start)
    assert starts == {0, 4}


def test_stretches_are_as_frequent_as_asked_and_the_same_again(prepared_latents):
    data = LatentData(prepared_latents, 9, 2, stretches=Stretches(0.25, 5))
    collate = Collate(read_latent_config(prepared_latents), data.stretches)
    clips = data.latents("train")
    lengths = [collate([clips[draw]])["video"].shape[2] for draw in range(400)]
    assert np.mean([length == 2 for length in lengths]) == pytest.approx(0.25, abs=0.06)
    assert lengths == [collate([clips[draw]])["video"].shape[2] for draw in range(400)]
    assert {len(batch["video"][0, 0]) for batch in data.val_dataloader()} == {3}


@pytest.mark.parametrize("num_frames", [0, 10])
def test_a_stretch_is_part_of_a_clip(prepared_latents, num_frames):
    with pytest.raises(ValueError, match=f"stretches of {num_frames} frames; clips have 9"):
        LatentData(prepared_latents, 9, 2, stretches=Stretches(0.5, num_frames))


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
