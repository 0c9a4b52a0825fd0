"""OpenAI's client, unchanged, against the studio: clips, lists, errors, files and batches."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from served import TOKEN

from avgen.clips import read_clip
from avgen.clips.media.streams import probe

SAID = 'a man says "place red"'


@pytest.fixture(scope="module")
def clip(client):
    """A finished clip."""
    video = client.videos.create_and_poll(prompt=SAID, seconds="0.6", extra_body={"seed": 3})
    assert video.status == "completed", video.error
    return video


def test_a_clip_is_what_its_object_says(client, clip, tmp_path):
    path = tmp_path / "a.mp4"
    client.videos.download_content(clip.id).write_to_file(path)
    seen = probe(path)
    picture = next(s for s in seen.streams if s.kind == "video")
    assert f"{picture.width}x{picture.height}" == clip.size == "96x96"
    assert float(seen.duration_s) == float(clip.seconds) == 0.6
    assert clip.progress == 100
    assert clip.avgen["seed"] == 3
    assert clip.avgen["words"][1][0] == "red"
    assert clip.avgen["energy"]["cpu_seconds"] > 0
    assert clip.avgen["provenance"]["marks"] == ["picture", "sound"]


def test_variants(client, clip):
    thumbnail, sheet = (
        client.videos.download_content(clip.id, variant=variant).read()
        for variant in ("thumbnail", "spritesheet")
    )
    assert thumbnail[:3] == sheet[:3] == b"\xff\xd8\xff"
    base = client.base_url
    said = client.get(f"{base}videos/{clip.id}/content?variant=json", cast_to=object)
    assert said["ai_generated"] is True
    assert said["parameters"]["seed"] == 3
    wav = client.videos.download_content(clip.id, extra_query={"variant": "audio"}).read()
    assert wav[:4] == b"RIFF"


def test_a_picture_in_a_remix_and_an_extension(client, clip, served, tmp_path):
    import av

    path = tmp_path / "a.mp4"
    client.videos.download_content(clip.id).write_to_file(path)
    first = read_clip(path).frames[0]
    av.VideoFrame.from_ndarray(first, format="rgb24").save(str(tmp_path / "face.png"))
    shown = client.videos.create_and_poll(
        prompt=SAID, input_reference=(tmp_path / "face.png").open("rb"), extra_body={"n": 2}
    )
    assert shown.status == "completed"
    assert shown.avgen["given"] == ["image"]
    group = client.get(
        "/videos", cast_to=object, options={"params": {"group": shown.avgen["group"]}}
    )
    assert [video["avgen"]["seed"] for video in group["data"]] == [1, 0]
    again = served.wait(served.call(f"/v1/videos/{shown.id}/retry", {"seed": 5})["id"])["avgen"]
    assert (again["given"], again["seed"], again["crop"]) == (["image"], 5, shown.avgen["crop"])
    remixed = client.videos.remix(clip.id, prompt='a woman says "red place"')
    assert remixed.remixed_from_video_id == clip.id
    assert [word[0] for word in remixed.avgen["words"]] == ["red", "place"]
    by_id = client.post(
        "/videos/extensions",
        body={"prompt": SAID, "seconds": 0.4, "video": {"id": clip.id}},
        cast_to=object,
    )
    by_file = client.videos.extend(prompt=SAID, seconds="0.4", video=path.open("rb"))
    for name in (by_id["id"], by_file.id, remixed.id):
        assert served.wait(name)["status"] == "completed"
    assert by_id["seconds"] == by_file.seconds == "1"


def test_same_as_the_command_line(limited, moving_model, tmp_path):
    """Without marks, a clip of the API has the frames and samples of `avgen generate`."""
    import numpy as np

    from avgen.cli import main

    name = limited.make(seed=5)
    assert limited.wait(name)["status"] == "completed"
    own = tmp_path / "own.mp4"
    arguments = ["generate", "--prompt", SAID, "--seed", "5", "--model", str(moving_model)]
    assert main([*arguments, "--no-marks", "-o", str(own)]) == 0
    one, other = (read_clip(Path(path)) for path in (own, limited.folder / "clips" / f"{name}.mp4"))
    assert np.array_equal(one.frames, other.frames)
    assert one.waveform.tobytes() == other.waveform.tobytes()
    limited.call(f"/v1/videos/{name}", method="DELETE")


def test_the_same_twice_with_its_marks(served):
    one, other = (served.wait(served.make(seed=5))["avgen"]["sha256"] for _ in range(2))
    assert one == other


def test_lists_by_pages_in_both_orders_and_deletion(client, limited):
    client = client.with_options(base_url=f"{limited.url}/v1", api_key=TOKEN)
    limited.call("/v1/queue", {"paused": True})
    made = [limited.make(seed=seed) for seed in range(5)]
    for order, expected in (("asc", made), ("desc", made[::-1])):
        assert [v.id for v in client.videos.list(limit=2, order=order)] == expected
    gone = client.videos.delete(made[2])
    assert (gone.deleted, gone.object, gone.id) == (True, "video.deleted", made[2])
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.retrieve(made[2])
    assert caught.value.code == "not_found"
    assert [v.id for v in client.videos.list(order="asc")] == [m for m in made if m != made[2]]


BAD = [
    ({"prompt": "a man"}, "prompt", "nothing to say"),
    ({"prompt": "a man", "speech": "нет"}, "speech", "нет"),
    ({"prompt": "a man", "words": "place 0.1-0.2 red 9-10", "seconds": 1}, "words", "10.00 s"),
    ({"prompt": "a man", "words": "place 0.1-0.4 red 0.2-0.5"}, "words", "0.4 s"),
    ({"prompt": "a man", "words": [["place", 0.5, 0.1]]}, "words", "end after its start"),
    ({"size": "15x15"}, "size", "at least 16"),
    ({"size": "97x97"}, "size", "must be even"),
    ({"size": "big"}, "size", "WIDTHxHEIGHT"),
    ({"seconds": "-1"}, "seconds", "more than 0"),
    ({"seconds": "1e9"}, "seconds", "at most 60 s"),
    ({"seconds": "NaN"}, "seconds", "finite"),
    ({"input_reference": b"hello, no picture at all"}, "input_reference", "PNG"),
    ({"input_reference": b""}, "input_reference", "empty"),
    ({"nonsense": "1"}, "nonsense", "no such field"),
    ({"num_inference_steps": 0}, "num_inference_steps", "at least 1"),
    ({"seed": "x"}, "seed", "whole number"),
    ({"n": 9}, "n", "from 1 to 8"),
    ({"metadata": '{"a": "caf\\ud83d"}'}, None, "half a character"),
    ({"model": "sora-2"}, "model", "avgen-model"),
    ({"words": "place 0.1-0.2", "speech": "place"}, "words", "both given"),
    ({"image": "video_000000000000000000000000"}, None, "no clip or file"),
]


@pytest.mark.parametrize(("fields", "param", "words"), BAD, ids=lambda v: str(v)[:30])
def test_what_is_wrong_is_said_once_with_its_field_value_and_rule(
    client, sent, fields, param, words
):
    asked = {"prompt": SAID, **fields}
    if isinstance(asked.get("input_reference"), bytes):
        asked["input_reference"] = ("a.png", asked["input_reference"], "image/png")
    own = {k: asked.pop(k) for k in ("prompt", "input_reference") if k in asked}
    extra = {k: json.dumps(v) if isinstance(v, list) else v for k, v in asked.items()}
    kinds = (openai.BadRequestError, openai.NotFoundError, openai.APIStatusError)
    before = len(sent)
    with pytest.raises(kinds) as caught:
        client.videos.create(**own, extra_body=extra)
    assert sent[before:] == ["POST /v1/videos"]  # it saw no sense in a second try
    assert 400 <= caught.value.status_code < 429
    assert caught.value.status_code not in (408, 409, 422)
    assert caught.value.param == param
    assert caught.value.code
    assert words in caught.value.message
    assert caught.value.request_id.startswith("req_")


def test_two_things_that_contradict_each_other(client, clip):
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt=SAID, extra_body={"audio": clip.id, "video": clip.id})
    assert "both given" in caught.value.message


def test_an_empty_field_says_nothing_but_that_a_sound_has_no_words(client, clip):
    asked = {"speech": "", "negative_prompt": "", "audio": ""}
    plain = client.videos.create(prompt=SAID, extra_body=asked).avgen["request"]
    assert not asked.keys() & plain.keys()
    music = client.videos.create(prompt="a man", extra_body={**asked, "audio": clip.id})
    assert music.avgen["request"]["speech"] == ""
    assert "negative_prompt" not in music.avgen["request"]


def test_a_batch_lets_others_pass(client, limited, tmp_path):
    """Its clips come last, and are not of the six that may wait."""
    client = client.with_options(base_url=f"{limited.url}/v1", api_key=TOKEN)
    limited.call("/v1/queue", {"paused": True})
    (tmp_path / "l.jsonl").write_text(8 * (json.dumps({"prompt": SAID}) + "\n"))
    file = client.files.create(file=(tmp_path / "l.jsonl").open("rb"), purpose="batch")
    asked = {"endpoint": "/v1/videos", "completion_window": "24h"}
    batch = client.batches.create(input_file_id=file.id, **asked)
    assert limited.call("/v1/queue")["queued"] >= 8
    made = limited.call(f"/v1/videos/{limited.make(seed=3)}")
    rows = limited.call(f"/v1/videos?group={batch.id}")["data"]
    assert made["avgen"]["queue_position"] < min(row["avgen"]["queue_position"] for row in rows)
    client.batches.cancel(batch.id)
    client.videos.delete(made["id"])


def test_a_full_queue_is_tried_again_three_times(limited):
    limited.call("/v1/queue", {"paused": True})
    while limited.call("/v1/queue")["queued"] < 6:
        limited.make()
    seen = []
    hooks = {"request": [lambda request: seen.append(request.method)]}
    client = openai.OpenAI(
        base_url=f"{limited.url}/v1",
        api_key=TOKEN,
        http_client=openai.DefaultHttpxClient(event_hooks=hooks),
    )
    # The server says to wait for half a minute; a test does not.
    client._calculate_retry_timeout = lambda *_arguments, **_more: 0.01
    with pytest.raises(openai.RateLimitError) as caught:
        client.videos.create(prompt=SAID)
    assert caught.value.code == "queue_full"
    assert caught.value.response.headers["retry-after"] == "30"
    assert seen == ["POST"] * 3


def test_a_key_that_comes_twice_at_a_time_is_one_clip(served):
    key = {"Idempotency-Key": "k2"}
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(served.call, "/v1/videos", {"prompt": SAID}, headers=key)
                for _ in range(4)]  # fmt: skip
    assert len({answer.result()["id"] for answer in made}) == 1
    served.wait(made[0].result()["id"])


def test_one_key_is_one_clip(client, served):
    first, second = (
        client.videos.create(
            prompt=SAID, extra_headers={"Idempotency-Key": "k1"}, extra_body={"seed": 77}
        )
        for _ in range(2)
    )
    assert first.id == second.id
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt='"red"', extra_headers={"Idempotency-Key": "k1"})
    assert caught.value.code == "idempotency_error"
    served.wait(first.id)


def test_provenance_of_a_clip_by_the_client(client, clip, tmp_path):
    path = tmp_path / "a.mp4"
    client.videos.download_content(clip.id).write_to_file(path)
    check = client.content_provenance_checks.create(file=path.open("rb"))
    assert check.object == "content_provenance_check"
    found = {result.type: result for result in check.results}
    assert found["c2pa"].validation_state == "not_present"
    assert set(found) == {"c2pa", "avgen_picture", "avgen_sound"}


def test_a_batch_of_lines(client, served, tmp_path):
    lines = [
        {"custom_id": f"clip-{i}", "method": "POST", "url": "/v1/videos",
         "body": {"prompt": SAID, "seed": i}}
        for i in range(3)
    ]  # fmt: skip
    lines[1]["body"] = {"prompt": "a man", "rate": 9}
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = client.files.create(file=path.open("rb"), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/videos", completion_window="24h"
    )
    assert batch.request_counts.total == 3
    assert batch.errors.data[0].line == 2
    assert "from 0.25 to 4" in batch.errors.data[0].message
    for video in served.call(f"/v1/videos?group={batch.id}")["data"]:
        served.wait(video["id"])
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    rows = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == ["clip-0", "clip-2"]
    assert rows[0]["response"]["body"]["status"] == "completed"


def test_what_cannot_be_done_is_said_once(client, clip):
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/videos/edits", body={"prompt": SAID}, cast_to=object)
    assert caught.value.status_code == 501
    assert caught.value.code == "not_supported"


def test_the_timeline_of_a_speech(served):
    found = served.call("/v1/speech/timeline", {"speech": "place red", "seconds": 1.0})
    assert [word[0] for word in found["words"]] == ["place", "red"]
    assert found["seconds"] == 1.0
    assert found["words"][0][2] <= found["words"][1][1]
