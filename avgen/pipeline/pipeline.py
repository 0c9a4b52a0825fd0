"""Request -> clip: layout, what is given (a mask), denoise, decode.

Clips longer than the model was trained on are made in windows, each going on from the end of the
one before: continuation is one more mask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from avgen.clips.clip import Clip, Word
from avgen.clips.files import atomic
from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.codecs.base import AudioCodec, VideoCodec, load_module, read_config, save_module
from avgen.diffusion.path import mix
from avgen.diffusion.samplers import adams_bashforth
from avgen.diffusion.schedules import shifted_sigmas
from avgen.errors import UserError
from avgen.latents.conditioning import before_given, latents_given, modality_given
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, Layout, make_layout, pack, unpack
from avgen.models.phonemes import during
from avgen.models.prompt import parse_prompt
from avgen.models.text import Text
from avgen.models.timing import spread
from avgen.models.transformer import AVTransformer
from avgen.pipeline.config import PipelineConfig, Sampling
from avgen.pipeline.denoiser import Denoiser
from avgen.pipeline.joins import ease_frames, ease_sound
from avgen.pipeline.request import Asked, Given, Request, fit, resolve

DEFAULT_MODEL = Path(__file__).parents[1] / "checkpoints" / "grid"
PARTS = ("transformer", "video_codec", "audio_codec")


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that is made at once.

    Attributes:
        index: Of the window.
        start: Its first frame.
        done: The first frame that is not there yet; what comes before is its context.
        stop: After its last frame.
    """

    index: int
    start: int
    done: int
    stop: int


class AVPipeline:
    """A transformer, two codecs and what they need to know, from a folder.

    Args:
        transformer: Denoises.
        video_codec: Pictures <-> latents.
        audio_codec: Sound <-> latents.
        config: See `PipelineConfig`.
    """

    def __init__(
        self,
        transformer: AVTransformer,
        video_codec: VideoCodec,
        audio_codec: AudioCodec,
        config: PipelineConfig,
    ) -> None:
        self.transformer = transformer
        self.video_codec, self.audio_codec = video_codec, audio_codec
        self.config = config
        self.dtype = torch.float32

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> AVPipeline:
        """Read a model folder: `config.json`, and a folder for each of `PARTS`.

        Args:
            folder: The default model where None.
            device: Where to run.
            dtype: Of the arithmetic inside the networks (autocast); float32 where None.

        Raises:
            UserError: the folder is no model folder, or its parts do not fit their configurations.
        """
        folder = DEFAULT_MODEL if folder is None else Path(folder)
        if not folder.is_dir():
            raise UserError(
                f"{folder}: not a folder; a model is one with config.json and {', '.join(PARTS)}"
            )
        path = folder / "config.json"
        values = read_config(path)
        try:
            config = PipelineConfig.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: does not describe a pipeline: {error}") from error
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
        with atomic(folder / "config.json") as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device

    def __call__(  # noqa: PLR0913 - the arguments are diffusers', all by keyword
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
            prompt: How it looks and sounds; words in double quotes are spoken unless the next two
                say others.
            negative_prompt: A caption that guidance pushes away from.
            speech: The words spoken, instead of quoting them.
            words: The words with their times; after `extend` they count from its end.
            seconds: How long it is; by default as long as what is given or the words need.
            num_frames: How long, in frames.
            height: Rows of pixels; the model's own by default.
            width: Columns of pixels.
            fps: Frames per second.
            num_inference_steps: Steps of the sampler.
            guidance_scale: Pull of the text on the picture; 1 is off.
            audio_guidance_scale: Pull of the text on the sound; 1 is off.
            seed: The same seed gives the same clip.
            image: The first frame, uint8 [H, W, 3].
            audio: All the sound: (float32 [C, N] in [-1, 1], sample rate).
            video: All the picture.
            extend: A beginning with sound; the clip goes on from its end.
            progress: Show progress bars.

        Raises:
            UserError: it contradicts itself, cannot be said, or does not fit into memory.
        """
        caption, quoted = parse_prompt(prompt)
        spoken = (quoted if words is None else "") if speech is None else speech
        asked = Asked(caption, spoken, words, seconds, num_frames, height, width, fps)
        given = Given(image, audio, video, extend)
        request = resolve(asked, given, self.config, self.audio_codec.sample_rate)
        scales = guidance_scale, audio_guidance_scale
        sampling = self.sampling(num_inference_steps, *scales, seed, negative_prompt)
        clip = self.generate(request, sampling, progress)
        return clip if audio is None else with_sound(clip, *audio)

    def sampling(
        self,
        num_steps: int | None,
        guidance_scale: float | None,
        audio_guidance_scale: float | None,
        seed: int,
        negative_caption: str | None,
    ) -> Sampling:
        """How to denoise, with the model's own number or scale for every None."""
        own = self.config
        return Sampling(
            own.num_inference_steps if num_steps is None else num_steps,
            own.guidance_scale if guidance_scale is None else guidance_scale,
            own.audio_guidance_scale if audio_guidance_scale is None else audio_guidance_scale,
            seed,
            negative_caption,
        )

    @torch.inference_mode()
    def generate(self, request: Request, sampling: Sampling, progress: bool = False) -> Clip:
        """Make the clip of a request, sound at the codec's rate, window by window."""
        rate = self.audio_codec.sample_rate
        total = num_samples(request.num_frames, request.fps, rate)
        frames = np.zeros((request.num_frames, request.height, request.width, 3), np.uint8)
        sound = np.zeros((1, total), np.float32)
        if request.frames is not None:
            frames[: request.num_pictured] = request.frames
        if request.waveform is not None:
            sound[:, : request.waveform.shape[1]] = request.waveform
        for window in self.windows(request):
            begin, joined, end = (
                num_samples(frame, request.fps, rate)
                for frame in (window.start, window.done, window.stop)
            )
            heard = sound[:, begin:end]
            if window.done > window.start and not request.is_voiced:
                heard = mirror(sound[:, begin:joined], end - begin)
            known = Clip(frames[window.start : window.stop], request.fps, heard, rate)
            made = self.make_window(request, window, known, sampling, progress)
            assert made.waveform is not None
            first = max(window.done, request.num_pictured)
            pictured, heard = (
                made.frames[first - window.start :],
                made.waveform[:, joined - begin :],
            )
            if window.start < first < window.stop:
                decoded = made.frames[first - window.start - 1]
                pictured = ease_frames(pictured, frames[first - 1], decoded)
            if begin < joined < end:
                decoded = made.waveform[:, joined - begin - 1]
                heard = ease_sound(heard, sound[:, joined - 1], decoded, rate)
            frames[first : window.stop] = pictured
            if not request.is_voiced:
                sound[:, joined:end] = heard
        return Clip(frames, request.fps, sound, rate)

    def windows(self, request: Request) -> Iterator[Window]:
        """The stretches that a clip is made in; the context of each is whole latents."""
        trained = to_seconds(self.config.num_frames, Fraction(self.config.fps))
        length = max(self.config.context_frames + 1, to_index(trained, request.fps))
        index, done = 0, request.num_begun
        while done < request.num_frames:
            context = min(done, self.config.context_frames)
            if context:
                context -= (context - 1) % self.video_codec.stride[0]
            start = done - context
            stop = min(request.num_frames, start + length)
            yield Window(index, start, done, stop)
            index, done = index + 1, stop

    def make_window(
        self, request: Request, window: Window, known: Clip, sampling: Sampling, progress: bool
    ) -> Clip:
        """Make one window.

        Args:
            request: What is asked for.
            window: Where it lies.
            known: Its frames and sound as far as they are given or made; the rest may be anything.
            sampling: How to denoise.
            progress: Show progress bars.
        """
        assert known.waveform is not None
        layout = self.layout(known).to(self.device)
        given = self.given(request, window, layout)
        clean = self.encode(known.frames, known.waveform, layout)
        text = self.text(request, window, sampling).to(self.device)
        seed = np.random.SeedSequence((sampling.seed % 2**63, window.index))
        generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        noise = torch.randn(clean.shape, generator=generator).to(clean) * layout.used
        sigmas = shifted_sigmas(sampling.num_steps, self.config.shift).to(self.device)
        sigmas = sigmas[:, None, None] * ~given[None, None]
        denoise = Denoiser(self.transformer, layout, text, sampling, self.dtype)
        with tqdm(
            total=sampling.num_steps, desc="denoising", unit="step", disable=not progress
        ) as bar:

            def advance(_step: int, _denoised: Tensor) -> None:
                bar.update()

            noisy = mix(clean, noise, sigmas[0])
            tokens = adams_bashforth(denoise, noisy, sigmas, callback=advance)
        return self.decode(tokens, layout, progress)

    def layout(self, clip: Clip) -> Layout:
        """Where every token of a window lies; `clip` is as long as the window."""
        video, audio, config = self.video_codec, self.audio_codec, self.config
        return make_layout(
            VideoGrid(
                clip.num_frames,
                clip.height,
                clip.width,
                clip.fps,
                video.stride,
                video.latent_channels,
                config.video_patch,
            ),
            AudioGrid(
                clip.num_samples,
                audio.sample_rate,
                audio.hop_length,
                audio.latent_channels,
                config.audio_patch,
            ),
        )

    def given(self, request: Request, window: Window, layout: Layout) -> Tensor:
        """Bool [L]: which tokens of a window are given, by the user or by the window before."""
        mask = torch.zeros(layout.num_tokens, dtype=torch.bool, device=layout.order.device)
        if window.done > window.start:
            mask |= before_given(layout, float(to_seconds(window.done - window.start, request.fps)))
        if request.is_voiced:
            mask |= modality_given(layout, AUDIO)
        if request.is_pictured:
            mask |= modality_given(layout, VIDEO)
        elif request.num_pictured and window.done == 0:
            mask |= latents_given(layout, 1)
        return mask

    def text(self, request: Request, window: Window, sampling: Sampling) -> Text:
        """Two rows: what the window is to say and show, and what guidance pushes away from."""
        start_s, stop_s = (float(to_seconds(n, request.fps)) for n in (window.start, window.stop))
        phonemes = during(spread(request.words, self.config.timer.lexicon), start_s, stop_s)
        captions = [request.caption, sampling.negative_caption or ""]
        return self.transformer.read(captions, [phonemes, []])

    def encode(self, frames: np.ndarray, waveform: np.ndarray, layout: Layout) -> Tensor:
        """Frames uint8 [T, H, W, 3] and waveform [1, N] to normalised tokens [1, L, W]."""
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        pixels = pixels.movedim(-1, 0)[None].float() / 127.5 - 1
        sound = torch.from_numpy(np.ascontiguousarray(waveform)).to(self.device)[None]
        video = self.config.video_statistics.normalize(self.video_codec.encode(pixels).float())
        audio = self.config.audio_statistics.normalize(self.audio_codec.encode(sound).float())
        return pack(video, audio, layout)

    def decode(self, tokens: Tensor, layout: Layout, progress: bool = False) -> Clip:
        """Normalised tokens [1, L, W] to a clip, a few frames at a time."""
        video, audio = unpack(tokens, layout)
        assert video is not None and audio is not None
        grid = layout.video
        size = {"num_frames": grid.num_frames, "height": grid.height, "width": grid.width}
        video = self.config.video_statistics.denormalize(video)
        audio = self.config.audio_statistics.denormalize(audio)
        frames = []
        with tqdm(
            total=grid.num_frames, desc="decoding", unit="frame", disable=not progress
        ) as bar:
            for pixels in self.video_codec.decode_chunks(video, **size):
                shown = ((pixels[0].movedim(0, -1) + 1) * 127.5).round().clamp(0, 255)
                frames.append(shown.byte().cpu().numpy())
                bar.update(len(frames[-1]))
            waveform = self.audio_codec.decode(audio, num_samples=layout.audio.num_samples)[0]
        sound = waveform.float().clamp(-1, 1).cpu().numpy()
        return Clip(np.concatenate(frames), grid.fps, sound, layout.audio.sample_rate)


def mirror(waveform: np.ndarray, length: int) -> np.ndarray:
    """A waveform [C, N] that goes on as its own reflection, float32 [C, length].

    The encoder hears a little of what comes after a token. On GRID's sentences the last token of a
    context was off by 0.42 of the latents' deviation with silence after it, by 0.25 with this.
    """
    return np.pad(waveform, [(0, 0), (0, length - waveform.shape[1])], mode="reflect")


def with_sound(clip: Clip, waveform: np.ndarray, sample_rate: int) -> Clip:
    """The clip with other sound, cut or padded with silence to its length."""
    length = num_samples(clip.num_frames, clip.fps, sample_rate)
    return replace(clip, waveform=fit(waveform, length), sample_rate=sample_rate)
