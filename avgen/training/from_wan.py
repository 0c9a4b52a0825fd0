"""Weights of Wan 2.1's transformer -> an AVTransformer's, and what of them has no home there.

Both modulate by one shared projection and a table a block, attend to themselves and have a network
of two layers with the same activation; those weights are taken. What is left over is named: Wan
attends to text apart from itself, normalises queries and keys over the whole width, and counts
positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avgen.errors import UserError
from avgen.latents.packing import VIDEO
from avgen.models.transformer import AVTransformer, AVTransformerConfig

BLOCK = {
    "attn1.to_out.0.weight": "attention.outward.weight",
    "ffn.net.0.proj.weight": "mlp.0.weight",
    "ffn.net.2.weight": "mlp.2.weight",
}
AROUND = {
    "condition_embedder.time_embedder.linear_2.weight": "timestep.layers.2.weight",
    "condition_embedder.time_embedder.linear_2.bias": "timestep.layers.2.bias",
    "condition_embedder.time_proj.weight": "modulation.weight",
    "condition_embedder.time_proj.bias": "modulation.bias",
    "proj_out.bias": f"outward.{VIDEO}.bias",
    "patch_embedding.bias": f"inward.{VIDEO}.bias",
}


def weights_of_wan(
    state: Mapping[str, Tensor], config: AVTransformerConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of `WanTransformer3DModel` by an AVTransformer's names, and names of the others.

    Raises:
        UserError: it has not the width, depth or hidden width of the network.
    """
    own = {AROUND[name]: tensor for name, tensor in state.items() if name in AROUND}
    depth = 1 + max((int(n.split(".")[1]) for n in state if n.startswith("blocks.")), default=-1)
    hidden = state["blocks.0.ffn.net.0.proj.weight"].shape[0] if depth else 0
    width = len(state["patch_embedding.bias"])
    sizes = config.width, config.depth, int(config.width * config.mlp_ratio)
    if (width, depth, hidden) != sizes:
        raise UserError(
            f"Wan's width, depth and hidden width are {width, depth, hidden}, not {sizes}"
        )
    for block in range(depth):
        stem = f"blocks.{block}."
        parts = [state[f"{stem}attn1.to_{part}.weight"] for part in "qkv"]
        own[f"{stem}attention.inward.weight"] = torch.cat(parts)
        own[f"{stem}table"] = (
            state[f"{stem}scale_shift_table"].flatten(1).repeat(config.num_kinds, 1)
        )
        own |= {stem + ours: state[stem + theirs] for theirs, ours in BLOCK.items()}
    patches = state["patch_embedding.weight"]  # [D, C, 1, p, q]: a token is p, q, C
    inward = patches[:, :, 0].permute(0, 2, 3, 1).flatten(1)
    own[f"inward.{VIDEO}.weight"] = torch.nn.functional.pad(
        inward, (0, config.token_width - inward.shape[1])
    )
    rows = config.token_width - len(state["proj_out.bias"])
    own[f"outward.{VIDEO}.weight"] = torch.nn.functional.pad(
        state["proj_out.weight"], (0, 0, 0, rows)
    )
    own[f"outward.{VIDEO}.bias"] = torch.nn.functional.pad(own[f"outward.{VIDEO}.bias"], (0, rows))
    taken = {*AROUND, "patch_embedding.weight", "proj_out.weight"}
    for block in range(depth):
        names = [*BLOCK, "scale_shift_table", *(f"attn1.to_{part}.weight" for part in "qkv")]
        taken |= {f"blocks.{block}.{name}" for name in names}
    return own, sorted(state.keys() - taken)


def start_from_wan(transformer: AVTransformer, state: Mapping[str, Tensor]) -> list[str]:
    """Fill a transformer with what it can take of Wan's; the names of what is left over.

    Raises:
        UserError: as `weights_of_wan`.
    """
    own, left = weights_of_wan(state, transformer.config)
    transformer.load_state_dict(own, strict=False)
    return left
