"""Voices and sentences in, a folder of clips and its manifest out: a corpus of sound alone.

Each voice is a folder of WAV files and a `records.jsonl` that is written last, so that a run which
was stopped goes on with the next voice. A voice of the test split says test sentences alone.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from avgen.clips.files import atomic
from avgen.corpora.manifest import ClipRecord, read_manifest, write_manifest
from avgen.corpora.splits import split_by_speaker
from avgen.corpora.voices.character import Engine, Voice, draw_voice, voice_named
from avgen.corpora.voices.saying import say
from avgen.corpora.voices.sentences import shuffled, split_of_sentence
from avgen.corpora.voices.synthesis import SAMPLE_RATE
from avgen.errors import UserError

NAME = "voices"
LICENCE = "Apache-2.0 (hibari-tts, Kokoro-82M), WordNet licence (sentences)"

_SECONDS = (2.0, 6.5)  # that a clip may last, silence included
_MARGIN_S = (0.05, 0.3)  # of silence at each end, drawn for each clip


@dataclass(frozen=True)
class VoicePlan:
    """Which voices say how much.

    Args:
        engine: "hibari" or "kokoro".
        first: Seed of the first voice; the others' follow.
        voices: How many.
        clips: Sentences that each says; one too long or too short is left out.
        kokoro: The folder of Kokoro's voices.
        only: A split, whose voices alone are drawn; they say any of the sentences.
    """

    engine: Engine
    first: int
    voices: int
    clips: int
    kokoro: Path | None = None
    only: str | None = None


def make_corpus(
    out: Path, plan: VoicePlan, sentences: Sequence[str], workers: int = 1
) -> list[ClipRecord]:
    """Say `sentences` in the plan's voices; write WAV files and `manifest.jsonl` under `out`.

    The manifest lists all voices of the folder, those of earlier plans too.

    Raises:
        UserError: a split has no sentence.
    """
    out.mkdir(parents=True, exist_ok=True)
    tasks = [task for task in _tasks(plan, sentences) if not _records_path(out, task[0]).is_file()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        voices = [pool.submit(make_voice, out, *task, plan.kokoro) for task in tasks]
        for count, done in enumerate(as_completed(voices), start=1):
            done.result()
            if count % 20 == 0:
                collect(out)
    return collect(out)


def collect(out: Path) -> list[ClipRecord]:
    """The records of all finished voices of a folder, which become its `manifest.jsonl`."""
    paths = sorted(out.glob("*/records.jsonl"))
    records = [record for path in paths for record in read_manifest(path)]
    write_manifest(records, out / "manifest.jsonl")
    return records


def make_voice(
    out: Path, name: str, sentences: Sequence[str], seed: int, kokoro: Path | None
) -> None:
    """Write what one voice says, and its records when all is said."""
    voice = voice_named(name)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for index, text in enumerate(sentences):
        rng = np.random.default_rng([seed, index])
        before_s, after_s = (float(m) for m in rng.uniform(*_MARGIN_S, 2))
        try:
            speech = say(text, voice, index, margins_s=(before_s, after_s), kokoro=kokoro)
        except UserError:
            continue  # a sentence that is no row of plain words: there are others
        seconds = speech.waveform.shape[1] / SAMPLE_RATE
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            continue
        media = f"{name}/{index:04d}.wav"
        _write_wav(out / media, speech.waveform[0])
        records.append(
            ClipRecord(
                id=f"{name}-{index:04d}",
                media=media,
                corpus=NAME,
                speaker=name,
                split=_split(voice),  # pyright: ignore[reportArgumentType]
                caption=voice.caption,
                words=speech.words,
                box=None,
                licence=LICENCE,
                transcript=text,
                language="en-GB" if voice.british else "en-US",
                source="hibari-tts 0.2.1" if voice.warp else "Kokoro-82M v1.0 int8",
                consent="given",  # nobody is heard
                labels={"sex": voice.sex, "age": voice.age, "voice": voice.description},
                lasts_s=seconds,
                phonemes=speech.phonemes,
            )
        )
    write_manifest(records, _records_path(out, name))


def _tasks(plan: VoicePlan, sentences: Sequence[str]) -> Iterator[tuple[str, list[str], int]]:
    """Name, sentences and seed of each voice; sentences are dealt out in turn in a drawn order."""
    order = shuffled(sentences, plan.first)
    decks = {
        s: [t for t in order if split_of_sentence(t) == s] for s in ("train", "validation", "test")
    }
    if plan.only is not None:
        decks[plan.only] = order
    dealt = dict.fromkeys(decks, 0)
    for seed in range(plan.first, plan.first + plan.voices):
        voice = draw_voice(plan.engine, seed)
        split = _split(voice)
        if plan.only not in (None, split):
            continue
        deck = decks[split]
        if not deck:
            raise UserError(f"no sentence of the {split} split for voice {voice.name}")
        start = dealt[split]
        dealt[split] += plan.clips
        yield voice.name, [deck[i % len(deck)] for i in range(start, start + plan.clips)], seed


def _split(voice: Voice) -> str:
    return split_by_speaker(voice.name, NAME)


def _records_path(out: Path, name: str) -> Path:
    return out / name / "records.jsonl"


def _write_wav(path: Path, waveform: np.ndarray) -> None:
    with atomic(path) as place, wave.open(str(place), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(waveform * 32767).astype("<i2").tobytes())
