"""What a service is sent is what its kind takes, and no more at one time than is wanted."""

from __future__ import annotations

import threading

import pytest

from tests.models.chat_service import RATE, TEXT, Answer, b64, chat_service, tone, wav, whole
from tests.models.remote_asking import ASKED, SOUND, ask, described
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import GenerationError, Request, Sampling
from wavalign.models.remote import RemoteModel


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
