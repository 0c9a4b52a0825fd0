"""Clips as the model made them in, the table of docs/provenance.md out: where the marks are found.

    python benchmarks/marks.py FOLDER [--unmarked FOLDER] [--keys 200]

FOLDER holds clips without marks (`avgen generate --no-marks -o a.mkv`, lossless). Each is marked,
put through what happens to clips, and looked for. --unmarked: real clips; each is looked at with
many keys, none of which it carries: how often chance looks like a mark.
"""

import argparse
import io
import time
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from pystoi import stoi

from avgen.clips import read_clip
from avgen.clips.clip import Clip
from avgen.clips.transforms import resize
from avgen.evaluation.faces.tracking import CascadeTracker, the_face
from avgen.evaluation.subject import Unscored
from avgen.evaluation.sync import score as sync
from avgen.provenance import picture_mark, sound_mark

RATE = 24000


def through_h264(frames: np.ndarray, fps: int, crf: int) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] encoded by x264 and decoded."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def through_sound(
    waveform: np.ndarray, rate: int, codec: str, bit_rate: int, at: int | None = None
) -> tuple[np.ndarray, int]:
    """A waveform float32 [1, N] encoded and decoded, and its rate."""
    format = {"aac": "mp4", "libmp3lame": "mp3", "libopus": "ogg"}[codec]
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=at or rate, layout="mono")
        stream.bit_rate = bit_rate
        size = stream.frame_size or 960
        resampler = av.AudioResampler(stream.format.name, "mono", at or rate, size)
        frame = av.AudioFrame.from_ndarray(waveform, format="flt", layout="mono")
        frame.sample_rate = rate
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        decoded = list(container.decode(audio=0))
        resampler = av.AudioResampler("flt", "mono", decoded[0].sample_rate)
        blocks = [b.to_ndarray() for f in decoded for b in resampler.resample(f)]
    return np.concatenate(blocks, 1), decoded[0].sample_rate


def scaled(frames: np.ndarray, share: float) -> np.ndarray:
    """Frames at another size, even."""
    height, width = (round(share * side / 2) * 2 for side in frames.shape[1:3])
    return resize(frames, height, width)


def cropped(frames: np.ndarray, share: float) -> np.ndarray:
    """The middle of frames, `share` of each side cut away in all."""
    height, width = frames.shape[1:3]
    rows, columns = round(height * share / 2), round(width * share / 2)
    cut = frames[:, rows : height - rows, columns : width - columns]
    return cut[:, : cut.shape[1] // 2 * 2, : cut.shape[2] // 2 * 2]


def noisy(frames: np.ndarray) -> np.ndarray:
    """Brighter by 12 levels, with noise of 4."""
    drawn = np.random.default_rng(0).normal(12, 4, frames.shape)
    return np.clip(np.rint(frames + drawn), 0, 255).astype(np.uint8)


PICTURE = {
    "as made": lambda f: f,
    "CRF 16 (as avgen writes)": lambda f: through_h264(f, 25, 16),
    "CRF 23": lambda f: through_h264(f, 25, 23),
    "CRF 28": lambda f: through_h264(f, 25, 28),
    "CRF 34": lambda f: through_h264(f, 25, 34),
    "x 0.75, CRF 28": lambda f: through_h264(scaled(f, 0.75), 25, 28),
    "x 0.5, CRF 28": lambda f: through_h264(scaled(f, 0.5), 25, 28),
    "x 2, CRF 28": lambda f: through_h264(scaled(f, 2), 25, 28),
    "crop 10 %, CRF 28": lambda f: through_h264(cropped(f, 0.1), 25, 28),
    "crop 20 %, CRF 28": lambda f: through_h264(cropped(f, 0.2), 25, 28),
    "7 frames cut, CRF 28": lambda f: through_h264(f[7:], 25, 28),
    "1 s of it, CRF 28": lambda f: through_h264(f[24:49], 25, 28),
    "brighter, noise, CRF 28": lambda f: through_h264(noisy(f), 25, 28),
}
SOUND = {
    "as made": lambda w, r: (w, r),
    "AAC 96k (as avgen writes)": lambda w, r: through_sound(w, r, "aac", 96000, 48000),
    "AAC 64k": lambda w, r: through_sound(w, r, "aac", 64000),
    "MP3 64k": lambda w, r: through_sound(w, r, "libmp3lame", 64000),
    "MP3 32k": lambda w, r: through_sound(w, r, "libmp3lame", 32000),
    "Opus 24k": lambda w, r: through_sound(w, r, "libopus", 24000, 48000),
    "1.5 s of it, AAC 64k": lambda w, r: through_sound(w[:, r // 2 : 2 * r], r, "aac", 64000),
    "1 % faster": lambda w, r: (w, r * 1.01),
    "noise at 20 dB": lambda w, r: (
        w + np.random.default_rng(0).normal(0, w.std() / 10, w.shape).astype(np.float32), r),
}  # fmt: skip


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two lots of frames, dB."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 10 * np.log10(255**2 / error)


def step_of(frames: np.ndarray) -> float:
    """The largest mean change from one frame to the next."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3)).max())


def clips_in(folder: Path) -> Iterator[tuple[str, Clip]]:
    """Every clip of a folder: frames and one channel of sound."""
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".mkv", ".mp4", ".mpg"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield path.name, read_clip(path, num_channels=1)


def marked(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Frames and waveform with the marks."""
    return picture_mark.embed(clip.frames), sound_mark.embed(clip.waveform, clip.sample_rate)


def offset_ms(model: sync.SyncModel, frames: np.ndarray, sound: np.ndarray, rate: int) -> float:
    """How far apart avgen-sync finds picture and sound."""
    boxes = the_face(CascadeTracker()(frames)).boxes
    heard = model.sound_features(sound, rate, len(frames))
    return model.score(model.picture_features(frames, boxes), heard).offset_ms


def moved(pairs: list[tuple[Clip, tuple[np.ndarray, np.ndarray]]]) -> np.ndarray:
    """By how many ms the marks move what avgen-sync finds, and H.264 alone: [clips, 2], signed.

    Of clips whose face is seen throughout.
    """
    model, apart = sync.load(), []
    for clip, (frames, sound) in pairs:
        written = through_h264(clip.frames, 25, 16)  # as avgen writes
        several = (clip.frames, clip.waveform), (frames, sound), (written, clip.waveform)
        try:
            plain, *both = [offset_ms(model, *one, clip.sample_rate) for one in several]
        except Unscored as reason:
            print(f"no offset of a clip: {reason}")
            continue
        apart.append([one - plain for one in both])
    return np.array(apart).reshape(-1, 2)


def delays_ms(clip: Clip, frames: np.ndarray, sound: np.ndarray) -> tuple[float, float]:
    """By how much the marks delay the picture and the sound themselves, each against its own clip.

    Where frames differ least from the clip's, and where the sound correlates most with the clip's:
    the top of a parabola through the best shift and its neighbours.
    """
    real, made = clip.frames.astype(np.float32), frames.astype(np.float32)
    unlike = [np.square(made[2 + k : len(made) - 2 + k] - real[2:-2]).mean() for k in range(-2, 3)]
    heard, given = sound.mean(0).astype(np.float64), clip.waveform.mean(0).astype(np.float64)
    middle = slice(9, len(given) - 9)
    alike = [np.dot(np.roll(heard, -k)[middle], given[middle]) for k in range(-8, 9)]
    return (
        1000 / float(clip.fps) * (_top(-np.array(unlike)) - 2),
        1000 / clip.sample_rate * (_top(np.array(alike)) - 8),
    )


def _top(values: np.ndarray) -> float:
    """Where a parabola through the largest value and its neighbours has its top."""
    best = int(np.clip(np.argmax(values), 1, len(values) - 2))
    before, there, after = values[best - 1 : best + 2]
    return best + (before - after) / (2 * (before - 2 * there + after))


def told(shifts: np.ndarray) -> str:
    """Shifts of clips [clips]: of all together, with its 95 % interval, and of single ones."""
    half = 1.96 * shifts.std(ddof=1) / len(shifts) ** 0.5
    return (
        f"{shifts.mean():+.2f} ms [{shifts.mean() - half:+.2f}, {shifts.mean() + half:+.2f}], of a "
        f"clip {np.median(abs(shifts)):.2f} in the middle and {max(abs(shifts)):.2f} at most"
    )


def row(name: str, values: Sequence[float], threshold: float) -> None:
    """A row of the table."""
    found = np.mean(np.asarray(values) >= threshold)
    print(f"| {name} | {np.min(values):.1f} | {np.median(values):.1f} | {found:.0%} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unmarked", type=Path)
    parser.add_argument("--keys", type=int, default=200)
    args = parser.parse_args()
    clips = [clip for _, clip in clips_in(args.folder)]
    spent = time.process_time()
    made = [marked(clip) for clip in clips]
    seconds = sum(float(clip.duration_s) for clip in clips)
    cost = (time.process_time() - spent) / seconds
    pairs = list(zip(clips, made, strict=True))
    quality = [psnr(clip.frames, frames) for clip, (frames, _) in pairs]
    steps = [step_of(frames) / step_of(clip.frames) for clip, (frames, _) in pairs]
    clear = [stoi(clip.waveform[0], sound[0], clip.sample_rate) for clip, (_, sound) in pairs]
    apart, coded = moved(pairs).T
    seen, heard = np.abs([delays_ms(clip, *both) for clip, both in pairs]).max(0)
    print(
        f"{len(clips)} clips, {seconds:.0f} s; PSNR {min(quality):.1f} to {max(quality):.1f} dB; "
        f"largest step between frames x {max(steps):.2f}; STOI at least {min(clear):.4f}; "
        f"{cost:.3f} s of processor to mark a second; the marks delay the picture by {seen:.3f} ms "
        f"and the sound by {heard:.4f} ms at most; they move what avgen-sync finds by "
        f"{told(apart)}; CRF 16 alone by {told(coded)}\n"
    )
    print("| picture | least z | median z | found |\n|---|---|---|---|")
    for name, attack in PICTURE.items():
        row(name, [picture_mark.find(attack(f)) for f, _ in made], picture_mark.THRESHOLD)
    print("\n| sound | least z | median z | found |\n|---|---|---|---|")
    for name, attack in SOUND.items():
        zs = [
            sound_mark.find(*attack(w, c.sample_rate))
            for c, (_, w) in zip(clips, made, strict=True)
        ]
        row(name, zs, sound_mark.THRESHOLD)
    _chance(clips if args.unmarked is None else [c for _, c in clips_in(args.unmarked)], args.keys)


def _chance(clips: Sequence[Clip], keys: int) -> None:
    """The largest that unmarked clips reach with keys that they do not carry."""
    picture, sound = [], []
    for clip in clips:
        seen = picture_mark.whitened(np.mean([picture_mark.luma(f) for f in clip.frames], axis=0))
        heard = sound_mark.evidence(clip.waveform.mean(0), clip.sample_rate)
        for key in range(keys):
            picture.append(picture_mark.best(seen, f"other {key}"))
            sound.append(sound_mark.score(heard, f"other {key}"))
    print(f"\nunmarked clip x key, {len(picture)} pairs: picture at most {max(picture):.2f} "
          f"(threshold {picture_mark.THRESHOLD}), sound at most {max(sound):.2f} "
          f"(threshold {sound_mark.THRESHOLD})")  # fmt: skip


if __name__ == "__main__":
    main()
