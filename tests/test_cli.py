"""The command line: what newcomers read, how fast it starts, and one line for every bad input."""

import json
import os
import resource
import shutil
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avgen.cli import main
from avgen.clips import Clip, read_clip, read_metadata, write_clip
from avgen.clips.timed_words import parse_words

COMMANDS = (
    "generate",
    "serve",
    "batch",
    "verify",
    "provenance",
    "train",
    "reconstruct",
    "probe",
    "evaluate",
    "compare",
    "resync",
)


@pytest.fixture
def avgen(capfd):
    """Run a command in this process; what it returned, printed and complained of."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way to return
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(avgen):
    """Run a command that must be refused in one line with exit code 2; that line."""

    def run(*arguments: object) -> str:
        code, _, err = avgen(*arguments)
        lines = [line for line in err.splitlines() if line.strip()]
        assert code == 2, err
        assert len(lines) == 1, err
        assert lines[0].startswith("avgen: error: ")
        return lines[0]

    return run


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """A folder of good and bad files, made here."""
    folder = tmp_path_factory.mktemp("media")
    count, rate = 50, 16000
    frames = np.zeros((count, 32, 48, 3), np.uint8)
    frames[:] = (np.arange(count) * 5)[:, None, None, None]
    seconds = np.arange(count * rate // 25) / rate
    waveform = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)[None]
    clip = Clip(frames, Fraction(25), waveform, rate)
    write_clip(clip, folder / "good.mp4")
    write_clip(Clip(frames, Fraction(25)), folder / "silent.mp4")
    whole = (folder / "good.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "corrupt.mp4").write_bytes(np.random.default_rng(0).bytes(len(whole)))
    (folder / "text.mp4").write_text("this is not a video\n" * 100)
    (folder / "tone.wav").write_bytes(_wav(waveform[0], rate))
    return folder


def _wav(samples: np.ndarray, rate: int) -> bytes:
    import io
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


BAD_VIDEOS = ("missing.mp4", "empty.mp4", "truncated.mp4", "corrupt.mp4", "text.mp4")


# --- help and start-up ---------------------------------------------------------------------------


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_the_command(avgen, command):
    code, out, _ = avgen(command, "--help")
    assert code == 0
    assert f"avgen {command}" in out
    assert "examples:" in out


def test_help_lists_the_commands(avgen):
    code, out, _ = avgen("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


def test_generate_has_the_names_that_diffusers_uses(avgen):
    _, out, _ = avgen("generate", "--help")
    flags = """--prompt --negative-prompt --speech --words --seconds --num-frames --fps --height
        --width --num-inference-steps --guidance-scale --audio-guidance-scale --seed --image --audio
        --rate --sampler --shift --audio-shift --guidance-interval --guidance-rescale
        --synchrony-scale --video --extend --voice --face --model --device --dtype -o --output
        --overwrite --no-metadata"""
    assert all(flag in out for flag in flags.split())


HEAVY = """
import sys
import wave
from avgen.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
heavy = {{'torch', 'torchaudio', 'lightning', 'librosa', 'cv2', 'transformers', *{more!r}}}
print('loaded:', sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS]], ids=str)
def test_help_starts_without_heavy_imports(command):
    code = HEAVY.format(arguments=[*command, "--help"], more=["av", "numpy"])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python("-c", code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
    # Seconds of processor, not of the clock: other work on the machine must not fail this.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_probe_does_not_wait_for_torch(media):
    done = python("-c", HEAVY.format(arguments=["probe", str(media / "good.mp4")], more=[]))
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_importing_avgen_loads_nothing_heavy():
    code = "import sys, avgen; print(sorted({'torch', 'av', 'numpy'} & set(sys.modules)))"
    assert python("-c", code).stdout.strip() == "[]"


def test_version(avgen):
    import avgen as package

    assert avgen("--version") == (0, f"avgen {package.__version__}\n", "")


# --- probe ---------------------------------------------------------------------------------------


def test_probe_says_what_is_there(avgen, media):
    code, out, _ = avgen("probe", media / "good.mp4", "--json")
    assert code == 0
    text = json.dumps(json.loads(out))
    assert "h264" in text
    assert "aac" in text
    code, out, _ = avgen("probe", media / "good.mp4")
    assert code == 0
    assert "h264" in out


def test_probe_takes_sound_alone(avgen, media):
    code, out, _ = avgen("probe", media / "tone.wav", "--json")
    assert code == 0
    assert "16000" in out


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_probe_refuses(refused, media, name):
    assert name in refused("probe", media / name)


# --- what is refused before any model loads ------------------------------------------------------


@pytest.mark.parametrize("name", [*BAD_VIDEOS, "tone.wav"])
def test_reconstruct_refuses(refused, media, tmp_path, name):
    assert name in refused("reconstruct", media / name, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--video", "--extend"])
@pytest.mark.parametrize("name", [*BAD_VIDEOS, "tone.wav"])
def test_generate_refuses_bad_videos(refused, media, tmp_path, flag, name):
    line = refused(
        "generate", "--speech", "place red", flag, media / name, "-o", tmp_path / "o.mp4"
    )
    assert name in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--image", "--audio"])
@pytest.mark.parametrize("name", ["missing.mp4", "empty.mp4", "corrupt.mp4", "text.mp4"])
def test_generate_refuses_bad_pictures_and_sounds(refused, media, tmp_path, flag, name):
    line = refused(
        "generate", "--speech", "place red", flag, media / name, "-o", tmp_path / "o.mp4"
    )
    assert name in line


def test_a_silent_video_has_no_voice_to_give(refused, media, tmp_path):
    line = refused("generate", "--audio", media / "silent.mp4", "-o", tmp_path / "o.mp4")
    assert "silent.mp4" in line


SPOKEN = ("generate", "--prompt", 'a man says "place red"', "-o")


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--height", "0"], "--height"),
        (["--height", "-128"], "--height"),
        (["--height", "127"], "127"),
        (["--width", "128.5"], "128.5"),
        (["--num-frames", "0"], "--num-frames"),
        (["--num_frames", "x"], "--num-frames"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "nan"], "nan"),
        (["--seconds", "inf"], "inf"),
        (["--fps", "0"], "--fps"),
        (["--fps", "fast"], "fast"),
        (["--guidance-scale", "nan"], "nan"),
        (["--seconds", "2", "--num-frames", "50"], "num_frames"),
        (["--rate", "9"], "--rate"),
        (["--sampler", "rk4"], "euler, heun, ab2"),
        (["--guidance-interval", "0.8-0.3"], "--guidance-interval"),
        (["--guidance-interval", "all"], "--guidance-interval"),
        (["--guidance-rescale", "2"], "--guidance-rescale"),
        (["--seed", "one"], "one"),
        (["--device", "abacus"], "abacus"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--dtype", "int3"], "int3"),
        (["--words", "place"], "place"),
        (["--words", "place 0.8-0.5"], "place"),
        (["--words", "place 0.5-0.9 red 0.8-1.1"], "red"),
        (["--words", "nowhere.json"], "nowhere.json"),
        (["--model", "nowhere"], "nowhere"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_generate_refuses(refused, tmp_path, arguments, culprit):
    assert culprit in refused(*SPOKEN, tmp_path / "o.mp4", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_checked_first(refused, media, tmp_path):
    assert "nowhere" in refused(*SPOKEN, tmp_path / "nowhere" / "o.mp4")
    assert ".avi" in refused(*SPOKEN, tmp_path / "o.avi")
    assert "o" in refused(*SPOKEN, tmp_path / "o")
    (tmp_path / "folder.mp4").mkdir()
    assert "folder" in refused(*SPOKEN, tmp_path / "folder.mp4")
    (tmp_path / "there.mp4").write_bytes(b"precious")
    assert "--overwrite" in refused(*SPOKEN, tmp_path / "there.mp4")
    assert "--overwrite" in refused("reconstruct", media / "good.mp4", tmp_path / "there.mp4")
    assert (tmp_path / "there.mp4").read_bytes() == b"precious"
    (tmp_path / "noted.mp4.json").write_text("{}")
    assert "noted.mp4.json" in refused(*SPOKEN, tmp_path / "noted.mp4")
    file = tmp_path / "file"
    file.write_text("")
    assert "file" in refused(*SPOKEN, file / "o.mp4")


def test_a_folder_that_cannot_be_written_to(refused, tmp_path):
    folder = Path("/proc/self/fd") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o555)
    elif not folder.is_dir():
        pytest.skip("no folder here that root cannot write to")
    assert str(folder) in refused(*SPOKEN, folder / "o.mp4")


# --- times of words ------------------------------------------------------------------------------


def test_words_and_their_times(tmp_path):
    typed = parse_words("place 0.5-0.8 red 0.8-1.1")
    assert [(w.text, w.start_s, w.end_s) for w in typed] == [("place", 0.5, 0.8), ("red", 0.8, 1.1)]
    lists = tmp_path / "lists.json"
    lists.write_text('[["place", 0.5, 0.8], ["red", 0.8, 1.1]]')
    assert parse_words(str(lists)) == typed
    objects = tmp_path / "objects.json"
    objects.write_text(
        json.dumps([{"text": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in typed])
    )
    assert parse_words(str(objects)) == typed


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[]", "[1]", '[["place"]]', '[["place", "a", 1]]']
)
def test_words_in_a_bad_file(tmp_path, content):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"words"):
        parse_words(str(path))


# --- with a model: tiny, untrained, of the real classes ------------------------------------------


@pytest.fixture
def spoken(tiny_model):
    """`generate` with the tiny model and two words, up to the output's name."""
    speech = ["--speech", "place red", "--model", str(tiny_model)]
    return lambda output, *more: ("generate", *speech, "-o", output, *more)


def test_generate_writes_a_clip_that_says_what_it_is(avgen, spoken, tmp_path):
    output = tmp_path / "made.mp4"
    code, out, err = avgen(*spoken(output, "--num_frames", 13, "--seed", 5))
    assert code == 0, err
    assert out.startswith(f"{output}: 0.52 s, 48x32, 25 fps")
    clip = read_clip(output)
    assert clip.frames.shape == (13, 32, 48, 3)
    assert clip.waveform is not None
    written = read_metadata(output)
    assert written["ai_generated"] == "true"
    assert "AI-generated" in written["comment"]
    beside = json.loads((tmp_path / "made.mp4.json").read_text())
    assert beside["ai_generated"] is True
    assert beside["parameters"] == json.loads(written["avgen_parameters"])
    made = {"seed": 5, "num_frames": 13, "speech": "place red", "num_inference_steps": 2}
    assert made.items() <= beside["parameters"].items()


def test_a_long_text_makes_a_long_clip_window_by_window(avgen, tiny_model, tmp_path):
    """0.05 s, twenty words of 0.15 s, 0.06 s; nine frames a window."""
    output = tmp_path / "made.mkv"
    speech = ["--speech", "red " * 20, "--model", tiny_model, "--num-inference-steps", 1]
    code, out, err = avgen("generate", *speech, "-o", output)
    assert code == 0, err
    assert "3.12 s" in out
    clip = read_clip(output)
    assert clip.num_frames == 78
    assert clip.num_samples == 78 * 960
    asked = json.loads((tmp_path / "made.mkv.json").read_text())["parameters"]
    assert (asked["num_frames"], asked["sampler"], asked["shift"]) == (78, "ab2", 1.0)


def test_a_request_is_recorded_with_its_settings(avgen, tiny_model, media, tmp_path):
    output = tmp_path / "made.mkv"
    given = ["--audio", media / "tone.wav", "--sampler", "heun", "--guidance_interval", "0.2-0.9"]
    more = ["--fps", "29.97", "--shift", "1.5", "--model", tiny_model, "-o", output]
    code, _, err = avgen("generate", *given, *more)
    assert code == 0, err
    asked = json.loads((tmp_path / "made.mkv.json").read_text())["parameters"]
    expected = {
        "audio": "tone.wav",
        "sampler": "heun",
        "guidance_interval": [0.2, 0.9],
        "fps": "30000/1001",
        "shift": 1.5,
        "num_inference_steps": 2,
        "guidance_scale": 1.5,
        "seed": 0,
    }
    assert expected.items() <= asked.items()
    assert "image" not in asked


def test_a_given_video_is_read_once(avgen, tiny_model, media, tmp_path, monkeypatch):
    """At the model's rate, which config.json says before anything is decoded."""
    from avgen.clips.media import read

    rates = []
    once = read.read_clip

    def counted(path, fps=None, **options):
        rates.append(fps)
        return once(path, fps=fps, **options)

    monkeypatch.setattr(read, "read_clip", counted)
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "fps": "12.5", "num_frames": 5}))
    arguments = ["--video", media / "silent.mp4", "--speech", "red", "--crop", "center"]
    output = tmp_path / "voiced.mkv"
    code, _, err = avgen("generate", *arguments, "--model", folder, "-o", output)
    assert code == 0, err
    assert rates == [Fraction(25, 2)]
    assert read_clip(output).num_frames == 25


def test_a_warning_is_one_line_without_code(media, tmp_path):
    """Left and right out of phase, in a file to go by: said as errors are."""
    tone = 0.5 * np.sin(np.arange(9600) * 0.05)[:, None] * np.array([1.0, -1.0])
    with wave.open(str(tmp_path / "odd.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    code = "from avgen import cli; from avgen.clips import read_audio\n"
    code += (
        "with cli._warnings_in_one_line(): read_audio(__import__('sys').argv[1], num_channels=1)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "odd.wav")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    path = tmp_path / "odd.wav"
    assert said == f"avgen: warning: {path}: left and right are out of phase; one is inverted\n"


def test_no_metadata_leaves_no_trace(avgen, spoken, tmp_path):
    code, _, err = avgen(*spoken(tmp_path / "made.mp4", "--no-metadata"))
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["made.mp4"]
    assert not {"ai_generated", "comment", "avgen_parameters"} & set(
        read_metadata(tmp_path / "made.mp4")
    )


def test_the_seed_decides(avgen, spoken, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert avgen(*spoken(tmp_path / f"{name}.mkv", "--seed", seed))[0] == 0
    a, b, c = (read_clip(tmp_path / f"{name}.mkv") for name in "abc")
    assert a.frames.tobytes() == b.frames.tobytes() != c.frames.tobytes()
    assert a.waveform.tobytes() == b.waveform.tobytes() != c.waveform.tobytes()


def test_overwrite_replaces(avgen, spoken, tmp_path):
    output = tmp_path / "made.mp4"
    output.write_bytes(b"old")
    assert avgen(*spoken(output, "--overwrite"))[0] == 0
    assert read_clip(output).num_frames == 9


def test_a_given_voice_is_muxed_as_it_was(avgen, tiny_model, media, tmp_path):
    """The original samples, not their reconstruction by an untrained codec: a tone stays a tone."""
    arguments = ["--audio", media / "tone.wav", "--model", tiny_model, "-o", tmp_path / "talk.mkv"]
    code, _, err = avgen("generate", *arguments)
    assert code == 0, err
    clip = read_clip(tmp_path / "talk.mkv", sample_rate=16000)
    seconds = np.arange(clip.num_samples) / 16000
    expected = 0.3 * np.sin(2 * np.pi * 440 * seconds)
    assert clip.num_frames == 50
    assert np.abs(clip.waveform[0, :31000] - expected[:31000]).max() < 1e-3


def test_a_given_picture_comes_out_as_it_went_in(avgen, tiny_model, media, tmp_path):
    arguments = ["--video", media / "silent.mp4", "--speech", "red", "--crop", "center"]
    output = tmp_path / "voiced.mkv"
    code, _, err = avgen("generate", *arguments, "--model", tiny_model, "-o", output)
    assert code == 0, err
    clip = read_clip(output)
    assert np.array_equal(clip.frames, read_clip(media / "silent.mp4").frames)
    assert clip.waveform is not None


def test_a_beginning_stays_and_is_gone_on_from(avgen, tiny_model, media, tmp_path):
    arguments = ["--extend", media / "good.mp4", "--speech", "red", "--num-frames", "60"]
    output = tmp_path / "on.mkv"
    more = ["--crop", "center", "--model", tiny_model, "-o", output]
    code, _, err = avgen("generate", *arguments, *more)
    assert code == 0, err
    clip = read_clip(output)
    assert clip.num_frames == 60
    assert np.array_equal(clip.frames[:50], read_clip(media / "good.mp4").frames)


def test_reconstruct_keeps_size_length_and_rate(avgen, tiny_model, media, tmp_path):
    output = tmp_path / "through.mkv"
    code, _, err = avgen("reconstruct", media / "good.mp4", output, "--model", tiny_model)
    assert code == 0, err
    clip, original = read_clip(output), read_clip(media / "good.mp4")
    assert clip.frames.shape == original.frames.shape
    assert clip.fps == original.fps
    assert clip.sample_rate == 24000
    assert clip.num_samples == 48000
    assert read_metadata(output)["comment"].startswith("Reconstructed")


def test_reconstruct_takes_a_video_without_sound(avgen, tiny_model, media, tmp_path):
    output = tmp_path / "through.mp4"
    assert avgen("reconstruct", media / "silent.mp4", output, "--model", tiny_model)[0] == 0
    assert read_clip(output).waveform is None


def test_the_windows_of_reconstruct_leave_no_trace(avgen, tiny_model, media, tmp_path, monkeypatch):
    """In windows of 20 frames or in one piece: the same frames and samples up to rounding."""
    from avgen.commands import reconstruct

    whole, pieces = tmp_path / "whole.mkv", tmp_path / "pieces.mkv"
    assert avgen("reconstruct", media / "good.mp4", whole, "--model", tiny_model)[0] == 0
    monkeypatch.setattr(reconstruct, "WINDOW_PIXELS", 20 * 32 * 48)
    assert avgen("reconstruct", media / "good.mp4", pieces, "--model", tiny_model)[0] == 0
    one, other = read_clip(whole), read_clip(pieces)
    assert np.abs(one.waveform - other.waveform).max() < 1e-3
    difference = np.abs(one.frames.astype(int) - other.frames.astype(int)).mean()
    assert difference < 2, (
        "windows start a latent grid of their own; their content must still agree"
    )


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--speech", ""], "say"),
        (["--prompt", "a man", "--speech", "..."], "..."),
        (["--speech", "place 漢字"], "漢字"),
        (["--prompt", 'a man says "place', "--speech", "red"], "quotation"),
        (["--speech", "red", "--height", "2"], "2"),
        (["--speech", "red", "--seconds", "1e9"], "GiB"),
        (["--speech", "red", "--height", "1000000", "--width", "1000000"], "GiB"),
        (["--words", "place 0.1-0.2 red 0.9-1.2", "--num-frames", "9"], "red"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_pipeline_refuses(refused, tiny_model, tmp_path, arguments, culprit):
    line = refused("generate", "--model", tiny_model, "-o", tmp_path / "o.mp4", *arguments)
    assert culprit in line
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_a_face_is_refused_where_a_face_is_wanted(refused, media, tmp_path):
    line = refused("generate", "--video", media / "silent.mp4", "-o", tmp_path / "o.mp4")
    assert "silent.mp4" in line
    assert "face" in line


def test_audio_and_video_together_leave_nothing_to_make(refused, tiny_model, media, tmp_path):
    given = ["--audio", media / "tone.wav", "--video", media / "silent.mp4", "--crop", "center"]
    line = refused("generate", "--model", tiny_model, "-o", tmp_path / "o.mp4", *given)
    assert "audio and video" in line


def _break(folder: Path, change: str) -> str:
    """Damage a model folder; what the error must name."""
    from safetensors.torch import load_file, save_file

    weights = folder / "transformer" / "model.safetensors"
    tensors = load_file(weights)
    if change == "missing tensor":
        name = sorted(tensors)[0]
        del tensors[name]
    elif change == "extra tensor":
        name = "one_too_many"
        tensors[name] = next(iter(tensors.values())).clone()
    elif change == "wrong shape":
        name = sorted(tensors)[0]
        tensors[name] = tensors[name][None].clone()
    elif change == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:100])
        return "model.safetensors"
    elif change == "no weights":
        weights.unlink()
        return "model.safetensors"
    elif change == "no config":
        (folder / "config.json").unlink()
        return "config.json"
    elif change == "unknown key":
        config = json.loads((folder / "config.json").read_text()) | {"no_such_key": 1}
        (folder / "config.json").write_text(json.dumps(config))
        return "no_such_key"
    else:
        (folder / "transformer" / "config.json").write_text("{")
        return "config.json"
    save_file(tensors, weights)
    return name


@pytest.mark.parametrize(
    "change",
    [
        "missing tensor",
        "extra tensor",
        "wrong shape",
        "truncated weights",
        "no weights",
        "no config",
        "unknown key",
        "bad json",
    ],
)
def test_a_broken_model_is_named(refused, tiny_model, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    culprit = _break(folder, change)
    line = refused("generate", "--speech", "red", "--model", folder, "-o", tmp_path / "o.mp4")
    assert culprit in line
    assert not (tmp_path / "o.mp4").exists()


def test_an_interrupted_run_leaves_nothing(avgen, spoken, tmp_path, monkeypatch):
    """Ctrl-C while the file is being written: exit code 130, no file and no part of one."""
    import avgen.clips.media.write as media_write

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(media_write.ClipWriter, "write_waveform", interrupt)
    code, _, err = avgen(*spoken(tmp_path / "made.mp4"))
    assert code == 130
    assert err.strip().splitlines()[-1] == "avgen: stopped"
    assert list(tmp_path.iterdir()) == []


def test_a_clip_of_another_rate_is_read_at_the_models(avgen, tiny_model, tmp_path):
    """Two seconds at 30 fps are 50 frames at the model's 25; each shows its own instant."""
    frames = np.zeros((60, 32, 48, 3), np.uint8)
    frames[:] = (np.arange(60) * 4)[:, None, None, None]
    write_clip(Clip(frames, Fraction(30)), tmp_path / "thirty.mkv")
    arguments = ["--video", tmp_path / "thirty.mkv", "--crop", "center", "--model", tiny_model]
    code, _, err = avgen("generate", *arguments, "-o", tmp_path / "voiced.mkv")
    assert code == 0, err
    clip = read_clip(tmp_path / "voiced.mkv")
    assert clip.fps == 25
    assert clip.num_frames == 50
    shown = clip.frames[:, 0, 0, 0] / 4  # the number of the frame at 30 fps
    assert np.abs(shown - np.arange(50) * 30 / 25).max() <= 1


# --- evaluate, compare, resync -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["nowhere"], "nowhere"),
        (["good.mp4", "--metrics", "beauty"], "beauty"),
        (["good.mp4", "--weights", "syncnet"], "syncnet"),
        (["good.mp4", "--weights", "syncnet=nowhere.model"], "nowhere.model"),
        (["good.mp4", "--weights", "resnet=good.mp4"], "resnet"),
        (["good.mp4", "--weights", "i3d=good.mp4"], "not a TorchScript file"),
        (["good.mp4", "--recognizer", "nowhere.Ears"], "nowhere.Ears"),
        (["good.mp4", "--transcripts", "nowhere.csv"], "nowhere.csv"),
        (["good.mp4", "--reference", "nowhere"], "nowhere"),
        (["good.mp4", "--workers", "0"], "--workers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_evaluate_refuses(refused, media, tmp_path, monkeypatch, arguments, culprit):
    monkeypatch.chdir(media)
    assert culprit in refused("evaluate", *arguments, "-o", tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_evaluate_says_what_it_found_and_compare_reads_it(avgen, refused, media, tmp_path):
    asked = ["--metrics", "media", "flash_click", "--workers", "1", "-o"]
    code, out, err = avgen("evaluate", media, *asked, tmp_path / "a")
    assert code == 0, err
    assert "6 found" in out
    assert "git-lfs" not in out
    code, out, err = avgen("compare", tmp_path / "a", tmp_path / "a", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["media"]["silence"]["difference"] == 0
    assert "report" in refused("compare", tmp_path / "a", media)


def test_resync_moves_the_sound_that_it_is_told_to(avgen, refused, media, tmp_path):
    output = tmp_path / "moved.mp4"
    code, out, err = avgen("resync", media / "good.mp4", output, "--offset-ms", "200")
    assert code == 0, err
    assert "200 ms later" in out
    clip = read_clip(output)
    assert np.abs(clip.waveform[0, : 48_000 // 8]).max() < 0.02
    assert np.abs(clip.waveform[0, 12_000:24_000]).max() > 0.2
    assert "exists" in refused("resync", media / "good.mp4", output, "--offset-ms", "200")


@pytest.mark.parametrize("name", [*BAD_VIDEOS, "tone.wav", "silent.mp4", "good.mp4"])
def test_resync_refuses_what_it_cannot_judge(refused, media, tmp_path, name):
    assert name in refused("resync", media / name, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
