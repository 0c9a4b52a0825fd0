"""Text in, speech with the times of its words and phonemes out, by a voice that needs no download.

The speech is hibari-tts's, bent by a puppet's two numbers (see avgen/corpora/voices).
"""

from avgen.corpora.voices.character import Voice as Speaker
from avgen.corpora.voices.saying import Speech, say
from avgen.corpora.voices.synthesis import SAMPLE_RATE, Warp
from avgen.models.phonemes import PAUSES, TimedPhoneme, without_stress
from puppets.person import Voice

__all__ = ["SAMPLE_RATE", "Speech", "speak"]

_MARGIN_S = 0.05  # silence left at both ends of the speech


def speak(text: str, voice: Voice, *, speed: float = 1.0, seed: int = 0) -> Speech:
    """Says one short sentence; its phonemes are without stress, gaps between them are silent.

    Args:
        text: words and punctuation; numbers have to be spelled.
        voice: who speaks.
        speed: 1 is the voice's own pace, 2 twice as fast.
        seed: of the breath noise; the same arguments give the same samples.

    Raises:
        UserError: if there is nothing to say, or the words do not map one to one to what is said.
    """
    warp = Warp(formant=voice.formant, pitch=voice.pitch)
    speaker = Speaker("puppet", "woman", "young", "a plain voice", speed, warp=warp)
    speech = say(text, speaker, seed, margins_s=(_MARGIN_S, _MARGIN_S), kokoro=None)
    return Speech(
        waveform=speech.waveform,
        words=speech.words,
        phonemes=tuple(
            TimedPhoneme(without_stress(p.phoneme), p.start_s, p.end_s)
            for p in speech.phonemes
            if p.phoneme not in PAUSES
        ),
    )
