"""Per-channel statistics of latents, fitted once and applied late.

Raw latents are what is cached on disk, so that new statistics never mean encoding again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from avgen.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


Moments = tuple[int, "Tensor", "Tensor"]  # numbers a channel, their sums and those of squares


def moments(latents: Tensor) -> Moments:
    """Of latents [C, ...], in float64."""
    flat = latents.double().flatten(1)
    return flat.shape[1], flat.sum(1), flat.square().sum(1)


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of every channel of a codec's latents.

    Attributes:
        mean: One number a channel.
        std: One number a channel, greater than 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the statistics can be divided by."""
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise UserError(
                f"{len(self.mean)} means and {len(self.std)} deviations; "
                "there must be as many, the latter above 0"
            )

    @classmethod
    def fit(cls, latents: Iterable[Tensor]) -> LatentStatistics:
        """Statistics over any number of raw latents [C, ...], of any sizes.

        Each number counts once.
        """
        return cls.of_moments(moments(clip) for clip in latents)

    @classmethod
    def of_moments(cls, parts: Iterable[Moments]) -> LatentStatistics:
        """Those of latents whose moments are known, clip by clip or many at a time."""
        count, total, square = 0, None, None
        for own, sums, squares in parts:
            count += own
            total = sums if total is None else total + sums
            square = squares if square is None else square + squares
        if total is None or square is None:
            raise UserError("no latents to fit statistics to; at least one clip is needed")
        mean = total / count
        return cls(
            tuple(mean.tolist()),
            tuple((square / count - mean.square()).clamp_min(1e-8).sqrt().tolist()),
        )

    def normalize(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, ...] to zero mean and unit variance a channel."""
        mean, std = self._columns(latents)
        return (latents - mean) / std

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of `normalize`."""
        mean, std = self._columns(latents)
        return latents * std + mean

    def _columns(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if latents.shape[1] != len(self.mean):
            raise UserError(
                f"latents of {latents.shape[1]} channels; these statistics are of {len(self.mean)}"
            )
        shape = (-1,) + (1,) * (latents.ndim - 2)
        return tuple(latents.new_tensor(values).view(shape) for values in (self.mean, self.std))  # type: ignore[return-value]
