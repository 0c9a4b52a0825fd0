"""Real voices in, what tells one from another out: a part of a model folder, for `--voice`.

    python recipes/people/speakers.py OUT prepared/librispeech --codec codecs/audio_codec

fits avgen/models/speakers.py on the speakers of the training split: a mixture of 64 Gaussians over
the latents of all, each less its own mean (scikit-learn), and eigenvoices by factor analysis (Kenny
et al., "Eigenvoice Modeling with Sparse Training Data", 2005). Takes two minutes.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from tqdm import tqdm

from avgen.codecs.base import load_module, save_module
from avgen.codecs.speech import SpeechCodec
from avgen.models.speakers import SpeakerConfig, SpeakerModel, loud
from avgen.preparation.store import Prepared, Store

FRAMES = 400  # of each speaker, that the mixture is of
FLOOR = 1e-2  # of its variances
ROUNDS, MOST = 12, 30  # of factor analysis, and at most of the mixture


def main() -> None:
    """Encode the voices, fit, and write the part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("prepared", type=Path, help="voices, as sounds.py prepares them")
    parser.add_argument("--codec", type=Path, required=True, help="the folder of a SpeechCodec")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    codec = load_module(args.codec)
    if not isinstance(codec, SpeechCodec):
        parser.error(f"{args.codec}: a {type(codec).__name__}; latents of a SpeechCodec are read")
    store, said = Store(args.prepared), defaultdict(list)
    for record in tqdm(Prepared(args.prepared, "train").records(), desc="encoding"):
        waveform = store.read_waveform(record.id)
        assert waveform is not None
        with torch.inference_mode():
            latents = codec.encode(torch.from_numpy(waveform)[None])[0]
        said[record.speaker].append(latents.float().clone())
    speakers = [torch.cat(latents, 1) for latents in said.values()]
    config = SpeakerConfig(codec.config.num_cepstra)
    if len(speakers) < config.num_voices:
        parser.error(f"{args.prepared}: {len(speakers)} speakers; {config.num_voices} are needed")
    save_module(fit(speakers, args.seed, config), args.out)
    print(f"{len(said)} speakers, in {args.out}")


def fit(speakers: list[Tensor], seed: int, config: SpeakerConfig) -> SpeakerModel:
    """A model of the latents [C, T] of some speakers."""
    model, count = SpeakerModel(config), config.num_cepstra
    generator = torch.Generator().manual_seed(seed)
    speakers = [loud(said) for said in speakers]
    means = [said[:count].mean(1) for said in speakers]
    features = [model.features(said, mean) for said, mean in zip(speakers, means, strict=True)]
    some = [x[torch.randperm(len(x), generator=generator)[:FRAMES]] for x in features]
    mixture = GaussianMixture(
        config.num_sounds, covariance_type="diag", max_iter=MOST, reg_covar=FLOOR, random_state=seed
    ).fit(torch.cat(some).numpy())
    model.weights = torch.from_numpy(mixture.weights_).float()
    model.means = torch.from_numpy(mixture.means_).float()
    model.deviations = torch.from_numpy(mixture.covariances_).float().sqrt()
    heard, total, squares = [], [], torch.zeros_like(model.centres)
    for said, mean in zip(speakers, means, strict=True):
        which, cepstra = model.which(said, mean), model.cepstra(said, mean)
        heard.append(which.sum(0))
        total.append(which.mT @ cepstra)
        squares += which.mT @ cepstra.square()
    counts, sums = torch.stack(heard), torch.stack(total)  # [N, K], [N, K, D]
    whole = counts.sum(0).clamp(min=1)[:, None]
    model.centres = sums.sum(0) / whole
    model.spreads = (squares / whole - model.centres.square()).clamp(min=FLOOR).sqrt()
    size = (*model.centres.shape, config.num_voices)
    model.eigenvoices = 0.1 * model.spreads[..., None] * torch.randn(size, generator=generator)
    for _ in tqdm(range(ROUNDS), desc="eigenvoices"):
        model.eigenvoices = improved(model, counts, sums)
    return model


def improved(model: SpeakerModel, counts: Tensor, sums: Tensor) -> Tensor:
    """Eigenvoices [K, D, R] after a round of expectation and maximisation.

    Args:
        model: With those before.
        counts: Frames of each sound by each speaker, [N, K].
        sums: Of their cepstra, [N, K, D].
    """
    places, spread = model.places(counts, sums)  # [N, R], [N, R, R]
    second = spread + places[:, :, None] * places[:, None]
    squares = torch.einsum("nk,nrs->krs", counts, second)
    products = torch.einsum("nkd,nr->krd", sums - counts[..., None] * model.centres, places)
    floor = 1e-6 * torch.eye(places.shape[1])
    return torch.linalg.solve(squares + floor, products).mT


if __name__ == "__main__":
    main()
