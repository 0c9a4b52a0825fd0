"""A recipe -> what it will cost, before anything is bought: `avgen train --config X --plan`.

Nothing is trained and no weight is made: parameters are counted on the meta device, operations in
closed form (flops.py), memory and bytes from what is kept and sent. Of the clips nothing is read;
the recipe says under `plan` what they are. Seconds are those operations over the share of the GPU's
peak that is assumed: a plan is no measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from avgen.clips.timebase import to_index
from avgen.errors import UserError
from avgen.latents.context import Stream, make_stream
from avgen.latents.packing import make_layout
from avgen.models.phonemes import TimedPhoneme
from avgen.models.text import make_text
from avgen.models.transformer import AVTransformer, AVTransformerConfig, text_prefixes
from avgen.preparation.latent_store import ClipShape, LatentConfig
from avgen.training.flops import FORWARDS_OF_A_STEP, stream_flops
from avgen.training.optimization import NUM_ITERATIONS, THINNEST

# Makers' figures: dense bfloat16 in TFLOP/s, and memory in GB.
GPUS = {"a100": (312.0, 80), "h100": (989.0, 80), "h200": (989.0, 141), "b200": (2250.0, 180)}
LEVELS = 3  # noise levels of a clip: picture, sound, given
# Numbers of two bytes a token, width and layer that are kept for the backward pass: of all of a
# block (tests/models/test_fused.py counts them), of its products (3 + 1 + 4 + 1), attention's
# outcome and its input, of its input alone.
KEPT = {False: 20.0, "products": 11.0, True: 1.0}


@dataclass(frozen=True)
class Codecs:
    """What latents are: of LTX-2's codecs unless said otherwise; see `LatentConfig`."""

    video_stride: tuple[int, int, int] = (8, 32, 32)
    video_channels: int = 128
    video_patch: int = 1
    sample_rate: int = 16_000
    hop_length: int = 640
    audio_channels: int = 128
    audio_patch: int = 1
    audio_lead: int = 480


@dataclass(frozen=True)
class Plan:
    """What a recipe is trained on, and with what.

    Args:
        hours: Of the corpus, as it is trained on.
        seconds: Of a clip, on average.
        size: Height and width in pixels.
        fps: Frames a second.
        codecs: What latents are.
        caption_tokens: Of a caption.
        phonemes_per_s: Of speech.
        gpu: One of `GPUS`.
        gpus: How many.
        mfu: Share of the GPU's peak that is assumed to be reached.
    """

    hours: float
    seconds: float = 5.0
    size: tuple[int, int] = (256, 256)
    fps: float = 25.0
    codecs: Codecs = Codecs()
    caption_tokens: int = 32
    phonemes_per_s: float = 12.0
    gpu: str = "h100"
    gpus: int = 8
    mfu: float = 0.4

    def __post_init__(self) -> None:
        """Check the GPU."""
        if self.gpu not in GPUS:
            raise UserError(f"plan.gpu is {self.gpu!r}; it must be one of {', '.join(GPUS)}")

    def latents(self) -> LatentConfig:
        """What its clips' latents are."""
        return LatentConfig(*self.size, str(self.fps), fingerprint="", **vars(self.codecs))

    def shape(self) -> ClipShape:
        """Of an average clip."""
        fps = Fraction(str(self.fps))
        return ClipShape(to_index(self.seconds, fps), *self.size, fps, True)

    def stream(self, config: AVTransformerConfig) -> Stream:
        """Of one clip with its words."""
        layout = make_layout(*self.latents().clip_grids(self.shape()))
        count = round(self.phonemes_per_s * self.seconds)
        times = [i / self.phonemes_per_s for i in range(count + 1)]
        phonemes = [TimedPhoneme("AA1", *times[i : i + 2]) for i in range(count)]
        text = make_text(["a " * self.caption_tokens], [phonemes])
        prefixes = text_prefixes(text)[: 1 + config.has_speech_tokens]
        return make_stream(layout, prefixes, decoupled=False, sight=config.sight)


@dataclass(frozen=True)
class Cost:
    """What a plan comes to; bytes and operations are of a step.

    Attributes:
        parameters: Of the network.
        tokens: Of picture and sound in a clip.
        stream: With its words.
        clips: A step and GPU.
        steps: Of the run.
        epochs: That they are.
        flops: On a GPU.
        muon_flops: Of them, what orthogonalising this GPU's share of the matrices takes.
        memory: Bytes on a GPU: weights, gradients, momentum, average, activations.
        sent: Bytes that a GPU receives.
        gpu_hours: Of the run.
    """

    parameters: int
    tokens: int
    stream: int
    clips: float
    steps: int
    epochs: float
    flops: float
    muon_flops: float
    memory: dict[str, float]
    sent: float
    gpu_hours: float


def cost_of(plan: Plan, config: AVTransformerConfig, recipe: dict[str, Any]) -> Cost:
    """What a recipe costs.

    Args:
        plan: Of the recipe.
        config: Its network's.
        recipe: Its values: the batching, the steps, whether it is sharded.

    Raises:
        UserError: the batching has no clip.
    """
    with torch.device("meta"):
        network = AVTransformer(config)
    parameters = sum(p.numel() for p in network.parameters())
    stream, shape = plan.stream(config), plan.shape()
    tokens, length = plan.latents().num_tokens(shape), sum(stream.segments.lengths)
    batching = recipe["data"]["init_args"]["batching"]["init_args"]
    clips = batching.get("batch_size", batching.get("max_tokens", 0) / tokens)
    steps = recipe["trainer"]["max_steps"]
    if clips < 1:
        raise UserError(f"a clip has {tokens} tokens; max_tokens is {batching.get('max_tokens')}")
    kept = recipe["model"]["init_args"]["network"].get("checkpoint_blocks", False)
    passes = FORWARDS_OF_A_STEP + (kept is True)
    is_muon = recipe["model"]["init_args"]["optimizer"].get("optimizer") is None
    muon = is_muon * newton_schulz_flops(network) / plan.gpus
    work = passes * clips * stream_flops(config, stream, LEVELS) + muon
    sharding = recipe.get("sharding")
    shards = plan.gpus // (sharding.get("replicas", 1) if sharding else plan.gpus)
    state = 4.0 * parameters / max(1, shards)
    memory: dict[str, float] = {}
    memory |= dict.fromkeys(("weights", "gradients", "momentum", "average"), state)
    memory["momentum"] *= 1 if is_muon else 2  # Adam has two
    memory["activations"] = 2 * KEPT[kept] * clips * length * config.width * config.depth
    if shards > 1:
        memory["gathered blocks"] = 2 * 2.0 * parameters / config.depth
        sent = (2 * 2 + 4 + is_muon * (4 + 2)) * parameters  # weights twice, gradients, Muon's
    else:
        sent = (2 * 4 + is_muon * 2) * parameters if plan.gpus > 1 else 0  # gradients, Muon's
    seconds = work / (GPUS[plan.gpu][0] * 1e12 * plan.mfu)
    return Cost(
        parameters=parameters,
        tokens=tokens,
        stream=length,
        clips=clips,
        steps=steps,
        epochs=steps * clips * plan.gpus * plan.seconds / (3600 * plan.hours),
        flops=work,
        muon_flops=muon,
        memory=memory,
        sent=sent,
        gpu_hours=steps * plan.gpus * seconds / 3600,
    )


def newton_schulz_flops(network: torch.nn.Module) -> int:
    """Operations of orthogonalising every matrix of a network once."""
    total = 0
    for parameter in network.parameters():
        if parameter.ndim == 2 and min(parameter.shape) >= THINNEST:
            short, long = sorted(parameter.shape)
            total += NUM_ITERATIONS * (4 * short**2 * long + 2 * short**3)
    return total


def as_text(plan: Plan, cost: Cost) -> str:
    """The plan as lines to read."""
    peak, room = GPUS[plan.gpu]
    memory = sum(cost.memory.values()) / 1e9
    parts = ", ".join(f"{name} {held / 1e9:.1f}" for name, held in cost.memory.items())
    rows = {
        "parameters": f"{cost.parameters / 1e6:,.0f} M",
        "a clip": f"{plan.seconds:g} s of {plan.size[0]}x{plan.size[1]}: {cost.tokens:,} tokens, "
        f"{cost.stream:,} with its words",
        "a step": f"{cost.clips * plan.gpus:,.0f} clips on {plan.gpus} {plan.gpu.upper()}, "
        f"{cost.flops / 1e12:,.1f} TFLOP a GPU"
        + (f", {cost.muon_flops / 1e12:,.1f} of them Muon's" if cost.muon_flops else ""),
        "the run": f"{cost.steps:,} steps, {cost.epochs:,.1f} epochs of {plan.hours:,.0f} h",
        "memory": f"{memory:,.1f} of {room} GB a GPU ({parts})"
        + (" DOES NOT FIT" if memory > 0.9 * room else ""),
        "sent": f"{cost.sent / 1e9:,.1f} GB to a GPU a step",
        "time": f"{cost.gpu_hours:,.0f} {plan.gpu.upper()}-hours at {plan.mfu:.0%} of "
        f"{peak:g} TFLOP/s: assumed, not measured",
    }
    return "\n".join(f"{name:<11}{text}" for name, text in rows.items())
