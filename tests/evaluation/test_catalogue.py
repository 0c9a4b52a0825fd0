"""Every metric that there is: unlike names, known needs, and rows of an old report still read."""

import json

import pytest

from avgen.evaluation.measure import NEEDS
from avgen.evaluation.report.summarize import write_report
from avgen.evaluation.run.catalogue import MEASURES, MODULES, check_weights, chosen

# Protocols of reports that exist: their numbers are compared with today's, so the arithmetic of
# an id never changes.
PROTOCOLS = {
    "media": "avgen-media/1",
    "flash_click": "avgen-flash-click/1",
    "sync": "avgen-sync/3",
    "landmark_sync": "avgen-landmark-sync/2",
    "lse@joonson": "avgen-lse@joonson/1",
    "lse@wav2lip": "avgen-lse@wav2lip/1",
    "lse@latentsync": "avgen-lse@latentsync/1",
    "mouth": "avgen-mouth/1",
    "av_align@2023-10": "tempotokens-av-align@2023-10/1",
    "av_align@2025-02": "tempotokens-av-align@2025-02/1",
    "av_align@javisbench": "javisbench-av-align@2025-08/1",
    "onsets": "avgen-onset-motion/3",
    "reference": "avgen-reference/1",
    "dnsmos": "dnsmos-p835@speechmos-0.0.1.1/1",
    "speaker": "ge2e@resemblyzer-0.1.4/1",
    "fd@avgen-video": "fd@avgen-video/1",
    "fd@i3d": "fd@i3d/1",
}


def test_names_are_unlike_and_needs_known():
    assert len(MEASURES) == sum(len(module.MEASURES) for module in MODULES)
    assert {need for measure in MEASURES.values() for need in measure.needs} <= NEEDS.keys()
    assert {name: MEASURES[name].protocol for name in PROTOCOLS} == PROTOCOLS


def test_what_is_computed_by_default_needs_nothing_slow_or_extra():
    names = [measure.name for measure in chosen(None)]
    assert names == [m.name for m in MEASURES.values() if m.by_default]
    assert not {"dnsmos", "speaker", "identity", "flash_click", "av_align@2025-02"} & set(names)
    assert {"media", "sync", "onsets", "reference", "wer"} <= set(names)
    assert [m.name for m in chosen(["all"])] == list(MEASURES)


def test_shipped_networks_are_hashed_and_given_ones_checked(tmp_path):
    hashes = check_weights({}, chosen(["sync", "fd@avgen-video"]))
    assert hashes.keys() == {"sync", "avgen-video"}
    assert all(len(digest) == 64 for digest in hashes.values())
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ValueError, match=r"config\.json"):
        check_weights({"sync": tmp_path / "wrong"}, chosen(["sync"]))
    with pytest.raises(ValueError, match="names SyncNet's released state dict"):
        check_weights({"syncnet": tmp_path / "nowhere"}, [])


def test_a_report_of_an_earlier_version_is_summed_up_anew(tmp_path):
    """run.json and a row as avgen 0.1 wrote them, at commit 5cce8f4."""
    run = {
        "avgen": "0.1.0",
        "protocols": {"sync": "avgen-sync/2", "wer": "wer@pocketsphinx-grid/1"},
        "weights": {"sync": "6047364d"},
        "versions": {"numpy": "2.4.6"},
        "seed": 0,
        "delay_frames": 5,
        "request": {"clips": "made", "reference": None, "speakers_by_folder": False},
    }
    control = {"status": "scored", "values": {"r0": 0.1, "z": 1.0, "curve": [0.0, 0.1, 0.0]}}
    own = {"r0": 0.4, "z": 5.0, "offset_ms": 1.5, "curve": [0.1, 0.4, 0.2], "words": "in sync"}
    row = {
        "set": "clips",
        "id": "a.mp4",
        "path": str(tmp_path / "a.mp4"),
        "reference": None,
        "mismatched_with": None,
        "status": "scored",
        "metrics": {
            "sync": {"status": "scored", "values": own, "controls": {"mismatched": control}},
            "wer": {"status": "scored", "values": {"rate": 0.5, "num_errors": 3, "num_words": 6}},
        },
        "took_s": 1.0,
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "clips.jsonl").write_text(json.dumps(row) + "\n")
    summary = write_report(tmp_path)
    found = summary["metrics"]["sync"]["values"]["r0"]
    assert (found["clips"]["mean"], found["mismatched"]["mean"]) == (0.4, 0.1)
    assert (found["skill"]["clips"], found["auc"]) == (1, 1)
    assert summary["metrics"]["wer"]["rate_of_all_words"] == {"clips": 0.5}
    assert summary["worst"] == ["a.mp4"] and summary["faults"] == []
    page = (tmp_path / "report.html").read_text()
    assert "polyline" in page and "sync: in sync" in page
