"""Timed phonemes -> what is added to the tokens of sound and picture in which they are heard.

So alignment is given and need not be learned. A token's span is cut into `PARTS`; each part hears
the phonemes that overlap it, by the share of the part that each one covers, and what is left over
is silence. A phoneme is heard as its beginning, middle or end, as far as the part's centre has come
in it. It knows its neighbours and how long it lasts.

Reference: Zhu et al. 2025, "ZipVoice" (arXiv:2506.13053), section 3.2, whose upsampled text is this
with one part, equal lengths and no states.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

PARTS = 4  # of a token's span: at 25 fps a frame of a picture's token, 10 ms of a sound's
SHORTEST_S = 0.01  # of a phoneme


def shares(parts: Tensor, spans: Tensor) -> Tensor:
    """How much of each part [..., N, 2] every span [..., S, 2] covers: [..., N, S] in [0, 1]."""
    start = torch.maximum(parts[..., :, None, 0], spans[..., None, :, 0])
    stop = torch.minimum(parts[..., :, None, 1], spans[..., None, :, 1])
    return (stop - start).clamp(min=0) / (parts[..., 1] - parts[..., 0])[..., None]


def states(parts: Tensor, spans: Tensor) -> Tensor:
    """How far the centre of a part is in a span: beginning, middle, end, which sum to 1.

    Args:
        parts: [..., N, 2].
        spans: [..., S, 2].

    Returns:
        [..., N, S, 3], linear in between; the beginning before a span, the end after it.
    """
    lasting = (spans[..., 1] - spans[..., 0]).clamp(min=SHORTEST_S)
    passed = parts.mean(-1)[..., :, None] - spans[..., None, :, 0]
    progress = (passed / lasting[..., None, :]).clamp(0, 1)
    beginning, end = (1 - 2 * progress).clamp(min=0), (2 * progress - 1).clamp(min=0)
    return torch.stack([beginning, 1 - beginning - end, end], -1)


def cut(spans: Tensor) -> Tensor:
    """The parts [..., N * PARTS, 2] of spans [..., N, 2], one after another."""
    edges = torch.linspace(0, 1, PARTS + 1, device=spans.device)
    edges = spans[..., :1] + (spans[..., 1:] - spans[..., :1]) * edges
    return torch.stack([edges[..., :-1], edges[..., 1:]], -1).flatten(-3, -2)


class HeardSpeech(nn.Module):
    """See the module's docstring.

    Args:
        width: D of the tokens; speech is half as wide before it is added.
        num_phonemes: Rows of the table.
        num_modalities: Each has an outward projection of its own, which starts at 0.
    """

    def __init__(self, width: int, num_phonemes: int, num_modalities: int) -> None:
        super().__init__()
        own = width // 2
        self.table = nn.Embedding(num_phonemes, own)
        self.duration = nn.Linear(2, own)
        self.near = nn.ModuleList(nn.Linear(3 * own, own) for _ in range(2))
        self.states = nn.Linear(own, 3 * own)
        self.silence = nn.Parameter(torch.zeros(own))
        self.outward = nn.ModuleList(
            nn.Linear(PARTS * own, width, bias=False) for _ in range(num_modalities)
        )
        nn.init.normal_(self.silence, std=0.5)

    def vectors(self, ids: Tensor, spans: Tensor, seen: Tensor) -> Tensor:
        """Each phoneme [B, S] in each state, [B, S, 3, H]; what is not seen is not there."""
        tenths = 10 * (spans[..., 1] - spans[..., 0]).clamp(min=SHORTEST_S)
        lasting = self.duration(torch.stack([tenths, tenths.log()], -1))
        stream = (self.table(ids) + lasting) * seen[..., None]
        for layer in self.near:
            around = F.pad(stream, (0, 0, 1, 1))
            near = layer(torch.cat([around[:, :-2], stream, around[:, 2:]], -1))
            stream = stream + F.gelu(near, approximate="tanh") * seen[..., None]
        return self.states(stream).unflatten(-1, (3, -1))

    def forward(
        self, token_spans: Tensor, modality: Tensor, vectors: Tensor, spans: Tensor, seen: Tensor
    ) -> Tensor:
        """What is added to the tokens of B clips, [B, L, D]; 0 where a clip has no speech.

        Args:
            token_spans: Seconds [L, 2].
            modality: int64 [L].
            vectors: Of the phonemes, from `vectors`.
            spans: Of the phonemes, seconds [B, S, 2].
            seen: Bool [B, S].
        """
        parts = cut(token_spans)
        share = shares(parts, spans) * seen[:, None]
        rest = (1 - share.sum(-1)).clamp(min=0) * seen.any(1)[:, None]
        weights = share[..., None] * states(parts, spans)
        heard = weights.flatten(2).to(vectors.dtype) @ vectors.flatten(1, 2)
        heard = heard + rest[..., None].to(heard.dtype) * self.silence.to(heard.dtype)
        heard = rearrange(heard, "b (l n) h -> b l (n h)", n=PARTS)
        made = [layer(heard) for layer in self.outward]
        for index, other in enumerate(made[1:], 1):
            made[0] = torch.where((modality == index)[:, None], other, made[0])
        return made[0]
