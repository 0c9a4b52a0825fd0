"""Every corpus' layout on a small made-up copy: ids, speakers, splits, spans, words, captions."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import fake_corpora
import pytest
from fake_corpora import POINTER, Media, build

from avgen.clips import read_audio, read_clip
from avgen.corpora import manifest
from avgen.corpora.manifest import (
    ClipRecord,
    Problem,
    corpora,
    find_corpus,
    read_manifest,
    write_manifest,
)
from avgen.errors import UserError

DATASETS = Path(manifest.__file__).parent


def read(name, root):
    """Records by id, and problems."""
    found = list(find_corpus(name).records(root))
    records = {item.id: item for item in found if isinstance(item, ClipRecord)}
    problems = [item for item in found if isinstance(item, Problem)]
    assert len(records) + len(problems) == len(found)
    return records, problems


def built(name, tmp_path):
    return build(name, tmp_path / name)


def test_the_list_of_corpora_is_what_there_is():
    assert set(corpora()) == set(fake_corpora.BUILDERS)
    for name in corpora():
        corpus = find_corpus(name)
        assert name == corpus.NAME
        assert (DATASETS.parents[1] / "data" / name / "README.md").is_file()


@pytest.mark.parametrize("name", ["hdft", "manifest", "puppets", "no.such.module", ""])
def test_an_unknown_corpus_is_told_what_there_is(name):
    with pytest.raises(ValueError, match=r"one of celebv_hq, crema_d, folder, .*package\.module"):
        find_corpus(name)


def test_a_module_of_ones_own_is_a_corpus(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "clips.py").write_text(
        "NAME, LICENCE = 'mine', 'free'\ndef records(root):\n    return iter(())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_corpus("mine.clips").NAME == "mine"
    assert find_corpus("CREMA-D").NAME == "crema_d"


@pytest.mark.parametrize("name", corpora())
def test_what_holds_for_every_corpus(name, tmp_path):
    """Ids are unique and name files, media and sound exist, order is stable, records survive."""
    root = built(name, tmp_path)
    found = list(find_corpus(name).records(root))
    assert found == list(find_corpus(name).records(root))
    ids = [item.id for item in found]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w.-]+", id) for id in ids)
    records = [item for item in found if isinstance(item, ClipRecord)]
    assert len(records) >= 3 - (name == "talkvid")
    for record in records:
        assert record.corpus == name
        assert record.speaker
        assert record.caption
        assert (root / record.media).is_file()
        assert record.sound is None or (root / record.sound).is_file()
    write_manifest(records, tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path / "manifest.jsonl") == records


@pytest.mark.parametrize("name", corpora())
def test_another_layout_is_told_apart(name, tmp_path):
    """The error says where, what is there, and how the corpus is laid out."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"other: has holiday\.zip; .* ROOT"):
        list(find_corpus(name).records(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"none: is not there; .* ROOT"):
        list(find_corpus(name).records(tmp_path / "none"))


def test_made_up_media_are_media(tmp_path):
    """What the other tests only look at by name does decode: one of each kind."""
    media = Media(tmp_path)
    for suffix in (".mp4", ".flv", ".mpg"):
        clip = read_clip(media(tmp_path / f"a{suffix}"))
        assert clip.num_frames == 12
        assert clip.fps == 25
        assert clip.frames[0, 30, 10, 0] > 150 > clip.frames[0, 60, 60, 0]
        assert clip.waveform.max() > 0.2
    for suffix in (".wav", ".m4a"):
        waveform, rate = read_audio(media(tmp_path / f"a{suffix}"))
        assert waveform.shape[1] / rate == pytest.approx(0.48, abs=0.03)


def test_grid(tmp_path):
    root = built("grid", tmp_path)
    (root / "s1" / "hello.mpg").write_bytes(b"x")
    (root / "s1" / "lbaf2n.mpg").write_bytes(b"x")
    records, problems = read("grid", root)
    record = records["s4_bbaf2n"]
    assert (record.media, record.speaker) == ("s4/bbaf2n.mpg", "s4")
    assert (record.caption, records["s1_bbaf2n"].caption) == ("a woman", "a man")
    assert record.transcript == "bin blue at f two now"
    assert [(w.text, w.start_s) for w in record.words] == [("bin", 0.08), ("blue", 0.24)]
    assert record.split == records["s1_bbaf2n"].split  # by sentence
    assert [problem.path for problem in problems] == ["s1/hello.mpg", "s1/lbaf2n.mpg"]
    assert "not the name of a GRID clip" in problems[0].reason
    assert "alignments are a download of their own" in problems[1].reason


def test_crema_d(tmp_path):
    root = built("crema_d", tmp_path)
    (root / "VideoFlash" / "1001_DFA_ANG_XX.flv").write_text(POINTER)
    (root / "AudioWAV" / "1002_DFA_ANG_XX.wav").write_text(POINTER)
    (root / "VideoFlash" / "1002_IEO_HAP_HI.flv").unlink()
    (root / "VideoFlash" / "1003_XYZ_HAP_HI.flv").write_bytes(b"x")
    records, problems = read("crema_d", root)
    record = records["1002_IEO_SAD_LO"]
    assert record.media == "VideoFlash/1002_IEO_SAD_LO.flv"
    assert record.sound == "AudioWAV/1002_IEO_SAD_LO.wav"
    assert (record.speaker, record.split) == ("1002", "train")
    assert record.caption == "a sad woman, weak"
    assert record.transcript == "It's eleven o'clock"
    assert record.labels == {"emotion": "sad", "level": "weak", "age": "21"}
    assert records["1001_IEO_HAP_HI"].caption == "a happy man, strong"
    assert records["1007_DFA_ANG_XX"].caption == "an angry person"  # not in the table
    assert records["1007_DFA_ANG_XX"].split == "test"
    assert records["1002_DFA_ANG_XX"].sound is None  # a pointer
    reasons = {problem.path: problem.reason for problem in problems}
    assert "git lfs pull" in reasons["VideoFlash/1001_DFA_ANG_XX.flv"]
    assert "VideoFlash/1002_IEO_HAP_HI.flv, is missing" in reasons["AudioWAV/1002_IEO_HAP_HI.wav"]
    assert "actor_sentence_emotion_level" in reasons["VideoFlash/1003_XYZ_HAP_HI.flv"]
    assert "1 of its files are empty or git-lfs pointers" in reasons["AudioWAV"]
    assert len(reasons) == 4


def test_a_fetched_file_is_another_item_than_its_pointer(tmp_path):
    """So that a preparation that goes on does not take it for done."""
    root = built("crema_d", tmp_path)
    path = root / "VideoFlash" / "1001_DFA_ANG_XX.flv"
    whole = path.read_bytes()
    path.write_text(POINTER)
    before = next(iter(find_corpus("crema_d").records(root)))
    path.write_bytes(whole)
    after = next(iter(find_corpus("crema_d").records(root)))
    assert isinstance(before, Problem)
    assert isinstance(after, ClipRecord)
    assert before.id != after.id == "1001_DFA_ANG_XX"
    assert before.speaker == after.speaker


def test_ravdess(tmp_path):
    root = built("ravdess", tmp_path)
    nested = root / "Video_Speech_Actor_05" / "Actor_05"
    nested.mkdir(parents=True)
    (root / "Actor_01" / "01-01-01-01-02-01-01.mp4").rename(nested / "01-01-01-01-02-01-05.mp4")
    (root / "Actor_02" / "01-01-09-01-02-01-02.mp4").write_bytes(b"x")
    (root / "Actor_02" / "01-01-01-01-02-02-07.mp4").write_bytes(b"x")
    (root / "Actor_04" / "01-01-05-02-01-01-04.mp4").write_bytes(b"")
    records, problems = read("ravdess", root)
    record = records["01-01-05-02-01-01-02"]
    assert (record.caption, record.transcript) == (
        "an angry woman, strong",
        "Kids are talking by the door",
    )
    assert (record.speaker, record.language) == ("Actor_02", "en")
    assert records["01-01-01-01-02-01-05"].caption == "a neutral man"
    assert records["01-01-01-01-02-01-05"].media.startswith("Video_Speech_Actor_05/Actor_05/")
    assert records["01-02-03-01-01-01-01"].caption == "a happy man, singing"
    assert {record.split for record in records.values()} == {"train", "validation", "test"}
    assert not any(id.startswith(("02", "03")) for id in records)
    reasons = {problem.path: problem.reason for problem in problems}
    assert "seven numbers" in reasons["Actor_02/01-01-09-01-02-01-02.mp4"]
    assert "of actor 7, in the folder" in reasons["Actor_02/01-01-01-01-02-02-07.mp4"]
    assert "is empty" in reasons["Actor_04/01-01-05-02-01-01-04.mp4"]
    assert len(reasons) == 3


def test_librispeech(tmp_path):
    root = built("librispeech", tmp_path)
    (root / "19" / "19-198-0002.flac").write_bytes(b"")
    (root / "19" / "chapter.flac").write_bytes(b"x")
    (root / "other").mkdir()
    (root / "other" / "1034-1210-0001.flac").write_bytes(b"x")
    records, problems = read("librispeech", root)
    assert sorted(records) == [*(f"1034-1210-000{i}" for i in range(3)), "19-198-0001"]
    record = records["1034-1210-0000"]
    assert (record.speaker, record.transcript) == ("1034", "he said")
    assert record.caption == "a woman reads aloud"
    assert record.media == "dev-clean/1034/1210/1034-1210-0000.flac"
    assert (records["1034-1210-0001"].transcript, records["1034-1210-0002"].transcript) == (
        "",
        "no one",
    )
    other = records["19-198-0001"]
    assert (other.caption, other.transcript) == ("a person reads aloud", "this little work")
    reasons = {problem.path: problem.reason for problem in problems}
    assert reasons["other/1034-1210-0001.flac"] == "is a second copy"
    assert "is empty" in reasons["19/19-198-0002.flac"]
    assert "speaker, chapter, number" in reasons["19/chapter.flac"]
    assert len(reasons) == 3


def test_hdtf_clips(tmp_path):
    root = built("hdtf", tmp_path)
    records, problems = read("hdtf", root)
    assert problems == []
    assert len(records) == 8
    amy = [record for record in records.values() if record.speaker == "AmyKlobuchar"]
    assert [record.id[-6:] for record in amy] == ["r0_000", "r1_000", "r1_001"]
    assert len({record.split for record in amy}) == 1
    assert {records[f"RD_Radio{i}_000"].speaker for i in (1, 2)} == {"Radio1", "Radio2"}
    assert records["WDA_TinaSmith_000"].labels == {"set": "WDA"}
    assert all(record.span is None for record in records.values())


def test_hdtf_videos(tmp_path):
    fake_corpora.build_hdtf_videos(tmp_path / "hdtf", Media(tmp_path / "media"))
    (tmp_path / "hdtf" / "videos" / "Holiday.mp4").write_bytes(b"x")
    records, problems = read("hdtf", tmp_path / "hdtf")
    first, second = records["RD_Radio11_000"], records["RD_Radio11_001"]
    assert first.media == second.media == "videos/Radio11.mp4"
    assert (first.span, second.span) == ((0, 30), (90, 150))
    assert first.labels == {"set": "RD", "crop": "483 390 0 390", "resolution": "720"}
    assert second.labels == {"set": "RD"}
    assert first.source.endswith("watch?v=radio11")
    assert records["WDA_TinaSmith_000"].span == (12, 235)
    reasons = {problem.path: problem.reason for problem in problems}
    assert "has no such video" in reasons["videos/Holiday.mp4"]
    assert "1 of 3 clips that it lists are not here: TomUdall" in reasons["HDTF_dataset"]


def test_hdtf_span_that_is_none(tmp_path):
    fake_corpora.build_hdtf_videos(tmp_path / "hdtf", Media(tmp_path / "media"))
    list_ = tmp_path / "hdtf" / "HDTF_dataset" / "WDA_annotion_time.txt"
    list_.write_text("TinaSmith.mp4 0:12 to 3:55\n")
    with pytest.raises(ValueError, match=r"WDA_annotion_time\.txt: TinaSmith: '0:12' is not mm:ss"):
        read("hdtf", tmp_path / "hdtf")


def test_voxceleb2(tmp_path):
    root = built("voxceleb2", tmp_path)
    place = Path("id00012") / "21Uxsk56VDQ"
    (root / "dev" / "aac" / place / "00002.m4a").unlink()
    (root / "dev" / "mp4" / "id00015" / "21Uxsk56VDQ" / "00001.mp4").unlink()
    (root / "dev" / "mp4" / "id00029" / "21Uxsk56VDQ" / "00001.mp4").write_text(POINTER)
    records, problems = read("voxceleb2", root)
    record = records["id00012_21Uxsk56VDQ_00001"]
    assert record.sound == "dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
    assert records["id00012_21Uxsk56VDQ_00002"].sound is None  # then it is in the mp4
    assert (record.caption, record.split) == ("a man", "train")
    assert record.source == "https://www.youtube.com/watch?v=21Uxsk56VDQ"
    assert records["id00029_21Uxsk56VDQ_00002"].caption == "a person"  # not in the table
    assert {r.split for r in records.values() if r.speaker == "id00017"} == {"test"}
    reasons = {problem.path: problem.reason for problem in problems}
    assert "00001.mp4, is missing" in reasons["dev/aac/id00015/21Uxsk56VDQ/00001.m4a"]
    assert "git-lfs" in reasons["dev/mp4/id00029/21Uxsk56VDQ/00001.mp4"]
    assert len(reasons) == 2


def test_voxceleb2_without_pictures_is_another_layout(tmp_path):
    Media(tmp_path)(tmp_path / "vox" / "dev" / "aac" / "id1" / "v" / "00001.m4a")
    with pytest.raises(ValueError, match="vox: has dev/; VoxCeleb2 is laid out as ROOT/dev/mp4"):
        read("voxceleb2", tmp_path / "vox")


def test_mead(tmp_path):
    root = built("mead", tmp_path)
    (root / "W009" / "video").rename(root / "W009" / "video-001")
    (root / "W011").mkdir()
    (root / "W011" / "video.tar").write_bytes(b"x")
    media = Media(tmp_path / "media")
    media(root / "M003" / "video" / "front" / "bored" / "level_1" / "001.mp4")
    media(root / "M003" / "video" / "front" / "angry" / "level_2" / "007.mp4")
    records, problems = read("mead", root)
    record = records["M003_left_30_disgusted_level_3_001"]
    assert record.caption == "a disgusted man, strong, seen from 30 degrees left"
    assert record.sound == "M003/audio/disgusted/level_3/001.m4a"
    assert record.labels == {"emotion": "disgusted", "level": "level_3", "view": "left_30"}
    assert records["W009_front_neutral_level_1_001"].caption == (
        "a neutral woman, seen from the front"
    )
    assert records["W009_front_neutral_level_1_001"].media.startswith("W009/video-001/front/")
    assert records["M003_front_angry_level_2_007"].sound is None
    assert records["M018_front_angry_level_1_001"].split == "validation"
    reasons = {problem.path: problem.reason for problem in problems}
    assert "not unpacked" in reasons["W011"]
    assert "'bored' is none of angry" in reasons["M003/video/front/bored/level_1/001.mp4"]
    assert len(reasons) == 2


def test_celebv_hq(tmp_path):
    records, problems = read("celebv_hq", built("celebv_hq", tmp_path))
    whole, part = records["M2Ohb0FAaJU_1"], records["rawrawraw01_1"]
    assert whole.media == "downloaded_celebvhq/processed/M2Ohb0FAaJU_1.mp4"
    assert (whole.span, whole.region) == (None, None)  # cut and cropped already
    assert part.media == "downloaded_celebvhq/raw/rawrawraw01.mp4"
    assert part.span == (81.62, 86.17)
    assert part.region == pytest.approx((0.1964, 0.0, 0.4958, 0.8815))
    assert whole.caption == "a young happy man with black hair"
    assert whole.labels == {"emotion": "happy", "appearance": "black_hair, male, young"}
    assert records["_0tf2n3rlJU_0"].caption == "a woman with glasses"  # two emotions in turn
    assert part.speaker == "rawrawraw01"
    (problem,) = problems
    assert "1 of 6 clips that it lists are not here: gonegonego1_0" in problem.reason


def test_celebv_hq_with_a_wrong_entry(tmp_path):
    root = built("celebv_hq", tmp_path)
    values = json.loads((root / "celebvhq_info.json").read_text())
    values["clips"]["rawrawraw01_0"]["bbox"]["right"] = 690  # pixels, as in CelebV-Text
    del values["clips"]["M2Ohb0FAaJU_1"]["attributes"]
    (root / "celebvhq_info.json").write_text(json.dumps(values))
    records, problems = read("celebv_hq", root)
    assert set(records) == {"_0tf2n3rlJU_0", "heldheld023_0", "rawrawraw01_1"}
    reasons = {problem.path.partition("#")[2]: problem.reason for problem in problems}
    assert "shares of the frame" in reasons["rawrawraw01_0"]
    assert "attributes" in reasons["M2Ohb0FAaJU_1"]
    (root / "celebvhq_info.json").write_text("[]")
    with pytest.raises(ValueError, match=r"celebvhq_info\.json: is not CelebV-HQ's list"):
        read("celebv_hq", root)


def test_lrs3(tmp_path):
    root = built("lrs3", tmp_path)
    (root / "trainval" / "0Fi83BHQsMA" / "00002.txt").unlink()
    (root / "test" / "0akiEFwtkyA" / "00002.mp4").unlink()
    text = root / "pretrain" / "00j9bKdiOjk" / "00002.txt"
    text.write_text(text.read_text() + "LATER 0.9 0.8 1.0\n")
    records, problems = read("lrs3", root)
    record = records["pretrain_00j9bKdiOjk_00001"]
    words = [(word.text, word.start_s, word.end_s) for word in record.words]
    assert words == [("so", 0.05, 0.16), ("today", 0.2, 0.44)]
    assert record.transcript == "so today"
    assert record.speaker == "00j9bKdiOjk"
    other = records["trainval_0Fi83BHQsMA_00001"]
    assert (other.words, other.transcript) == ((), "so today")
    assert records["test_0akiEFwtkyA_00001"].split == "test"
    reasons = {problem.path: problem.reason for problem in problems}
    assert "00002.txt, is missing" in reasons["trainval/0Fi83BHQsMA/00002.mp4"]
    assert "00002.mp4, is missing" in reasons["test/0akiEFwtkyA/00002.txt"]
    broken = reasons["pretrain/00j9bKdiOjk/00002.txt"]
    assert re.search(r"line 12: 'LATER 0.9 0.8 1.0' is not WORD START END", broken)
    assert len(reasons) == 3


def test_talkvid(tmp_path):
    records, problems = read("talkvid", built("talkvid", tmp_path))
    record = records["videovideoTr6MMsoWAog-scene1-scene1"]
    assert record.media == "output/Tr6MMsoWAog/Tr6MMsoWAog_001_0.100_5.141.mp4"
    assert (record.speaker, record.language) == ("597", "en")
    assert record.caption == "An older man in a suit."
    assert record.labels == {"gender": "Male", "age group": "60+"}
    assert record.span is None
    other = records["videovideoTr6MMsoWAog-scene2-scene1"]
    assert other.media == "clips/videovideoTr6MMsoWAog-scene2-scene1.mp4"
    (problem,) = problems
    assert "1 of 3 clips that it lists are not here: videovideoTr6MMsoWAog-scene3" in problem.reason


def test_folder(tmp_path):
    root = built("folder", tmp_path)
    (root / "late.mp4").write_text(POINTER)
    records, problems = read("folder", root)
    by_media = {record.media: record for record in records.values()}
    assert list(by_media) == ["one.mp4", "a/two.mov", "a/b/three.mkv"]
    one = by_media["one.mp4"]
    assert (one.caption, one.speaker, one.transcript) == (
        "a red square, moving",
        "ann",
        "hello you",
    )
    assert (one.consent, one.labels) == ("given", {"place": "kitchen"})
    two, three = by_media["a/two.mov"], by_media["a/b/three.mkv"]
    assert (two.caption, two.speaker, two.consent) == ("a person", "ben", "unknown")
    assert three.speaker == three.id
    assert [(problem.path, "git-lfs" in problem.reason) for problem in problems] == [
        ("late.mp4", True)
    ]


def test_folder_with_words(tmp_path):
    root = built("folder", tmp_path)
    (root / "metadata.csv").unlink()
    words = [{"text": "hello", "start_s": 0.1, "end_s": 0.4}]
    rows = [
        {"file_name": "one.mp4", "words": words, "start_s": 0.0, "end_s": 0.4, "split": "test"},
        {"file_name": "a/two.mov", "consent": "yes"},
        {"file_name": "a/b/three.mkv", "sound": "sounds/one.wav"},
        {"file_name": "gone.mp4"},
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records, problems = read("folder", root)
    by_media = {record.media: record for record in records.values()}
    one = by_media["one.mp4"]
    assert [(word.text, word.end_s) for word in one.words] == [("hello", 0.4)]
    assert (one.span, one.split) == ((0.0, 0.4), "test")
    assert by_media["a/b/three.mkv"].sound == "sounds/one.wav"
    reasons = {problem.path: problem.reason for problem in problems}
    assert "consent 'yes'; it must be one of given, unknown, withdrawn" in reasons["a/two.mov"]
    assert "the folder has not" in reasons["gone.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "name,caption\na.mp4,x\n", "has no column 'file_name'"),
        ("metadata.csv", "file_name\none.mp4\none.mp4\n", r"one\.mp4 has two rows"),
        (
            "metadata.jsonl",
            '{"file_name": "one.mp4"}\n[]\n',
            r"metadata\.jsonl:2: has no file_name",
        ),
        ("metadata.jsonl", "{\n", r"metadata\.jsonl:1: is not JSON"),
        ("metadata.jsonl", '{"file_name": "\udce9.mp4"}\n', r"jsonl: is not text in UTF-8"),
        ("metadata.csv", "file_name\n\udce9.mp4\n", r"metadata\.csv: is not a CSV file in UTF-8"),
    ],
)
def test_folder_with_a_wrong_table(name, text, message, tmp_path):
    root = built("folder", tmp_path)
    (root / "metadata.csv").unlink()
    (root / name).write_text(text, errors="surrogateescape")  # \udce9 is Latin-1's e acute
    with pytest.raises(UserError, match=message):
        read("folder", root)


def test_a_table_with_empty_and_short_lines(tmp_path):
    root = built("folder", tmp_path)
    (root / "metadata.csv").write_text("caption,file_name\n\na cat,one.mp4\n,\na dog\n\n")
    records, problems = read("folder", root)
    assert {r.media: r.caption for r in records.values()}["one.mp4"] == "a cat"
    assert [problem.path for problem in problems] == [""]  # the dog has no file
    (root / "metadata.csv").unlink()
    (root / "metadata.jsonl").write_text('\n{"file_name": "one.mp4", "caption": "a\u2028b"}\n\n')
    records, problems = read("folder", root)
    assert {r.media: r.caption for r in records.values()}["one.mp4"] == "a\u2028b"
    assert problems == []


def test_names_that_are_no_text_and_links_back(tmp_path):
    root = built("folder", tmp_path)
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    (root / "one.mp4").rename(os.fsdecode(os.fsencode(root) + b"/caf\xe9.mp4"))
    records, problems = read("folder", root)
    assert {record.media for record in records.values()} == {"a/two.mov", "a/b/three.mkv"}
    reasons = {problem.path: problem.reason for problem in problems}
    assert "not in UTF-8" in reasons["caf\\udce9.mp4"]
    assert json.dumps(list(reasons)).isascii()


def test_folder_of_real_clips(clips_folder):
    """Every video under it is a record or has a reason."""
    found = list(find_corpus("folder").records(clips_folder))
    places = {item.media if isinstance(item, ClipRecord) else item.path for item in found}
    assert {f"odd/{path.name}" for path in (clips_folder / "odd").iterdir()} <= places
    assert len(places) == len(found)


def test_records_may_be_hashed_and_replaced(tmp_path):
    record = next(iter(find_corpus("mead").records(built("mead", tmp_path))))
    assert isinstance(record, ClipRecord)
    assert len({record, replace(record, caption="another")}) == 2
