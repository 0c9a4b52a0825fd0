"""A voice that is given in, what it says and when out: lips follow it."""

from __future__ import annotations

from dataclasses import replace

from avgen.clips.timebase import num_samples
from avgen.models import listening
from avgen.models.durations import DurationModel
from avgen.models.english import read
from avgen.models.prompt import parse_prompt
from avgen.models.timing import SpeechTiming
from avgen.pipeline.conditions import Conditions, at_rate
from avgen.pipeline.request import GenerateRequest


def with_heard(
    conditions: Conditions, request: GenerateRequest, timing: SpeechTiming | None
) -> Conditions:
    """The same with phonemes where they are said in a voice that is given.

    Those of the words that the request has without their times, or else of words that are heard, by
    models of any English; `speech=""` says that there are none.
    """
    unknown = request.words is None and request.speech != ""
    if not (isinstance(timing, DurationModel) and isinstance(request.audio, tuple) and unknown):
        return conditions
    length = num_samples(conditions.num_frames, conditions.fps, listening.RATE)
    samples = at_rate(*request.audio, listening.RATE)[0, :length]
    speech = request.speech or parse_prompt(request.prompt)[1]
    words = read(speech, timing.config.lexicon) if speech else []
    phonemes = listening.align(samples, words) if words else listening.hear(samples)
    return replace(conditions, phonemes=phonemes)
