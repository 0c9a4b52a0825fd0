"""Request -> clip: layout, what is given (a mask), denoise, decode.

Clips that are longer than what the model was trained on, by more than an eighth, are made in
windows, each going on from the latents of the one before: continuation is one more mask. What no
later window can change is decoded, joined to what was given, and yielded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from avgen.clips.clip import Clip
from avgen.clips.files import atomic
from avgen.clips.timebase import to_index, to_seconds
from avgen.clips.transforms import center_crop_resize
from avgen.codecs.base import AudioCodec, VideoCodec, load_module, save_module
from avgen.errors import UserError
from avgen.latents.conditioning import before_given, latents_given, modality_given
from avgen.latents.geometry import AudioGrid, VideoGrid
from avgen.latents.packing import AUDIO, VIDEO, Layout, make_layout, pack, unpack
from avgen.models.backbone import Backbone
from avgen.models.durations import DurationModel
from avgen.models.phonemes import during
from avgen.models.speakers import SpeakerModel
from avgen.models.text import Text
from avgen.pipeline.coding import Coding
from avgen.pipeline.conditions import CLIP_BYTES, Conditions, at_rate, check_memory, resolve, silent
from avgen.pipeline.config import DEFAULT_MODEL, PipelineConfig
from avgen.pipeline.continuation import LatentQueue, Window, mirror, padded, windows
from avgen.pipeline.denoiser import Denoiser
from avgen.pipeline.hearing import with_heard
from avgen.pipeline.joins import Output
from avgen.pipeline.matching import VoiceMatch
from avgen.pipeline.parts import OPTIONAL, PARTS, load_optional
from avgen.pipeline.progress import Latents, Step, Watch
from avgen.pipeline.request import GenerateRequest, read_files

VOICE_S, MATCHED_S = 2.0, 30.0  # of a voice to be like: what is seen, as in training, and matched
NOW = Fraction(0)
FIRST_PICTURE = 2**31  # in place of a window's number, for the noise
# Of a window: normalised latents of video [1, C, T, H, W] and audio [1, C, T], expressions of the
# faces [1, T, frames of a latent, K] where the network tells any.
Made = tuple[Tensor, Tensor, Tensor | None]
Handover = tuple[Window, Tensor, Tensor, Tensor | None]  # the window before, and what it made


def _unpacked(tokens: Tensor, layout: Layout) -> Latents:
    video, audio = unpack(tokens, layout)
    assert video is not None and audio is not None
    return video, audio


class AVPipeline(Coding):
    """A transformer, two codecs and what they need to know, from a folder.

    Args:
        transformer: Denoises.
        video_codec: Pictures <-> latents.
        audio_codec: Sound <-> latents.
        config: See `PipelineConfig`.
        durations: How long phonemes and pauses last; None takes the means of `config.timer`.
        text_to_image: Makes the first frame where nothing is given to look like, by itself; None
            leaves it to `transformer`, which makes it with all the others.
        speakers: Brings what is said into a given voice; None leaves it to `transformer`.
    """

    def __init__(
        self,
        transformer: Backbone,
        video_codec: VideoCodec,
        audio_codec: AudioCodec,
        config: PipelineConfig,
        durations: DurationModel | None = None,
        text_to_image: Backbone | None = None,
        speakers: SpeakerModel | None = None,
    ) -> None:
        self.text_to_image, self.speakers = text_to_image, speakers
        self.transformer = transformer
        self.video_codec, self.audio_codec = video_codec, audio_codec
        self.config, self.durations = config, durations
        self.dtype = torch.float32

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> AVPipeline:
        """Read a model folder: `config.json`, folders of `PARTS` and some of `OPTIONAL`.

        Args:
            folder: The default model where None.
            device: Where to run.
            dtype: Of the arithmetic inside the networks (autocast); float32 where None.

        Raises:
            UserError: the folder is no model folder, or its parts do not fit their configurations.
        """
        folder = DEFAULT_MODEL if folder is None else Path(folder)
        config = PipelineConfig.read(folder)
        parts = [load_module(folder / name).to(device) for name in PARTS]
        scales = getattr(parts[1].config, "expression_scales", ())
        told = getattr(parts[0].config, "num_expressions", 0)
        if scales and told not in (0, len(scales)):
            raise UserError(
                f"{folder}: the transformer tells {told} numbers of a face, "
                f"the video codec goes by {len(scales)}"
            )
        channels: list[Any] = [part.latent_channels for part in parts[1:]]
        more = load_optional(folder, config.picture_width(*channels), parts[2], device)
        pipe = cls(*parts, config, **more)  # type: ignore[arg-type]
        pipe.dtype = dtype or torch.float32
        return pipe

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads; weights as bfloat16."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*PARTS, *OPTIONAL):
            part = getattr(self, name)
            if part is not None:
                assert isinstance(part, nn.Module)
                save_module(part, folder / name)
        with atomic(folder / "config.json") as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        assert isinstance(self.transformer, nn.Module)
        return next(self.transformer.parameters()).device

    def __call__(
        self, prompt: str | GenerateRequest = "", *, progress: bool | Watch = True, **fields: Any
    ) -> Clip:
        """Make a clip. What is given comes out as it went in; the rest is made to go with it.

        Args:
            prompt: How it looks and sounds; words in double quotes are spoken. Or a whole request.
            progress: Show progress bars; or a function, called with every `Step` that is done: an
                exception raised in it ends the making.
            **fields: The other fields of `GenerateRequest`, which describes them; of a whole
                request, those that are to be others.

        Raises:
            UserError: it contradicts itself, cannot be said, or does not fit into memory.
        """
        if isinstance(prompt, str):
            request = GenerateRequest(prompt=prompt, **fields)
        else:
            request = replace(prompt, **fields)
        conditions = self.conditions(request)
        check_memory(conditions.num_frames, conditions.fps, conditions.settings, CLIP_BYTES)
        chunks = list(self.stream(conditions, progress))
        frames = np.concatenate([chunk.frames for chunk in chunks])
        waveforms = [chunk.waveform for chunk in chunks if chunk.waveform is not None]
        return replace(chunks[0], frames=frames, waveform=np.concatenate(waveforms, 1))

    def conditions(self, request: GenerateRequest) -> Conditions:
        """What the clip of a request is made from: files read, lengths and times settled.

        Raises:
            UserError: as calling the pipeline.
        """
        settings = self.config.settings(request)
        is_distilled = self.transformer.config.distilled
        if settings.sampler == "mean" and not is_distilled:
            raise UserError("sampler is mean; this model was not distilled to few steps")
        for name in ("negative_prompt", "guidance_rescale", "synchrony_scale"):
            if is_distilled and getattr(request, name):
                raise UserError(f"{name} is given; this model has its guidance in its weights")
        for name in ("voice", "face"):
            if getattr(request, name) is not None and not self.transformer.config.has_references:
                raise UserError(f"{name} is given; this model was trained without any to be like")
        rate, channels = self.audio_codec.sample_rate, self.audio_codec.num_channels
        request = read_files(request, Fraction(self.config.fps))
        timing = self.durations or self.config.timer
        conditions, face, voice = resolve(request, settings, rate, timing, channels), None, None
        if not self.transformer.config.has_sound and conditions.sound is None:
            conditions = silent(conditions, rate)
        if self.device.type == "meta":
            return conditions
        conditions = with_heard(conditions, request, self.durations)
        with torch.inference_mode():
            if isinstance(request.face, np.ndarray):
                picture = center_crop_resize(request.face[None], settings.height, settings.width)
                face = self.encode_video(picture)
            if isinstance(request.voice, tuple):
                seconds = VOICE_S if self.speakers is None else MATCHED_S
                heard = at_rate(*request.voice, rate, channels)[:, : to_index(seconds, rate)]
                voice = self.encode_audio(heard)
                VoiceMatch(self.speakers, voice, self.config.audio_statistics)  # if there is one
        return replace(conditions, face=face, voice=voice)

    @torch.inference_mode()
    def stream(self, conditions: Conditions, progress: bool | Watch = False) -> Iterator[Clip]:
        """The clip in pieces that follow one another, each as soon as nothing can change it.

        Memory is that of one window, however long the clip. `progress`: as calling the pipeline.
        """
        painter = None if conditions.face is not None else self.text_to_image
        if painter is not None and not conditions.num_pictured:
            conditions = replace(conditions, frames=self.first_picture(conditions, painter))
        plan = list(windows(conditions, self.video_codec, self.audio_codec))
        start, begin = plan[0].start, plan[0].begin
        output = self.output(conditions, start, begin)
        first = None if conditions.frames is None else conditions.frames[start]
        reaches = self.video_codec.reach, self.audio_codec.reach, self.video_codec.reach
        video, audio, faces = (LatentQueue(reach) for reach in reaches)
        before: Handover | None = None
        voice = None if conditions.num_begun else conditions.voice  # a beginning has its own
        match = VoiceMatch(self.speakers, voice, self.config.audio_statistics)
        for window in plan:
            is_last = window is plan[-1]
            made = self.make_window(conditions, window, before, progress)
            before = window, *made
            if window.index == 0 and self.transformer.config.has_references:
                # The same person in every window: what is not given is as the first one shows it.
                face, voice = conditions.face, conditions.voice
                conditions = replace(
                    conditions,
                    face=made[0][:, :, :1] if face is None else face,
                    voice=made[1] if voice is None else voice,
                )
            if not conditions.is_pictured:
                latents, told = video.push(made[0][:, :, window.new_video], is_last), made[2]
                if told is not None:
                    told, *_ = faces.push(told.movedim(1, 2)[:, :, window.new_video], is_last)
                    told = told.movedim(2, 1)
                grid = self.video_grid(conditions, window.stop - start)
                for frames in self.decode_video(*latents, grid, first, told, progress is True):
                    output.frames.push(frames)
                    if callable(progress):
                        shown, total = output.frames.at, conditions.num_frames
                        progress(Step(conditions, "decoding", window, shown, total))
            if not conditions.is_voiced:
                latents = audio.push(match(made[1])[:, :, window.new_audio], is_last)
                for waveform in self.decode_audio(*latents, window.end - begin, is_last):
                    output.sound.push(waveform.T)
            yield from output.pop()

    def output(self, conditions: Conditions, start: int, begin: int) -> Output:
        """Where what is decoded from a frame and a sample on is joined to what is given."""
        rate, made = self.audio_codec.sample_rate, self.audio_codec.output_sample_rate
        if conditions.waveform is not None and made != rate:
            given = at_rate(conditions.waveform, rate, made, conditions.num_channels)
            conditions = replace(conditions, waveform=given)
        return Output(conditions, start, begin * made // rate, made)

    def make_window(
        self,
        conditions: Conditions,
        window: Window,
        before: Handover | None,
        progress: bool | Watch,
    ) -> Made:
        """The normalised latents of one window, and the expressions of its faces."""
        layout = self.layout(conditions, window).to(self.device)
        clean = self.known(conditions, window, before, layout)
        given = self.given(conditions, window, layout)
        text, like = self.text(conditions, window).to(self.device), self.reference(conditions)
        settings, steps = conditions.settings, conditions.settings.num_inference_steps
        timed = layout.with_sound_late(0 if conditions.is_voiced else settings.sound_delay_s)
        denoise = Denoiser(self.transformer, timed, text, settings, self.dtype, like)
        with tqdm(total=steps, desc="denoising", unit="step", disable=progress is not True) as bar:

            def advance(step: int, denoised: Tensor) -> None:
                bar.update()
                if callable(progress):
                    expected = partial(_unpacked, denoised, layout)
                    progress(Step(conditions, "denoising", window, step + 1, steps, expected))

            tokens = denoise.sample(clean, given, (conditions.seed, window.index), advance)
        return *_unpacked(tokens, layout), denoise.expressions

    def first_picture(self, conditions: Conditions, network: Backbone) -> np.ndarray:
        """A first frame uint8 [1, H, W, 3] that a network makes of the caption alone.

        Reference: Girdhar et al., "Emu Video", 2023, section 3: a picture of text, then a video.
        """
        conditions = replace(conditions, settings=conditions.settings.of_picture())
        grid = self.video_grid(conditions, 1)
        sound = self.audio_grid(conditions, self.audio_codec.hop_length)
        layout = make_layout(grid, sound, has_sound=False).to(self.device)
        nothing = torch.zeros(1, grid.channels, 1, *grid.latent_size, device=self.device)
        clean = pack(nothing, None, layout)
        text = network.read(conditions.captions, [[], []]).to(self.device)
        denoise = Denoiser(network, layout, text, conditions.settings, self.dtype)
        given = torch.zeros_like(layout.modality, dtype=torch.bool)
        video, _ = unpack(denoise.sample(clean, given, (conditions.seed, FIRST_PICTURE)), layout)
        assert video is not None
        return next(self.decode_video(video, 0, 1, grid))

    def preview(self, step: Step) -> np.ndarray:
        """One frame uint8 [H, W, 3] from the middle of what a step expects to come out."""
        assert step.estimate is not None, "only steps of denoising expect anything"
        with torch.inference_mode():
            video = step.estimate()[0]
            first = max(video.shape[2] // 2 - 1, 0)
            some = video[:, :, first : first + 2]  # by themselves: a look costs little
            length = 1 + self.video_codec.stride[0] * (some.shape[2] - 1)
            grid = self.video_grid(step.conditions, length)
            return list(self.decode_video(some, 0, some.shape[2], grid))[-1][-1]

    def video_grid(self, conditions: Conditions, num_frames: int) -> VideoGrid:
        """Where the latents of a stretch of a clip lie."""
        codec, settings = self.video_codec, conditions.settings
        height, width, patch = settings.height, settings.width, settings.video_patch
        size = num_frames, height, width, conditions.fps
        return VideoGrid(*size, codec.stride, codec.latent_channels, patch)

    def audio_grid(
        self, conditions: Conditions, length: int, start_s: Fraction = NOW, lead: int = 0
    ) -> AudioGrid:
        """Where the latents of so many samples lie, from a second on; `lead`: see `AudioGrid`."""
        codec, patch = self.audio_codec, conditions.settings.audio_patch
        rates = codec.sample_rate, codec.hop_length, codec.latent_channels
        return AudioGrid(length, *rates, patch, start_s, lead)

    def layout(self, conditions: Conditions, window: Window) -> Layout:
        """Where every token of a window lies, in seconds from its first frame."""
        begin_s = to_seconds(window.begin, self.audio_codec.sample_rate)
        late_s = begin_s - to_seconds(window.start, conditions.fps)
        length = window.end - window.begin
        audio = self.audio_grid(conditions, length, late_s, window.lead)
        return make_layout(self.video_grid(conditions, window.stop - window.start), audio)

    def known(
        self, conditions: Conditions, window: Window, before: Handover | None, layout: Layout
    ) -> Tensor:
        """Normalised tokens [1, L, W] of a window as far as they are given; the rest is 0."""
        frames, waveform = conditions.frames, conditions.waveform
        video = audio = None
        if before is not None:
            last, video, audio, _ = before
            video = video[:, :, -(window.new_video.start) :]
            passed = window.begin - last.begin + last.lead
            audio = audio[:, :, passed // self.audio_codec.hop_length :]
        if frames is not None and (conditions.is_pictured or before is None):
            stop = window.stop if conditions.is_pictured else max(1, window.done)
            video = self.encode_video(frames[window.start : stop])
        if waveform is not None and conditions.is_voiced:
            codec = self.audio_codec  # whose first latent, where it is short, is of what is before
            before_s = codec.hop_length - codec.lead if codec.lead and window.index else 0
            audio = self.encode_audio(waveform[:, window.begin - before_s : window.end])
            audio = audio[:, :, bool(before_s) :]
        elif waveform is not None and before is None:
            length = window.end - window.begin
            audio = self.encode_audio(mirror(waveform[:, window.begin :], length))
        picture, sound = layout.video, layout.audio
        video = padded(video, picture.channels, picture.num_latents, *picture.latent_size)
        audio = padded(audio, sound.channels, sound.num_latents)
        return pack(video.to(self.device), audio.to(self.device), layout)

    def given(self, conditions: Conditions, window: Window, layout: Layout) -> Tensor:
        """Bool [L]: which tokens of a window are given, by the user or by the window before."""
        mask = torch.zeros(layout.num_tokens, dtype=torch.bool, device=layout.order.device)
        if window.done > window.start:
            end_s = to_seconds(window.done - window.start, conditions.fps)
            mask |= before_given(layout, float(end_s))
        if conditions.is_voiced:
            mask |= modality_given(layout, AUDIO)
        if conditions.is_pictured:
            mask |= modality_given(layout, VIDEO)
        elif conditions.num_pictured and window.done == 0:
            mask |= latents_given(layout, 1)
        return mask

    def text(self, conditions: Conditions, window: Window) -> Text:
        """Two rows: what the window is to say and show, and what guidance pushes away from."""
        start_s, stop_s = (
            float(to_seconds(frame, conditions.fps)) for frame in (window.start, window.stop)
        )
        phonemes = during(conditions.phonemes, start_s, stop_s)
        return self.transformer.read(conditions.captions, [phonemes, []])

    def reference(self, conditions: Conditions) -> tuple[Tensor, Layout] | None:
        """Tokens [N, W] of a voice and a face to be like, and their layout, if there are any."""
        face, voice, codec = conditions.face, conditions.voice, self.audio_codec
        if face is None and voice is None:
            return None
        if voice is not None:
            voice = voice[:, :, : to_index(VOICE_S, codec.latent_rate)]
        length = codec.hop_length * (1 if voice is None else voice.shape[2])
        audio = self.audio_grid(conditions, length)
        picture = self.video_grid(conditions, 1)
        layout = make_layout(picture, audio, voice is not None, face is not None).to(self.device)
        return pack(face, voice, layout)[0], layout
