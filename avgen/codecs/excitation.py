"""A pitch in, a train of pulses out, and noise: what a vocoder shapes into speech.

Both are made a hop at a time and depend on nothing but the hop's place: the phase of the pulses is
a sum over the pitches before, so that a stretch sounds as it does within the whole.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

HIGHEST_HARMONIC_HZ = 11500.0
NOISE_BLOCK = 64  # hops whose noise is drawn at once, from a seed of its own


def pulse_phases(pitch_hz: Tensor, hop_length: int, sample_rate: int) -> Tensor:
    """Turns in [0, 1) at the start of each hop, float64 [B, T], of pulses at a pitch [B, T].

    Between the middles of hops the pitch is interpolated, so an eighth of a hop's turns is each
    neighbour's.
    """
    f = pitch_hz.double()
    padded = functional.pad(f[:, None], (1, 1), mode="replicate")[:, 0]
    turns = (padded[:, :-2] / 8 + padded[:, 1:-1] * 3 / 4 + padded[:, 2:] / 8) * hop_length
    return functional.pad((turns / sample_rate).cumsum(1)[:, :-1], (1, 0)) % 1


def pulses(pitch_hz: Tensor, phases: Tensor, hop_length: int, sample_rate: int) -> Tensor:
    """Pulse trains [B, T, hop_length] whose harmonics all have amplitude 1.

    Args:
        pitch_hz: [B, T + 2]: with a neighbour on each side.
        phases: Turns at the start of each hop, float64 [B, T].
        hop_length: Samples per hop.
        sample_rate: In Hz.
    """
    place = (torch.arange(hop_length, device=phases.device).double() + 0.5) / hop_length - 0.5
    f = pitch_hz.double()[..., None]
    between = f[:, 1:-1] * (1 - place.abs())
    between = between + f[:, :-2] * (-place).clamp(min=0) + f[:, 2:] * place.clamp(min=0)
    turns = (phases[..., None] + between.cumsum(-1) / sample_rate) % 1
    highest = min(HIGHEST_HARMONIC_HZ, 0.48 * sample_rate)  # above half the rate they would fold
    angle, harmonics = 2 * math.pi * turns.float(), (highest / between.float()).floor()
    # sum of cos(k a) for k to H is sin((H + 1/2) a) / (2 sin(a / 2)) - 1/2, and H where a is 0
    below = 2 * (angle / 2).sin()
    at_zero = below.abs() < 2e-3
    ratio = ((harmonics + 0.5) * angle).sin() / torch.where(at_zero, 1.0, below)
    return torch.where(at_zero, harmonics, ratio - 0.5)


def fixed_noise(start: int, end: int, hop_length: int) -> Tensor:
    """White noise [hops, hop_length] of hops [start, end): the same whatever is around them."""
    first, last = start // NOISE_BLOCK, (end - 1) // NOISE_BLOCK
    parts = [
        torch.randn(NOISE_BLOCK, hop_length, generator=torch.Generator().manual_seed(block))
        for block in range(first, last + 1)
    ]
    return torch.cat(parts)[start - first * NOISE_BLOCK : end - first * NOISE_BLOCK]


def short_spectra(hops: Tensor, window: Tensor) -> Tensor:
    """Spectra [B, T, bins] of three hops each of samples [B, T + 2, hop]; a sine's peak is 1."""
    windows = torch.cat([hops[:, :-2], hops[:, 1:-1], hops[:, 2:]], -1)
    return torch.fft.rfft(windows * window) / (window.sum() / 2)
