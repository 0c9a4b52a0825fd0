"""The pieces of a clip in, the same pieces with the marks out: only what was made is marked."""

from __future__ import annotations

import numpy as np

from avgen.provenance import picture_mark, sound_mark


class Marks:
    """Marks a clip that comes in pieces. What was given stays as it was given.

    Args:
        given_frames: Frames from the start that were given.
        given_samples: Samples from the start that were given; None for all of them.
        sample_rate: Of the sound, in Hz.
    """

    def __init__(self, given_frames: int, given_samples: int | None, sample_rate: int) -> None:
        self.given_frames, self.given_samples = given_frames, given_samples
        self.sound_marker = sound_mark.Marker(sample_rate)

    def frames(self, frames: np.ndarray) -> np.ndarray:
        """The next frames uint8 [T, H, W, 3]."""
        kept = frames[: self.given_frames]
        self.given_frames -= len(kept)
        made = frames[len(kept) :]
        return np.concatenate([kept, picture_mark.embed(made)]) if len(made) else kept

    def sound(self, waveform: np.ndarray, is_last: bool) -> np.ndarray:
        """The next samples float32 [C, N], some of them a little later than they came."""
        if self.given_samples is None:
            return waveform
        kept = waveform[:, : self.given_samples]
        self.given_samples -= kept.shape[1]
        made = self.sound_marker.push(waveform[:, kept.shape[1] :], is_last)
        return np.concatenate([kept, made], 1)
