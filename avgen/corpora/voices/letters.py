"""Phoneme letters and how long each lasts in, words and phonemes with their times out.

hibari and Kokoro share an alphabet (misaki's: one letter a phoneme, diphthongs are capitals) and a
clock (units of 25 ms). Their networks run late against the sound they make, by 45 ms: that is where
the closures of stops and both ends of sibilants are in 60 sentences, with half of the cases within
5 to 10 ms. The letters that stand for no sound belong to what follows: a stress mark to its vowel,
and a space to the next word, unless there is a pause before it.
"""

import numpy as np

from avgen.models.phonemes import (
    MISAKI,
    MISAKI_PAUSES,
    MISAKI_STRESS,
    VOWELS,
    TimedPhoneme,
)

UNIT_S = 0.025
LATE_S = 0.045

_LENGTH = "ː"  # noqa: RUF001
PAUSES = "".join(MISAKI_PAUSES)


def timed_letters(
    said: str, units: np.ndarray
) -> tuple[list[list[TimedPhoneme]], list[TimedPhoneme]]:
    """The phonemes of each word, vowels with their stress, and the pauses "," and ".".

    Args:
        said: What is said, in the networks' letters.
        units: Of each letter, with one more before and after, int [len(said) + 2].

    Raises:
        ValueError: a letter stands for no phoneme.
    """
    starts_s = np.concatenate([[0], np.cumsum(units)]) * UNIT_S - LATE_S
    words: list[list[TimedPhoneme]] = [[]]
    pauses: list[TimedPhoneme] = []
    stress, begins_s, pausing = "0", None, True
    for index, letter in enumerate(said, start=1):
        start_s, end_s = max(float(starts_s[index]), 0.0), float(starts_s[index + 1])
        if letter in MISAKI_STRESS:
            stress, begins_s = MISAKI_STRESS[letter], start_s if begins_s is None else begins_s
        elif letter == " ":
            if words[-1]:
                words.append([])
            if pausing:
                pauses[-1:] = [TimedPhoneme(p.phoneme, p.start_s, end_s) for p in pauses[-1:]]
            else:
                begins_s = start_s
        elif letter in MISAKI_PAUSES:
            if pausing:
                pauses[-1:] = [TimedPhoneme(p.phoneme, p.start_s, end_s) for p in pauses[-1:]]
            else:
                pauses.append(TimedPhoneme(MISAKI_PAUSES[letter], start_s, end_s))
            pausing = True
        elif letter == _LENGTH or (letter == "ɹ" and words[-1] and said[index - 2] in "əɜ"):
            before = words[-1].pop()
            phoneme = before.phoneme if letter == _LENGTH else "ER" + before.phoneme[-1]
            words[-1].append(TimedPhoneme(phoneme, before.start_s, end_s))
        elif letter in MISAKI:
            phoneme = MISAKI[letter]
            if phoneme in VOWELS:
                phoneme, stress = phoneme + stress, "0"
            words[-1].append(
                TimedPhoneme(phoneme, start_s if begins_s is None else begins_s, end_s)
            )
            begins_s, pausing = None, False
        else:
            raise ValueError(f"{said!r}: {letter!r} is no phoneme")
    return [word for word in words if word], pauses
