"""What the studio is made of: schema of requests, steps, energy, judgements, events, document."""

import dataclasses
import json
import math
import time
import urllib.request
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from avgen.clips import Word
from avgen.energy import Meter
from avgen.errors import UserError
from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.pipeline.request_schema import recorded, request_from, request_schema
from avgen.studio.judging import summary, wilson
from avgen.studio.video_object import percent

SAID = 'a man says "place red"'


def test_every_field_is_in_the_schema_with_its_rule():
    schema = request_schema()["properties"]
    assert set(schema) == {about.name for about in dataclasses.fields(GenerateRequest)}
    assert schema["rate"]["minimum"] == 0.25
    assert schema["seconds"]["exclusiveMinimum"] == 0
    assert schema["sampler"]["enum"] == ["euler", "heun", "ab2", "mean", "renoise"]
    assert schema["seed"] == {
        "type": "integer",
        "default": 0,
        "description": "same seed, same clip",
    }
    json.dumps(schema)


def test_a_record_makes_its_request_again():
    asked = GenerateRequest(
        prompt="a man",
        words=(Word("place", 0.1, 0.25), Word("red", 0.3, 0.5)),
        fps=Fraction(30000, 1001),
        guidance_interval=(0.2, 0.9),
        image=Path("/x/face.png"),
        seed=-7,
        width=64,
    )
    assert request_from(json.loads(json.dumps(recorded(asked)))) == asked


def test_forms_are_strings():
    found = request_from({"seconds": "2.5", "seed": "7", "words": "place 0.5-0.8", "fps": "29.97",
                          "guidance_interval": "[0.1, 0.5]"})  # fmt: skip
    assert (found.seconds, found.seed, found.fps) == (2.5, 7, Fraction(30000, 1001))
    assert found.words == (Word("place", 0.5, 0.8),)
    assert found.guidance_interval == (0.1, 0.5)
    assert request_from({"words": '[["a b", 0.1, 0.2]]'}).words[0].text == "a b"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", "1.5", "whole number"),
        ("seed", True, "whole number"),
        ("seconds", [1], "number"),
        ("seconds", "inf", "finite"),
        ("rate", 5, "from 0.25 to 4"),
        ("words", [["a", 0.1]], "a word, its start and its end"),
        ("words", "/etc/passwd.json", "send the words"),
        ("prompt", "x" * 4001, "at most 4000"),
        ("sampler", "dpm", "euler, heun, ab2, mean or renoise"),
        ("colour", "red", "no such field"),
    ],
)
def test_a_wrong_value_names_its_field(name, value, said):
    with pytest.raises(UserError, match=said) as caught:
        request_from({name: value})
    assert caught.value.field == name


@pytest.fixture(scope="module")
def pipe(moving_model):
    return AVPipeline.from_pretrained(moving_model)


def test_every_step_is_told_and_shows_what_it_expects(pipe):
    told, shown = [], []

    def watch(step):
        told.append((step.phase, step.step, step.steps, round(step.share, 3)))
        if step.phase == "denoising":
            shown.append(pipe.preview(step))

    clip = pipe(SAID, seed=2, progress=watch)
    steps = [t for t in told if t[0] == "denoising"]
    assert steps == [("denoising", i, 8, round(i / 8, 3)) for i in range(1, 9)]
    assert told[-1][:3] == ("decoding", clip.num_frames, clip.num_frames)
    assert shown[0].shape == (96, 96, 3)
    last = min(np.abs(shown[-1].astype(int) - frame).mean() for frame in clip.frames)
    first = min(np.abs(shown[0].astype(int) - frame).mean() for frame in clip.frames)
    assert last < first  # it comes nearer
    assert last < 3
    plain = pipe(SAID, seed=2, progress=False)
    assert np.array_equal(plain.frames, clip.frames)  # looking changes nothing
    assert np.array_equal(plain.waveform, clip.waveform)


def test_an_exception_ends_the_making_within_its_step(pipe):
    class EarlyError(Exception):
        pass

    seen = []

    def watch(step):
        seen.append(step.step)
        if step.step == 3:
            raise EarlyError

    with pytest.raises(EarlyError):
        pipe(SAID, progress=watch)
    assert seen == [1, 2, 3]


def test_windows_of_a_long_clip_are_told_as_one_way(pipe):
    shares = []
    pipe(SAID, num_frames=20, progress=lambda s: s.phase == "denoising" and shares.append(s.share))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 8


def test_an_outline_checks_what_it_cannot_make(moving_model):
    outline = AVPipeline.from_pretrained(moving_model, device="meta")
    assert outline.conditions(GenerateRequest(prompt=SAID)).num_frames == 9
    with pytest.raises(UserError, match="nothing to say") as caught:
        outline.conditions(GenerateRequest(prompt="a man"))
    assert caught.value.field == "prompt"


def counters(folder, *joules):
    for index, amount in enumerate(joules):
        place = folder / f"intel-rapl:{index}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "energy_uj").write_text(str(int(amount * 1e6)))
        (place / "max_energy_range_uj").write_text(str(1000 * 10**6))


def test_energy_is_measured_or_null_or_called_an_estimate(tmp_path):
    cpu = torch.device("cpu")
    counters(tmp_path, 990, 3)
    meter = Meter(cpu, rapl=tmp_path)
    counters(tmp_path, 14.5, 8.25)  # the first went round once
    found = meter.read()
    assert found["joules"] == pytest.approx(24.5 + 5.25, rel=0.01)
    assert found["source"] == "rapl"
    none = Meter(cpu, rapl=tmp_path / "none").read()
    assert (none["joules"], none["source"]) == (None, "none")
    assert none["cpu_seconds"] >= 0
    meter = Meter(cpu, watts_per_core=8, rapl=tmp_path / "none")
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    found = meter.read()
    assert found["source"] == "estimate"
    assert found["joules"] == pytest.approx(8 * found["cpu_seconds"], rel=0.01)
    assert "estimate" in found["scope"]


def test_wilsons_interval_is_scipys():
    from scipy.stats import binomtest

    for wins, count in ((0, 5), (7, 9), (50, 100), (12, 12)):
        expected = binomtest(wins, count).proportion_ci(0.95, "wilson")
        assert wilson(wins, count) == pytest.approx((expected.low, expected.high), abs=1e-9)
    rows = [{"a": "x", "b": "y", "preferred": p} for p in ("x", "x", None, "y")]
    (told,) = summary(rows)
    assert told["a_preferred"] == 2.5 / 4
    assert told["n"] == 4


def test_sides_are_drawn(served):
    from scipy.stats import binomtest

    served.call("/v1/videos", {"prompt": '"red place"', "seed": 1, "n": 2})
    for video in served.call("/v1/videos?limit=2")["data"]:
        served.wait(video["id"])
    lengths = set()
    left = 0
    for _ in range(40):
        pair = served.call("/v1/judgements/pair")
        assert set(pair) == {"object", "ticket", "pairs", "judged", "left", "right"}
        body = {"ticket": pair["ticket"], "verdict": "same"}
        about = served.call("/v1/judgements", body)
        left += about["left"] == about["a"]
        lengths.add(len(pair["ticket"]))
    assert len(lengths) == 1
    assert binomtest(left, 40).pvalue > 1e-4


def test_the_server_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, avgen.studio.app; print({'torch', 'numpy', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_runs_are_read_with_their_curves_and_samples(tmp_path):
    import base64

    from torch.utils.tensorboard import SummaryWriter

    from avgen.studio.runs import read_runs

    with SummaryWriter(str(tmp_path / "mine" / "version_0")) as writer:
        for step in range(5):
            writer.add_scalar("train/loss", 2.0 / (step + 1), step)
        writer.add_image("sample_0", np.full((8, 8, 3), 90, np.uint8), 4, dataformats="HWC")
    (run,) = read_runs(tmp_path)
    assert run["name"] == "mine/version_0"
    assert run["curves"]["train/loss"][3] == [3, 0.5]
    assert (run["samples"][0]["tag"], run["samples"][0]["step"]) == ("sample_0", 4)
    assert base64.b64decode(run["samples"][0]["image"])[:4] == b"\x89PNG"
    assert read_runs(tmp_path / "none") == []


def test_percent_goes_one_way():
    told = [{"phase": "encoding"}, *({"phase": "denoising", "share": s / 9} for s in range(1, 10)),
            {"phase": "decoding"}, {"phase": "signing"}, {"phase": "measuring"}]  # fmt: skip
    numbers = [percent(progress) for progress in told]
    assert numbers == sorted(numbers)
    assert numbers[-1] < 100


def listen(served, after, until, last=None):
    """Events after a number, until one satisfies: [(number, kind, data)]."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    request = urllib.request.Request(f"{served.url}/v1/events?after={after}", headers=headers)
    found, number, kind = [], None, None
    with urllib.request.urlopen(request, timeout=30) as stream:
        for raw in stream:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                found.append((number, kind, json.loads(value)))
                if until(*found[-1]):
                    return found
    return found


def test_events_are_told_and_none_is_missed_after_a_silence(served):
    start = listen(served, 0, lambda *_: True)[0][0] if served.call("/v1/videos")["data"] else 0
    name = served.make(seed=91, num_inference_steps=40)  # long enough to be seen on any machine

    def is_end(number, kind, data):
        return data["id"] == name and data.get("status") == "completed"

    whole = [e for e in listen(served, start, is_end) if e[2]["id"] == name]
    kinds = [kind for _, kind, _ in whole]
    assert kinds[0] == kinds[-1] == "video"
    assert kinds.count("progress") >= 8
    numbers = [number for number, _, _ in whole]
    assert numbers == sorted(numbers)
    middle = numbers[len(numbers) // 2]
    again = [e for e in listen(served, 0, is_end, last=middle) if e[2]["id"] == name]
    assert [number for number, _, _ in again] == [n for n in numbers if n > middle]
    steps = [data["step"] for _, kind, data in whole if kind == "progress" and data.get("step")]
    assert any(math.isfinite(step) for step in steps)


@pytest.mark.slow
def test_the_api_is_as_its_document_says(served):
    """Requests drawn from the OpenAPI document: no answer is a fault, or of another shape."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    served.call("/v1/queue", {"paused": True})
    document = schemathesis.openapi.from_url(f"{served.url}/v1/openapi.json")
    skipped = ("/v1/events", "/v1/videos/{video_id}/events", "/ready", "/v1/queue")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance,
              response_schema_conformance]  # fmt: skip
    tried = 0
    for found in document.get_all_operations():
        operation = found.ok()  # pyright: ignore[reportAttributeAccessIssue]
        if operation.path in skipped or operation.path.endswith(("edits", "characters")):
            continue
        tried += 1

        @settings(
            max_examples=8, deadline=None, derandomize=True, database=None,
            phases=[Phase.generate], suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        def ask(case):
            case.call_and_validate(checks=checks, timeout=30)

        from hypothesis import given

        given(operation.as_strategy())(ask)()
    assert tried > 30
    for video in served.call("/v1/videos?status=queued&limit=100")["data"]:
        served.call(f"/v1/videos/{video['id']}/cancel", {})
    served.call("/v1/queue", {"paused": False})
