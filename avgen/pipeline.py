"""PROMPT -> CLIP: the only way to generate, and it reads like the flow.

words -> times -> grids -> one layout -> what is given (a mask) -> denoise -> decode -> Clip. Longer clips than the
model was trained on are made in windows, each going on from the end of the one before: continuation is one more mask.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from tqdm import tqdm

from avgen.clips.clip import Clip, Word
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.clips.transforms import center_crop_resize, remix
from avgen.codecs.base import AudioCodec, VideoCodec, load_module, read_config, save_module
from avgen.codecs.normalize import LatentStatistics
from avgen.diffusion.guidance import guide
from avgen.diffusion.path import clean_from_velocity, mix
from avgen.diffusion.samplers import adams_bashforth
from avgen.diffusion.schedules import shifted_sigmas
from avgen.latents.conditioning import before_given, latents_given, modality_given
from avgen.latents.grid import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, Layout, make_layout, pack, unpack
from avgen.models.speech import SpeechTimer, TimedPhoneme, parse_prompt, spread
from avgen.models.text import Text, make_text
from avgen.models.transformer import AVTransformer

DEFAULT_MODEL = Path(__file__).parent / "checkpoints" / "grid"
PARTS = ("transformer", "video_codec", "audio_codec")
BYTES_PER_TOKEN = 60_000  # of activations while denoising, measured for 20 M parameters at batch 2; a guard, not a promise


@dataclass(frozen=True)
class PipelineConfig:
    """What a model folder says besides its networks.

    Attributes:
        height: Rows of pixels it was trained on, and makes by default.
        width: Columns.
        fps: Frames per second, as a fraction's text.
        num_frames: Frames it was trained on: the default length, and the length of a window.
        context_frames: Frames of the end of one window that the next goes on from; 1 + a multiple of the codec's stride.
        video_patch: Latents each way in a video token.
        audio_patch: Latents in an audio token.
        video_statistics: Mean and deviation of the video latents' channels.
        audio_statistics: Of the audio latents' channels.
        timer: How long words take, as `SpeechTimer`'s fields.
        caption: Used where a prompt says nothing but words.
        needs_words: Whether a clip needs words to say unless sound or picture is given.
        num_inference_steps: Default.
        guidance_scale: Default, of the picture.
        audio_guidance_scale: Default, of the sound.
        shift: Of the sampling grid, towards noise (see `shift_sigma`).
    """

    height: int
    width: int
    fps: str
    num_frames: int
    context_frames: int
    video_patch: int
    audio_patch: int
    video_statistics: LatentStatistics
    audio_statistics: LatentStatistics
    timer: SpeechTimer
    caption: str = ""
    needs_words: bool = True
    num_inference_steps: int = 24
    guidance_scale: float = 1.5
    audio_guidance_scale: float = 1.5
    shift: float = 1.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PipelineConfig:
        """Rebuild from what `asdict` and JSON made of it."""
        values = dict(values)
        for name, kind in (
            ("video_statistics", LatentStatistics),
            ("audio_statistics", LatentStatistics),
            ("timer", SpeechTimer),
        ):
            values[name] = kind(**values[name])
        return cls(**values)


@dataclass(frozen=True)
class Sampling:
    """How a clip is denoised.

    Attributes:
        num_steps: Steps of the sampler.
        guidance_scale: Of the picture; 1 is off.
        audio_guidance_scale: Of the sound; 1 is off.
        seed: Of the noise.
        negative_caption: What guidance pushes away from, or None for no text at all.
    """

    num_steps: int
    guidance_scale: float
    audio_guidance_scale: float
    seed: int
    negative_caption: str | None


@dataclass(frozen=True)
class Request:
    """What is asked for, resolved: sizes and lengths are numbers, words have times.

    Attributes:
        caption: How it looks and sounds.
        words: What is said, and when.
        num_frames: Of the whole clip.
        fps: Frames per second.
        height: Rows of pixels.
        width: Columns.
        frames: Given frames from the start, uint8 [t, H, W, 3]; all of them where t is num_frames.
        waveform: Given sound from the start, float32 [1, n] at the codec's rate.
    """

    caption: str
    words: tuple[Word, ...]
    num_frames: int
    fps: Fraction
    height: int
    width: int
    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None


@dataclass
class _Made:
    """Frames and sound so far, as lists of pieces that follow each other."""

    frames: np.ndarray
    waveform: np.ndarray
    progress: Callable[[int], None] = field(default=lambda _: None)


class AVPipeline:
    """A transformer, two codecs and what they need to know, from a folder.

    Args:
        transformer: Denoises.
        video_codec: Pictures <-> latents.
        audio_codec: Sound <-> latents.
        config: See `PipelineConfig`.
    """

    def __init__(
        self, transformer: AVTransformer, video_codec: VideoCodec, audio_codec: AudioCodec, config: PipelineConfig
    ) -> None:
        self.transformer, self.video_codec, self.audio_codec, self.config = transformer, video_codec, audio_codec, config
        self.dtype = torch.float32

    @classmethod
    def from_pretrained(
        cls, folder: str | Path | None = None, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> AVPipeline:
        """Read a model folder: `config.json`, and one folder each for transformer, video_codec and audio_codec.

        Args:
            folder: The default model where None.
            device: Where to run.
            dtype: Of the arithmetic inside the networks (autocast); float32 where None.

        Raises:
            ValueError: the folder is not a model folder, or its parts do not fit their configurations.
        """
        folder = DEFAULT_MODEL if folder is None else Path(folder)
        if not folder.is_dir():
            raise ValueError(f"{folder}: not a folder; a model is a folder with config.json and {', '.join(PARTS)}")
        values = read_config(folder / "config.json")
        try:
            config = PipelineConfig.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'config.json'}: does not describe a pipeline: {error}") from error
        parts = [load_module(folder / name).to(device) for name in PARTS]
        pipe = cls(*parts, config)  # type: ignore[arg-type]
        pipe.dtype = dtype or torch.float32
        return pipe

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads; weights as bfloat16."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in PARTS:
            part = getattr(self, name)
            assert isinstance(part, nn.Module)
            save_module(part, folder / name)
        temporary = folder / f".config.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        temporary.replace(folder / "config.json")

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device

    def __call__(
        self,
        prompt: str = "",
        *,
        negative_prompt: str | None = None,
        speech: str | None = None,
        words: Sequence[Word] | None = None,
        seconds: float | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: Fraction | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        seed: int = 0,
        image: np.ndarray | None = None,
        audio: tuple[np.ndarray, int] | None = None,
        video: Clip | None = None,
        extend: Clip | None = None,
        progress: bool = True,
    ) -> Clip:
        """Make a clip. What is given comes out as it went in; the rest is made to go with it.

        Args:
            prompt: How it looks and sounds; words in double quotes are spoken.
            negative_prompt: A caption that guidance pushes away from.
            speech: The words spoken, instead of quoting them.
            words: The words with their times in seconds, instead of predicted ones.
            seconds: How long; by default as long as what is given, else as long as the words take.
            num_frames: How long, in frames.
            height: Rows of pixels, even; the model's own by default.
            width: Columns of pixels, even.
            fps: Frames per second.
            num_inference_steps: Steps of the sampler.
            guidance_scale: Pull of the text on the picture; 1 is off.
            audio_guidance_scale: Pull of the text on the sound; 1 is off.
            seed: The same seed gives the same clip.
            image: The first frame, uint8 [H, W, 3].
            audio: All the sound: (float32 [C, N] in [-1, 1], sample rate).
            video: All the picture.
            extend: A beginning, with sound; the clip goes on from its end.
            progress: Show progress bars.

        Returns:
            The clip, frames [T, height, width, 3]; sound at the codec's rate, or the given sound's own.

        Raises:
            ValueError: what is asked for contradicts itself, cannot be said, or does not fit into memory.
        """
        quoted_caption, quoted = parse_prompt(prompt)
        size = self._size(height, width)
        rate = Fraction(fps or self.config.fps)
        request = self._request(
            quoted_caption or self.config.caption, speech if speech is not None else quoted, words,
            (seconds, num_frames), size, rate, image, audio, video, extend,
        )  # fmt: skip
        config = self.config
        sampling = Sampling(
            num_inference_steps or config.num_inference_steps,
            config.guidance_scale if guidance_scale is None else guidance_scale,
            config.audio_guidance_scale if audio_guidance_scale is None else audio_guidance_scale,
            seed,
            negative_prompt,
        )
        clip = self.generate(request, sampling, progress)
        if audio is not None:
            waveform, sample_rate = audio
            return replace(clip, waveform=fit(waveform, num_samples(clip.num_frames, rate, sample_rate)), sample_rate=sample_rate)
        return clip

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        size = self.config.height if height is None else height, self.config.width if width is None else width
        for name, value in zip(("height", "width"), size, strict=True):
            if value < 16:
                raise ValueError(f"{name} is {value}; it must be at least 16 pixels")
        return size

    def _request(self, caption, speech, words, length, size, fps, image, audio, video, extend) -> Request:  # noqa: ANN001, PLR0913
        """Resolve lengths and times."""
        if audio is not None and video is not None:
            raise ValueError("audio and video are both given; then there is nothing to make")
        if extend is not None and (image is not None or video is not None or audio is not None):
            raise ValueError("extend is given with image, audio or video; a beginning already has both")
        if not (speech or words) and self.config.needs_words and audio is None and video is None:
            raise ValueError('nothing to say: this model needs words, as in prompt=\'a man says "place red at g nine now"\'')
        start = 0 if extend is None else extend.num_frames
        frames = self._given_frames(size, fps, image, video, extend)
        waveform = self._given_waveform(audio, extend)
        start_s = float(to_seconds(start, fps))
        num_frames = self._num_frames(length, fps, audio, video, words, speech, start)
        seconds = float(to_seconds(num_frames, fps)) - start_s
        if words is None and speech:
            words = self.config.timer.time(speech, seconds)
        timed = tuple(Word(w.text, w.start_s + start_s, w.end_s + start_s) for w in words or ())
        late = [word for word in timed if word.end_s > start_s + seconds + 0.05]
        if late:
            raise ValueError(f"the word {late[0].text!r} ends at {late[0].end_s:.2f} s; the clip ends at {start_s + seconds:.2f} s")
        spread(timed, self.config.timer.lexicon)  # says now which word cannot be pronounced
        if waveform is not None and audio is not None:
            waveform = fit(waveform, num_samples(num_frames, fps, self.audio_codec.sample_rate))
        return Request(caption, timed, num_frames, fps, *size, frames, waveform)

    def _num_frames(self, length, fps, audio, video, words, speech, start) -> int:  # noqa: ANN001, PLR0913
        seconds, num_frames = length
        if num_frames is not None:
            total = num_frames
        elif seconds is not None:
            if not 0 < seconds < math.inf:
                raise ValueError(f"seconds is {seconds}; it must be more than 0")
            total = to_index(seconds, fps)
        elif video is not None:
            total = video.num_frames
        elif audio is not None:
            total = to_index(to_seconds(audio[0].shape[1], audio[1]), fps)
        elif words:
            total = start + to_index(words[-1].end_s + self.config.timer.tail_s, fps)
        else:
            timed = self.config.timer.time(speech, None)
            own = to_index(timed[-1].end_s + self.config.timer.tail_s, fps)
            trained = to_index(to_seconds(self.config.num_frames, Fraction(self.config.fps)), fps)
            total = start + max(own, trained)
        if video is not None and total > video.num_frames:
            raise ValueError(f"{total} frames asked for, {video.num_frames} given by video; it must give them all")
        if total <= start:
            raise ValueError(f"{total} frames asked for; it must be more than the {start} given")
        return total

    def _given_frames(self, size, fps, image, video, extend) -> np.ndarray | None:  # noqa: ANN001
        for clip in (video, extend):
            if clip is not None and clip.fps != fps:
                raise ValueError(f"a clip at {clip.fps} fps is given, {fps} fps is asked for; read it at that rate")
        source = image[None] if image is not None else (video or extend)
        if source is None:
            return None
        frames = source if isinstance(source, np.ndarray) else source.frames
        return frames if frames.shape[1:3] == size else center_crop_resize(frames, *size)

    def _given_waveform(self, audio, extend) -> np.ndarray | None:  # noqa: ANN001
        if audio is None and extend is None:
            return None
        waveform, rate = audio if audio is not None else (extend.waveform, extend.sample_rate)
        if waveform is None:
            raise ValueError("extend has no sound; a beginning needs both (give it as video for sound to be made)")
        mono = torch.from_numpy(np.ascontiguousarray(remix(waveform, 1)))
        waveform = torchaudio.functional.resample(mono, rate, self.audio_codec.sample_rate).numpy()
        if extend is not None:
            waveform = fit(waveform, num_samples(extend.num_frames, extend.fps, self.audio_codec.sample_rate))
        return waveform

    @torch.inference_mode()
    def generate(self, request: Request, sampling: Sampling, progress: bool = False) -> Clip:
        """Make the clip of a request, window by window."""
        check_memory(request)
        rate = self.audio_codec.sample_rate
        window = max(self.config.context_frames + 1, to_index(to_seconds(self.config.num_frames, Fraction(self.config.fps)), request.fps))
        beginning = request.frames is not None and request.waveform is not None and len(request.frames) < request.num_frames
        made_frames = request.frames if beginning and request.frames is not None else np.zeros((0, request.height, request.width, 3), np.uint8)
        made_sound = request.waveform if beginning and request.waveform is not None and request.waveform.shape[1] <= num_samples(len(made_frames), request.fps, rate) else None
        frames, sound = [made_frames], made_sound if made_sound is not None else np.zeros((1, 0), np.float32)
        done, index = (len(made_frames) if made_sound is not None else 0), 0
        if made_sound is None:
            frames = [made_frames[:0]]
        while done < request.num_frames:
            context = min(done, self.config.context_frames)
            context -= (context - 1) % self.video_codec.stride[0] if context else 0
            start = done - context
            stop = min(request.num_frames, start + window)
            clip = self._window(request, sampling, index, (start, stop), np.concatenate(frames)[start:done], sound, progress)
            frames.append(clip.frames[context:])
            assert clip.waveform is not None
            begin = num_samples(start, request.fps, rate)
            joined = num_samples(done, request.fps, rate)
            sound = np.concatenate([sound[:, :joined], clip.waveform[:, joined - begin :]], 1)
            done, index = stop, index + 1
        return Clip(np.concatenate(frames), request.fps, fit(sound, num_samples(done, request.fps, rate)), rate)

    def _window(self, request, sampling, index, span, context, sound, progress) -> Clip:  # noqa: ANN001, PLR0913
        """Make frames [start, stop) and their sound; `context` are the first of them, already there."""
        start, stop = span
        begin, end = (num_samples(n, request.fps, self.audio_codec.sample_rate) for n in span)
        start_s = float(to_seconds(start, request.fps))
        layout = self.layout(stop - start, request).to(self.device)
        given = torch.zeros(layout.num_tokens, dtype=torch.bool, device=self.device)
        pixels = np.zeros((stop - start, request.height, request.width, 3), np.uint8)
        waveform = np.zeros((1, end - begin), np.float32)
        if len(context):
            given |= before_given(layout, float(to_seconds(len(context), request.fps)))
            pixels[: len(context)] = context
            waveform[:, :] = fit(sound[:, begin:], end - begin)
        if request.waveform is not None and request.waveform.shape[1] >= end:
            given |= modality_given(layout, AUDIO)
            waveform = request.waveform[:, begin:end]
        if request.frames is not None and len(request.frames) >= stop:
            given |= modality_given(layout, VIDEO)
            pixels = request.frames[start:stop]
        elif request.frames is not None and len(request.frames) == 1 and start == 0:
            given |= latents_given(layout, 1)
            pixels[0] = request.frames[0]
        clean = self.encode(pixels, waveform, layout)
        phonemes = spread(request.words, self.config.timer.lexicon)
        length = float(to_seconds(stop - start, request.fps))
        local = [
            TimedPhoneme(p.phoneme, p.start_s - start_s, p.end_s - start_s)
            for p in phonemes
            if p.end_s > start_s and p.start_s < start_s + length
        ]
        text = make_text([request.caption], [local]).to(self.device)
        tokens = self.denoise(clean, given, layout, text, sampling, index, progress)
        clip = self.decode(tokens, layout, progress)
        if request.frames is not None and len(request.frames) >= stop:
            return replace(clip, frames=request.frames[start:stop])
        frames = np.concatenate([pixels[:1], clip.frames[1:]]) if start == 0 and request.frames is not None else clip.frames
        return replace(clip, frames=frames)

    def layout(self, num_frames: int, request: Request) -> Layout:
        """Where every token of a window lies."""
        codec, audio, config = self.video_codec, self.audio_codec, self.config
        video_grid = VideoGrid(
            num_frames, request.height, request.width, request.fps, codec.stride, codec.latent_channels, config.video_patch
        )
        samples = num_samples(num_frames, request.fps, audio.sample_rate)
        audio_grid = AudioGrid(samples, audio.sample_rate, audio.hop_length, audio.latent_channels, config.audio_patch)
        return make_layout(video_grid, audio_grid)

    def encode(self, frames: np.ndarray, waveform: np.ndarray, layout: Layout) -> Tensor:
        """Frames uint8 [T, H, W, 3] and waveform [1, N] to normalised tokens [1, L, W]."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).movedim(-1, 0)[None].float() / 127.5 - 1
        sound = torch.from_numpy(np.ascontiguousarray(waveform)).to(self.device)[None]
        video = self.config.video_statistics.normalize(self.video_codec.encode(pixels).float())
        audio = self.config.audio_statistics.normalize(self.audio_codec.encode(sound).float())
        return pack(video, audio, layout)

    def denoise(self, clean, given, layout, text, sampling, window, progress) -> Tensor:  # noqa: ANN001, PLR0913
        """Walk noise back to data where tokens are made; given tokens [L] of `clean` come out as they went in."""
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((sampling.seed % 2**63, window)).generate_state(1, np.uint64)[0] >> 1))
        noise = torch.randn(clean.shape, generator=generator).to(clean) * layout.used
        scales = torch.tensor([sampling.guidance_scale, sampling.audio_guidance_scale], device=self.device)[layout.modality][None]
        plain = text.drop(torch.ones(1, dtype=torch.bool, device=self.device), torch.ones(1, dtype=torch.bool, device=self.device))
        if sampling.negative_caption:
            plain = self._against(text, sampling.negative_caption)
        both = Text(**{name: torch.cat([value, getattr(plain, name)]) for name, value in vars(text).items()})
        unguided = bool((scales == 1).all())
        sigmas = shifted_sigmas(sampling.num_steps, self.config.shift).to(self.device)[:, None, None] * ~given[None, None]

        def denoised(noisy: Tensor, sigma: Tensor) -> Tensor:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                if unguided:
                    velocity = self.transformer(noisy, sigma, layout, text)
                else:
                    made = self.transformer(noisy.expand(2, -1, -1), sigma.expand(2, -1), layout, both)
                    velocity = guide(made[:1], made[1:], scales)
            return clean_from_velocity(noisy, velocity.float(), sigma)

        with tqdm(total=sampling.num_steps, desc="denoising", unit="step", disable=not progress) as bar:
            noisy = mix(clean, noise, sigmas[0])
            return adams_bashforth(denoised, noisy, sigmas, callback=lambda *_: bar.update())

    def _against(self, text: Text, caption: str) -> Text:
        """The same text with another caption and no words."""
        other = make_text([caption], [[]]).to(self.device)
        width = text.caption_ids.shape[1]
        ids, mask = torch.zeros_like(text.caption_ids), torch.zeros_like(text.caption_mask)
        count = min(width, other.caption_ids.shape[1])
        ids[:, :count], mask[:, :count] = other.caption_ids[:, :count], other.caption_mask[:, :count]
        return replace(text, caption_ids=ids, caption_mask=mask, speech_mask=torch.zeros_like(text.speech_mask))

    def decode(self, tokens: Tensor, layout: Layout, progress: bool) -> Clip:
        """Normalised tokens [1, L, W] to a clip, a few frames at a time."""
        video, audio = unpack(tokens, layout)
        grid = layout.video
        video = self.config.video_statistics.denormalize(video)
        audio = self.config.audio_statistics.denormalize(audio)
        frames = []
        with tqdm(total=grid.num_frames, desc="decoding", unit="frame", disable=not progress) as bar:
            for pixels in self.video_codec.decode_chunks(video, num_frames=grid.num_frames, height=grid.height, width=grid.width):
                frames.append(((pixels[0].movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy())
                bar.update(len(frames[-1]))
            waveform = self.audio_codec.decode(audio, num_samples=layout.audio.num_samples)[0]
        sound = waveform.float().clamp(-1, 1).cpu().numpy()
        return Clip(np.concatenate(frames), grid.fps, sound, layout.audio.sample_rate)


def fit(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform [C, N] cut or padded with silence to `length` samples."""
    return np.pad(waveform[:, :length], [(0, 0), (0, max(0, length - waveform.shape[1]))])


def check_memory(request: Request) -> None:
    """Raise ValueError where the clip would not fit into this machine's memory."""
    pixels = request.height * request.width
    need = request.num_frames * pixels * 3 * 2 + pixels // 256 * BYTES_PER_TOKEN
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > 0.8 * have:
        raise ValueError(
            f"{request.num_frames} frames of {request.height}x{request.width} need about {need / 2**30:.0f} GiB; "
            f"this machine has {have / 2**30:.0f}"
        )
