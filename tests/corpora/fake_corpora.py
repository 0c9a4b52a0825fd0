"""Small made-up copies of the corpora: their layouts and annotations, media that really decode.

`build(name, root)` makes one. Nothing in the clips looks like a face; each is as long as asked for.
"""

import csv
import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avgen.clips import Clip, write_clip

SIZE, FPS, RATE = 64, Fraction(25), 48000
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123abcd\nsize 123456\n"


class Media:
    """Writes clips of one length; every further copy of a kind is copied.

    Args:
        cache: A folder for the first of each kind.
        num_frames: Of each clip.
    """

    def __init__(self, cache: Path, num_frames: int = 12) -> None:
        self.cache, self.num_frames = cache, num_frames
        cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, path: Path) -> Path:
        """A file at `path`, of the kind that its suffix says, with picture, sound or both."""
        first = self.cache / f"first{path.suffix}"
        if not first.is_file():
            self._first(first)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first, path)
        return path

    def _first(self, path: Path) -> None:
        clip = self._clip()
        if path.suffix in (".mp4", ".mov", ".mkv", ".webm"):
            write_clip(clip, path)
        else:
            containers = {".flv": ("flv", "flv", "mp3"), ".mpg": ("mpeg", "mpeg1video", "mp2")}
            containers |= {".m4a": ("ipod", "", "aac"), ".wav": ("wav", "", "pcm_s16le")}
            containers |= {".flac": ("flac", "", "flac")}
            write_with(clip, path, *containers[path.suffix])

    def _clip(self) -> Clip:
        """A square that moves over grey, and a tone."""
        frames = np.full((self.num_frames, SIZE, SIZE, 3), 90, np.uint8)
        for index in range(self.num_frames):
            frames[index, 20:40, 4 + index % 40 : 20 + index % 40] = (200, 60, 40)
        times = np.arange(int(self.num_frames / FPS * RATE)) / RATE
        waveform = 0.3 * np.sin(2 * np.pi * 220 * times)[None].astype(np.float32)
        return Clip(frames, FPS, waveform, RATE)


def write_with(clip: Clip, path: Path, container: str, video: str, audio: str) -> None:
    """Write what avgen itself does not: FLV, MPEG program streams, sound alone."""
    with av.open(str(path), "w", format=container) as file:
        pictures = file.add_stream(video, rate=int(clip.fps)) if video else None
        rate = 44100 if container == "flv" else clip.sample_rate
        sound = file.add_stream(audio, rate=rate, layout="mono")
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = clip.width, clip.height, "yuv420p"
            for frame in clip.frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
        samples = av.AudioFrame.from_ndarray(clip.waveform, format="fltp", layout="mono")
        samples.sample_rate = clip.sample_rate
        resampler = av.AudioResampler(sound.format, "mono", rate, sound.frame_size or None)
        for part in (*resampler.resample(samples), *resampler.resample(None)):
            file.mux(sound.encode(part))
        file.mux(sound.encode(None))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build_grid(root: Path, media: Media) -> None:
    for speaker in ("s1", "s4"):
        for name in ("bbaf2n", "lrwp9a", "swiz3n"):
            media(root / speaker / f"{name}.mpg")
            lines = "0 2000 sil\n2000 6000 bin\n6000 9000 blue\n9000 12000 sil\n"
            write_text(root / "alignments" / speaker / f"{name}.align", lines)


def build_crema_d(root: Path, media: Media) -> None:
    for actor in (1001, 1002, 1007, 1020):
        for name in ("DFA_ANG_XX", "IEO_HAP_HI", "IEO_SAD_LO"):
            media(root / "VideoFlash" / f"{actor}_{name}.flv")
            media(root / "AudioWAV" / f"{actor}_{name}.wav")
    rows = "1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Caucasian,Not Hispanic\n"
    write_text(root / "VideoDemographics.csv", f"ActorID,Age,Sex,Race,Ethnicity\n{rows}")


def build_ravdess(root: Path, media: Media) -> None:
    for actor in (1, 2, 4, 6):
        for middle in ("01-01-05-02-01-01", "01-01-01-01-02-01", "01-02-03-01-01-01"):
            media(root / f"Actor_{actor:02d}" / f"{middle}-{actor:02d}.mp4")
        media(root / f"Actor_{actor:02d}" / f"02-01-05-02-01-01-{actor:02d}.mp4")
        media(root / f"Actor_{actor:02d}" / f"03-01-05-02-01-01-{actor:02d}.wav")


def build_librispeech(root: Path, media: Media) -> None:
    """One chapter as the archives unpack, one without transcripts, one with a text each."""
    chapter = root / "dev-clean" / "1034" / "1210"
    for number in range(3):
        media(chapter / f"1034-1210-{number:04d}.flac")
    write_text(chapter / "1034-1210.trans.txt", "1034-1210-0000 HE SAID\n1034-1210-0002 NO ONE\n")
    write_text(root / "SPEAKERS.TXT", ";ID  |SEX| SUBSET\n1034 | F | dev-clean | 25.03 | Ann\n")
    media(root / "19" / "19-198-0001.flac")
    write_text(root / "19" / "19-198-0001.txt", "THIS LITTLE\nWORK\n")


HDTF_CLIPS = (
    "RD_Radio1_000",
    "RD_Radio2_000",
    "RD_Radio22_000",
    "WDA_AmyKlobuchar0_000",
    "WDA_AmyKlobuchar1_000",
    "WDA_AmyKlobuchar1_001",
    "WDA_TinaSmith_000",
    "WRA_JohnThune_000",
)


def build_hdtf(root: Path, media: Media) -> None:
    for name in HDTF_CLIPS:
        media(root / f"{name}.mp4")


def build_hdtf_videos(root: Path, media: Media) -> None:
    """Whole videos and the lists, of which one video is missing."""
    media(root / "videos" / "Radio11.mp4")
    media(root / "videos" / "WDA_TinaSmith.mp4")
    lists = root / "HDTF_dataset"
    write_text(lists / "RD_annotion_time.txt", "Radio11.mp4 00:00-00:30 01:30-02:30\n")
    write_text(lists / "RD_video_url.txt", "Radio11 https://www.youtube.com/watch?v=radio11\n")
    write_text(lists / "RD_crop_wh.txt", "Radio11_0.mp4 483 390 0 390\n")
    write_text(lists / "RD_resolution.txt", "Radio11.mp4 720\n")
    write_text(
        lists / "WDA_annotion_time.txt", "TinaSmith.mp4 00:12-03:55\nTomUdall.mp4 00:12-02:55\n"
    )


def build_voxceleb2(root: Path, media: Media) -> None:
    sets = {"dev": ("id00012", "id00015", "id00016", "id00029"), "test": ("id00017",)}
    for part, speakers in sets.items():
        for speaker in speakers:
            for name in ("00001", "00002"):
                place = Path(speaker) / "21Uxsk56VDQ" / name
                media(root / part / "mp4" / place.with_suffix(".mp4"))
                media(root / part / "aac" / place.with_suffix(".m4a"))
                boxes = "FRAME\tX\tY\tW\tH\n000001\t0.1\t0.1\t0.4\t0.7\n"
                write_text(root / part / "txt" / place.with_suffix(".txt"), boxes)
    rows = "id00012 ,n000012 ,m ,dev \nid00015 ,n000015 ,f ,dev \nid00017 ,n000017 ,f ,test \n"
    write_text(root / "vox2_meta.csv", f"VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \n{rows}")


def build_mead(
    root: Path, media: Media, actors: tuple[str, ...] = ("M003", "M018", "W009")
) -> None:
    for actor in actors:
        for emotion, level in (
            ("angry", "level_1"),
            ("disgusted", "level_3"),
            ("neutral", "level_1"),
        ):
            for view in ("front", "left_30"):
                media(root / actor / "video" / view / emotion / level / "001.mp4")
            media(root / actor / "audio" / emotion / level / "001.m4a")


def build_celebv_hq(root: Path, media: Media) -> None:
    """Three processed clips, one raw video of two clips, and one clip that was not downloaded."""
    clips = {}
    for name, video in (
        ("M2Ohb0FAaJU_1", "M2Ohb0FAaJU"),
        ("_0tf2n3rlJU_0", "_0tf2n3rlJU"),
        ("rawrawraw01_0", "rawrawraw01"),
        ("rawrawraw01_1", "rawrawraw01"),
        ("heldheld023_0", "heldheld023"),
        ("gonegonego1_0", "gonegonego1"),
    ):
        clips[name] = {
            "ytb_id": video,
            "duration": {"start_sec": 81.62, "end_sec": 86.17},
            "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
            "attributes": {
                "appearance": [0, 1, 1, 0, 1],
                "action": [0, 1],
                "emotion": {"sep_flag": False, "labels": "happy"},
            },
            "version": "v0.1",
        }
    several = [
        {"emotion": "neutral", "start_sec": 0, "end_sec": 0.28},
        {"emotion": "happy", "start_sec": 1.28, "end_sec": 3.28},
    ]
    other = clips["_0tf2n3rlJU_0"]["attributes"]
    other["appearance"] = [0, 0, 0, 1, 0]
    other["emotion"] = {"sep_flag": True, "labels": several}
    names = {
        "appearance_mapping": ["Blurry", "Male", "Young", "Eyeglasses", "Black_Hair"],
        "action_mapping": ["blow", "chew"],
    }
    write_text(root / "celebvhq_info.json", json.dumps({"meta_info": names, "clips": clips}))
    for name in ("M2Ohb0FAaJU_1", "_0tf2n3rlJU_0", "heldheld023_0"):
        media(root / "downloaded_celebvhq" / "processed" / f"{name}.mp4")
    media(root / "downloaded_celebvhq" / "raw" / "rawrawraw01.mp4")


LRS3_HEAD = """Text:  {text}
Conf:  4
Ref:   {video}

FRAME \tX \tY \tW \tH
000001 \t0.387 \t0.110 \t0.130 \t0.231
"""
LRS3_WORDS = """
WORD START END ASDSCORE
SO 0.05 0.16 7.1
{LG} 0.16 0.20 -1.0
TODAY 0.20 0.44 6.4
"""


def build_lrs3(root: Path, media: Media) -> None:
    for part, video in (
        ("pretrain", "00j9bKdiOjk"),
        ("trainval", "0Fi83BHQsMA"),
        ("test", "0akiEFwtkyA"),
    ):
        for name in ("00001", "00002"):
            media(root / part / video / f"{name}.mp4")
            text = LRS3_HEAD.format(text="SO {LG} TODAY", video=video)
            words = LRS3_WORDS if part == "pretrain" else ""
            write_text(root / part / video / f"{name}.txt", text + words)


def build_talkvid(root: Path, media: Media) -> None:
    """One clip as the script names it, one by its id, one that was not downloaded."""
    rows = []
    for number, person in (("1", "597"), ("2", "598"), ("3", "599")):
        rows.append(
            {
                "id": f"videovideoTr6MMsoWAog-scene{number}-scene1",
                "fps": 24.0,
                "start-time": 0.1,
                "end-time": 5.0 + 0.141666666666667 * int(number),
                "info": {
                    "Person ID": person,
                    "Gender": "Male",
                    "Age Group": "60+",
                    "Language": "English",
                    "Video Link": "https://www.youtube.com/watch?v=Tr6MMsoWAog",
                },
                "description": "An older man in a suit.",
            }
        )
    write_text(root / "rows.json", json.dumps(rows))
    media(root / "output" / "Tr6MMsoWAog" / "Tr6MMsoWAog_001_0.100_5.141.mp4")
    media(root / "clips" / "videovideoTr6MMsoWAog-scene2-scene1.mp4")


def build_folder(root: Path, media: Media) -> None:
    for place in ("one.mp4", "a/two.mov", "a/b/three.mkv"):
        media(root / place)
    write_text(root / "notes.txt", "not a clip")
    media(root / "sounds" / "one.wav")
    with (root / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "speaker", "transcript", "consent", "place"])
        table.writerow(["one.mp4", "a red square, moving", "ann", "hello you", "given", "kitchen"])
        table.writerow(["a/two.mov", "", "ben", "", "", ""])


BUILDERS: dict[str, Callable[[Path, Media], None]] = {
    "celebv_hq": build_celebv_hq,
    "crema_d": build_crema_d,
    "folder": build_folder,
    "grid": build_grid,
    "hdtf": build_hdtf,
    "librispeech": build_librispeech,
    "lrs3": build_lrs3,
    "mead": build_mead,
    "ravdess": build_ravdess,
    "talkvid": build_talkvid,
    "voxceleb2": build_voxceleb2,
}


def build(name: str, root: Path, num_frames: int = 12) -> Path:
    """A small copy of a corpus at `root`, with clips of `num_frames` frames at 25 fps."""
    BUILDERS[name](root, Media(root.parent / f"media{num_frames}", num_frames))
    return root
