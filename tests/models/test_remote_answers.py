"""Every shape an OpenAI-compatible service answers in is the same words and sound, as far as it was let come."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.models.chat_service import (
    RATE,
    TEXT,
    Answer,
    b64,
    chat_service,
    encoded,
    endless_wav,
    in_pieces,
    pcm,
    stream,
    tone,
    wav,
    whole,
)
from tests.models.remote_asking import ASKED, SOUND, ask, described
from wavalign.audio import Waveform
from wavalign.models.protocol import Sampling
from wavalign.models.remote import RemoteModel

PIECES = [b64(piece) for piece in in_pieces(pcm(tone()))]
CUT_ANYWHERE = [b64(pcm(tone()))[at : at + 4099] for at in range(0, len(b64(pcm(tone()))), 4099)]
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


def same(heard: Waveform, samples: np.ndarray, error: float = 1e-3) -> bool:
    return len(heard.samples) == len(samples) and float(np.abs(heard.samples - samples).max()) < error


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
