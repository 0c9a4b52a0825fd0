"""Sound in, its pitch and how voiced it is out, once a hop, each from a bounded stretch of sound.

The autocorrelation of every window, divided by that of the window itself, says how alike the sound
is to itself a period later (Boersma 1993, section 3). The path of pitches is the one that scores
best over the `LINK` hops on either side: Viterbi's algorithm cut short, all hops at once, so that a
stretch of sound with its context gives what the whole gives. Where nothing is voiced the pitch is
that of the voiced sound around, the nearer the more.

Reference: Boersma, "Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17, 1993.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

LOWEST_HZ, HIGHEST_HZ = 60.0, 450.0
USUAL_HZ = 150.0  # where nothing is voiced far and wide

LINK = 12  # hops on each side that a path is judged over
HOLD = 64  # hops on each side whose voiced sound gives unvoiced sound its pitch
REACH = LINK + HOLD  # hops of context on each side

_BINS = 100  # of the pitch, evenly spaced in its logarithm: 35 cents
_PASS_HZ = (80.0, 1500.0)  # half of what is at these frequencies takes part: not the mains' hum
_QUIET = 1e-3  # root mean square, of full scale, that halves the likeness
_OCTAVE_COST = 0.01  # that a pitch loses for every octave it lies below the highest
_STEPS = (1, 2, 4)  # bins; their sum is what a pitch may move in a hop, and further is a jump
_STEP_COST = 0.015  # for each
_JUMP_COST = 0.3
_VOICED, _SOFTNESS = 0.55, 0.07  # likeness at which sound is half voiced, and over which it turns
_DECAY = 0.9  # a hop, of what voiced sound counts for unvoiced sound


def pitch_of_windows(windows: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """The pitch in Hz and the voicing in [0, 1], both [B, T], of windows [B, T, N] of samples.

    Windows are a hop apart and of at least three of the longest periods (50 ms).
    """
    bins_hz = torch.logspace(
        math.log10(LOWEST_HZ), math.log10(HIGHEST_HZ), _BINS, device=windows.device
    )
    likeness, flat_likeness = _likeness(windows, sample_rate)
    curve = _at(flat_likeness, (sample_rate / bins_hz).expand(*windows.shape[:2], -1))
    costs = _OCTAVE_COST * torch.log2(HIGHEST_HZ / bins_hz)
    best = _best_bins(curve.clamp(min=0).square() - costs)
    step = math.log(HIGHEST_HZ / LOWEST_HZ) / (_BINS - 1)
    log_pitch = math.log(LOWEST_HZ) + (best + _top_offset(curve, best)) * step
    peak = _at(likeness, (sample_rate / log_pitch.exp())[..., None])[..., 0]
    voicing = torch.sigmoid((peak - _VOICED) / _SOFTNESS)
    return _held(log_pitch, voicing).exp(), voicing


def settings() -> dict[str, float | tuple[float, ...]]:
    """Every number that the pitch depends on."""
    return {k: v for k, v in globals().items() if k.isupper() and not callable(v)}


def _likeness(windows: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """How alike each window is to itself so many samples later, [B, T, samples]; and flattened.

    The first is the share of its power that repeats; the second favours no resonance: a strong
    second harmonic is not mistaken for the first.
    """
    length = windows.shape[-1]
    size = 1 << math.ceil(math.log2(length + sample_rate / LOWEST_HZ + 2))
    window = torch.hann_window(length, device=windows.device)
    hz = torch.fft.rfftfreq(size, 1 / sample_rate, device=windows.device)
    passed = 1 / (1 + (hz / _PASS_HZ[1]) ** 4) / (1 + (_PASS_HZ[0] / (hz + 1e-3)) ** 8)
    own = torch.fft.irfft(torch.fft.rfft(window, n=size).abs().square(), n=size)
    kept = slice(0, int(sample_rate / LOWEST_HZ) + 2)
    loss = (own / own[0]).clamp(min=0.1)[kept]
    magnitude = torch.fft.rfft(windows.float() * window, n=size).abs()
    alike = torch.fft.irfft(magnitude.square() * passed, n=size)[..., kept]
    flat = torch.fft.irfft(magnitude * passed, n=size)[..., kept]
    quiet = own[0] * _QUIET**2
    return (
        alike / (alike[..., :1] + quiet) / loss,
        flat / (flat[..., :1] + quiet.sqrt()) / loss,
    )


def _at(curve: Tensor, place: Tensor) -> Tensor:
    """A curve [..., N] between its samples, at places [..., M] of 0 to below N - 1."""
    below = place.long()
    part = place - below
    return curve.gather(-1, below) * (1 - part) + curve.gather(-1, below + 1) * part


def _best_bins(scores: Tensor) -> Tensor:
    """The bin [B, T] of each hop on the path that scores best around it; scores [B, T, bins]."""
    before, after = torch.zeros_like(scores), torch.zeros_like(scores)
    for _ in range(LINK):
        before = functional.pad(_moved(scores + before)[:, :-1], (0, 0, 1, 0))
        after = functional.pad(_moved(scores + after)[:, 1:], (0, 0, 0, 1))
    return (before + scores + after).argmax(-1)


def _moved(scores: Tensor) -> Tensor:
    """The best score [..., bins] with which each bin can be come to in a hop."""
    best = scores.clone()
    for step in _STEPS:  # moves of 1, 2 and 4 bins or none make up all to 7
        cost = step * _STEP_COST
        up, down = best[..., :-step] - cost, best[..., step:] - cost
        best = torch.cat(
            [
                torch.maximum(best[..., :step], down[..., :step]),
                torch.maximum(
                    best[..., step:-step], torch.maximum(up[..., :-step], down[..., step:])
                ),
                torch.maximum(best[..., -step:], up[..., -step:]),
            ],
            -1,
        )
    return torch.maximum(best, scores.amax(-1, keepdim=True) - _JUMP_COST)


def _top_offset(curve: Tensor, at: Tensor) -> Tensor:
    """How far from bin `at` [...], in +-1/2, the top of a curve [..., bins] is, by a parabola."""
    middle = at.clamp(1, curve.shape[-1] - 2)
    left, top, right = (curve.gather(-1, (middle + i)[..., None])[..., 0] for i in (-1, 0, 1))
    bend = left - 2 * top + right
    offset = torch.where(bend < -1e-9, (left - right) / (2 * bend), 0.0).clamp(-0.5, 0.5)
    return torch.where(middle == at, offset, 0.0)


def _held(log_pitch: Tensor, voicing: Tensor) -> Tensor:
    """The logarithm of the pitch, and where sound is unvoiced that of the voiced sound around."""
    hops = torch.arange(-HOLD, HOLD + 1, device=voicing.device).abs()
    kernel = (_DECAY**hops).expand(1, 1, -1)
    weight = voicing.square()
    sums = functional.conv1d(
        torch.stack([weight * log_pitch, weight], 1).flatten(0, 1)[:, None], kernel, padding=HOLD
    ).unflatten(0, (-1, 2))[:, :, 0]
    usual = 0.01 * _DECAY**HOLD
    around = (sums[:, 0] + usual * math.log(USUAL_HZ)) / (sums[:, 1] + usual)
    return torch.lerp(around, log_pitch, voicing)
