"""Voices: what a few seconds say of one, and what is said brought into another, in closed form."""

import importlib.util
from pathlib import Path

import pytest
import torch

from avgen.codecs.normalize import LatentStatistics
from avgen.errors import UserError
from avgen.models.speakers import FURTHER, HEARD, SpeakerConfig, SpeakerModel, Voice
from avgen.pipeline.matching import VoiceMatch

SOUNDS = torch.tensor([[0.0, 6.0, -2.0], [0.0, -6.0, 3.0]])  # cepstra, far apart
RECIPE = Path(__file__).parents[2] / "recipes/people/speakers.py"


@pytest.fixture
def model():
    """Two sounds of three cepstra, and one eigenvoice that changes both."""
    made = SpeakerModel(SpeakerConfig(num_cepstra=3, num_sounds=2, num_voices=1))
    made.weights = torch.tensor([0.3, 0.7])
    made.means = torch.tensor([[6.0, -2.0, 0.5], [-6.0, 3.0, 0.5]])
    made.deviations = torch.full((2, 3), 0.8)
    made.centres = SOUNDS.clone()
    made.spreads = torch.full((2, 3), 0.5)
    made.eigenvoices = torch.zeros(2, 3, 1)
    return made


def latents_of(which, offset=(0.0, 0.0, 0.0), pitch=(0.2, -0.4), voicing=(0.5, 0.7)):
    """Latents [5, T] of sounds by a speaker who adds an offset to each."""
    cepstra = SOUNDS[torch.tensor(which)] + torch.tensor(offset)
    rest = [torch.tensor(list(x) * (len(which) // 2)) for x in (pitch, voicing)]
    return torch.cat([cepstra.mT, torch.stack(rest)])


def test_what_is_heard_of_a_sound_moves_it_and_no_other(model):
    """Thirty frames of the first sound, 0.9 above its centre: 30 of 31 parts of the way."""
    alone = latents_of([0] * 30, (0.4, 0.9, 0.0), voicing=(0.5, 0.7))
    model.means = model.means - model.means.mean(0)  # as it hears but one sound
    model.features = lambda latents, mean: latents[[1, 2, 4]].mT - torch.tensor([0.0, 0.5, 0.5])
    voice = model.voice(alone)
    assert voice.sounds[0].tolist() == pytest.approx(
        [0.0, 6 + 0.9 * 30 / (30 + HEARD), -2.0], abs=1e-5
    )
    assert torch.allclose(voice.sounds[1], SOUNDS[1], atol=1e-4)
    assert voice.mean.tolist() == pytest.approx([0.4, 6.9, -2.0])


def test_an_eigenvoice_tells_of_a_sound_that_is_not_heard(model):
    """The mean of what is usual (0, of variance 1) and 28 frames of a deviation of 0.5."""
    model.eigenvoices = torch.tensor([[[0.0], [0.4], [0.0]], [[0.0], [0.0], [-0.3]]])
    model.features = lambda latents, mean: latents[[1, 2, 4]].mT - torch.tensor([0.0, 0.5, 0.5])
    place, sure = model.places(
        torch.tensor([[28.0, 0.0]]), 28 * torch.tensor([[[0, 6.9, -2.0], [0, 0, 0]]])
    )
    precision = 1 + 28 * 0.4**2 / 0.25
    assert float(place) == pytest.approx(28 * 0.4 * 0.9 / 0.25 / precision)
    assert float(sure) == pytest.approx(1 / precision)
    voice = model.voice(latents_of([0] * 28, (0.0, 0.9, 0.0)))
    assert float(voice.sounds[1, 2]) == pytest.approx(3 - 0.3 * float(place), abs=1e-3)


def test_what_is_said_moves_sound_by_sound_and_pitch_by_its_mean_and_range(model):
    other = SOUNDS + torch.tensor([[0.1, 0.8, 0.0], [0.1, 0.0, -0.4]])
    mean = SOUNDS.mean(0)
    own = Voice(mean, SOUNDS, torch.tensor([[-0.1, 0.3], [0.6, 0.1]]))
    wanted = Voice(mean, other, torch.tensor([[0.7, 0.45], [0.9, 0.9]]))
    said = latents_of([0, 1, 1, 0], voicing=(0.5, -0.7))
    heard = model(said, own, wanted)
    moved = (heard - said)[:3].mT
    expected = FURTHER * (other - SOUNDS)
    torch.testing.assert_close(moved, expected[[0, 1, 1, 0]], atol=1e-4, rtol=0)
    assert heard[3].tolist() == pytest.approx([0.7 + 0.3 * 1.5, 0.7 - 0.3 * 1.5] * 2)
    # voicing at most twice as wide; what is not voiced stays
    assert heard[4].tolist() == pytest.approx([0.9 - 0.1 * 2, -0.7] * 2)


def test_a_clip_is_matched_by_the_voice_of_its_first_window(model):
    statistics = LatentStatistics((0.3,) * 5, (0.5,) * 5)
    wanted = statistics.normalize(latents_of([0, 1] * 20, (0.0, 0.6, 0.2))[None])
    first, second = (
        statistics.normalize(latents_of(which)[None]) for which in ([0, 1] * 19, [1, 1, 0, 1])
    )
    match = VoiceMatch(model, wanted, statistics)
    silent = statistics.normalize(latents_of([0, 1] * 19, voicing=(-0.5, -0.7))[None])
    assert match(silent) is silent  # nobody has spoken: it says nothing of whose voice it is
    with pytest.raises(UserError, match="voice: no speech is heard in it"):
        VoiceMatch(model, silent, statistics)
    told = statistics.denormalize(match(first))[0]
    own, other = (
        model.voice(latents_of([0, 1] * 19)),
        model.voice(latents_of([0, 1] * 20, (0, 0.6, 0.2))),
    )
    torch.testing.assert_close(told, model(latents_of([0, 1] * 19), own, other))
    assert float((told - latents_of([0, 1] * 19))[1].mean()) == pytest.approx(
        0.6 * FURTHER, rel=0.1
    )
    then = statistics.denormalize(match(second))[0]
    torch.testing.assert_close(then, model(latents_of([1, 1, 0, 1]), own, other))
    assert VoiceMatch(None, wanted, statistics)(first) is first
    assert VoiceMatch(model, None, statistics)(first) is first


def test_a_fitted_model_knows_sounds_and_how_people_differ():
    """Forty speakers who differ along one line: one sound says where another lies."""
    spec = importlib.util.spec_from_file_location("recipes_people_speakers", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    generator = torch.Generator().manual_seed(4)
    line = torch.tensor([[0.0, 0.5, 0.3], [0.0, -0.4, 0.6]])

    def speak(where, which):
        clean = latents_of(which)
        clean[:3] += where * line[torch.tensor(which)].mT
        return clean + 0.15 * torch.randn(clean.shape, generator=generator)

    places = torch.randn(40, generator=generator)
    people = [speak(where, [0, 1] * 40) for where in places]
    found = recipe.fit(people, 3, SpeakerConfig(num_cepstra=3, num_sounds=2, num_voices=1))
    first = int(found.centres[0, 1] < 0)  # which of the classes is which
    torch.testing.assert_close(
        found.centres[first], SOUNDS[0] + places.mean() * line[0], atol=0.1, rtol=0
    )
    drawn = found.eigenvoices[..., 0][[first, 1 - first]]
    along = (drawn * line).sum() / drawn.norm() / line.norm()
    assert abs(float(along)) > 0.97
    one = found.voice(speak(1.5, [0, 1] * 2 + [0] * 24)).sounds[1 - first]
    away = (one - SOUNDS[1] - 1.5 * line[1]).norm() / (1.5 * line[1]).norm()
    assert float(away) < 0.5


def test_how_loud_somebody_is_recorded_is_no_part_of_the_voice(model):
    """A recording that is 1.7 louder in the unit of the first cepstrum is the same voice."""
    quiet, loud = latents_of([0, 1] * 20, (0.0, 0.6, 0.2)), latents_of([0, 1] * 20, (1.7, 0.6, 0.2))
    torch.testing.assert_close(model.voice(loud).sounds, model.voice(quiet).sounds)
    said, own = latents_of([0, 1] * 15, (0.3, 0.0, 0.0)), model.voice(latents_of([0, 1] * 15))
    heard = model(said, own, model.voice(loud))
    assert float((heard - said)[0].abs().max()) < 1e-4
