"""Make the voices: sound of people who do not exist, saying what nobody held out.

python recipes/people/voices.py OUT --engine hibari --voices 360 --clips 26 --sentences FOLDER
"""

import argparse
from pathlib import Path

from avgen.corpora.voices.sentences import rare_pairs, read_sentences
from avgen.corpora.voices.voice_corpus import VoicePlan, make_corpus
from avgen.models.english import read


def main() -> None:
    """Parse the command line and make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=("hibari", "kokoro"), default="hibari")
    parser.add_argument("--first", type=int, default=0, help="seed of the first voice")
    parser.add_argument("--voices", type=int, default=360)
    parser.add_argument("--clips", type=int, default=26, help="sentences a voice")
    parser.add_argument(
        "--sentences",
        type=Path,
        nargs="+",
        default=[Path("/usr/share/wordnet")],
        help="text files, a sentence a line, or folders of WordNet's data.* (Debian wordnet-base)",
    )
    parser.add_argument("--held-out", type=Path, help="a text file of sentences that are not said")
    parser.add_argument("--kokoro", type=Path, help="folder of Kokoro's voices (npm kokoro-js)")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    plan = VoicePlan(given.engine, given.first, given.voices, given.clips, given.kokoro)
    sentences = read_sentences(given.sentences, given.held_out)
    records = make_corpus(given.out, plan, sentences, given.workers)
    seconds = sum(record.lasts_s or 0.0 for record in records)
    print(f"{len(records)} clips, {seconds / 3600:.2f} h, in {given.out / 'manifest.jsonl'}")
    language = ([p for word in read(text) for p in word.phonemes] for text in sentences[::8])
    said = ([timed.phoneme for timed in record.phonemes or ()] for record in records)
    print(f"frequent pairs of phonemes said fewer than 20 times: {rare_pairs(said, language)}")


if __name__ == "__main__":
    main()
