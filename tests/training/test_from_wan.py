"""Wan 2.1's weights in an AVTransformer: layers that compute the same, and names of the rest."""

import pytest
import torch
from torch.nn import functional as F

from avgen.models.transformer import AVTransformer, AVTransformerConfig
from avgen.training.from_wan import start_from_wan

diffusers = pytest.importorskip("diffusers", reason="pip install 'avgen[pretrained]'")
WAN = {"in_channels": 4, "out_channels": 4, "num_layers": 2, "num_attention_heads": 2}
WAN |= {"attention_head_dim": 16, "ffn_dim": 96, "text_dim": 24, "freq_dim": 16}


@torch.no_grad()
def test_mapped_layers_compute_what_they_did():
    torch.manual_seed(0)
    wan = diffusers.WanTransformer3DModel(**WAN)
    own = AVTransformer(AVTransformerConfig(20, 32, 2, 2, mlp_ratio=3.0))
    state = wan.state_dict()
    left = start_from_wan(own, state)
    latents = torch.randn(1, 4, 1, 4, 6)
    tokens = latents.unfold(3, 2, 2).unfold(4, 2, 2)[0, :, 0].permute(1, 2, 3, 4, 0).reshape(6, 16)
    theirs = wan.patch_embedding(latents).flatten(2)[0].T
    made = own.inward[0](F.pad(tokens, (0, 4)))
    torch.testing.assert_close(made, theirs, atol=1e-5, rtol=1e-5)
    x = torch.randn(5, 32)
    for ours, block in zip(own.blocks, wan.blocks, strict=True):
        split = ours.attention.inward(x).chunk(3, -1)
        for part, layer in zip(
            split, (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v), strict=True
        ):
            torch.testing.assert_close(part, layer(x) - layer.bias, atol=1e-5, rtol=1e-5)
        linear = block.ffn.net[0].proj
        hidden = F.gelu(linear(x) - linear.bias, approximate="tanh")
        expected = block.ffn.net[2](hidden) - block.ffn.net[2].bias
        torch.testing.assert_close(ours.feed(x), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours.table, block.scale_shift_table.flatten().expand(4, -1))
    assert torch.equal(own.modulation(x), wan.condition_embedder.time_proj(x))
    torch.testing.assert_close(own.outward[0](x)[:, :16], wan.proj_out(x), atol=1e-5, rtol=1e-5)
    kinds = {name.split(".", 2)[-1] if name.startswith("blocks.") else name for name in left}
    assert {"attn2.to_q.weight", "attn1.norm_q.weight", "attn1.to_q.bias", "norm2.weight"} <= kinds
    assert (
        "condition_embedder.text_embedder.linear_1.weight" in kinds and "scale_shift_table" in kinds
    )
    taken = sum(state[name].numel() for name in state.keys() - set(left))
    assert 0.5 < taken / sum(tensor.numel() for tensor in state.values()) < 0.8
    with pytest.raises(ValueError, match=r"Wan's width, depth and hidden width are \(32, 2, 96\)"):
        start_from_wan(AVTransformer(AVTransformerConfig(20, 32, 3, 2)), state)
