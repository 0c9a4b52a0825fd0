"""Trains the transformer: clips' latents, words and captions in; the velocity of every token out.

What a step draws (sample.py) is seeded by (seed, number of each clip's draw), so that a resumed run
repeats it exactly and the micro-batches of a step differ. The loss is a mean over the tokens of all
processes, so that it does not depend on how clips are dealt out to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import torch.distributed
from torch import Tensor, nn

from avgen.clips.files import read_json
from avgen.codecs.base import load_tensors
from avgen.diffusion.loss import (
    BinnedErrors,
    bin_errors,
    modality_losses,
    token_errors,
    weighted_mean,
)
from avgen.diffusion.path import mix, velocity
from avgen.diffusion.schedules import TrainingSigmas
from avgen.errors import UserError
from avgen.latents.conditioning import Tasks
from avgen.latents.packing import MODALITIES
from avgen.models.lora import LoraConfig, adapt
from avgen.models.phonemes import ARPABET, PHONEMES
from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.preparation.latent_store import (
    LatentConfig,
    load_statistics,
    read_latent_config,
    statistics_beside,
)
from avgen.preparation.store import Store
from avgen.training.card import PROVENANCE, provenance
from avgen.training.draws import hash_seed, rank_and_world
from avgen.training.optimization import OptimizerConfig, configure
from avgen.training.sample import Drawing, LossWeights, TextDrops, TrainingSample
from avgen.training.start import (
    BackboneSource,
    build_backbone,
    captions_of,
    start_from,
    start_from_wan_folder,
)
from avgen.training.teacher import DistillationConfig, Teacher

NEW_PARTS = ("heard", "expressions")  # that a network may have beyond the one it starts from
NUM_BINS = 4  # noise levels that losses are logged by


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the transformer; the width of its tokens follows from the latents.

    Args:
        width: D of the stream.
        depth: Blocks.
        num_heads: Heads of attention in each block.
        mlp_ratio: Hidden width of each block's network over D.
        caption_encoder: Name or folder of a Hugging Face text encoder for captions, frozen.
        caption_layers: Whose hidden states are read, 0 of the embeddings, -1 the last; none are
            all.
        word_vectors: Without an encoder, read captions by what their words mean, so that words that
            were never trained on are understood; else a table of words is learned.
        compile: Compile the blocks (a minute at the start, then about half the time a step).
        checkpoint_blocks: Recompute activations in the backward pass, for memory; all of them, or
            all but matrix products and attention ("products").
        has_speech_tokens: Let phonemes stand as tokens of their own.
        hears_speech: Add phonemes to the tokens that they are heard in.
        sight_s: Seconds of a block of time; with it attention is limited to blocks beside it, for
            long clips (see `avgen.latents.context.Sight`); None sees all of a clip.
        sight_blocks: That are seen on a side.
        sight_is_causal: Whether those after it are not.
        has_references: Know tokens of a reference from others; `ClipData.references` gives some.
        num_expressions: Numbers of every frame's face that are told from the middle of the network,
            where clips have a track of them; 0 tells none.
        initial_weights: The `model.safetensors` of such a transformer to start from. It knows the
            phonemes that it was trained with; what it lacks of `hears_speech` and
            `num_expressions` starts anew.
        initial_model: Instead, a model folder to go on from: its transformer, whose sizes must be
            these, and the statistics that its latents were normalised with.
        lora: Train low-rank additions to the weights alone.
        distillation: Learn few steps from a model, with which it starts, instead.
        backbone: Somebody else's network in place of an AVTransformer; of the sizes, none is read.
        initial_wan: A folder of Wan 2.1's transformer, whose weights start this one as far as they
            have a home here; the rest is named in the log.
    """

    width: int = 0
    depth: int = 0
    num_heads: int = 0
    mlp_ratio: float = 4.0
    caption_encoder: str | None = None
    caption_layers: tuple[int, ...] = (-1,)
    word_vectors: bool = False
    compile: bool = False
    checkpoint_blocks: bool | Literal["products"] = False
    has_speech_tokens: bool = True
    hears_speech: bool = False
    has_references: bool = False
    num_expressions: int = 0
    sight_s: float | None = None
    sight_blocks: int | None = 1
    sight_is_causal: bool = False
    initial_weights: Path | None = None
    initial_model: Path | None = None
    lora: LoraConfig | None = None
    distillation: DistillationConfig | None = None
    backbone: BackboneSource | None = None
    initial_wan: Path | None = None

    def __post_init__(self) -> None:
        """Check that there is one network, and one start."""
        if not (self.width and self.depth and self.num_heads) and self.backbone is None:
            raise UserError("a network needs width, depth and num_heads, or a backbone")
        if self.distillation is not None and self.initial_model is None:
            object.__setattr__(self, "initial_model", self.distillation.teacher)
        if self.initial_weights is not None and self.initial_model is not None:
            raise UserError("initial_weights and initial_model are both given; start from one")

    @property
    def starts_whole(self) -> bool:
        """Whether it begins as something that is read from a file or put around it."""
        starts = self.initial_weights, self.initial_model, self.initial_wan, self.lora
        return any(start is not None for start in (*starts, self.backbone))

    def sizes(self, latents: LatentConfig) -> AVTransformerConfig:
        """The transformer's configuration, for latents of a folder."""
        video, audio = latents.grids(1)
        start = self.initial_weights and self.initial_weights.parent
        if self.initial_model is not None:
            start = self.initial_model / "transformer"
        num_phonemes = len(PHONEMES)
        if start is not None and (start / "config.json").is_file():
            num_phonemes = read_json(start / "config.json").get("num_phonemes", len(ARPABET))
        return AVTransformerConfig(
            token_width=max(video.token_channels, audio.token_channels),
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            caption_encoder=self.caption_encoder,
            caption_layers=self.caption_layers,
            word_vectors=self.word_vectors,
            num_phonemes=num_phonemes,
            has_speech_tokens=self.has_speech_tokens,
            hears_speech=self.hears_speech,
            num_expressions=self.num_expressions,
            frames_per_latent=latents.video_stride[0],
            has_references=self.has_references,
            sight_s=self.sight_s,
            sight_blocks=self.sight_blocks,
            sight_is_causal=self.sight_is_causal,
            distilled=self.distillation is not None,
        )


EachBlock = Callable[[nn.Module], Any]


def build_network(
    network: NetworkConfig, latents: LatentConfig, each: EachBlock | None = None
) -> Any:
    """The network that is trained, an AVTransformer or somebody else's, as it starts."""
    if network.backbone is not None:
        width = max(grid.token_channels for grid in latents.grids(1))
        read = network.caption_encoder, network.caption_layers
        return build_backbone(network.backbone, width, *read)
    transformer = AVTransformer(network.sizes(latents), each)
    if network.initial_wan is not None:
        start_from_wan_folder(transformer, network.initial_wan)
    return transformer


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
        self.transformer = self.begin(network)
        distillation = network.distillation
        self.teacher = None if distillation is None else Teacher(distillation)
        self.sampling = {} if distillation is None else distillation.settings()
        self.optimizer, self.weights = optimizer, weights
        self.lexicon, self.seed = Store(folder).lexicon(), seed
        self._binned: dict[str, BinnedErrors] = {}  # stage/modality -> since they were logged
        self.drawing = Drawing(
            self.latents,
            (self.video_statistics, self.audio_statistics),
            sigmas,
            tasks,
            drops,
            weights,
            self.lexicon,
            self.transformer.read,
            None if distillation is None else distillation.steps,
            has_features=self.latents.captions == captions_of(self.transformer),
        )

    def begin(self, network: NetworkConfig) -> Any:
        """The network as training starts from it."""
        return self.started(network)

    def started(self, network: NetworkConfig, each: EachBlock | None = None) -> Any:
        """Likewise; the statistics become those of what it starts from.

        Args:
            network: What it is.
            each: Called with every block as it is made.
        """
        transformer = build_network(network, self.latents, each)
        if network.initial_weights is not None:
            load_tensors(transformer, network.initial_weights, NEW_PARTS)
            known = statistics_beside(network.initial_weights)
            self.video_statistics = known.get("video", self.video_statistics)
            self.audio_statistics = known.get("audio", self.audio_statistics)
        if network.initial_model is not None:
            started = start_from(network.initial_model, transformer, self.latents)
            self.video_statistics, self.audio_statistics = started
        if network.lora is not None:
            adapt(transformer, network.lora)
        transformer.checkpoint_blocks = network.checkpoint_blocks
        if network.compile:
            transformer.compile_blocks()
        return transformer

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step of conditional flow matching."""
        return self.loss(self.draw(batch, "train"), "train", len(batch["clips"]))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The same with the same draws every time."""
        self.loss(self.draw(batch, "validation"), "validation", len(batch["clips"]))

    def draw(self, batch: dict[str, Any], stage: str) -> TrainingSample:
        """What a step sees of its clips, each drawn by a generator of its own."""
        training = stage == "train"
        seeds = [hash_seed(self.seed, draw, int(training)) for draw in batch["draws"]]
        return self.drawing(batch["clips"], seeds, jitter=training).to(self.device)

    def errors(self, drawn: TrainingSample) -> tuple[Tensor, Tensor | None]:
        """Mean squared error of the velocity of every token [R, L], and of the faces told.

        The latter is [R, T, stride], or None where no face is known.
        """
        clean, noise, layout = drawn.clean, drawn.noise, drawn.layout
        noisy = mix(clean, noise, drawn.sigma)
        context = self.transformer.prepare(layout, drawn.text, reference=drawn.reference)
        faces, teacher = drawn.expressions, self.teacher
        target = velocity(clean, noise)
        if teacher is not None:
            target, guided = teacher.targets(noisy, drawn)
            faces = guided if faces is not None and guided is not None else faces
        told, has_head = None, bool(self.transformer.config.num_expressions)
        if not has_head or (drawn.expressions is None and rank_and_world()[1] == 1):
            predicted = self.transformer(noisy, drawn.levels, context)
        else:
            predicted, told = self.transformer(noisy, drawn.levels, context, with_expressions=True)
        if told is not None and drawn.expressions is None:  # other processes wait for its gradient
            predicted, told = predicted + 0 * told.sum(), None
        elif told is not None and faces is not None:
            told = self.weights.of_faces(told, faces)
        # `token_errors` averages over the padding too, in which nothing is wrong.
        used = layout.used.float().mean(1)
        return token_errors(predicted, target) / used, told

    def loss(self, drawn: TrainingSample, stage: str, size: int) -> Tensor:
        """Predict, weigh and log; `size` is how many clips there are."""
        errors, told = self.errors(drawn)
        made = drawn.made()
        losses, weights = modality_losses(errors, made), dict(self.weights.modalities)
        counted = {name: weight.sum() for name, weight in made.items()}
        if self.transformer.config.num_expressions:  # where this process has none, another may
            seen = errors.new_zeros(1) if told is None else drawn.seen_faces(self.weights)
            faces = weighted_mean(seen if told is None else told, seen)
            losses["expressions"], counted["expressions"] = faces, seen.sum()
            weights["expressions"] = self.weights.expressions
        if stage == "train":
            shares = shares_of_processes(torch.stack(list(counted.values())))
            losses = {
                name: loss if share is None else share * loss
                for (name, loss), share in zip(losses.items(), shares, strict=True)
            }
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        figures = {f"{stage}/{name}": loss for name, loss in losses.items()}
        self.log_dict(figures, batch_size=size, sync_dist=True)
        self.log(f"{stage}/loss", total, prog_bar=True, batch_size=size, sync_dist=True)
        for name in MODALITIES:
            binned = bin_errors(errors, drawn.sigma, made[name], NUM_BINS)
            so_far = self._binned.get(f"{stage}/{name}")
            self._binned[f"{stage}/{name}"] = binned if so_far is None else so_far + binned
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the losses by noise level as often as the others."""
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if every and self.global_step % every == 0:
            self.log_bins()

    def on_validation_epoch_end(self) -> None:
        """Log those of validation."""
        self.log_bins()

    def log_bins(self) -> None:
        """Log the losses by noise level since they were logged last; empty levels have none.

        They are looked at here alone: a look at a number on a GPU waits for all that it has to do.
        """
        means = {
            f"{name}_sigma_{level}": mean
            for name, binned in self._binned.items()
            for level, mean in enumerate(binned.mean.tolist())
            if not math.isnan(mean)
        }
        self._binned = {}
        for logger in self.loggers:
            logger.log_metrics(means, self.global_step)

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
