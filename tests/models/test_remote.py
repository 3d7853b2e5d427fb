"""Checkpoints on other machines: every shape an OpenAI-compatible service answers in, and every way it fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from tests.models.chat_service import (
    RATE,
    TEXT,
    Answer,
    Service,
    b64,
    chat_service,
    encoded,
    endless_wav,
    in_pieces,
    pcm,
    refusal,
    stream,
    tone,
    wav,
    whole,
)
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import CheckpointError, GenerationError, Request, Sampling
from wavalign.models.remote import RemoteModel
from wavalign.models.remote_description import RemoteDescription

ASKED = Dialogue((Turn("user", text="what is two plus two"),))
KEY = "sk-test-0123456789abcdef"


def described(service: Service, **how: object) -> RemoteDescription:
    quick = {"model": "some-omni", "backoff_s": 0.001, "longest_wait_s": 0.01}
    return RemoteDescription(**{"url": service.url, **quick, **how})


def ask(service: Service, dialogue: Dialogue = ASKED, sampling: Sampling | None = None, **how: object):
    """The reply, whole, and its chunks."""
    model = RemoteModel("far", described(service, **how))
    chunks, stream_ = [], model.reply(dialogue, sampling)
    while True:
        try:
            chunks.append(next(stream_))
        except StopIteration as end:
            return end.value, chunks


def same(heard: Waveform, samples: np.ndarray, error: float = 1e-3) -> bool:
    return len(heard.samples) == len(samples) and float(np.abs(heard.samples - samples).max()) < error


PIECES = [b64(piece) for piece in in_pieces(pcm(tone()))]
CUT_ANYWHERE = [b64(pcm(tone()))[at : at + 4099] for at in range(0, len(b64(pcm(tone()))), 4099)]
SOUND = tone()
SHAPES: dict[str, tuple[dict[str, object], Answer]] = {
    "one choice, as OpenAI": (
        {"stream": False},
        whole({"content": None, "audio": {"id": "a", "data": b64(wav(SOUND)), "transcript": TEXT, "expires_at": 1}}),
    ),
    "two choices, as vLLM-Omni": (
        {"dialect": "vllm-omni"},
        whole({"content": TEXT}, {"content": "", "audio": {"id": "a", "data": b64(wav(SOUND)), "transcript": ""}}),
    ),
    "content and transcript, as SGLang-Omni": (
        {"dialect": "sglang-omni"},
        whole({"content": TEXT, "audio": {"id": "a", "data": b64(wav(SOUND)), "transcript": TEXT}}),
    ),
    "raw samples": (
        {"stream": False, "audio_format": "pcm16"},
        whole({"audio": {"data": b64(pcm(SOUND)), "transcript": TEXT}}),
    ),
    "flac": (
        {"stream": False, "audio_format": "flac"},
        whole({"audio": {"data": b64(encoded(SOUND, RATE, "FLAC")), "transcript": TEXT}}),
    ),
    "float wav": (
        {"stream": False},
        whole({"audio": {"data": b64(wav(SOUND, subtype="FLOAT")), "transcript": TEXT}}),
    ),
    "24-bit wav in two channels": (
        {"stream": False},
        whole({"audio": {"data": b64(wav(np.stack([SOUND, SOUND], 1), subtype="PCM_24")), "transcript": TEXT}}),
    ),
    "content in parts": (
        {"stream": False},
        whole({"content": [{"type": "text", "text": TEXT}], "audio": {"data": b64(wav(SOUND))}}),
    ),
    "a data address": (
        {"stream": False},
        whole({"content": TEXT, "audio": {"data": f"data:audio/wav;base64,{b64(wav(SOUND))}"}}),
    ),
    "stream of raw samples, as OpenAI": (
        {},
        stream(
            [{"role": "assistant", "audio": {"id": "a", "transcript": TEXT[:8]}}]
            + [{"audio": {"data": piece}} for piece in PIECES]
            + [{"audio": {"transcript": TEXT[8:]}}, {"audio": {"expires_at": 1}}]
        ),
    ),
    "stream of one base64 text cut anywhere": (
        {"dialect": "openai-stream"},
        stream([{"content": TEXT}] + [{"audio": {"data": piece}} for piece in CUT_ANYWHERE]),
    ),
    "stream of a wav without an end": (
        {"dialect": "openai-stream"},
        stream([{"content": TEXT}] + [{"audio": {"data": b64(p)}} for p in in_pieces(endless_wav(SOUND), 31)]),
    ),
    "stream of whole wav files, as SGLang-Omni": (
        {"dialect": "sglang-omni", "stream": True},
        stream(
            [{"content": TEXT}]
            + [{"audio": {"data": b64(wav(part)), "format": "wav", "sample_rate": RATE}} for part in np.split(SOUND, 4)]
        ),
    ),
    "stream with speech as content, as vLLM-Omni": (
        {"dialect": "vllm-omni", "stream": True},
        stream(
            [{"content": TEXT, "modality": "text"}]
            + [{"content": b64(wav(part)), "modality": "audio"} for part in np.split(SOUND, 4)]
        ),
    ),
    "stream of a compressed file": (
        {},
        stream(
            [{"content": TEXT}] + [{"audio": {"data": b64(p)}} for p in in_pieces(encoded(SOUND, RATE, "FLAC"), 600)]
        ),
    ),
    "stream without [DONE]": (
        {},
        stream([{"content": TEXT}, {"audio": {"data": b64(pcm(SOUND))}}], done=False, framed=False),
    ),
    "a stream that does not say that it is one": (
        {},
        Answer("\r\n".join(stream([{"content": TEXT}, {"audio": {"data": b64(pcm(SOUND))}}]).lines).encode()),
    ),
    "whole although a stream was asked for": ({}, whole({"content": TEXT, "audio": {"data": b64(wav(SOUND))}})),
    "a stream although none was asked for": (
        {"stream": False},
        stream([{"content": TEXT}, {"audio": {"data": b64(pcm(SOUND))}}]),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_words_and_sound(shape: str) -> None:
    how, answer = SHAPES[shape]
    with chat_service(lambda number, body: answer) as service:
        reply, chunks = ask(service, **how)
    assert reply.text == TEXT
    assert reply.finished
    assert reply.tokens == ()
    assert reply.waveform.sample_rate == RATE
    assert same(reply.waveform, SOUND)
    assert "".join(chunk.text for chunk in chunks) == TEXT
    heard = np.concatenate([chunk.waveform.samples for chunk in chunks if chunk.waveform is not None])
    assert np.array_equal(heard, reply.waveform.samples)


def test_streamed_speech_is_handed_on_before_the_answer_is_whole() -> None:
    hold = threading.Event()
    deltas = [{"audio": {"transcript": TEXT}}, {"audio": {"data": PIECES[0]}}, {"audio": {"data": PIECES[1]}}]
    with chat_service(lambda number, body: stream(deltas, hold=hold)) as service:
        coming = RemoteModel("far", described(service)).reply(ASKED)
        assert next(coming).text == TEXT
        assert next(coming).waveform.seconds > 0
        hold.set()
        assert len(list(coming)) == 1


def test_speech_at_another_rate_is_converted() -> None:
    low, high = tone(16_000), tone(48_000)
    whole_file = whole({"content": TEXT, "audio": {"data": b64(wav(low, 16_000))}})
    pieces = [{"audio": {"data": b64(piece)}} for piece in in_pieces(endless_wav(high, 48_000))]
    told = [{"content": TEXT}] + [{"audio": {"data": b64(p), "sample_rate": 16_000}} for p in in_pieces(pcm(low))]
    for answer in (whole_file, stream([{"content": TEXT}, *pieces]), stream(told)):
        with chat_service(lambda number, body, answer=answer: answer) as service:
            reply, _ = ask(service)
        assert abs(reply.waveform.seconds - 0.5) < 0.005
        middle = slice(2000, 10_000)  # the converter's edges ring
        assert np.abs(reply.waveform.samples[middle] - SOUND[middle]).max() < 0.01


BROKEN: dict[str, tuple[Answer, str]] = {
    "not base64": (stream([{"content": TEXT}, {"audio": {"data": "&&&&"}}]), "not base64"),
    "base64 that ends within a group": (stream([{"audio": {"data": b64(pcm(SOUND))[:-3]}}]), "not base64"),
    "base64 that is a number": (whole({"audio": {"data": 7}}), "not base64"),
    "the stream breaks off": (stream([{"content": TEXT}] * 3, end=None, done=False, cut=True), "broke off"),
    "the stream ends early": (stream([{"content": TEXT}] * 3, end=None, done=False, framed=False), "broke off"),
    "the body breaks off": (whole({"content": TEXT}, cut=True), "broke off"),
    "an event that is not JSON": (Answer(lines=["data: {", ""]), "not JSON"),
    "an error within the stream": (
        Answer(lines=['data: {"error": {"message": "out of memory"}}', ""]),
        "could not answer: out of memory",
    ),
    "an error after the first words, without choices": (
        Answer(
            lines=[
                'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": null}]}',
                "",
                'data: {"choices": [], "error": {"message": "out of memory"}}',
                "",
                "data: [DONE]",
                "",
            ]
        ),
        "could not answer: out of memory",
    ),
    "speech as tokens, as Step-Audio 2's server": (
        whole({"content": "<tts_start>Hello<audio_12><audio_7>"}),
        r"speech as tokens .*nothing decodes them here",
    ),
    "speech as tokens in pieces": (
        stream([{"content": "Hello<aud"}, {"content": "io_12"}, {"content": ">"}]),
        r"speech as tokens among its words \(<audio_12>\)",
    ),
    "a wav file that breaks off": (whole({"audio": {"data": b64(wav(SOUND)[:30])}}), "breaks off in its header"),
    "a rate that cannot be": (whole({"audio": {"data": b64(wav(SOUND, 400_000))}}), "400000 Hz"),
    "a told rate that cannot be": (
        stream([{"audio": {"data": b64(pcm(SOUND)), "sample_rate": 24}}]),
        "24 Hz",
    ),
    "compressed rubbish": (whole({"audio": {"data": b64(b"fLaC" + bytes(500))}}), "cannot be read"),
    "wav of an unknown kind": (whole({"audio": {"data": b64(wav(SOUND, subtype="ULAW"))}}), "unknown here"),
    "not a chat completion": (Answer(b'{"id": 3}'), "no choices"),
    "not JSON": (Answer(b"<html>"), "not JSON"),
    "nothing said": (whole({"content": ""}), "neither words nor speech"),
    "a page of another server": (Answer(b"<html>", status=302, headers=(("Location", "/login"),)), "another address"),
    "a wrong key": (refusal(401, f"Incorrect API key provided: {KEY}"), r"refuses the key in TEST_API_KEY"),
    "a model that is not there": (refusal(404, "no such model"), 'no model "some-omni".*no such model'),
    "a refused field": (refusal(400, "temperature is not supported"), "temperature is not supported"),
    "busy": (refusal(429), "is busy"),
    "no quota": (refusal(429, "You exceeded your current quota"), "no quota left"),
    "trouble": (refusal(503), "status 503"),
    "trouble with a reason": (
        refusal(500, f"{KEY}: audio is longer than 30 s."),
        r"has trouble \(status 500\): \(key\): audio is longer than 30 s\. Try again a little later\.$",
    ),
    "trouble with a long reason": (refusal(500, "x" * 9000), r": x{300}\. Try again"),
    "an error in a stream of another type": (
        Answer(b'data: {"error": {"message": "out of memory"}}\n\n'),
        "could not answer: out of memory",
    ),
    "vLLM's error": (
        Answer(json.dumps({"object": "error", "message": "too long"}).encode(), status=400),
        "too long",
    ),
    "FastAPI's error": (
        Answer(json.dumps({"detail": [{"msg": "field required"}]}).encode(), status=422),
        "field required",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_fails_is_one_sentence_without_the_key(kind: str, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setenv("TEST_API_KEY", KEY)
    answer, sentence = BROKEN[kind]
    with (
        caplog.at_level(logging.DEBUG),
        chat_service(lambda number, body: answer) as service,
        pytest.raises(GenerationError, match=sentence) as error,
    ):
        ask(service, key_env="TEST_API_KEY", stream=False)
    assert str(error.value).startswith('"far": ')
    assert "\n" not in str(error.value)
    assert set(service.keys) == {f"Bearer {KEY}"}
    assert KEY not in str(error.value) + caplog.text + repr(error.value.__cause__)


def test_asked_again_where_that_helps_and_only_there() -> None:
    good = whole({"content": TEXT, "audio": {"data": b64(wav(SOUND))}})

    def asked(answers: Sequence[Answer], **how: object) -> tuple[str, int]:
        with chat_service(lambda number, body: answers[min(number, len(answers) - 1)]) as service:
            try:
                text = ask(service, **how)[0].text
            except GenerationError as error:
                text = str(error)
        return text, len(service.requests)

    again = refusal(429, headers=(("Retry-After", "0.001"),))
    assert asked([again, refusal(500), good]) == (TEXT, 3)
    assert asked([again, again, again, good])[1] == 3
    assert asked([refusal(401), good])[1] == 1
    assert asked([refusal(400), good])[1] == 1
    assert asked([Answer(b"half of it", cut=True), refusal(503), good], attempts=5)[0] == TEXT
    # What was begun is not asked again: its first words were handed on.
    assert asked([stream([{"content": "Two"}] * 2, end=None, done=False, cut=True), good])[1] == 1


def test_the_wait_that_a_service_asks_for_is_waited_but_not_for_ever() -> None:
    from wavalign.models.remote_http import ChatService

    description = RemoteDescription(url="http://nowhere/v1", model="m", backoff_s=1, longest_wait_s=20)
    service = ChatService("far", description, None)
    assert 0.5 <= service._wait(0, None) <= 1
    assert 2 <= service._wait(2, None) <= 4
    assert service._wait(0, 7.0) == 7.0
    assert service._wait(0, 700.0) == 20.0


def test_no_answer_in_time_and_no_service_at_all() -> None:
    hold = threading.Event()
    with chat_service(lambda number, body: whole({"content": TEXT}, hold=hold)) as service:
        with pytest.raises(GenerationError, match=r"did not answer within 0.1 s"):
            ask(service, timeout_s=0.1, attempts=2)
        assert len(service.requests) == 2
        hold.set()
    with pytest.raises(GenerationError, match="cannot be reached"):
        ask(service, attempts=1)


def test_a_stop_ends_a_reply_that_waits_and_keeps_what_came() -> None:
    hold, stop = threading.Event(), threading.Event()
    deltas = [{"content": TEXT}, {"audio": {"data": PIECES[0]}}]
    with chat_service(lambda number, body: stream(deltas, hold=hold)) as service:
        coming = RemoteModel("far", described(service)).reply(ASKED, stop=stop)
        assert next(coming).text == TEXT
        next(coming)
        stop.set()
        with pytest.raises(StopIteration) as end:
            next(coming)
        hold.set()
    assert end.value.value.text == TEXT
    assert not end.value.value.finished
    assert end.value.value.waveform.seconds > 0


def test_speech_beyond_the_limit_is_not_taken() -> None:
    for answer in (
        whole({"content": TEXT, "audio": {"data": b64(wav(SOUND))}}),
        stream([{"content": TEXT}] + [{"audio": {"data": piece}} for piece in PIECES]),
    ):
        with chat_service(lambda number, body, answer=answer: answer) as service:
            reply, _ = ask(service, sampling=Sampling(max_seconds=0.2))
        assert same(reply.waveform, SOUND[:4800])
        assert not reply.finished


def test_a_reply_cut_by_the_service_is_not_finished() -> None:
    with chat_service(lambda number, body: whole({"content": TEXT}, end="length")) as service:
        reply, _ = ask(service)
    assert not reply.finished
    assert len(reply.waveform.samples) == 0


def test_several_requests_are_asked_at_once_and_stay_apart() -> None:
    together = threading.Barrier(3, timeout=30)

    def answer(number: int, body: dict) -> Answer:
        together.wait()
        return whole({"content": body["messages"][-1]["content"], "audio": {"data": b64(wav(SOUND))}})

    with chat_service(answer) as service:
        model = RemoteModel("far", described(service))
        questions = [Dialogue((Turn("user", text=f"question {number}"),)) for number in range(3)]
        replies = model.reply_many([Request(each, "far") for each in questions])
    assert [reply.text for reply in replies] == ["question 0", "question 1", "question 2"]


def test_no_more_than_wanted_are_asked_at_one_time() -> None:
    lock, now, peak = threading.Lock(), 0, 0

    def answer(number: int, body: dict) -> Answer:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        return whole({"content": TEXT})

    with chat_service(answer) as service:
        model = RemoteModel("far", described(service, at_once=2))
        replies = model.reply_many([Request(ASKED, "far")] * 7)
    assert [reply.text for reply in replies] == [TEXT] * 7
    assert peak <= 2


def spoken() -> Dialogue:
    heard = Waveform(tone(48_000, 0.2), 48_000)
    return Dialogue(
        (
            Turn("user", text="hello"),
            Turn("assistant", text="Hello.", speech=Waveform(tone(), RATE), tokens=(1, 2)),
            Turn("user", speech=heard),
        )
    )


def sent(dialogue: Dialogue, sampling: Sampling, **how: object) -> dict:
    with chat_service(lambda number, body: whole({"content": TEXT})) as service:
        ask(service, dialogue, sampling, **how)
    return service.requests[0]


def test_what_is_sent_is_what_each_kind_of_server_takes() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=20, seed=2**40 + 7)
    body = sent(spoken(), sampling, system="Be brief.", max_tokens=90)
    assert body["path"] == "/v1/chat/completions"
    assert body["modalities"] == ["text", "audio"]
    assert body["audio"] == {"format": "pcm16", "voice": "alloy"}
    assert body["stream"] is True
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "Hello."
    (part,) = body["messages"][3]["content"]
    assert part["input_audio"]["format"] == "wav"
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 7)
    assert body["max_completion_tokens"] == 90
    assert "top_k" not in body

    body = sent(spoken(), sampling, dialect="vllm-omni", voice="Ethan", extra={"sampling_params_list": []})
    (part,) = body["messages"][2]["content"]
    assert part["audio_url"]["url"].startswith("data:audio/wav;base64,UklGR")
    assert body["speaker"] == "Ethan"
    assert body["top_k"] == 20
    assert body["sampling_params_list"] == []
    assert "audio" not in body
    assert "stream" not in body

    body = sent(spoken(), sampling, dialect="sglang-omni", send=["temperature"])
    assert len(body["audios"]) == 1
    assert body["audios"][0].startswith("data:audio/wav;base64,")
    assert body["audio"] == {"format": "wav"}
    assert "seed" not in body

    body = sent(spoken(), sampling, dialect="openai-stream", voice="Cherry")
    assert body["audio"] == {"format": "wav", "voice": "Cherry"}
    assert body["stream"] is True


def test_what_cannot_be_sent_is_said() -> None:
    with chat_service(lambda number, body: whole({"content": TEXT})) as service:
        with pytest.raises(GenerationError, match="only codes"):
            ask(service, Dialogue((Turn("user", codes=(1, 2)),)))
        with pytest.raises(GenerationError, match="ends with the user"):
            ask(service, Dialogue())
        with pytest.raises(GenerationError, match="needs the words"):
            ask(service, Dialogue((Turn("assistant", tokens=(1,)), Turn("user", text="and"))))
        with pytest.raises(GenerationError, match="is not"):
            RemoteModel("far", described(service)).reply_many([Request(ASKED, "near")])
    assert service.requests == []


def test_the_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    description = RemoteDescription(url="http://localhost/v1", model="m", key_env="TEST_API_KEY")
    monkeypatch.delenv("TEST_API_KEY", raising=False)
    with pytest.raises(CheckpointError, match="set TEST_API_KEY"):
        RemoteModel("far", description)
    monkeypatch.setenv("TEST_API_KEY", "two words")
    with pytest.raises(CheckpointError, match="TEST_API_KEY") as error:
        RemoteModel("far", description)
    assert "two words" not in str(error.value)
    monkeypatch.setenv("TEST_API_KEY", KEY)
    model = RemoteModel("far", description)
    assert KEY not in repr(model.description) + description.model_dump_json()


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "not an address": ({"url": "api.openai.com"}, "http"),
    "a file": ({"url": "file:///etc/passwd"}, "http"),
    "a key in the address": ({"url": "https://sk-1@host/v1"}, "key_env"),
    "a query": ({"url": "https://host/v1?key=1"}, "key_env"),
    "another secret": ({"key_env": "WAVALIGN_SECRET"}, "_API_KEY"),
    "the key itself": ({"key_env": KEY}, "_API_KEY"),
    "a dialect nobody speaks": ({"dialect": "grpc"}, "vllm-omni"),
    "a field of ours": ({"extra": {"messages": []}}, "messages"),
    "a rate": ({"sample_rate": 100}, "8000"),
    "no model": ({"model": ""}, "model"),
    "a misspelt field": ({"vioce": "x"}, "vioce"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_description_that_cannot_be_used_names_its_field(kind: str) -> None:
    how, words = WRONG[kind]
    with pytest.raises(ValidationError, match=words):
        RemoteDescription(**{"url": "http://host/v1", "model": "m", **how})


def test_an_address_may_be_the_whole_endpoint() -> None:
    assert RemoteDescription(url="http://host/v1/chat/completions", model="m").url == "http://host/v1"
    assert RemoteDescription(url="http://host/v1/", model="m").url == "http://host/v1"
