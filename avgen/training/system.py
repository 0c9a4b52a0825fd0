"""Trains the transformer: cached latents, words and a caption in; the velocity of every token out.

Each step draws, for every clip: what is given and what is made, a noise level per modality, whether
caption and words are seen, a jitter of the words' times, and the noise. All draws of a batch of one
shape (`LatentData`) come from a generator seeded by (seed, step, rank), those of every clip of
mixed batches (`MixedData`) from one seeded by (seed, number of the draw), so that a resumed run
repeats them exactly. The loss is a mean over the tokens of all processes, so that it does not
depend on how clips are dealt out to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed
from torch import Tensor

from avgen.clips.clip import Word
from avgen.codecs.base import load_tensors
from avgen.corpora.manifest import ClipRecord
from avgen.diffusion.loss import bin_errors, modality_losses, token_errors
from avgen.diffusion.path import mix, velocity
from avgen.diffusion.schedules import TrainingSigmas
from avgen.errors import UserError
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import MODALITIES, VIDEO, Layout, make_layout, pack
from avgen.models.phonemes import TimedPhoneme, during
from avgen.models.text import Text, make_text
from avgen.models.timing import spread
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.training.card import PROVENANCE, provenance
from avgen.training.data import hash_seed, rank_and_world
from avgen.training.data_latents import load_statistics
from avgen.training.draws import Drawn, draw_clips, draw_sigma
from avgen.training.lora import LoraConfig, adapt
from avgen.training.optimization import OptimizerConfig, configure
from avgen.training.prepared import ClipShape, read_latent_config, read_lexicon
from avgen.training.start import start_from

NUM_BINS = 4  # noise levels that losses are logged by


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the transformer; the width of its tokens follows from the latents.

    Args:
        width: D of the stream.
        depth: Blocks.
        num_heads: Heads of attention in each block.
        mlp_ratio: Hidden width of each block's network over D.
        caption_encoder: Name or folder of a Hugging Face text encoder for captions, frozen; None
            learns a table of words.
        compile: Compile the blocks (a minute at the start, then about half the time a step).
        checkpoint_blocks: Recompute activations in the backward pass, for memory.
        initial_weights: The `model.safetensors` of such a transformer to start from.
        initial_model: Instead, a model folder to go on from: its transformer, whose sizes must be
            these, and the statistics that its latents were normalised with.
        lora: Train low-rank additions to the weights alone.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    caption_encoder: str | None = None
    compile: bool = False
    checkpoint_blocks: bool = False
    initial_weights: Path | None = None
    initial_model: Path | None = None
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        """Check that there is one start."""
        if self.initial_weights is not None and self.initial_model is not None:
            raise UserError("initial_weights and initial_model are both given; start from one")


@dataclass(frozen=True)
class TextDrops:
    """How often training hides the text, so that guidance and making without words can be learned.

    Args:
        both: Share of clips without caption and words.
        caption: Share of clips without a caption alone.
        speech: Share of clips without words alone.
        given_speech: Share of clips whose words are hidden where sound or picture is given
            throughout.
        jitter_s: Standard deviation of the noise on the words' times.
    """

    both: float = 0.08
    caption: float = 0.05
    speech: float = 0.02
    given_speech: float = 0.5
    jitter_s: float = 0.02


@dataclass(frozen=True)
class LossWeights:
    """What counts how much.

    Args:
        modalities: Modality -> weight of its mean loss.
        mouth: How much more a token counts that lies wholly inside `mouth_region`.
        mouth_region: Rows and columns (top, bottom, left, right) of the mouth, as shares of the
            picture.
    """

    modalities: Mapping[str, float] = field(default_factory=lambda: {"video": 1.0, "audio": 1.0})
    mouth: float = 2.0
    mouth_region: tuple[float, float, float, float] = (0.72, 0.97, 0.32, 0.70)


class DiffusionSystem(L.LightningModule):
    """Flow-matching training of an `AVTransformer` on cached latents.

    Args:
        folder: The prepared folder whose latents are trained on (their statistics and grids).
        network: Sizes.
        optimizer: Learning rate and its course.
        sigmas: How noise levels are drawn.
        tasks: How often each task is drawn.
        drops: How often text is hidden.
        weights: Weights of the loss.
        seed: Of everything that a step draws.
    """

    def __init__(
        self,
        folder: Path,
        network: NetworkConfig,
        optimizer: OptimizerConfig,
        sigmas: TrainingSigmas,
        tasks: Tasks,
        drops: TextDrops,
        weights: LossWeights,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.latents = read_latent_config(folder)
        self.video_statistics, self.audio_statistics = load_statistics(folder)
        video, audio = self.latents.grids(1)
        config = AVTransformerConfig(
            token_width=max(video.token_channels, audio.token_channels),
            width=network.width,
            depth=network.depth,
            num_heads=network.num_heads,
            mlp_ratio=network.mlp_ratio,
            caption_encoder=network.caption_encoder,
        )
        self.transformer = AVTransformer(config)
        if network.initial_weights is not None:
            load_tensors(self.transformer, network.initial_weights)
        if network.initial_model is not None:
            started = start_from(network.initial_model, self.transformer, self.latents)
            self.video_statistics, self.audio_statistics = started
        if network.lora is not None:
            adapt(self.transformer, network.lora)
        self.transformer.checkpoint_blocks = network.checkpoint_blocks
        if network.compile:
            self.transformer.compile_blocks()
        self.optimizer, self.sigmas, self.tasks = optimizer, sigmas, tasks
        self.drops, self.weights = drops, weights
        self.lexicon, self.seed = read_lexicon(folder), seed
        self._layouts: dict[Any, tuple[Layout, dict[str, Tensor]]] = {}

    def layout(self, batch: Mapping[str, Any]) -> tuple[Layout, dict[str, Tensor]]:
        """Layout and token weights of a batch's shapes, on this device; made once a shape."""
        key = (*batch["video"].shape[2:], batch["audio"].shape[2])
        if key not in self._layouts:
            time = self.latents.video_stride[0]
            video, audio = self.latents.grids(1 + time * (key[0] - 1))
            audio = replace(audio, num_samples=key[3] * audio.hop_length)
            layout = make_layout(video, audio).to(self.device)
            self._layouts[key] = layout, self.token_weights(layout)
        return self._layouts[key]

    def layout_of(self, shape: ClipShape) -> tuple[Layout, dict[str, Tensor]]:
        """Layout and token weights of a shape of clip, on this device; made once a shape."""
        if shape not in self._layouts:
            layout = make_layout(*self.latents.clip_grids(shape), shape.has_sound).to(self.device)
            self._layouts[shape] = layout, self.token_weights(layout)
        return self._layouts[shape]

    def token_weights(self, layout: Layout) -> dict[str, Tensor]:
        """Modality -> weight of every token, [L]."""
        top, bottom, left, right = self.weights.mouth_region
        height, width = layout.video.height, layout.video.width
        half_y, half_x = (layout.video.patch * size / 2 for size in layout.video.stride[1:])
        down, across = layout.places[:, 0] + height / 2, layout.places[:, 1] + width / 2
        inside_y = overlap(down, half_y, top * height, bottom * height)
        inside_x = overlap(across, half_x, left * width, right * width)
        mouth = 1 + self.weights.mouth * inside_y * inside_x
        weights = {}
        for index, name in enumerate(MODALITIES):
            own = (layout.modality == index).float()
            weights[name] = own * mouth if index == VIDEO else own
        return weights

    def texts(
        self, batch: Mapping[str, Any], seconds: float, generator: torch.Generator | None
    ) -> Text:
        """Captions and phonemes of a batch of clips; with a generator, the times are jittered."""
        spoken = [
            self.phonemes(record, start_s, seconds, generator)
            for record, start_s in zip(batch["records"], batch["starts_s"], strict=True)
        ]
        return self.make_text([record.caption for record in batch["records"]], spoken)

    def phonemes(
        self,
        record: ClipRecord,
        start_s: float,
        seconds: float,
        generator: torch.Generator | None,
    ) -> Sequence[TimedPhoneme]:
        """What is said in a stretch of a clip; with a generator, the words' times are jittered."""
        words = record.words if generator is None else self.jitter(record.words, generator)
        return during(spread(words, self.lexicon), start_s, start_s + seconds)

    def make_text(self, captions: Sequence[str], spoken: Sequence[Sequence[TimedPhoneme]]) -> Text:
        """Tokens of captions and phonemes, as the network reads them."""
        return make_text(captions, spoken, self.transformer.caption.tokenize)

    def jitter(self, words: tuple[Word, ...], generator: torch.Generator) -> list[Word]:
        """Words with noise on their starts and ends, at least 20 ms long each."""
        noise = (self.drops.jitter_s * torch.randn(len(words), 2, generator=generator)).tolist()
        moved = []
        for word, (early, late) in zip(words, noise, strict=True):
            start = max(0.0, word.start_s + early)
            moved.append(Word(word.text, start, max(start + 0.02, word.end_s + late)))
        return moved

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step of conditional flow matching."""
        if "clips" in batch:
            return self.loss(self.draw_mixed(batch, "train"), "train", len(batch["clips"]))
        generator = torch.Generator().manual_seed(
            hash_seed(self.seed, self.global_step, self.global_rank)
        )
        return self.step(batch, generator, "train")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The same with the same draws every time."""
        if "clips" in batch:
            drawn = self.draw_mixed(batch, "validation")
            self.loss(drawn, "validation", len(batch["clips"]))
            return
        self.step(
            batch, torch.Generator().manual_seed(hash_seed(self.seed, batch_idx)), "validation"
        )

    def step(self, batch: dict[str, Any], generator: torch.Generator, stage: str) -> Tensor:
        """Draw, predict, weigh and log."""
        return self.loss(self.draw(batch, generator, stage), stage, len(batch["records"]))

    def draw_mixed(self, batch: dict[str, Any], stage: str) -> Drawn:
        """What a step draws for clips of any shapes, each from a generator of its own."""
        kind = int(stage == "train")
        seeds = [hash_seed(self.seed, draw, kind) for draw in batch["draws"]]
        return draw_clips(self, batch["clips"], seeds, jitter=stage == "train")

    def draw(self, batch: dict[str, Any], generator: torch.Generator, stage: str) -> Drawn:
        """What a step draws for a batch of one shape."""
        layout, weights = self.layout(batch)
        size = len(batch["records"])
        clean = pack(
            self.video_statistics.normalize(batch["video"]),
            self.audio_statistics.normalize(batch["audio"]),
            layout,
        )
        given = self.tasks.draw(layout, size, generator).to(self.device)
        sigma = draw_sigma(self.sigmas, layout, given, generator)
        seconds = float(layout.video.num_frames / layout.video.fps)
        text = self.texts(batch, seconds, generator if stage == "train" else None)
        text = self.hide(text, given, layout, generator).to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(self.device) * layout.used
        return Drawn(layout, clean, noise, given, sigma, text, weights)

    def errors(self, drawn: Drawn) -> Tensor:
        """Mean squared error of the velocity of every token, [R, L]."""
        clean, noise, layout = drawn.clean, drawn.noise, drawn.layout
        noisy = mix(clean, noise, drawn.sigma)
        context = self.transformer.prepare(layout, drawn.text)
        predicted = self.transformer(noisy, drawn.sigma, context)
        # `token_errors` averages over the padding too, in which nothing is wrong.
        return token_errors(predicted, velocity(clean, noise)) / layout.used.float().mean(1)

    def loss(self, drawn: Drawn, stage: str, size: int) -> Tensor:
        """Predict, weigh and log; `size` is how many clips there are."""
        errors = self.errors(drawn)
        made = {name: weight * ~drawn.given for name, weight in drawn.weights.items()}
        losses = modality_losses(errors, made)
        if stage == "train":
            shares = shares_of_processes(torch.stack([made[name].sum() for name in losses]))
            losses = {
                name: loss if share is None else share * loss
                for (name, loss), share in zip(losses.items(), shares, strict=True)
            }
        self.log_dict(
            {f"{stage}/{name}": loss for name, loss in losses.items()},
            batch_size=size,
            sync_dist=True,
        )
        for name in MODALITIES:
            binned = bin_errors(errors, drawn.sigma, made[name], NUM_BINS)
            for index, mean in enumerate(binned.mean):
                if not mean.isnan():
                    self.log(f"{stage}/{name}_sigma_{index}", mean, batch_size=size)
        total = sum(self.weights.modalities[name] * loss for name, loss in losses.items())
        self.log(f"{stage}/loss", total, prog_bar=True, batch_size=size, sync_dist=True)
        return total  # pyright: ignore[reportReturnType]

    def hide(self, text: Text, given: Tensor, layout: Layout, generator: torch.Generator) -> Text:
        """Hide caption and words as often as `drops` says."""
        return text.drop(*self.hidden(given, layout, generator))

    def hidden(
        self, given: Tensor, layout: Layout, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Whose caption and whose words are hidden: bool [B] each."""
        drops, size = self.drops, len(given)
        both, caption, speech, guided = torch.rand(4, size, generator=generator).unbind()
        whole = torch.zeros(size, dtype=torch.bool)
        for index in range(len(MODALITIES)):
            own = layout.modality == index
            if bool(own.any()):  # a clip without sound is not one whose sound is given
                whole |= given[:, own].all(1).cpu()
        silent = (speech < drops.speech) | (whole & (guided < drops.given_speech))
        return (both < drops.both) | (caption < drops.caption), (both < drops.both) | silent

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what is training, for the card."""
        checkpoint[PROVENANCE] = provenance()

    def configure_optimizers(self) -> dict:
        """AdamW with warm-up and cosine decay."""
        return configure(self, self.optimizer)


def shares_of_processes(weights: Tensor) -> list[Tensor | None]:
    """How much more than the average process's this one's mean losses count, for each modality.

    The average over processes of `share * loss` is then the mean over the tokens of all of them,
    and so is its gradient. None where there is one process.

    Args:
        weights: The sum of the weights of each modality, [M], here.
    """
    world = rank_and_world()[1]
    if world == 1:
        return [None] * len(weights)
    total = weights.clone()
    torch.distributed.all_reduce(total)
    return list(weights * world / torch.where(total > 0, total, 1))


def overlap(center: Tensor, half: float, start: float, stop: float) -> Tensor:
    """Share of [center - half, center + half) that lies in [start, stop)."""
    return ((center + half).clamp(max=stop) - (center - half).clamp(min=start)).clamp(min=0) / (
        2 * half
    )
