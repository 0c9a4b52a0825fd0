"""Sets against sets in a report: known Gaussians through scripted networks, floors, refusals."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from avgen.clips import Clip, write_clip
from avgen.evaluation.comparison.extractors import (
    audio_features,
    features_of,
    video_features,
)
from avgen.evaluation.report.differences import compare
from avgen.evaluation.rows import read_rows
from avgen.evaluation.run.runner import Request, evaluate
from avgen.evaluation.subject import Subject

FPS, RATE, SIDE = Fraction(25), 16_000, 32


class Levels(torch.nn.Module):
    """Mean brightness and mean of its square, of video [1, 3, T, H, W]: [1, 2]."""

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return torch.stack([video.mean(), video.amax()])[None]


class Loudness(torch.nn.Module):
    """Two windows [2, 2] of a sound [1, N]: its largest value, and its largest less 1."""

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        peak = sound.abs().amax()
        return torch.stack([torch.stack([peak, peak]), torch.stack([peak, -peak])])


class Released(torch.nn.Module):
    """Called as the released I3D is: [1, 3, 16, H, W] in 0 to 255."""

    def forward(
        self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool
    ) -> torch.Tensor:
        assert rescale and resize and return_features and x.shape[2] == 16
        return x.mean((2, 3, 4))


def clip(brightness: int, loudness: float = 0.5, frames: int = 20) -> Clip:
    picture = np.full((frames, SIDE, SIDE, 3), brightness, np.uint8)
    sound = np.full((1, frames * RATE // 25), loudness, np.float32)
    return Clip(picture, FPS, sound, RATE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """16 real clips of brightness 40 to 100, 8 made ones that are 50 brighter."""
    root = tmp_path_factory.mktemp("sets")
    for name, levels in (("real", range(40, 104, 4)), ("made", range(90, 154, 8))):
        (root / name).mkdir()
        for index, level in enumerate(levels):
            write_clip(clip(level, level / 200), root / name / f"{index}.mkv")
    return root / "made", root / "real"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    found = {}
    for name, network in (("imagebind", Levels()), ("vggish", Loudness()), ("i3d", Released())):
        found[name] = folder / f"{name}.pt"
        torch.jit.script(network).save(str(found[name]))
    return found


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
METRICS = ("fd@i3d", "fd@vggish", "fd@clap", "fd@imagebind")


@pytest.fixture(scope="module")
def report(folders, weights, tmp_path_factory):
    report = tmp_path_factory.mktemp("reports") / "r"
    evaluate(Request(*folders, metrics=METRICS, weights=weights), report)
    return report


def summary_of(report):
    return json.loads((report / "summary.json").read_text())["metrics"]


def expected_frechet(real, made, features):
    """Closed form of D features that are all the same number: one Gaussian along a line."""
    shift = (np.mean(real) - np.mean(made)) ** 2
    spread = (np.std(real, ddof=1) - np.std(made, ddof=1)) ** 2
    return features * (shift + spread)


def test_the_distance_is_that_of_the_gaussians_that_were_made(report):
    rows, metrics = read_rows(report), summary_of(report)
    for name, copies, scale in (("fd@imagebind", 2, 255), ("fd@i3d", 3, 1)):
        real, made = (
            np.array(list(features_of(rows, name, group).values()))
            for group in ("reference", "clips")
        )
        assert real.shape == (16, copies) and made.shape == (8, copies)
        assert made.mean() * scale == pytest.approx(118, abs=3)  # FFV1 keeps it but for YUV
        found = metrics[name]["sets"]
        assert found["num_real"] == 16 and found["num_made"] == 8
        expected = expected_frechet(real[:, 0], made[:, 0], copies)
        assert found["frechet"] == pytest.approx(expected, rel=0.02)
        assert 0 <= found["floor_frechet"] < found["frechet"] / 2
        assert found["kernel_interval"][0] < found["kernel"] < found["kernel_interval"][1]
        assert any("unlike size" in flag for flag in found["flags"])
        assert any("under 256" in flag for flag in found["flags"])


def test_windows_of_a_clip_are_averaged_to_one_vector(report):
    rows = read_rows(report)
    for features in features_of(rows, "fd@vggish", "reference").values():
        assert len(features) == 2
        assert features[1] == pytest.approx(0, abs=1e-6)  # of peak and -peak
        assert 0.19 < features[0] < 0.53


def test_what_lacks_its_network_is_a_row_that_says_so(report, folders, tmp_path):
    metric = summary_of(report)["fd@clap"]
    assert metric["skipped"] == 8
    assert "--weights clap=PATH" in next(iter(metric["reasons"]))
    assert metric["sets"] == {"reason": "no features of one of the two sets"}
    markdown = (report / "summary.md").read_text()
    assert "| fd@i3d | 8 / 16 |" in markdown and "fd@clap/1" in markdown
    assert "Sets against sets" in (report / "report.html").read_text()
    evaluate(Request(folders[0], metrics=["media", "fd@avgen-video"]), tmp_path / "r")
    (reason,) = summary_of(tmp_path / "r")["fd@avgen-video"]["reasons"]
    assert reason == "skipped: no --reference to compare with"


def test_too_few_clips_are_refused(folders, weights, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for index in range(3):
        write_clip(clip(100 + index), few / f"{index}.mkv")
    request = Request(few, folders[1], ["fd@imagebind"], {"imagebind": weights["imagebind"]})
    found = evaluate(request, tmp_path / "r")["metrics"]["fd@imagebind"]["sets"]
    assert "at least 8" in found["reason"] and "frechet" not in found


def test_reports_with_other_networks_are_not_compared(folders, weights, report, tmp_path):
    other = dict(weights)
    other["i3d"] = tmp_path / "other.pt"
    torch.jit.trace(Levels(), torch.zeros(1, 3, 2, 4, 4)).save(str(other["i3d"]))
    evaluate(Request(*folders, metrics=METRICS, weights=weights), tmp_path / "same")
    found = compare(report, tmp_path / "same")
    first, second = (found["sets"]["fd@i3d"][name] for name in ("first", "second"))
    assert first["frechet"] == second["frechet"]
    made = Request(folders[0], folders[1], METRICS, other)
    metrics = evaluate(made, tmp_path / "r")["metrics"]["fd@i3d"]
    assert metrics["scored"] == 0 and "does not take" in next(iter(metrics["reasons"]))
    with pytest.raises(ValueError, match="unlike weights"):
        compare(report, tmp_path / "r")


def test_our_own_features_tell_pictures_and_sounds_apart(tmp_path):
    generator = np.random.default_rng(0)
    moving = generator.integers(0, 255, (9, SIDE, SIDE, 3), np.uint8)
    loud = generator.uniform(-0.5, 0.5, (1, 9 * RATE // 25)).astype(np.float32)
    write_clip(Clip(moving, FPS, loud, RATE), tmp_path / "a.mkv")
    write_clip(clip(100, 0.0, 9), tmp_path / "still.mkv")
    one, still = (Subject(tmp_path / name) for name in ("a.mkv", "still.mkv"))
    seen, frozen = video_features(one), video_features(still)
    third = len(seen) // 3
    assert seen[2 * third :].mean() > 10 * frozen[2 * third :].mean()  # what moves
    assert np.abs(audio_features(one) - audio_features(still)).max() > 0.1
