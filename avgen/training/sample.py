"""Clips -> what a training step sees of them: tokens, what is given, noise, noise levels, text.

Every clip draws from a generator of its own, seeded by the number of its draw. So what it draws
does not depend on the clips beside it, on how they are batched, or on which process it is.
Everything is drawn on the CPU and moved to a device at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avgen.clips.timed_words import Word
from avgen.codecs.normalize import LatentStatistics
from avgen.corpora.manifest import ClipRecord
from avgen.diffusion.distillation import StepDraws
from avgen.diffusion.schedules import TrainingSigmas
from avgen.errors import UserError
from avgen.latents.conditioning import Tasks
from avgen.latents.context import NoiseLevels, distinct_levels
from avgen.latents.packing import (
    MODALITIES,
    VIDEO,
    Layout,
    PackedLayout,
    concatenate,
    make_layout,
    pack,
)
from avgen.latents.reference import Reference, make_reference
from avgen.latents.tracks import pack_track
from avgen.models.phonemes import TimedPhoneme, during
from avgen.models.text import Text
from avgen.models.timing import spread
from avgen.preparation.latent_store import ClipShape, LatentConfig
from avgen.training.clip_latents import ClipLatents

SHORTEST_WORD_S, SHORTEST_PHONEME_S = 0.02, 0.005  # however times are moved
KEPT_LAYOUTS = 256  # of shapes; those that come up least recently are made again


@dataclass(frozen=True)
class TextDrops:
    """How often training hides the text, so that guidance and making without words can be learned.

    Args:
        both: Share of clips without caption and words.
        caption: Share of clips without a caption alone.
        speech: Share of clips without words alone.
        given_speech: Share of clips whose words are hidden where sound or picture is given
            throughout.
        words: How many of a caption's words are hidden at most, as a share; how many, is drawn for
            each clip. What says less fits more people, and the noise has to choose.
        jitter_s: Standard deviation of the noise on the words' times.
    """

    both: float = 0.08
    caption: float = 0.05
    speech: float = 0.02
    given_speech: float = 0.5
    jitter_s: float = 0.02
    words: float = 0.0


@dataclass(frozen=True)
class LossWeights:
    """What counts how much.

    Args:
        modalities: Modality -> weight of its mean loss.
        mouth: How much more a token counts that lies wholly inside `mouth_region`.
        mouth_region: Rows and columns (top, bottom, left, right) of the mouth, as shares of the
            picture.
        expressions: Weight of the faces' expressions, where clips have a track of them.
        expressions_below: Noise level of the picture up to which they are told.
        expression_scales: The usual size of each, which its error is divided by; none are all 1.
            Degrees of a head would otherwise outweigh the hundredths by which lips part.
    """

    modalities: Mapping[str, float] = field(default_factory=lambda: {"video": 1.0, "audio": 1.0})
    mouth: float = 2.0
    mouth_region: tuple[float, float, float, float] = (0.72, 0.97, 0.32, 0.70)
    expressions: float = 0.2
    expressions_below: float = 0.8
    expression_scales: tuple[float, ...] = ()

    def of_faces(self, told: Tensor, faces: Tensor) -> Tensor:
        """Mean squared error [...] of expressions [..., K] in their usual sizes.

        Raises:
            UserError: they are not as many.
        """
        sizes = self.expression_scales or (1.0,) * told.shape[-1]
        if not told.shape[-1] == faces.shape[-1] == len(sizes):
            raise UserError(
                f"num_expressions is {told.shape[-1]}; the clips' tracks have {faces.shape[-1]}, "
                f"weights.expression_scales {len(sizes)}"
            )
        return ((told - faces) / told.new_tensor(sizes)).square().mean(-1)

    def of_tokens(self, layout: Layout) -> Tensor:
        """The weight of every token among its modality's, [L]."""
        top, bottom, left, right = self.mouth_region
        height, width = layout.video.height, layout.video.width
        half_y, half_x = (layout.video.patch * size / 2 for size in layout.video.stride[1:])
        down, across = layout.places[:, 0] + height / 2, layout.places[:, 1] + width / 2
        inside_y = overlap(down, half_y, top * height, bottom * height)
        inside_x = overlap(across, half_x, left * width, right * width)
        return 1 + self.mouth * inside_y * inside_x * (layout.modality == VIDEO)


@dataclass(frozen=True)
class TrainingSample:
    """A step before the network sees it; R is 1 where clips of several layouts are packed.

    Attributes:
        layout: Of all R rows.
        clean: Normalised tokens [R, L, W].
        noise: Likewise.
        given: Bool [R, L].
        sigma: [R, L]; 0 where given.
        levels: The same as the few levels that there are.
        text: A row for every clip, on the CPU, where the network wants it.
        weights: Of every token, [L].
        reference: Voices and faces to be like, a row for every clip; None where none has one.
        expressions: float32 [R, T, stride, K], numbers of the faces in every latent frame of the
            layout; None where none are known.
        known: Bool [R, T, stride], likewise: which are.
    """

    layout: Layout | PackedLayout
    clean: Tensor
    noise: Tensor
    given: Tensor
    sigma: Tensor
    levels: NoiseLevels
    text: Text
    weights: Tensor
    reference: Reference | None = None
    expressions: Tensor | None = None
    known: Tensor | None = None

    def to(self, device: torch.device | str) -> TrainingSample:
        """The same on a device, but for the text."""
        moved = {
            name: part.to(device)
            for name, part in vars(self).items()
            if part is not None and name not in ("text", "levels")
        }
        return replace(self, levels=self.levels.to(device), **moved)

    def made(self) -> dict[str, Tensor]:
        """Modality -> weight of every token of it that is made, [R, L]; 0 of all others."""
        return {
            name: self.weights * (self.layout.modality == index) * ~self.given
            for index, name in enumerate(MODALITIES)
        }

    def seen_faces(self, weights: LossWeights) -> Tensor:
        """Float [R, T, stride]: 1 for faces that are known and seen through little noise."""
        assert self.known is not None
        levels = self.sigma.new_zeros(len(self.sigma), self.layout.num_latents + 1)
        levels[:, self.layout.latent] = self.sigma  # all tokens of a frame have one level
        return (self.known & (levels[:, :-1, None] < weights.expressions_below)).float()


@dataclass(frozen=True)
class Drawing:
    """What training samples are drawn with.

    Attributes:
        latents: What the latents were made with.
        statistics: That they are normalised with, of picture and sound.
        sigmas: How noise levels are drawn.
        tasks: How often each task is drawn.
        drops: How often text is hidden.
        weights: What tokens count.
        lexicon: Pronunciations besides the dictionary's.
        read: Captions and timed phonemes of some clips, as the network knows them.
        steps: What a network of few steps is told of each clip's step, if it is one.
    """

    latents: LatentConfig
    statistics: tuple[LatentStatistics, LatentStatistics]
    sigmas: TrainingSigmas
    tasks: Tasks
    drops: TextDrops
    weights: LossWeights
    lexicon: Mapping[str, Sequence[str]]
    read: Callable[[Sequence[str], Sequence[Sequence[TimedPhoneme]]], Text]
    steps: StepDraws | None = None
    has_features: bool = False
    _layouts: OrderedDict[ClipShape, Layout] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        """Check that captions are read here where some of their words are to be hidden."""
        if self.drops.words and self.has_features:
            raise UserError(f"drops.words is {self.drops.words}; captions were encoded whole")

    def __call__(
        self, clips: Sequence[ClipLatents], seeds: Sequence[int], jitter: bool
    ) -> TrainingSample:
        """Draw for every clip on its own.

        Args:
            clips: Of any shapes; they are stacked where they have one, else packed.
            seeds: Of each clip's generator.
            jitter: Move the words' times a little.
        """
        parts, spoken, hidden, references, told, captions = [], [], [], [], [], []
        for clip, seed in zip(clips, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            layout = self.layout(clip.shape)
            clean = self.tokens(clip.video, clip.audio, layout)
            given = tasks_for(self.tasks, layout).draw(layout, 1, generator)
            levels = self.sigmas.draw(1, MODALITIES, generator)
            sigma = torch.stack([levels[name] for name in MODALITIES], 1)[:, layout.modality]
            seconds = float(layout.video.num_frames / layout.video.fps)
            own = self.phonemes(clip.record, generator if jitter else None)
            spoken.append(during(own, clip.start_s, clip.start_s + seconds))
            hidden.append(self.hidden(given, layout, generator))
            noise = torch.randn(clean.shape, generator=generator) * layout.used
            sigma = torch.where(given, 0.0, sigma)
            if self.steps is not None:
                sigma, end, scale = self.steps.draw(sigma, generator)
                told.append(torch.stack([sigma - end, scale.expand_as(sigma)], -1))
            parts.append((clean, noise, given, sigma))
            references.append(self.reference(clip))
            captions.append(self.caption(clip.record.caption, generator if jitter else None))
        layouts = [self.layout(clip.shape) for clip in clips]
        text = self.read(captions, spoken)
        if self.has_features:
            text = text.with_features([clip.caption for clip in clips])
        packed = any(layout is not layouts[0] for layout in layouts)
        own, axis = (layouts, 1) if packed else (layouts[:1], 0)
        layout = concatenate(layouts) if packed else layouts[0]
        clean, noise, given, sigma = (torch.cat(part, axis) for part in zip(*parts, strict=True))
        return TrainingSample(
            layout,
            clean,
            noise,
            given,
            sigma,
            distinct_levels(sigma, layout.modality, torch.cat(told, axis) if told else None),
            text.drop(*torch.tensor(hidden).T),
            torch.cat([self.weights.of_tokens(layout) for layout in own]),
            make_reference(references) if any(references) else None,
            *tracks_of(clips, layouts, axis),
        )

    def layout(self, shape: ClipShape) -> Layout:
        """The layout of a shape of clip; of the last shapes it is kept."""
        if shape not in self._layouts:
            self._layouts[shape] = make_layout(
                *self.latents.clip_grids(shape), shape.has_sound, shape.has_picture
            )
            if len(self._layouts) > KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(shape)
        return self._layouts[shape]

    def tokens(self, video: Tensor | None, audio: Tensor | None, layout: Layout) -> Tensor:
        """The clean tokens [1, L, W] of raw latents [C, T, H, W] and [C, T']."""
        own, other = self.statistics
        return pack(
            None if video is None else own.normalize(video[None]),
            None if audio is None else other.normalize(audio[None]),
            layout,
        )

    def reference(self, clip: ClipLatents) -> tuple[Tensor, Layout] | None:
        """Tokens [N, W] and layout of a clip's reference, if it has one."""
        if clip.face is None and clip.voice is None:
            return None
        video, audio = self.latents.clip_grids(replace(clip.shape, num_frames=1))
        if clip.voice is not None:
            audio = replace(audio, num_samples=clip.voice.shape[1] * audio.hop_length, lead=0)
        layout = make_layout(video, audio, clip.voice is not None, clip.face is not None)
        return self.tokens(clip.face, clip.voice, layout)[0], layout

    def caption(self, caption: str, generator: torch.Generator | None) -> str:
        """A caption without some of its words, where there is a generator."""
        if generator is None or not self.drops.words:
            return caption
        share, words = self.drops.words * torch.rand(1, generator=generator), caption.split()
        is_kept = torch.rand(len(words), generator=generator) >= share
        return " ".join(word for word, kept in zip(words, is_kept, strict=True) if kept)

    def phonemes(
        self, record: ClipRecord, generator: torch.Generator | None
    ) -> Sequence[TimedPhoneme]:
        """What is said, with noise on its times where there is a generator.

        The phonemes that the corpus knows the times of, or those of its words.
        """
        if record.phonemes is None:
            words = record.words if generator is None else self.jitter(record.words, generator)
            return spread(words, self.lexicon)
        if generator is None:
            return record.phonemes
        return self.move(record.phonemes, generator)

    def jitter(self, words: Sequence[Word], generator: torch.Generator) -> list[Word]:
        """Words with noise on their starts and ends, at least `SHORTEST_WORD_S` long each."""
        moved = []
        for word, (early, late) in zip(words, self.noise(len(words), generator), strict=True):
            start = max(0.0, word.start_s + early)
            moved.append(Word(word.text, start, max(start + SHORTEST_WORD_S, word.end_s + late)))
        return moved

    def move(
        self, phonemes: Sequence[TimedPhoneme], generator: torch.Generator
    ) -> list[TimedPhoneme]:
        """Phonemes likewise, still in order; what follows without a gap goes on doing so."""
        noise = self.noise(len(phonemes), generator)
        starts = [0.0]
        for phoneme, (early, _) in zip(phonemes, noise, strict=True):
            starts.append(max(starts[-1] + SHORTEST_PHONEME_S, phoneme.start_s + early))
        moved = []
        for i, (phoneme, (_, late)) in enumerate(zip(phonemes, noise, strict=True)):
            start, following = starts[i + 1], starts[i + 2] if i + 1 < len(phonemes) else None
            end = max(start + SHORTEST_PHONEME_S, phoneme.end_s + late)
            if following is not None and phoneme.end_s == phonemes[i + 1].start_s:
                end = following
            moved.append(TimedPhoneme(phoneme.phoneme, start, end))
        return moved

    def noise(self, count: int, generator: torch.Generator) -> list[list[float]]:
        """Seconds by which starts and ends are moved."""
        return (self.drops.jitter_s * torch.randn(count, 2, generator=generator)).tolist()

    def hidden(
        self, given: Tensor, layout: Layout, generator: torch.Generator
    ) -> tuple[bool, bool]:
        """Whether the caption and the words of a clip are hidden, whose tokens [1, L] are given."""
        drops = self.drops
        both, caption, speech, guided = torch.rand(4, generator=generator).tolist()
        own = [given[:, layout.modality == index] for index in range(len(MODALITIES))]
        # a clip without sound is not one whose sound is given
        whole = any(bool(part.all()) for part in own if part.numel())
        silent = speech < drops.speech or (whole and guided < drops.given_speech)
        return both < drops.both or caption < drops.caption, both < drops.both or silent


def tracks_of(
    clips: Sequence[ClipLatents], layouts: Sequence[Layout], axis: int
) -> tuple[Tensor | None, Tensor | None]:
    """Expressions and where they are known, of clips that are stacked (axis 0) or packed (1)."""
    sizes = {clip.expressions.shape[1] for clip in clips if clip.expressions is not None}
    if not sizes:
        return None, None
    tracks = []
    for clip, layout in zip(clips, layouts, strict=True):
        if layout.has_picture:
            none = torch.zeros(layout.video.num_frames, min(sizes))
            told = none if clip.expressions is None else clip.expressions
            values, known = pack_track(told, layout.video)
            tracks.append((values[None], known[None] & (clip.expressions is not None)))
    values, known = (torch.cat(part, axis) for part in zip(*tracks, strict=True))
    return values, known


def tasks_for(tasks: Tasks, layout: Layout) -> Tasks:
    """The tasks that a clip can have: without sound, or without a picture, some make nothing.

    Raises:
        UserError: no task is left that has any weight.
    """
    is_still = layout.has_picture and layout.video.num_latents == 1
    missing = {
        "more than a frame": ("sound and picture",) if is_still else (),
        "sound": () if layout.has_sound else ("silent video",),
        "sound or a second frame": ("picture", "frames")
        if is_still and not layout.has_sound
        else (),
        "picture": () if layout.has_picture else ("sound", "sound and picture"),
    }
    weights = dict(tasks.weights)
    for what, impossible in missing.items():
        weights = {name: weight for name, weight in weights.items() if name not in impossible}
        if not any(weights.values()):
            raise UserError(
                f"a clip without {what} has nothing to learn by {', '.join(tasks.weights)}"
            )
    return replace(tasks, weights=weights)


def overlap(center: Tensor, half: float, start: float, stop: float) -> Tensor:
    """Share of [center - half, center + half) that lies in [start, stop)."""
    return ((center + half).clamp(max=stop) - (center - half).clamp(min=start)).clamp(min=0) / (
        2 * half
    )
