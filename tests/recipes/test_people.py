"""The recipe of people, the whole way at its smallest: portraits in, a clip of few steps out."""

import json
import runpy
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from avgen.clips.media.read import read_clip, read_metadata
from avgen.corpora.manifest import read_manifest
from avgen.pipeline import AVPipeline

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("faker-female-01", "faker-female-43", "faker-male-03")
SENTENCES = (
    ("The captain", "My sister", "Nobody", "A quiet child", "The old baker"),
    ("found", "painted", "sold", "forgot"),
    ("a yellow bicycle.", "the broken clock.", "three boxes of plums.", "her uncle's map."),
)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def run(given, monkeypatch, capsys):
    """Runs the recipe in this process and returns what it prints."""
    folder, pictures, landmarker, sentences = given
    command = [ROOT / "recipes/people/run.py", folder / "out", "--small", "--workers", "1"]
    command += ["--portraits", pictures, "--face-landmarker", landmarker]
    command += ["--sentences", sentences]
    monkeypatch.setattr("sys.argv", list(map(str, command)))

    def run() -> str:
        monkeypatch.chdir(folder)  # it goes to its own folder; afterwards we are back
        capsys.readouterr()
        runpy.run_path(str(command[0]), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def given(clips_folder, tmp_path_factory):
    """Three portraits, what finds faces, and sentences."""
    portraits, models = clips_folder.parent / "portraits", clips_folder.parent / "models"
    landmarker = models / "face_landmarker.task"
    if not (portraits / "images").is_dir() or not landmarker.is_file():
        pytest.skip(f"no portraits or no face landmarker beside {clips_folder}")
    folder = tmp_path_factory.mktemp("people")
    (folder / "pictures/images").mkdir(parents=True)
    lines = []
    for line in (portraits / "captions.jsonl").read_text().splitlines():
        about = json.loads(line)
        if about["id"] in NAMES:
            shutil.copy(portraits / about["file"], folder / "pictures" / about["file"])
            lines.append(line)
    assert len(lines) == len(NAMES)
    (folder / "pictures/captions.jsonl").write_text("\n".join(lines))
    (folder / "sentences.txt").write_text("\n".join(" ".join(s) for s in product(*SENTENCES)))
    return folder, folder / "pictures", landmarker, folder / "sentences.txt"


def test_the_whole_way(given, run):
    out = given[0] / "out"
    said = run()
    assert "demo: {" in said
    pipe = AVPipeline.from_pretrained(out / "model")
    assert pipe.transformer.config.distilled and pipe.transformer.config.has_references
    assert pipe.config.num_inference_steps == 4 and pipe.config.sampler == "mean"
    assert pipe.durations is not None
    people = read_manifest(out / "prepared/people/manifest.jsonl")
    assert {r.speaker for r in people if r.tracks} == {
        r.speaker for r in read_manifest(out / "prepared/portraits/manifest.jsonl")
    }
    between = read_manifest(out / "prepared/between/manifest.jsonl")
    alone = [record for record in between if not record.id.startswith("between-")]
    assert {record.speaker for record in alone} == set(NAMES) - {"faker-male-03"}  # test people
    assert len(alone) == 6 and len(between) == 6 + 2 * 8
    for record in (record for record in between if record not in alone):
        assert set(record.labels["people"].split()) == {"faker-female-01", "faker-female-43"}
    voices = [record for record in people if not record.tracks]
    assert len(voices) > 40 and all(record.phonemes for record in people)
    clip = read_clip(out / "demo.mp4", sample_rate=24000)
    assert clip.frames.shape[1:] == (128, 128, 3)
    assert clip.waveform is not None and clip.waveform.shape == (1, clip.num_frames * 960)
    assert "AI-generated" in str(read_metadata(out / "demo.mp4"))
    driven = pipe("a man", audio=(clip.waveform, 24000), progress=False)  # no words are known
    assert np.array_equal(driven.waveform, clip.waveform)
    assert driven.num_frames == clip.num_frames

    again = run()
    assert [line.split(": ")[1] for line in again.splitlines()] == ["finished already"] * 22
    (out / "model/config.json").unlink()
    (out / "demo.mp4").unlink()
    again = run()
    assert again.count("finished already") == 20 and "few_steps: {" in again
