"""Motion, loudness and their features against what is known; the shipped model on real clips."""

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avgen.clips import read_clip
from avgen.codecs.base import save_module
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import features as inputs
from avgen.evaluation.sync import lags
from avgen.evaluation.sync import score as sync
from avgen.evaluation.sync.network import SyncConfig, SyncNetwork, curves
from avgen.training.draws import clip_of_draw, hash_seed
from avgen.training.optimization import OptimizerConfig
from avgen.training.sync_scorer import (
    SyncData,
    SyncSystem,
    SyncVariation,
    sync_loss,
    varied_motion,
    varied_sound,
)

OTHERS = Path(os.environ.get("AVGEN_CLIPS", "../shared/clips")) / "grid/others"
needs_clips = pytest.mark.skipif(not OTHERS.is_dir(), reason=f"no clips at {OTHERS}")
TINY = SyncConfig(width=16, depth=1, dim=4, bank_frames=200)


def texture(height=200, width=200, seed=0):
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def as_frames(images):
    return np.stack(images)[..., None].repeat(3, -1)


def moving(num_frames=6, right=0, down=0):
    image = texture()
    return as_frames([np.roll(image, (down * t, right * t), (0, 1)) for t in range(num_frames)])


def test_flow_is_what_moved_in_sides_of_the_region():
    boxes = np.tile([50.0, 20.0, 100.0, 100.0], (6, 1))
    moved = inputs.motion(moving(right=2, down=-1), boxes)
    side = inputs.SIDE * 100
    assert moved.shape == (6, 3, 16, 16)
    assert not moved[0, :2].any()
    np.testing.assert_allclose(np.median(moved[1:, 0]), 2 / side, rtol=0.15)
    np.testing.assert_allclose(np.median(moved[1:, 1]), -1 / side, rtol=0.15)


def test_a_box_that_trembles_over_a_still_face_moves_nothing():
    boxes = np.tile([50.0, 20.0, 100.0, 100.0], (6, 1))
    boxes[:, :2] += np.random.default_rng(0).normal(size=(6, 2))
    assert not inputs.motion(moving(), boxes)[:, :2].any()


def test_the_region_is_the_same_at_every_size_of_the_picture():
    frame = texture()
    box = np.array([50.0, 20.0, 100.0, 100.0])
    large = cv2.resize(frame, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    difference = inputs.region(frame, box).astype(int) - inputs.region(large, 4 * box)
    assert np.abs(difference).mean() < 4


def test_loudness_is_blind_to_gain_and_knows_when():
    waveform = np.zeros((1, 16000), np.float32)
    waveform[0, 8000:8800] = np.random.default_rng(0).normal(size=800) * 0.1
    mels = inputs.log_mel(waveform, 16000, 25)
    assert mels.shape == (100, inputs.NUM_MELS)
    loud = mels.mean(1)
    assert set(np.flatnonzero(loud > loud.mean() + 1)) >= {50, 51, 52, 53, 54, 55}
    assert loud[:47].max() < loud[50:55].min() and loud[58:].max() < loud[50:55].min()
    np.testing.assert_allclose(inputs.log_mel(0.01 * waveform, 16000, 25), mels, atol=1e-3)
    stereo = np.concatenate([waveform, waveform])
    np.testing.assert_allclose(inputs.log_mel(stereo, 16000, 25), mels, atol=1e-3)


def test_another_sample_rate_is_the_same_sound():
    def chirp(rate):
        t = np.arange(2 * rate) / rate
        sweep = np.sin(2 * np.pi * (200 * t + 400 * t**2)) * (1 + np.sin(9 * t))
        return 0.3 * sweep[None].astype(np.float32)

    one, other = (inputs.log_mel(chirp(rate), rate, 50) for rate in (16000, 44100))
    assert np.corrcoef(one[4:-4].ravel(), other[4:-4].ravel())[0, 1] > 0.99


def test_pitch_moves_bands_up():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)[None].astype(np.float32)
    tone *= np.linspace(0.01, 1, 16000) > 0.5
    low, high = (
        np.abs(inputs.log_mel(tone, 16000, 25, pitch)).max(0).argmax() for pitch in (1.0, 1.5)
    )
    assert high > low + 2


def test_silence_after_the_sound_is_silence():
    waveform = np.random.default_rng(0).normal(size=(1, 8000)).astype(np.float32)
    mels = inputs.log_mel(waveform, 16000, 25)
    assert len(mels) == 100 and mels[:45].min() > mels[55:].max()


def test_rows_are_of_one_size_whatever_moves_how_much():
    motion = torch.randn(2, 30, 3, 16, 16)
    motion[:, :, :2] *= 0.01
    rows = inputs.picture_rows(motion)
    torch.testing.assert_close(rows, inputs.picture_rows(motion * 7))
    torch.testing.assert_close(rows[..., :512].square().mean((1, 2)), torch.ones(2))


def test_the_curve_trained_is_the_curve_measured():
    """At lag 0 to the digit; elsewhere training standardises once and weighs by the overlap."""
    picture, sound = torch.randn(2, 3, 75, 5)
    for one, other, curve in zip(picture, sound, curves(picture, sound, 15), strict=True):
        expected = lags.correlation_curve(one.numpy(), other.numpy())
        assert curve[15].item() == pytest.approx(expected[15], abs=1e-4)
        assert np.abs(curve.numpy() - expected).max() < 0.15


def test_loss_is_least_when_the_sound_is_its_own_and_in_time():
    features = torch.randn(4, 60, 8)
    sharpness = torch.tensor(20.0)
    right = sync_loss(features, features, 15, sharpness)
    late = sync_loss(features, features.roll(3, 1), 15, sharpness)
    other = sync_loss(features, features.roll(1, 0), 15, sharpness)
    # Of white features the neighbouring lags, a third of the target, are as wrong as any other.
    assert right == pytest.approx(20 / 3, abs=1) and late > right + 3 and other > right + 3


def test_variation_of_nothing_leaves_clips_alone():
    still = SyncVariation(0, 0, 0, 0, 0, 0, 0, 0)
    motion = torch.randn(3, 5, 3, 16, 16)
    varied = varied_motion(motion, still, torch.Generator().manual_seed(0))
    for one, other in zip(varied, motion, strict=True):
        mirrored = other.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        expected = min((other, mirrored), key=lambda o: float((one - o).abs().max()))
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)
    mels = torch.randn(3, 1, 20, 28).expand(3, 5, 20, 28)
    sound = varied_sound(mels, still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sound, mels[:, 0] - mels[:, 0].mean(1, keepdim=True))


def test_training_runs_where_the_batch_is_and_draws_the_same_there():
    """On a second device, "meta", which refuses to mix with the CPU; golden values of the draws."""
    torch.manual_seed(3)
    motion, mels = torch.randn(4, 50, 3, 16, 16), torch.randn(4, 5, 200, 28)
    picture, sound = torch.randn(2, 4, 60, 8)

    def varied(device):
        seed = torch.Generator().manual_seed(11)
        moved = varied_motion(motion.to(device), SyncVariation(), seed)
        seed = torch.Generator().manual_seed(11)
        heard = varied_sound(mels.to(device), SyncVariation(), seed)
        features = picture.to(device), sound.to(device)
        return moved, heard, sync_loss(*features, 15, torch.tensor(20.0, device=device))

    moved, heard, loss = varied("cpu")
    found = [
        *moved[[1, 3], [7, 20], [0, 2], [3, 9], [4, 9]],
        *heard[[1, 2], [50, 7], [3, 20]],
        loss,
    ]
    expected = [-0.1257, -0.1460, 1.0738, 0.0222, 4.1830]
    assert [float(x) for x in found] == pytest.approx(expected, abs=2e-4)
    shapes = [x.shape for x in varied("meta")]
    assert shapes == [moved.shape, heard.shape, loss.shape]
    system = SyncSystem(TINY, OptimizerConfig(1e-2, 2, 60), SyncVariation()).to("meta")
    system.log = lambda *args, **kwargs: None
    batch = {"motion": motion.to("meta"), "mels": mels.to("meta"), "seed": torch.tensor([5])}
    assert system.training_step(batch, 0).device.type == "meta"
    system.validation_step(batch, 0)


def test_batches_are_the_clips_of_their_draws(tmp_path):
    for split, count in (("train", 5), ("validation", 3)):
        (tmp_path / split).mkdir()
        for number in range(count):
            clip = {"motion": np.full((4, 3, 2, 2), number), "mels": np.zeros((5, 16, 28))}
            np.savez(
                tmp_path / split / f"{number}.npz",
                **{name: values.astype(np.float16) for name, values in clip.items()},
            )
    loader = SyncData(tmp_path, batch_size=2, seed=7).train_dataloader()
    batches = [*loader, *loader]  # two passes of two whole batches
    assert [batch["motion"].shape for batch in batches] == [(2, 4, 3, 2, 2)] * 4
    numbers = [int(clip.flatten()[0]) for batch in batches for clip in batch["motion"]]
    assert numbers == [clip_of_draw(draw, 5, 7) for draw in range(8)]
    seeds = [int(seed) for batch in batches for seed in batch["seed"]]
    assert seeds == [hash_seed(7, draw) for draw in range(8)]
    begun = iter(SyncData(tmp_path, batch_size=2, seed=7).train_dataloader())
    (whole,) = SyncData(tmp_path, batch_size=2).val_dataloader()
    assert whole["mels"].shape == (3, 5, 16, 28)
    assert torch.equal(next(begun)["motion"], batches[0]["motion"])
    with pytest.raises(ValueError, match="batches of 6 clips"):
        SyncData(tmp_path, batch_size=6).train_dataloader()


def test_training_learns_which_motion_makes_which_sound():
    """Synthetic clips whose loudness is their mouth's speed."""
    torch.manual_seed(0)
    system = SyncSystem(
        SyncConfig(width=16, depth=1, dim=4),
        OptimizerConfig(1e-2, 2, 60),
        SyncVariation(noise_db=0, noise=0, drift=0),
    )
    system.log = lambda *args, **kwargs: None
    optimizer = system.configure_optimizers()["optimizer"]
    losses = []
    for step in range(40):
        speed = torch.nn.functional.avg_pool1d(torch.randn(8, 1, 62), 3, 1)[:, 0].abs()
        motion = speed[:, :, None, None, None] * torch.ones(8, 60, 3, 16, 16)
        mels = speed.repeat_interleave(4, 1)[:, None, :, None].expand(8, 5, 240, 28)
        batch = {"motion": motion, "mels": mels, "seed": torch.tensor([step])}
        loss = system.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.7


def test_a_model_comes_back_from_its_folder_and_others_are_refused(tmp_path):
    network = SyncNetwork(TINY)
    network.bank.normal_()
    save_module(network, tmp_path / "model", torch.float32)
    model = sync.load(tmp_path / "model")
    bank = model.bank(75)
    assert len(bank) == sync.NUM_BANK and {len(b) for b in bank} == {75}
    assert len(model.bank(300)[3]) == 300
    with pytest.raises(ValueError, match=r"config\.json"):
        sync.load(tmp_path / "nothing")


def test_what_cannot_be_scored_says_why():
    model = sync.SyncModel(SyncNetwork(TINY))
    with pytest.raises(Unscored, match="silent"):
        model.sound_features(np.zeros((1, 48000), np.float32), 16000, 75)
    boxes = np.tile([50.0, 20.0, 100.0, 100.0], (30, 1))
    with pytest.raises(Unscored, match="does not move"):
        model.picture_features(moving(30), boxes)
    with pytest.raises(ValueError, match="NaN"):
        model.picture_features(moving(30), boxes * np.nan)
    with pytest.raises(ValueError, match="30 frames and 29 boxes"):
        model.picture_features(moving(30), boxes[1:])
    with pytest.raises(Unscored, match="20 frames are too few"):
        model.score(np.random.randn(20, 4), np.random.randn(20, 4))


@needs_clips
def test_the_shipped_model_finds_delays_of_people_it_never_saw():
    model = sync.load()
    for name in ("brbk7n", "swiz3n"):
        path = OTHERS / f"{name}.mpg"
        clip = read_clip(path, fps=Fraction(25), sample_rate=16000, num_channels=1)
        boxes = the_face(CascadeTracker()(clip.frames)).boxes
        picture = model.picture_features(clip.frames, boxes)
        scores = {}
        for delay in (-7, 0, 4):
            shifted = np.roll(clip.waveform, -delay * 640, 1)  # GRID begins and ends in silence
            scores[delay] = model.score(picture, model.sound_features(shifted, 16000, 75))
            assert abs(scores[delay].offset_frames - delay) <= 1, name
            assert scores[delay].offset_ms == pytest.approx(40 * scores[delay].offset_frames)
        assert scores[0].r0 > scores[4].r0 and scores[0].z > 2 and scores[0].reliable
        assert len(scores[0].curve) == 31
        assert scores[4].words.startswith("the sound leads the picture by ")
        assert scores[-7].words.startswith("the sound trails the picture by ")
