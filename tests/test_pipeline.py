"""A prompt and what is given in, a clip out: on a tiny model of the real classes, two steps."""

import gc
import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from avgen.clips import Clip, Word, write_clip
from avgen.clips.timebase import num_samples
from avgen.codecs.base import save_module
from avgen.codecs.speech import SpeechCodec, SpeechCodecConfig
from avgen.codecs.video import ConvVideoCodec
from avgen.codecs.warp import STEP
from avgen.errors import UserError
from avgen.latents.packing import AUDIO, VIDEO
from avgen.models.durations import DurationConfig, DurationModel
from avgen.models.speakers import SpeakerConfig, SpeakerModel
from avgen.models.transformer import AVTransformer
from avgen.pipeline import AVPipeline, GenerateRequest
from avgen.pipeline.continuation import windows
from avgen.pipeline.joins import ease_expressions
from avgen.pipeline.matching import VoiceMatch
from avgen.pipeline.parts import load_optional

RATE = 24000
NTSC = Fraction(30000, 1001)
SAID = 'a man says "place red"'


@pytest.fixture(scope="module")
def pipe(tiny_model):
    """The tiny model with random weights: its own start answers 0, whatever it is given."""
    pipe = AVPipeline.from_pretrained(tiny_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in pipe.transformer.named_parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2
            drawn = size * torch.randn(parameter.shape, generator=generator)
            parameter.copy_((drawn + name.endswith("gain")).bfloat16())
    return pipe


def make(pipe, prompt=SAID, **options):
    return pipe(prompt, progress=False, **options)


def conditions(pipe, **fields):
    return pipe.conditions(GenerateRequest(**fields))


def plan(pipe, given):
    return list(windows(given, pipe.video_codec, pipe.audio_codec))


def picture(num_frames, height=32, width=48):
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def sound(num_channels, length):
    drawn = np.random.default_rng(6).standard_normal((num_channels, length))
    return (0.1 * drawn).astype(np.float32)


def beginning(num_frames, fps=Fraction(25)):
    waveform = sound(1, num_samples(num_frames, fps, RATE))
    return Clip(picture(num_frames), fps, waveform, RATE)


def same(one, other):
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.waveform, other.waveform)


def test_a_clip_is_what_the_model_makes_by_default(pipe):
    clip = make(pipe)
    assert clip.frames.shape == (9, 32, 48, 3)
    assert (clip.fps, clip.sample_rate) == (25, RATE)
    assert clip.waveform.shape == (1, 8640)
    assert clip.frames.std() > 1
    assert clip.waveform.std() > 0


def test_the_same_seed_is_the_same_clip_and_another_is_another(pipe):
    clip = make(pipe, seed=7)
    assert same(make(pipe, seed=7), clip)
    other = make(pipe, seed=8)
    assert not np.array_equal(other.frames, clip.frames)
    assert not np.array_equal(other.waveform, clip.waveform)
    assert same(make(pipe, seed=-3), make(pipe, seed=-3))


def test_words_and_caption_and_guidance_matter(pipe):
    clip = make(pipe)
    assert not same(make(pipe, 'a man says "red place"'), clip)
    assert not same(make(pipe, 'a woman says "place red"'), clip)
    assert same(make(pipe, "a man says", speech="place red"), clip)
    assert not same(make(pipe, guidance_scale=3.0), clip)
    assert not same(make(pipe, negative_prompt="a cat"), clip)


def test_without_guidance_there_is_nothing_to_push_away_from(pipe):
    unguided, against = (
        make(pipe, negative_prompt=prompt, guidance_scale=1.0, audio_guidance_scale=1.0)
        for prompt in (None, "a cat")
    )
    assert same(unguided, against)


def test_a_long_negative_prompt_is_not_cut(pipe):
    words = " ".join(f"word{i}" for i in range(20))
    assert not same(make(pipe, negative_prompt=words), make(pipe, negative_prompt=f"{words} more"))


def test_a_given_picture_is_the_first_frame(pipe):
    image = picture(1)[0]
    clip = make(pipe, image=image)
    assert np.array_equal(clip.frames[0], image)
    assert not np.array_equal(clip.frames[1:], make(pipe).frames[1:])
    long = make(pipe, image=image, num_frames=20)
    assert np.array_equal(long.frames[0], image)
    assert long.num_frames == 20


def test_a_mover_carries_a_given_picture_through_all_windows(pipe):
    """With a mask that shows nothing else and a flow of two pixels, every later frame is it."""
    codec = ConvVideoCodec(replace(pipe.video_codec.config, mover_widths=(8, 8, 8))).eval()
    codec.load_state_dict(pipe.video_codec.state_dict(), strict=False)
    codec.mover.flow.bias.data.view(2, -1).copy_(torch.tensor([2 / STEP, 0])[:, None])
    codec.mover.paint.bias.data.view(4, -1)[3] = 40
    parts = pipe.transformer, codec, pipe.audio_codec, pipe.config
    image, anchored = picture(1)[0], AVPipeline(*parts)
    made = make(anchored, image=image, num_frames=31).frames
    assert np.array_equal(made[0], image)
    for frame in (13, 17, 30):  # those before are joined to what is given
        np.testing.assert_allclose(made[frame, :, :-2], image[:, 2:].astype(int), atol=1)
    begun = beginning(7)
    went_on = make(anchored, extend=begun, num_frames=21).frames
    np.testing.assert_allclose(went_on[20, :, :-2], begun.frames[2, :, 2:].astype(int), atol=1)


def test_the_decoder_is_told_what_the_network_tells_of_every_latent(pipe, monkeypatch):
    """Of the last step, of all windows in a row, and each latent once."""
    network = replace(pipe.transformer.config, num_expressions=3)
    transformer = AVTransformer(network).eval()
    transformer.load_state_dict(pipe.transformer.state_dict(), strict=False)
    torch.nn.init.normal_(transformer.expressions.weight)
    scales = {"mover_widths": (8, 8, 8), "expression_scales": (1.0, 2.0, 3.0)}
    codec = ConvVideoCodec(replace(pipe.video_codec.config, **scales)).eval()
    telling = AVPipeline(transformer, codec, pipe.audio_codec, pipe.config)
    made, seen = [], []
    make_window, decode = telling.make_window, codec.decode_chunks

    def kept(conditions, window, before, progress):
        latents = make_window(conditions, window, before, progress)
        made.append(latents[2][:, window.new_video])
        return latents

    def watched(latents, *, expressions, **span):
        seen.append(expressions)
        assert expressions.shape == (1, latents.shape[2], 4, 3)
        return decode(latents, expressions=expressions, **span)

    monkeypatch.setattr(telling, "make_window", kept)
    monkeypatch.setattr(codec, "decode_chunks", watched)
    assert make(telling, num_frames=31).num_frames == 31
    assert len(made) > 2 and torch.equal(seen[-1], ease_expressions(torch.cat(made, 1)))
    assert float(seen[-1].std()) > 0.1


def test_a_codec_that_goes_by_other_expressions_is_refused(tiny_model, tmp_path):
    pipe = AVPipeline.from_pretrained(tiny_model)
    scales = {"mover_widths": (8, 8, 8), "expression_scales": (1.0, 2.0, 3.0)}
    codec = ConvVideoCodec(replace(pipe.video_codec.config, **scales))
    network = AVTransformer(replace(pipe.transformer.config, num_expressions=2))
    AVPipeline(network, codec, pipe.audio_codec, pipe.config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tells 2 numbers of a face, the video codec goes by 3"):
        AVPipeline.from_pretrained(tmp_path)


def test_a_part_that_makes_the_first_picture_is_saved_and_read(tiny_model, tmp_path):
    """It decides the first frame, of smaller patches; one of other tokens is refused."""
    pipe = AVPipeline.from_pretrained(tiny_model)
    assert pipe.text_to_image is None
    torch.manual_seed(7)
    channels = pipe.video_codec.latent_channels, pipe.audio_codec.latent_channels
    width = max(channels[0], 3 * channels[1])
    assert width == pipe.config.picture_width(*channels)
    assert width < pipe.transformer.config.token_width
    config = replace(pipe.transformer.config, token_width=width)
    pipe.text_to_image = AVTransformer(config).eval()
    for parameter in pipe.text_to_image.parameters():  # a new one answers 0
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn(parameter.shape)).copy_(parameter.bfloat16())
    pipe.save_pretrained(tmp_path / "whole")
    again = AVPipeline.from_pretrained(tmp_path / "whole")
    first = pipe.first_picture(again.conditions(GenerateRequest(prompt='a man says "red"', seed=5)),
                               pipe.text_to_image)  # fmt: skip
    clip = make(again, 'a man says "red"', seed=5)
    assert np.array_equal(clip.frames[0], first[0]) and first.std() > 5
    again.text_to_image = None
    assert not np.array_equal(make(again, 'a man says "red"', seed=5).frames[0], first[0])

    other = AVTransformer(replace(pipe.transformer.config, token_width=99))
    save_module(other, tmp_path / "whole/text_to_image")
    with pytest.raises(
        UserError, match=f"tokens of 99 numbers; .* video_patch .* make them {width}"
    ):
        AVPipeline.from_pretrained(tmp_path / "whole")


def test_a_picture_of_another_size_is_scaled(pipe):
    clip = make(pipe, image=np.full((100, 70, 3), 90, np.uint8))
    assert clip.frames.shape[1:] == (32, 48, 3)
    assert (clip.frames[0] == 90).all()


@pytest.mark.parametrize("fps", [None, NTSC])
def test_a_given_sound_comes_out_sample_for_sample(pipe, fps):
    waveform = sound(2, 21000)  # 0.4375 s at 48 kHz: 10.9 frames at 25 fps, 13.1 at 29.97
    clip = make(pipe, "a man", audio=(waveform, 48000), fps=fps)
    assert clip.num_frames == (11 if fps is None else 13)
    assert clip.sample_rate == 48000
    length = num_samples(clip.num_frames, clip.fps, 48000)
    assert clip.waveform.shape == (2, length)
    shared = min(length, 21000)
    assert np.array_equal(clip.waveform[:, :shared], waveform[:, :shared])
    assert not clip.waveform[:, shared:].any()
    other = make(pipe, "a man", audio=(np.zeros_like(waveform), 48000), fps=fps)
    assert not np.array_equal(other.frames, clip.frames)


@pytest.mark.parametrize("num_frames", [6, 9, 15])
def test_a_given_video_comes_out_frame_for_frame(pipe, num_frames):
    video = Clip(picture(num_frames), Fraction(25))
    clip = make(pipe, "a man", video=video)
    assert np.array_equal(clip.frames, video.frames)
    assert clip.waveform.shape == (1, 960 * num_frames)
    other = make(pipe, "a man", video=Clip(255 - video.frames, Fraction(25)))
    assert not np.array_equal(other.waveform, clip.waveform)
    assert np.array_equal(make(pipe, "a man", video=video, num_frames=5).frames, video.frames[:5])


@pytest.mark.parametrize("fps", [Fraction(25), NTSC])
@pytest.mark.parametrize("num_begun", [1, 6, 14])
def test_a_continuation_keeps_its_beginning(pipe, num_begun, fps):
    begun = beginning(num_begun, fps)
    assert begun.waveform is not None
    clip = make(pipe, extend=begun, fps=fps, num_frames=num_begun + 12)
    assert clip.num_frames == num_begun + 12
    assert clip.num_samples == num_samples(num_begun + 12, fps, RATE)
    assert np.array_equal(clip.frames[:num_begun], begun.frames)
    assert np.array_equal(clip.waveform[:, : begun.num_samples], begun.waveform)
    assert clip.waveform[:, begun.num_samples :].std() > 0
    changed = replace(begun, frames=255 - begun.frames)
    other = make(pipe, extend=changed, fps=fps, num_frames=num_begun + 12)
    assert not np.array_equal(other.frames[num_begun:], clip.frames[num_begun:])


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), NTSC, Fraction(30)])
@pytest.mark.parametrize("num_frames", [1, 2, 10, 11, 14, 41])
def test_any_length_at_any_rate(pipe, num_frames, fps):
    """Windows start wherever they must: the samples of a stretch round up or down, none is lost."""
    words = (Word("red", 0.0, 0.03),)
    clip = make(pipe, "", words=words, num_frames=num_frames, fps=fps, num_inference_steps=1)
    assert clip.num_frames == num_frames
    assert clip.num_samples == num_samples(num_frames, fps, RATE)
    assert clip.fps == fps
    assert (clip.waveform != 0).all()


def test_other_sizes_than_the_models(pipe):
    assert make(pipe, height=50, width=34, num_frames=3).frames.shape == (3, 50, 34, 3)


def test_windows_go_on_from_whole_latents(pipe):
    def spans(num_frames, num_begun=0):
        begun = beginning(num_begun) if num_begun else None
        made = plan(pipe, conditions(pipe, speech="red", num_frames=num_frames, extend=begun))
        return [(w.index, w.start, w.done, w.stop) for w in made]

    assert spans(9) == [(0, 0, 0, 9)]
    assert spans(10) == [(0, 0, 0, 10)]  # an eighth longer, and no more
    assert spans(11) == [(0, 0, 0, 9), (1, 4, 9, 11)]
    assert spans(14) == [(0, 0, 0, 9), (1, 4, 9, 14)]
    assert spans(15) == [(0, 0, 0, 9), (1, 4, 9, 13), (2, 8, 13, 15)]
    assert spans(8, num_begun=3) == [(0, 2, 3, 8)]  # of three frames, one is a whole latent
    assert spans(20, num_begun=14) == [(0, 9, 14, 18), (1, 13, 18, 20)]


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(25), NTSC, Fraction(60)])
@pytest.mark.parametrize("num_begun", [0, 7])
@pytest.mark.parametrize("num_frames", [61, 62])  # at 25 fps the latter ends in a longer window
def test_windows_lie_on_one_grid_of_latents(pipe, fps, num_begun, num_frames):
    """What they make anew are all latents of the clip, each once, in order."""
    begun = beginning(num_begun, fps) if num_begun else None
    given = conditions(pipe, speech="red", num_frames=num_frames, fps=fps, extend=begun)
    made = plan(pipe, given)
    assert len(made) > 2
    token = 3 * pipe.audio_codec.hop_length
    video = audio = 0
    for window in made:
        layout = pipe.layout(given, window)
        assert (window.start - made[0].start) % 4 == 0
        assert (window.begin - made[0].begin) % token == 0
        start = num_samples(window.start, fps, RATE)
        assert start - token < window.begin <= start
        # Latent i > 0 covers four frames; the window's own latent 0 stands before them.
        assert video == (window.start - made[0].start) // 4 + (window.new_video.start or 0)
        assert audio * 320 == window.begin - made[0].begin + 320 * window.new_audio.start
        video += len(range(layout.video.num_latents)[window.new_video])
        audio += len(range(layout.audio.num_latents)[window.new_audio])
        # An audio token is heard when it says.
        spans = layout.spans[layout.modality == AUDIO]
        first_s = window.begin / RATE - window.start / fps
        assert float(spans[0, 0]) == pytest.approx(float(first_s), abs=1e-6)
    assert video == 1 + -(-(num_frames - made[0].start - 1) // 4)
    assert audio == -(-(made[-1].end - made[0].begin) // 320)


def test_what_a_window_is_given(pipe):
    """In tokens, of six of picture (two a latent frame) and nine of sound (one a frame)."""

    def counts(window=0, **given):
        made = conditions(pipe, speech="red", num_frames=15, **given)
        chosen = plan(pipe, made)[window]
        layout = pipe.layout(made, chosen)
        mask = pipe.given(made, chosen, layout)
        return [int(mask[layout.modality == modality].sum()) for modality in (VIDEO, AUDIO)]

    assert counts() == [0, 0]
    assert counts(window=1) == [4, 5]  # five frames: two latents, five tokens of sound
    assert counts(image=picture(1)[0]) == [2, 0]
    assert counts(image=picture(1)[0], window=1) == [4, 5]
    assert counts(audio=(sound(1, RATE), RATE)) == [0, 9]
    assert counts(audio=(sound(1, RATE), RATE), window=1) == [4, 9]
    assert counts(video=Clip(picture(15), Fraction(25))) == [6, 0]
    assert counts(extend=beginning(6)) == [4, 5]


def test_words_keep_their_times_in_every_window(pipe):
    words = (Word("place", 0.1, 0.3), Word("red", 0.4, 0.55))
    given = conditions(pipe, words=words, num_frames=15)
    first, second, _ = plan(pipe, given)
    whole = pipe.text(given, first)
    assert whole.speech_mask.sum(1).tolist() == [4, 0]  # P L EY S; what guidance sees says nothing
    assert float(whole.speech_spans[0, 0, 0]) == pytest.approx(0.1)
    later = pipe.text(given, second)  # from frame 4, 0.16 s, to frame 13, 0.52 s
    count = int(later.speech_mask[0].sum())
    assert float(later.speech_spans[0, count - 1, 1]) == pytest.approx(0.55 - 0.16)
    assert bool((later.speech_spans[0, :count, 1] > 0).all())


def test_the_clip_is_the_latents_of_all_windows_decoded_at_once(pipe, monkeypatch):
    """Streaming leaves no trace: neither at windows nor at what is decoded before the rest."""
    given = conditions(pipe, prompt=SAID, num_frames=31, fps=NTSC)
    video, audio, make_window = [], [], pipe.make_window

    def kept(conditions, window, before, progress):
        made = make_window(conditions, window, before, progress)
        video.append(made[0][:, :, window.new_video])
        audio.append(made[1][:, :, window.new_audio])
        return made

    monkeypatch.setattr(pipe, "make_window", kept)
    chunks = list(pipe.stream(given))
    assert len(chunks) > 1
    length = num_samples(31, NTSC, RATE)
    with torch.inference_mode():
        whole = torch.cat(audio, 2)
        (waveform,) = pipe.decode_audio(whole, 0, whole.shape[2], length)
        whole = torch.cat(video, 2)
        grid = pipe.video_grid(given, 31)
        frames = np.concatenate(list(pipe.decode_video(whole, 0, whole.shape[2], grid)))
    streamed = np.concatenate([chunk.waveform for chunk in chunks], 1)
    assert streamed.shape == (1, length)
    assert np.abs(streamed - waveform).max() < 1e-5
    streamed = np.concatenate([chunk.frames for chunk in chunks]).astype(int)
    assert np.abs(streamed - frames).max() <= 1
    for chunk in chunks:  # each has its own frames' sound
        assert chunk.frames.std() > 1


def test_a_window_goes_on_from_the_latents_of_the_one_before(pipe):
    """They are handed over as they are: the context of a window is what the last one ended with."""
    given = conditions(pipe, prompt=SAID, num_frames=20)
    first, second, *_ = plan(pipe, given)
    with torch.inference_mode():
        before = pipe.make_window(given, first, None, False)
        after = pipe.make_window(given, second, (first, *before), False)
    assert torch.equal(after[0][:, :, :2], before[0][:, :, 1:])
    assert torch.equal(after[1][:, :, :15], before[1][:, :, 12:])
    assert not torch.equal(after[0][:, :, 2], before[0][:, :, 2])


@pytest.fixture(scope="module")
def referring(pipe):
    """The same with a network that knows voices and faces to be like."""
    config = replace(pipe.transformer.config, has_references=True)
    torch.manual_seed(2)
    network = AVTransformer(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return AVPipeline(network, pipe.video_codec, pipe.audio_codec, pipe.config)


def test_a_voice_and_a_face_to_be_like(referring, pipe):
    voice, face = (sound(2, 96000), 48000), picture(1)[0]
    plain = make(referring)
    alike = make(referring, voice=voice)
    assert not np.array_equal(alike.waveform, plain.waveform)
    assert alike.sample_rate == RATE
    assert not np.array_equal(make(referring, face=face).frames, plain.frames)
    assert not np.array_equal(make(referring, face=face).frames[0], face)  # it need not be shown
    given = conditions(referring, prompt=SAID, voice=voice)
    assert given.voice.shape == (1, 4, 150)  # two seconds
    longer = replace(given, voice=given.voice.repeat(1, 1, 2))
    assert torch.equal(referring.reference(longer)[0], referring.reference(given)[0])
    for name, value in (("voice", voice), ("face", face)):
        with pytest.raises(ValueError, match=f"{name} is given; this model was trained without"):
            make(pipe, **{name: value})


@pytest.fixture
def speakers():
    """Tells voices apart by two cepstra, somehow."""
    torch.manual_seed(6)
    made = SpeakerModel(SpeakerConfig(num_cepstra=2, num_sounds=3, num_voices=2))
    for buffer in made.buffers():
        buffer.uniform_(0.2, 1.4)
    return made


def test_a_given_voice_is_matched_by_the_first_window_in_all(referring, speakers, monkeypatch):
    parts = referring.transformer, referring.video_codec, referring.audio_codec
    matching = AVPipeline(*parts, referring.config, speakers=speakers)
    monkeypatch.setattr("avgen.models.speakers.VOICED", 4)  # a window has but 27 latents
    voice = sound(5, 120000), 48000
    given = conditions(matching, prompt=SAID, num_frames=31, voice=voice)
    assert given.voice.shape == (1, 4, 188)  # all of it
    made, seen = [], []
    make_window, decode = matching.make_window, matching.decode_audio

    def kept(conditions, window, before, progress):
        made.append((window, make_window(conditions, window, before, progress)[1]))
        return make_window(conditions, window, before, progress)

    def watched(latents, *span):
        seen.append(latents)
        return decode(latents, *span)

    monkeypatch.setattr(matching, "make_window", kept)
    monkeypatch.setattr(matching, "decode_audio", watched)
    list(matching.stream(given))
    match = VoiceMatch(speakers, given.voice, matching.config.audio_statistics)
    expected = [match(latents)[:, :, window.new_audio] for window, latents in made]
    assert len(made) > 2
    torch.testing.assert_close(seen[-1], torch.cat(expected, 2))
    plain = torch.cat([latents[:, :, window.new_audio] for window, latents in made], 2)
    assert float((seen[-1] - plain).abs().mean()) > 0.05
    with pytest.raises(UserError, match="voice: no speech is heard in it"):
        conditions(matching, prompt=SAID, voice=(np.zeros((1, 480), np.float32), 48000))
    seen.clear()
    made.clear()
    list(matching.stream(replace(given, voice=None)))
    plain = torch.cat([latents[:, :, window.new_audio] for window, latents in made], 2)
    assert torch.equal(seen[-1], plain)


def test_speakers_are_a_part_of_a_model_that_fits_its_sound(speakers, pipe, tmp_path):
    """How long words take stays on the CPU: it is asked of models on no device as well."""
    codec = SpeechCodec(SpeechCodecConfig(num_cepstra=2, width=8, hidden=8, depth=1))
    save_module(speakers, tmp_path / "speakers")
    save_module(DurationModel(DurationConfig(width=4, depth=1)), tmp_path / "durations")
    read = load_optional(tmp_path, 16, codec, "meta")
    assert read.keys() == {"speakers", "durations"}
    assert read["durations"].outward.weight.device.type == "cpu"
    assert read["speakers"].means.device.type == "meta"
    read = load_optional(tmp_path, 16, codec)["speakers"]
    for name, buffer in speakers.named_buffers():
        torch.testing.assert_close(dict(read.named_buffers())[name], buffer, atol=0, rtol=2**-8)
    other = SpeechCodec(SpeechCodecConfig(num_cepstra=3, width=8, hidden=8, depth=1))
    for audio in (other, pipe.audio_codec):
        with pytest.raises(
            UserError, match="of a SpeechCodec of 2 cepstra; audio_codec is another"
        ):
            load_optional(tmp_path, 16, audio)
    save_module(pipe.transformer, tmp_path / "speakers")
    with pytest.raises(UserError, match="speakers: a AVTransformer, not a SpeakerModel"):
        load_optional(tmp_path, 16, codec)


def test_every_window_shows_the_person_of_the_first(referring, monkeypatch):
    given = conditions(referring, prompt=SAID, num_frames=17)
    references, made = [], []
    prepare, make_window = referring.transformer.prepare, referring.make_window

    def prepared(layout, text, decoupled, reference):
        references.append(reference)
        return prepare(layout, text, decoupled, reference)

    def kept(*arguments):
        made.append(make_window(*arguments))
        return made[-1]

    monkeypatch.setattr(referring.transformer, "prepare", prepared)
    monkeypatch.setattr(referring, "make_window", kept)
    list(referring.stream(given))
    first, second, third = references
    assert first is None
    video, audio, _ = made[0]
    for reference in (second, third):
        assert torch.equal(reference.tokens, second.tokens)
        assert float(reference.seconds.max()) < 0
        assert reference.tokens.shape[:2] == (2, 2 + 9)  # both rows: two of picture, nine of sound
        own = reference.tokens[0][reference.modality[0] == VIDEO]
        assert torch.allclose(own[0], video[0, :, 0, :, :2].permute(1, 2, 0).flatten(), atol=1e-6)
        assert torch.allclose(own[1][:4], video[0, :, 0, 0, 2], atol=1e-6)
        heard = reference.tokens[0][reference.modality[0] == AUDIO][:, :12]
        assert torch.allclose(heard, audio[0].mT.reshape(9, 12), atol=1e-6)


def held_bytes() -> int:
    """Of all tensors and arrays that are alive; views count as nothing."""
    found = gc.get_objects()
    tensors = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in found
        if type(t) in (torch.Tensor, torch.nn.Parameter)  # a compiler's own have no memory
    }
    return sum(tensors.values()) + sum(
        a.nbytes for a in found if type(a) is np.ndarray and a.base is None
    )


def test_a_long_clip_takes_the_memory_of_a_window_and_linear_time(pipe):
    """What is held between chunks grows by the latents alone; every window costs the same."""
    longer = AVPipeline(
        pipe.transformer,
        pipe.video_codec,
        pipe.audio_codec,
        replace(pipe.config, num_frames=77, num_inference_steps=1, guidance_scale=1.0),
    )
    tokens = []
    hook = pipe.transformer.register_forward_hook(
        lambda _, given, __: tokens.append(given[0].shape)
    )
    peaks, evaluations, largest = [], [], []
    for seconds in (8, 24):
        given = conditions(longer, prompt=SAID, seconds=seconds, audio_guidance_scale=1.0)
        num_frames, most, tokens[:] = 0, 0, []
        for chunk in longer.stream(given):
            num_frames += chunk.num_frames
            assert chunk.num_frames <= 77 + 16
            most = max(most, held_bytes())
        assert num_frames == 25 * seconds
        peaks.append(most)
        evaluations.append(len(tokens))
        largest.append(max(shape[1] for shape in tokens))
    hook.remove()
    assert evaluations == [3, 9]  # 77 frames, then 72 new ones each
    assert largest[0] == largest[1]
    latents = 16 * (25 / 4 * 4 * 2 * 3 + 75 * 4) * 4  # bytes of 16 more seconds
    assert peaks[1] - peaks[0] < 2.5 * latents


@pytest.mark.parametrize(
    ("asked", "given", "num_frames"),
    [
        ({"seconds": 1.0}, {}, 25),
        ({"seconds": 1.0, "fps": NTSC}, {}, 30),
        ({"num_frames": 31}, {}, 31),
        ({}, {}, 9),
        ({"fps": Fraction(50)}, {}, 18),
        ({"words": (Word("red", 0.5, 0.9),)}, {}, 24),  # 0.9 s and the timer's tail, 0.06 s
        ({"speech": "red " * 6}, {}, 25),  # 0.05 + 6 * 0.15 + 0.06 s
        ({}, {"video": Clip(picture(7), Fraction(25))}, 7),
        ({}, {"audio": (sound(1, 6000), 16000)}, 9),
        ({}, {"extend": beginning(6)}, 15),
        ({"seconds": 0.4}, {"extend": beginning(6)}, 10),
        ({"words": (Word("red", 0.0, 0.1),)}, {"extend": beginning(6)}, 10),
    ],
)
def test_how_long_a_clip_is(pipe, asked, given, num_frames):
    spoken = {} if "words" in asked else {"speech": "red"}
    assert conditions(pipe, **(spoken | asked | given)).num_frames == num_frames


def test_words_after_a_beginning_count_from_its_end(pipe):
    begun = beginning(6)
    words = (Word("red", 0.1, 0.2),)
    said = conditions(pipe, words=words, num_frames=15, extend=begun).phonemes
    assert (said[0].start_s, said[-1].end_s) == pytest.approx((0.34, 0.44))
    said = conditions(pipe, speech="place red", num_frames=15, extend=begun).phonemes
    assert said[0].start_s >= 0.24
    assert said[-1].end_s <= 0.6 + 1e-6


def test_rate_makes_speech_faster_and_slower(pipe):
    """Six words of 0.15 s with 0.05 s before them and 0.06 s after."""
    own, fast, slow = (conditions(pipe, speech="red " * 6, rate=rate) for rate in (1, 2, 0.5))
    assert [made.num_frames for made in (own, fast, slow)] == [25, 14, 48]
    for made, rate in ((fast, 2), (slow, 0.5)):
        times = [p.start_s - 0.05 for p in made.phonemes]
        expected = [(p.start_s - 0.05) / rate for p in own.phonemes]
        assert times == pytest.approx(expected, abs=0.01)


VIDEO_CLIP = Clip(picture(9), Fraction(25))
WRONG = {
    "no words": ({"prompt": "a man"}, "nothing to say"),
    "no words after a beginning": ({"prompt": "a man", "extend": beginning(5)}, "nothing to say"),
    "too many words": ({"speech": "red " * 9, "num_frames": 6}, "do not fit 0.24 s"),
    "signs": ({"speech": "\u4f60\u597d"}, "cannot be pronounced"),
    "open quote": ({"prompt": 'a man says "red'}, "not closed"),
    "audio and video": (
        {"audio": (sound(1, 9000), RATE), "video": VIDEO_CLIP},
        "audio and video are both given",
    ),
    "image and video": ({"image": picture(1)[0], "video": VIDEO_CLIP}, "image and video"),
    "extend and image": (
        {"image": picture(1)[0], "extend": beginning(5)},
        "extend and image are both given",
    ),
    "silent beginning": ({"extend": VIDEO_CLIP}, "extend has no sound"),
    "video at another rate": ({"video": VIDEO_CLIP, "fps": NTSC}, "a clip at 25 fps is given"),
    "short video": ({"video": VIDEO_CLIP, "num_frames": 10}, "10 frames asked for, 9 given"),
    "long beginning": ({"extend": beginning(9), "num_frames": 9}, "more than the 9 given"),
    "image of floats": ({"image": np.zeros((32, 48, 3))}, "image is float64"),
    "grey image": ({"image": np.zeros((32, 48), np.uint8)}, "image is uint8"),
    "flat sound": ({"audio": (np.zeros(100, np.float32), RATE)}, "audio is float32"),
    "empty sound": ({"audio": (np.zeros((1, 0), np.float32), RATE)}, "audio is float32"),
    "no rate": ({"audio": (sound(1, 100), 0)}, "sample rate of audio is 0"),
    "both lengths": ({"seconds": 1.0, "num_frames": 25}, "seconds and num_frames"),
    "no frames": ({"num_frames": 0}, "num_frames is 0"),
    "negative seconds": ({"seconds": -1.0}, "seconds is -1.0"),
    "endless": ({"seconds": float("inf")}, "seconds is inf"),
    "not a number": ({"seconds": float("nan")}, "seconds is nan"),
    "less than a frame": ({"seconds": 0.001}, "0 frames asked for"),
    "more than memory": ({"seconds": 1e9}, "GiB"),
    "a huge picture": ({"height": 10**6, "width": 10**6}, "GiB"),
    "a huge given picture": ({"image": picture(1)[0], "height": 10**6, "width": 10**6}, "GiB"),
    "no height": ({"height": 0}, "height is 0"),
    "a thin picture": ({"width": 15}, "width is 15"),
    "NaN in the sound": (
        {"audio": (np.full((1, 9000), np.nan, np.float32), RATE)},
        "audio has samples that are NaN or infinite",
    ),
    "infinite in the beginning": (
        {"extend": replace(beginning(5), waveform=np.full((1, 4800), np.inf, np.float32))},
        "extend has samples that are NaN or infinite",
    ),
    "half a frame": ({"num_frames": 7.5}, "num_frames is 7.5; it must be a whole number"),
    "text for a number": ({"seconds": "2"}, "seconds is 2; it must be a finite number"),
    "no text": ({"speech": 3}, "speech is 3; it must be text"),
    "too fast": ({"rate": 5.0}, "rate is 5.0; it must be a finite number, from 0.25 to 4"),
    "no shift": ({"shift": 0.0}, "shift is 0.0; .* more than 0"),
    "no such sampler": ({"sampler": "rk4"}, "sampler is rk4; .* euler, heun, ab2"),
    "an interval that falls": ({"guidance_interval": (0.8, 0.3)}, "guidance_interval is"),
    "one end of an interval": ({"guidance_interval": (0.8,)}, "guidance_interval is"),
    "rescale beyond all": ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5; .* from 0 to 1"),
    "endless synchrony": ({"synchrony_scale": float("inf")}, "synchrony_scale is inf"),
    "a seed between": ({"seed": 0.5}, "seed is 0.5"),
    "no rate of frames": ({"fps": Fraction(0)}, "fps is 0"),
    "no steps": ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    "no scale": ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
    "a late word": ({"words": [Word("red", 1.0, 2.0)], "seconds": 1.0}, "'red' ends at 2.00 s"),
    "two timelines": ({"words": [Word("red", 0.0, 0.2)], "speech": "red"}, "words and speech"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_requests_are_errors(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        make(
            pipe, **{"prompt": "" if "words" in options or "speech" in options else SAID, **options}
        )


def test_a_saved_model_makes_the_same_clip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    back = AVPipeline.from_pretrained(tmp_path / "model")
    assert back.config == pipe.config
    assert same(make(back, seed=3), make(pipe, seed=3))


def test_bfloat16_is_near_float32(pipe, tiny_model):
    half = AVPipeline(pipe.transformer, pipe.video_codec, pipe.audio_codec, pipe.config)
    half.dtype = torch.bfloat16
    made, exact = make(half), make(pipe)
    assert not same(made, exact)
    assert np.abs(made.frames.astype(int) - exact.frames).mean() < 4


def test_a_model_that_needs_no_words(pipe):
    config = replace(pipe.config, needs_words=False)
    mute = AVPipeline(pipe.transformer, pipe.video_codec, pipe.audio_codec, config)
    assert make(mute, "").num_frames == 9


def test_what_is_no_model_folder_is_named(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path / 'none'}: not a folder"):
        AVPipeline.from_pretrained(tmp_path / "none")
    with pytest.raises(ValueError, match=r"config\.json: cannot be read"):
        AVPipeline.from_pretrained(tmp_path)
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(ValueError, match=r"config\.json: does not describe a pipeline: .*colour"):
        AVPipeline.from_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in values.items() if k != "timer"})
    )
    with pytest.raises(ValueError, match=r"config\.json: does not describe a pipeline: .*timer"):
        AVPipeline.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(values))
    shutil.rmtree(folder / "audio_codec")
    with pytest.raises(ValueError, match=r"audio_codec.config\.json: cannot be read"):
        AVPipeline.from_pretrained(folder)


def test_progress_is_over_steps_and_decoding(pipe, capfd):
    pipe(SAID, progress=True)
    err = capfd.readouterr().err
    assert "denoising: 100%" in err
    assert "2/2" in err
    assert "decoding: 100%" in err
    assert "9/9" in err
    make(pipe)
    assert capfd.readouterr().err == ""


def test_given_sound_keeps_its_channels_and_its_rate(pipe, tmp_path):
    """Read of a file as handed over; what it is made with is mono."""
    frames, both = picture(9), sound(2, 17_280)
    write_clip(Clip(frames, Fraction(25), both, 48_000), tmp_path / "both.mkv")
    clip = make(pipe, "", audio=tmp_path / "both.mkv", num_frames=9)
    assert clip.sample_rate == 48_000
    np.testing.assert_allclose(clip.waveform, both, atol=1e-4)


def test_a_request_is_changed_by_what_is_said_besides(pipe):
    request = GenerateRequest(prompt=SAID, seed=7)
    assert same(make(pipe, request, seed=3), make(pipe, seed=3))
    with pytest.raises(TypeError, match="sede"):
        make(pipe, request, sede=3)


def test_a_rate_may_be_a_float_as_it_is_written(pipe, tmp_path):
    write_clip(beginning(9, NTSC), tmp_path / "a.mkv")
    assert conditions(pipe, video=tmp_path / "a.mkv", fps=29.97).fps == NTSC
