"""LSE: the released computation to 1e-4, its sign, and its bias by the clip's length."""

import os
import subprocess
import sys
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch.nn import functional as F

from avgen.evaluation.subject import Subject, Unscored
from avgen.evaluation.syncnet.crops import JOONSON, WAV2LIP
from avgen.evaluation.syncnet.lse import (
    MAX_SHIFT,
    Stretch,
    picture_features,
    score,
    score_valid,
    sound_features,
)
from avgen.evaluation.syncnet.mfcc import int16_samples, mfcc
from avgen.evaluation.syncnet.towers import SYNCNET, SyncNet, load_syncnet

FPS, RATE = Fraction(25), 16_000
NUM_FRAMES = 14  # of the clip that goes through the network


def clip(num_frames=NUM_FRAMES, height=224, width=224, seed=0):
    """A picture whose blobs move, and a sound whose loudness does: frames and waveform."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (num_frames, 7, 9, 3), dtype=np.uint8)
    frames = np.stack([cv2.resize(image, (width, height)) for image in coarse])
    loudness = np.repeat(generator.uniform(0.01, 0.5, num_frames), 640)
    waveform = generator.uniform(-1, 1, num_frames * 640) * loudness
    return frames, waveform.astype(np.float32)[None]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> Path:
    """Random weights under which embeddings of clips lie about 10 apart, as the released ones'."""
    torch.manual_seed(0)
    network = SyncNet().train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the running statistics become this batch's
    frames, waveform = clip(12)
    with torch.inference_mode():
        network.picture(torch.from_numpy(frames).permute(3, 0, 1, 2).float())
        cepstra = torch.from_numpy(mfcc(int16_samples(waveform[0])).T).float()
        network.sound(torch.stack([cepstra[:, 4 * t : 4 * t + 20] for t in range(6)]))
        for head in (network.netfclip, network.netfcaud):
            head[3].weight.mul_(0.6)
    path = tmp_path_factory.mktemp("weights") / "random.model"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(weights_file) -> SyncNet:
    return load_syncnet(weights_file)


# --- The network and the score against a second statement of the released computation ---


def restated_picture(state, x):
    """Embedding [1, 1024] of one window [1, 3, 5, 224, 224]."""
    layers = [  # number of the convolution, its stride and padding, and the pooling behind
        (0, (1, 2, 2), (0, 0, 0), 0),
        (4, (1, 2, 2), (0, 1, 1), 1),
        (8, 1, (0, 1, 1), None),
        (11, 1, (0, 1, 1), None),
        (14, 1, (0, 1, 1), 0),
        (18, 1, 0, None),
    ]
    for number, stride, padding, pool in layers:
        name = f"netcnnlip.{number}"
        x = F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)
        x = normalized(state, f"netcnnlip.{number + 1}", x).relu()
        if pool is not None:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, pool, pool))
    return restated_head(state, "netfclip", x)


def restated_sound(state, x):
    """Embedding [1, 1024] of one window [1, 1, 13, 20]."""
    pools = {4: (3, (1, 2)), 14: (3, (2, 2))}
    for number in (0, 4, 8, 11, 14, 18):
        name = f"netcnnaud.{number}"
        padding = 0 if number == 18 else 1
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)
        x = normalized(state, f"netcnnaud.{number + 1}", x).relu()
        if number in pools:
            x = F.max_pool2d(x, *pools[number])
    return restated_head(state, "netfcaud", x)


def restated_head(state, name, x):
    x = F.linear(x.flatten(1), state[f"{name}.0.weight"], state[f"{name}.0.bias"])
    x = normalized(state, f"{name}.1", x).relu()
    return F.linear(x, state[f"{name}.3.weight"], state[f"{name}.3.bias"])


def normalized(state, name, x):
    values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *values)


def restated_score(picture, sound):
    """LSE-C, LSE-D and offset of embeddings [W, D], window by window."""
    padded = torch.cat([torch.zeros(15, sound.shape[1]), sound, torch.zeros(15, sound.shape[1])])
    distances = [
        [float(F.pairwise_distance(picture[[t]], padded[[t + k]])) for t in range(len(picture))]
        for k in range(31)
    ]
    means = [sum(row) / len(row) for row in distances]
    return sorted(means)[15] - min(means), min(means), 15 - means.index(min(means))


def test_a_clip_scores_as_the_released_computation_restated(weights_file, network):
    frames, waveform = clip()
    picture = picture_features(frames, FPS, network, WAV2LIP)
    sound = sound_features(waveform, RATE, network, picture)
    found = score(picture, sound)

    state = torch.load(weights_file, weights_only=True)
    bgr = torch.from_numpy(frames[..., ::-1].astype(np.float32)).permute(3, 0, 1, 2)[None]
    cepstra = torch.from_numpy(mfcc(int16_samples(waveform[0])).T.astype(np.float32))[None, None]
    windows = range(NUM_FRAMES - 5)
    with torch.inference_mode():
        seen = torch.cat([restated_picture(state, bgr[:, :, t : t + 5]) for t in windows])
        heard = torch.cat(
            [restated_sound(state, cepstra[..., 4 * t : 4 * t + 20]) for t in windows]
        )
    assert np.abs(picture[0].embeddings - seen.numpy()).max() < 1e-4
    assert np.abs(sound[0] - heard.numpy()).max() < 1e-4
    confidence, distance, offset = restated_score(seen, heard)
    assert 1 < distance < 100  # the comparison is of numbers of the released weights' size
    assert found.confidence == pytest.approx(confidence, abs=1e-4)
    assert found.distance == pytest.approx(distance, abs=1e-4)
    assert found.offset == offset
    assert found.num_windows == NUM_FRAMES - 5


def embeddings(num_windows, seed=0, dim=32):
    return np.random.default_rng(seed).normal(0, 2, (num_windows, dim)).astype(np.float32)


def stretch(values):
    return Stretch(0, len(values) + 5, values)


@pytest.mark.parametrize("num_windows", [1, 7, 40])
def test_scores_of_embeddings_are_the_restated_ones(num_windows):
    picture, sound = embeddings(num_windows), embeddings(num_windows, seed=1)
    found = score([stretch(picture)], [sound])
    confidence, distance, offset = restated_score(torch.tensor(picture), torch.tensor(sound))
    assert found.confidence == pytest.approx(confidence, abs=1e-4)
    assert found.distance == pytest.approx(distance, abs=1e-4)
    assert found.offset == offset
    assert found.curve[MAX_SHIFT + offset] == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("lead", [5, -5, 0, 1, -14])
@pytest.mark.parametrize("scored", [score, score_valid])
def test_sound_before_the_picture_is_a_positive_offset(lead, scored):
    whole = embeddings(120)
    picture = whole[20:100]
    sound = whole[20 + lead : 100 + lead]  # what is seen at t was heard at t - lead
    found = scored([stretch(picture)], [sound])
    assert found.offset == lead
    assert found.offset_ms == 40 * lead
    assert found.confidence > 10
    assert found.curve.argmin() == MAX_SHIFT + lead


def test_offsets_are_said_in_words():
    whole = embeddings(120)

    def words(lead):
        return score([stretch(whole[20:100])], [whole[20 + lead : 100 + lead]]).words

    assert words(5) == "the sound leads the picture by 200 ms (5 frames)"
    assert words(-1) == "the sound trails the picture by 40 ms (1 frame)"
    assert words(0) == "sound and picture are in sync"
    assert words(-15).endswith("(15 frames, the end of the search)")


def test_several_tracks_are_averaged():
    whole = embeddings(120)
    pictures = [stretch(whole[20:100]), stretch(whole[20:60])]
    sounds = [whole[22:102], whole[23:63]]
    each = [score([p], [s]) for p, s in zip(pictures, sounds, strict=True)]
    both = score(pictures, sounds)
    assert [one.offset for one in each] == [2, 3]
    assert both.offset == 2  # int(2.5)
    assert both.confidence == pytest.approx((each[0].confidence + each[1].confidence) / 2)
    assert both.distance == pytest.approx((each[0].distance + each[1].distance) / 2)
    assert both.num_windows == 120


def mean_score(scored, num_windows, related, level=0.0, count=15):
    """Mean LSE-C and |offset| of clips of one quality per frame, whatever their length.

    Picture and sound share `related` times unit noise and `level` in all dimensions, and have half
    as much noise of their own.
    """
    values = []
    for seed in range(count):
        generator = np.random.default_rng(seed)
        shared = generator.normal(0, 1, (num_windows, 64)) * related + level
        picture, sound = (
            (shared + generator.normal(0, 0.5, shared.shape)).astype(np.float32) for _ in range(2)
        )
        found = scored([stretch(picture)], [sound])
        values.append((found.confidence, abs(found.offset)))
    return np.mean(values, axis=0)


def test_the_released_score_grows_with_the_clip_s_length_and_the_valid_one_does_not():
    padded = [mean_score(score, n, related=1)[0] for n in (30, 70, 300)]
    valid = [mean_score(score_valid, n, related=1)[0] for n in (30, 70, 300)]
    assert padded[0] < padded[1] - 0.5 < padded[2] - 0.7  # of about 7
    assert np.ptp(valid) < 0.15


@pytest.mark.parametrize(("level", "pinned"), [(0, 15), (1.5, 0)])
def test_unrelated_sound_scores_by_its_length_and_zeros_choose_its_offset(level, pinned):
    short, long = (mean_score(score, n, 0, level) for n in (30, 300))
    valid = mean_score(score_valid, 30, 0, level)
    assert short[0] > 5 * long[0]
    assert abs(short[1] - pinned) < 1  # the end of the search, or a false "in sync"
    assert valid[0] < 0.5 * short[0]
    assert 4 < valid[1] < 12  # anywhere: 8 on average


def test_too_few_windows_for_the_valid_score():
    values = embeddings(24)
    with pytest.raises(Unscored, match="24 windows; 25 are needed"):
        score_valid([stretch(values)], [values])
    enough = embeddings(25)
    assert score_valid([stretch(enough)], [enough]).offset == 0


def test_the_shorter_of_picture_and_sound_decides():
    picture, sound = embeddings(40), embeddings(30, seed=1)
    assert score([stretch(picture)], [sound]).num_windows == 30
    cut = score([stretch(picture[:30])], [sound])
    assert score([stretch(picture)], [sound]).confidence == cut.confidence


# --- What cannot be scored ---


def test_clips_of_another_rate_or_shape_are_refused(network):
    frames, waveform = clip(8)
    picture = [stretch(embeddings(3))]
    with pytest.raises(ValueError, match="fps 30; SyncNet sees 25"):
        picture_features(frames, Fraction(30), network, WAV2LIP)
    with pytest.raises(ValueError, match="no boxes, 8 frames; lse@joonson needs one each"):
        picture_features(frames, FPS, network, JOONSON)
    with pytest.raises(ValueError, match="1 channels at 44100 Hz"):
        sound_features(waveform, 44_100, network, picture)
    with pytest.raises(ValueError, match="2 channels"):
        sound_features(np.repeat(waveform, 2, 0), RATE, network, picture)


def test_clips_without_anything_to_score_say_why(network):
    frames, waveform = clip(8)
    with pytest.raises(Unscored, match="5 frames; SyncNet needs more than 5"):
        picture_features(frames[:5], FPS, network, WAV2LIP)
    picture = [Stretch(0, 8, embeddings(3))]
    with pytest.raises(Unscored, match="silence"):
        sound_features(np.zeros_like(waveform), RATE, network, picture)
    with pytest.raises(Unscored, match=r"ends 0\.20 s after"):
        sound_features(waveform[:, :3200], RATE, network, picture)


# --- Weights ---


def test_weights_load_once_for_inference(weights_file):
    assert load_syncnet(weights_file) is load_syncnet(weights_file)
    assert not load_syncnet(weights_file).training


def test_weights_from_before_batch_norm_counted_load(weights_file, tmp_path):
    state = torch.load(weights_file, weights_only=True)
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    assert len(old) < len(state)
    path = tmp_path / "syncnet_v2.model"
    torch.save(old, path, _use_new_zipfile_serialization=False)  # as PyTorch wrote in 2017
    loaded = load_syncnet(path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in old.items())


def test_other_files_are_not_weights(tmp_path):
    with pytest.raises(Unscored, match="needs --weights syncnet=PATH"):
        Subject(tmp_path).network(SYNCNET)
    path = tmp_path / "some.model"
    with pytest.raises(ValueError, match=r"some\.model: no such file"):
        load_syncnet(path)
    path.write_text("not a model")
    with pytest.raises(ValueError, match=r"some\.model: not a state dict"):
        load_syncnet(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"some\.model: not SyncNet's state dict"):
        load_syncnet(path)
    torch.save({"netfcaud.0.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"some\.model: not SyncNet's state dict"):
        load_syncnet(path)


# --- The released code itself, where there is a checkout of github.com/joonson/syncnet_python ---


@pytest.fixture
def reference(monkeypatch) -> Path:
    folder = os.environ.get("AVGEN_SYNCNET_REFERENCE")
    if not folder:
        pytest.skip("set AVGEN_SYNCNET_REFERENCE to a checkout of joonson/syncnet_python")
    pytest.importorskip("python_speech_features")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    yield Path(folder)
    for name in ("SyncNetInstance", "SyncNetModel"):
        sys.modules.pop(name, None)


def test_a_clip_scores_as_the_released_code_scores_it(
    reference, weights_file, network, tmp_path, monkeypatch
):
    import SyncNetInstance  # pyright: ignore[reportMissingImports]

    frames, waveform = clip()

    def unpack(command, **_):  # instead of FFmpeg, which would take the clip apart
        folder = tmp_path / "work" / "clip"
        if command.endswith(".jpg"):
            for index, frame in enumerate(frames):
                data = cv2.imencode(".png", frame[..., ::-1])[1]
                (folder / f"{index + 1:06d}.jpg").write_bytes(data.tobytes())
        else:
            wavfile.write(folder / "audio.wav", RATE, int16_samples(waveform[0]))
        return 0

    monkeypatch.setattr(subprocess, "call", unpack)
    instance = SyncNetInstance.SyncNetInstance()
    theirs = {name: value.shape for name, value in instance.__S__.state_dict().items()}
    assert {name: value.shape for name, value in network.state_dict().items()} == theirs
    instance.loadParameters(str(weights_file))
    options = Namespace(tmp_dir=str(tmp_path / "work"), reference="clip", batch_size=20, vshift=15)
    offset, confidence, distances = instance.evaluate(options, "clip.avi")

    picture = picture_features(frames, FPS, network, WAV2LIP)
    found = score(picture, sound_features(waveform, RATE, network, picture))
    curve = distances.mean(0)
    assert found.confidence == pytest.approx(float(confidence), abs=1e-4)
    assert found.distance == pytest.approx(float(curve.min()), abs=1e-4)
    assert found.offset == int(offset)
    assert np.abs(found.curve[::-1] - curve).max() < 1e-4
