"""However a service fails, it is one sentence without the key, and it is asked again where that helps."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence

import pytest

from tests.models.chat_service import TEXT, Answer, b64, chat_service, pcm, refusal, stream, wav, whole
from tests.models.remote_asking import KEY, SOUND, ask
from wavalign.models.protocol import GenerationError
from wavalign.models.remote_description import RemoteDescription

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
        with pytest.raises(GenerationError, match=r"did not answer within 1 s"):
            ask(service, timeout_s=1.0, attempts=2)
        assert len(service.requests) == 2
        hold.set()
    with pytest.raises(GenerationError, match="cannot be reached"):
        ask(service, attempts=1)
