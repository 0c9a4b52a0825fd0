"""A stretch of a recording -> the spans of it in which a face that is seen is heard as well."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from avgen.clips.timebase import num_samples, to_index, to_seconds
from avgen.preparation import crop, people, quality, scenes, source, spans, speaker, voice
from avgen.preparation.collect import Collector, Piece
from avgen.preparation.outcome import Dropped
from avgen.preparation.people import Person
from avgen.preparation.source import Stretch

Frames = tuple[int, int]  # first frame and frame after the last, of a stretch


class TalkingFaces:
    """All stages for one stretch, from scenes to clips.

    Args:
        stretch: What to look through.
        collector: Takes what is found.

    Raises:
        Dropped: the sound of the stretch is silent.
    """

    def __init__(self, stretch: Stretch, collector: Collector) -> None:
        source.require_sound(stretch.waveform)
        self.stretch, self.collector, self.settings = stretch, collector, collector.settings
        assert self.settings.fps is not None and self.settings.size is not None
        self.size, self.fps, self.rate = (
            self.settings.size,
            self.settings.fps,
            self.settings.sample_rate,
        )
        self.frames = stretch.clip.frames
        self.min_frames = to_index(self.settings.limits.min_s, self.fps)
        self.speech = voice.speech(stretch.waveform, self.rate)

    def collect(self) -> None:
        """Go through every scene."""
        for scene in scenes.cut(self.frames):
            try:
                scenes.require_length(scene, self.min_frames, float(self.fps))
                present = people.find(self.frames, scene, float(self.fps), self.min_frames)
                present = people.annotated(present, self.collector.record, self.frames.shape[1:3])
            except Dropped as dropped:
                self._drop(dropped, scene)
                continue
            scores: dict[tuple[int, Frames], speaker.sync.SyncScore | Dropped] = {}
            for index in range(len(present)):
                for piece in self._pieces(present[index]):
                    try:
                        score = self._score(present, index, piece, scores)
                        self._keep(present[index], piece, score)
                    except Dropped as dropped:
                        self._drop(dropped, piece)

    def _pieces(self, person: Person) -> list[Frames]:
        """The spans of a face."""
        limits = self.settings.limits
        start_s, end_s = (float(to_seconds(i, self.fps)) for i in (person.first, person.last))
        found = spans.cut(start_s, end_s, self.speech, limits.min_s, limits.max_s)
        return [(to_index(a, self.fps), to_index(b, self.fps)) for a, b in found]

    def _score(
        self,
        present: list[Person],
        index: int,
        piece: Frames,
        scores: dict[tuple[int, Frames], speaker.sync.SyncScore | Dropped],
    ) -> speaker.sync.SyncScore:
        """How a face fits the sound, if no other face fits it better.

        Raises:
            Dropped: nobody speaks, another face fits better, or this one cannot be measured.
        """
        start_s, end_s = (float(to_seconds(i, self.fps)) for i in piece)
        speech = voice.within(self.speech, start_s, end_s)
        if voice.seconds(speech) < self.settings.limits.min_speech_s:
            raise Dropped("no speech", f"nobody speaks from {start_s:.2f} to {end_s:.2f} s")
        first, last = (num_samples(i, self.fps, self.rate) for i in piece)
        waveform = self.stretch.waveform[:, first:last]
        for other, person in enumerate(present):
            boxes = person.within(*piece)
            if boxes is None or (other, piece) in scores:
                continue
            frames = self.frames[slice(*piece)]
            try:
                scores[other, piece] = speaker.fit(frames, boxes, waveform, self.fps, self.rate)
            except Dropped as dropped:
                scores[other, piece] = dropped
        own = scores[index, piece]
        if isinstance(own, Dropped):
            raise own
        rivals = {
            other: score
            for (other, where), score in scores.items()
            if where == piece and not isinstance(score, Dropped)
        }
        best = speaker.choose(rivals)
        if best != index:
            raise Dropped(
                "another speaks",
                f"mouth and sound correlate by {own.curve.max():.2f}, "
                f"those of another face by {rivals[best].curve.max():.2f}",
            )
        return own

    def _keep(self, person: Person, piece: Frames, score: speaker.sync.SyncScore) -> None:
        """One span of one face, its sound moved to where it belongs, to a clip on disk.

        Raises:
            Dropped: it is out of sync, too short, or not good enough.
        """
        limits, fps = self.settings.limits, self.fps
        early_s = speaker.offset_s(score, float(to_seconds(piece[1] - piece[0], fps)), limits)
        piece, waveform = speaker.moved(self.stretch.waveform, self.rate, piece, fps, early_s)
        if piece[1] - piece[0] < self.min_frames:
            raise Dropped("too short", f"with the sound {1000 * early_s:+.0f} ms where it belongs")
        boxes, frames = person.within(*piece), self.frames[slice(*piece)]
        assert boxes is not None
        window = crop.path(boxes, frames.shape[1:3], self.size, float(fps), limits.max_enlargement)
        heard_s = [float(to_seconds(i, fps)) - early_s for i in piece]
        speech = voice.within(self.speech, heard_s[0], heard_s[1])
        measures = quality.picture(frames, boxes, limits)
        measures |= quality.sound(waveform, self.rate, speech, limits)
        measures |= {
            "fit": float(score.curve.max()),
            "lead": speaker.lead(score.curve),
            "confidence": score.confidence,
            "offset_ms": score.offset_ms,
            "corrected_ms": 1000 * early_s,
        }
        left, top, width, height = (int(v) for v in np.round(np.median(window, axis=0)))
        self.collector.keep(
            Piece(
                self._span(piece),
                crop.cut(frames, window, self.size),
                waveform,
                (left, top, width, height),
                measures,
                early_s,
            )
        )

    def _span(self, piece: Frames) -> tuple[Fraction, Fraction]:
        start, end = (self.stretch.start_s + to_seconds(i, self.fps) for i in piece)
        return start, end

    def _drop(self, dropped: Dropped, piece: Frames) -> None:
        self.collector.drop(dropped, self._span(piece), self.frames[sum(piece) // 2])
