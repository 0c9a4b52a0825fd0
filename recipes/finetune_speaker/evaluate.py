"""PREPARED MODEL OUT -> how like the speaker of the test clips is who the model makes?

    python recipes/finetune_speaker/evaluate.py PREPARED MODEL OUT [--speech TEXT ...]

Sentences (those of the test clips where no others are given) are made from words alone with the
speaker's caption, and compared with a test clip, which was not trained on:

- voice: cosine of speaker embeddings (Wan et al. 2018, by Resemblyzer);
- face: cosine and PSNR of the mean frame, which ask for the same head, clothes and light in the
  same place.

The same is said of the speaker's training clips, which is what can be reached. Run it with the
model that was started from as well. OUT gets the clips, sheet.png and results.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from avgen.clips.clip import Clip
from avgen.clips.media.read import write_clip
from avgen.corpora.manifest import ClipRecord
from avgen.evaluation.speech.rating import speaker_similarity
from avgen.pipeline import AVPipeline
from avgen.preparation.store import Prepared


def main() -> None:
    """Make, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--speech", nargs="+", default=None)
    parser.add_argument("--num-clips", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    held_out, train = Prepared(args.prepared, "test"), Prepared(args.prepared, "train")
    try:
        tests = held_out.records()
    except ValueError as error:
        parser.error(f"{error}; name the split of each clip in the table beside them")
    reference = held_out.clip(tests[0])
    trained = [train.clip(record) for record in train.records()]
    speech = args.speech or [" ".join(word.text for word in record.words) for record in tests]
    made = make(args, tests[0], speech, reference)
    results = {
        "model": str(args.model),
        "compared with": tests[0].id,
        "made": mean([likeness(reference, clip) for clip in made]),
        "trained on": mean([likeness(reference, clip) for clip in trained]),
    }
    (args.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    rows = [np.concatenate(list(clip.frames[10:60:5]), 1) for clip in [reference, *made]]
    Image.fromarray(np.concatenate(rows)).save(args.out / "sheet.png")
    print(json.dumps(results, indent=2))


def make(
    args: argparse.Namespace, record: ClipRecord, speech: list[str], reference: Clip
) -> list[Clip]:
    """The sentences by the model, in the reference's size."""
    pipe, clips = AVPipeline.from_pretrained(args.model), []
    args.out.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(args.num_clips), desc="making"):
        clip = pipe(
            record.caption,
            speech=speech[index % len(speech)],
            height=reference.height,
            width=reference.width,
            seed=args.seed + index,
            progress=False,
        )
        write_clip(clip, args.out / f"{index:02d}.mp4", overwrite=True)
        clips.append(clip)
    return clips


def likeness(reference: Clip, clip: Clip) -> dict[str, float]:
    """How like one clip's speaker is another's."""
    assert reference.waveform is not None and reference.sample_rate is not None
    assert clip.waveform is not None and clip.sample_rate is not None
    one, other = (c.frames.astype(np.float64).mean(0) for c in (reference, clip))
    centred = [x - x.mean((0, 1)) for x in (one, other)]
    norms = np.sqrt(np.prod([np.square(x).sum() for x in centred]))
    return {
        "voice": speaker_similarity(
            reference.waveform, clip.waveform, reference.sample_rate, clip.sample_rate
        ),
        "face cosine": float((centred[0] * centred[1]).sum() / norms),
        "face psnr": float(10 * np.log10(255**2 / np.square(one - other).mean())),
    }


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure."""
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


if __name__ == "__main__":
    main()
