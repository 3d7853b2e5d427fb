"""The judge over HTTP: what it is sent, and what becomes of an endpoint that misbehaves."""

from __future__ import annotations

import base64
import json
import logging
import random
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.rewards.judge_server import Answer, judge_server
from tests.rewards.replies import answer, buzz, example
from wavalign import audio
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards import judge_prompts
from wavalign.rewards.config import JudgeConfig, RewardConfig
from wavalign.rewards.judge_client import JudgeClient, parse_score
from wavalign.rewards.judgement_cache import JudgementCache
from wavalign.rewards.protocol import RewardError
from wavalign.rewards.registry import RewardContext, build
from wavalign.training.examples import Example


def judge(url, name="judge", cache=None, **settings):
    """The reward called ``name``, which never really waits; its waits are in ``judge.waits``."""
    settings = {"attempts": 3, "timeout_s": 60, "backoff_s": 1, **settings}
    config = RewardConfig(weights={name: 1}, judge=JudgeConfig(url=url, model="ears-1", **settings), cache=cache)
    context = RewardContext(Path("nowhere"))
    built = build(name, config, context)
    built.waits = []
    built.client = JudgeClient(config.judge, context.stop, built.waits.append, random.Random(0))
    built.stop = context.stop
    return built


def always(planned):
    return lambda number, body: planned


def in_turn(*planned):
    """Each request gets the next one, and the last one for ever."""
    return lambda number, body: planned[min(number, len(planned) - 1)]


def distinct(count):
    return [answer(waveform=buzz(100 + place)) for place in range(count)]


# What is sent


def test_the_judge_gets_the_question_and_the_audio_at_its_own_rate_but_not_the_text_channel():
    said = buzz(rate=22_050)
    with judge_server(always(Answer())) as server:
        assert judge(server.url).score([answer("the text channel says this", said)]) == [4.0]
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "ears-1"
    system, user = request["messages"]
    assert system["content"] == judge_prompts.HOLISTIC
    assert "what is seven plus five" in user["content"][0]["text"]
    assert "the text channel says this" not in json.dumps(request)
    (part,) = [part for part in user["content"] if part["type"] == "input_audio"]
    assert part["input_audio"]["format"] == "wav"
    heard = audio.read(base64.b64decode(part["input_audio"]["data"]))
    assert heard.sample_rate == 22_050
    np.testing.assert_allclose(heard.samples, said.samples, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "prompt", "channel"),
    [
        ("judge", judge_prompts.HOLISTIC, "both"),
        ("judge_semantic", judge_prompts.SEMANTIC, "text"),
        ("judge_acoustic", judge_prompts.ACOUSTIC, "speech"),
    ],
)
def test_each_judge_has_its_own_instruction_and_channel(name, prompt, channel):
    with judge_server(always(Answer())) as server:
        built = judge(server.url, name)
        built.score([answer(waveform=buzz())])
    assert server.requests[0]["messages"][0]["content"] == prompt
    assert (built.name, built.channel, built.needs_audio) == (name, channel, True)


def test_the_users_recording_is_sent_when_asked_for_and_where_there_is_nothing_else():
    recorded = Dialogue((Turn("user", speech=buzz(200)),))
    with_words = Example("a", recorded, question_text="what is seven plus five")
    without = Example("b", recorded)

    def recordings(of, **settings):
        with judge_server(always(Answer())) as server:
            judge(server.url, **settings).score([answer(waveform=buzz(), of=of)])
        return [part["type"] for part in server.requests[0]["messages"][1]["content"]].count("input_audio")

    assert recordings(with_words) == 1
    assert recordings(with_words, hear_question=True) == 2
    assert recordings(without) == 2


def test_the_turns_before_are_told_in_words():
    turns = (Turn("user", text="capital of france"), Turn("assistant", text="paris", codes=(1,)))
    last = Turn("user", text="and spain", codes=(1, 2))
    with judge_server(always(Answer())) as server:
        judge(server.url).score([answer(waveform=buzz(), of=Example("a", Dialogue((*turns, last))))])
    asked = server.requests[0]["messages"][1]["content"][0]["text"]
    assert "user: capital of france\nassistant: paris\n" in asked
    assert "<request>\nand spain\n</request>" in asked


def test_a_question_that_is_nowhere_in_words_is_an_error():
    with judge_server(always(Answer())) as server, pytest.raises(RewardError, match="example z has neither"):
        judge(server.url).score([answer(waveform=buzz(), of=example("z", question=None))])
    assert not server.requests


def test_silence_is_1_and_nobody_is_asked():
    with judge_server(always(Answer())) as server:
        assert judge(server.url).score([answer(waveform=None), answer(waveform=Waveform(np.zeros(0), 8000))]) == [1, 1]
    assert not server.requests


def test_replies_are_judged_side_by_side_and_never_more_than_allowed():
    together = threading.Barrier(4, timeout=60)

    def once_four_are_there(number, body):
        together.wait()
        return Answer()

    with judge_server(once_four_are_there) as server:
        assert judge(server.url, concurrency=4).score(distinct(12)) == [4.0] * 12
    assert server.peak == 4


def test_scores_come_back_in_the_order_of_the_replies():
    def by_length(number, body):
        data = body["messages"][1]["content"][-1]["input_audio"]["data"]
        seconds = audio.read(base64.b64decode(data)).seconds
        return Answer(words=f"<score>{round(seconds * 10)}</score>", delay=0.3 - seconds / 2)

    replies = [answer(waveform=buzz(seconds=place / 10)) for place in (3, 1, 5, 2, 4)]
    with judge_server(by_length) as server:
        assert judge(server.url).score(replies) == [3, 1, 5, 2, 4]


# Scores


@pytest.mark.parametrize(
    ("words", "score"),
    [
        ("Fine. <score>4</score>", 4),
        ("<SCORE> 3.5 </SCORE>", 3.5),
        ("<score>4/5</score>", 4),
        ("The reply says <score>5</score> itself, but is wrong. <score>2</score>", 2),
        ("<score>0</score>", None),
        ("<score>6</score>", None),
        ("<score>-3</score>", None),
        ("<score>45</score>", None),
        ("<score>four</score>", None),
        ("I would give it a 4.", None),
        ("It is good and <score>", None),
        ("", None),
    ],
)
def test_only_a_marked_number_from_1_to_5_is_a_score(words, score):
    assert parse_score(words) == score


# Misbehaviour

GARBAGE = {
    "not JSON": Answer(body=b"<html>busy</html>"),
    "no choices": Answer(body=b'{"choices": []}'),
    "no content": Answer(body=b'{"choices": [{"message": {"content": null}}]}'),
    "an array": Answer(body=b"[1, 2, 3]"),
    "a body that is cut": Answer(cut=True),
    "no score": Answer(words="It was lovely."),
    "out of range": Answer(words="<score>9</score>"),
    "status 500": Answer(status=500),
    "status 503": Answer(status=503, body=b"overloaded"),
    "status 408": Answer(status=408),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_may_pass_is_asked_again(kind):
    with judge_server(in_turn(GARBAGE[kind], GARBAGE[kind], Answer(words="<score>5</score>"))) as server:
        assert judge(server.url).score([answer(waveform=buzz())]) == [5.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_does_not_pass_is_a_failure_and_not_a_number(kind, caplog):
    with judge_server(always(GARBAGE[kind])) as server:
        assert judge(server.url, attempts=2).score([answer(waveform=buzz())]) == [None]
    assert len(server.requests) == 2
    assert "judge failed for example a" in caplog.text


def test_no_answer_in_time_is_asked_again_and_then_a_failure():
    with judge_server(in_turn(Answer(delay=60), Answer(words="<score>2</score>"))) as server:
        assert judge(server.url, timeout_s=2).score([answer(waveform=buzz())]) == [2.0]
    with judge_server(always(Answer(delay=60))) as server:
        assert judge(server.url, timeout_s=0.3, attempts=2).score([answer(waveform=buzz())]) == [None]


def test_nobody_there_is_a_failure():
    with socket.socket() as deaf:  # taken, so that nobody else listens there meanwhile
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        assert judge(url).score([answer(waveform=buzz())]) == [None]


def test_one_failure_leaves_the_other_scores_alone():
    def fails_for_long(number, body):
        data = body["messages"][1]["content"][-1]["input_audio"]["data"]
        return Answer(status=500) if audio.read(base64.b64decode(data)).seconds > 1 else Answer()

    replies = [answer(waveform=buzz(seconds=seconds)) for seconds in (0.5, 1.2, 0.6)]
    with judge_server(fails_for_long) as server:
        assert judge(server.url).score(replies) == [4.0, None, 4.0]


def test_a_refusal_of_one_request_is_not_asked_again():
    with judge_server(always(Answer(status=413))) as server:
        assert judge(server.url).score([answer(waveform=buzz())]) == [None]
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_what_no_request_gets_past_stops_with_one_sentence(status):
    # Whoever asks learns of the first one while the second is still being made.
    refusals = in_turn(Answer(status=status), Answer(status=status, delay=0.3))
    with judge_server(refusals) as server, pytest.raises(RewardError, match=f"status {status}"):
        judge(server.url, concurrency=1).score(distinct(6))
    assert len(server.requests) < 6


# Waiting


def test_waits_double_with_jitter_up_to_the_longest():
    client = judge("http://127.0.0.1:9/v1", backoff_s=2, longest_wait_s=10, attempts=9).client
    for attempt, most in enumerate((2, 4, 8, 10, 10)):
        waits = [client.wait(attempt) for _ in range(200)]
        assert most / 2 <= min(waits) <= max(waits) <= most
        assert len(set(waits)) > 100 or most == 10
    assert client.wait(0, asked=7) == 7
    assert client.wait(0, asked=3600) == 10


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_says_when_to_come_back_is_obeyed(as_date):
    def busy_at_first(number, body):
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=21)) if as_date else "20"
        return Answer() if number else Answer(status=429, headers=(("Retry-After", value),))

    with judge_server(busy_at_first) as server:
        built = judge(server.url)
        assert built.score([answer(waveform=buzz())]) == [4.0]
    (waited,) = built.waits
    assert waited == pytest.approx(20, abs=3)


def test_nobody_waits_after_the_last_attempt():
    with judge_server(always(Answer(status=500))) as server:
        built = judge(server.url, attempts=3)
        built.score([answer(waveform=buzz())])
    assert len(built.waits) == 2


def test_a_stopped_run_waits_for_no_judge():
    def stops(number, body):
        built.stop.set()
        return Answer(status=500)

    with judge_server(stops) as server:
        built = judge(server.url, concurrency=1, attempts=9)
        assert built.score(distinct(5)) == [None] * 5
    assert len(server.requests) == 1


def test_a_wait_ends_when_the_run_is_stopped():
    stop = threading.Event()
    config = JudgeConfig(url="http://127.0.0.1:9/v1", model="m", backoff_s=60, attempts=3)
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    assert JudgeClient(config, stop).ask("rate", "this", []).score is None
    assert time.monotonic() - started < 20


# The cache


def test_what_was_judged_is_not_asked_again_not_even_by_the_next_run(tmp_path):
    with judge_server(always(Answer())) as server:
        for _ in range(2):
            assert judge(server.url, cache=tmp_path).score(distinct(3)) == [4.0] * 3
        assert len(server.requests) == 3
        judge(server.url, "judge_semantic", cache=tmp_path).score(distinct(3))
        judge(server.url, cache=tmp_path).score([answer(waveform=buzz(100), of=example(question="and six"))])
        judge(server.url, cache=tmp_path).score([answer(waveform=buzz(100, rate=8_000))])
    assert len(server.requests) == 3 + 3 + 1 + 1


def test_equal_replies_are_asked_about_once():
    with judge_server(always(Answer())) as server:
        assert judge(server.url).score([answer(waveform=buzz()) for _ in range(5)]) == [4.0] * 5
    assert len(server.requests) == 1


def test_a_failure_is_not_remembered(tmp_path):
    with judge_server(in_turn(Answer(words="no score"), Answer())) as server:
        built = judge(server.url, cache=tmp_path, attempts=1)
        assert built.score([answer(waveform=buzz())]) == [None]
        assert built.score([answer(waveform=buzz())]) == [4.0]


def test_a_damaged_file_of_the_cache_is_asked_again(tmp_path):
    cache = JudgementCache(tmp_path)
    key = cache.key("a", b"b")
    cache.put(key, 4.0, words="fine")
    assert cache.get(key) == 4.0
    (file,) = tmp_path.rglob("*.json")
    for damaged in ('{"score": 4', "[]", '{"score": 11}', '{"score": null}'):
        file.write_text(damaged)
        assert cache.get(key) is None


def test_a_key_tells_parts_apart_by_their_borders():
    assert JudgementCache.key("ab", "c") != JudgementCache.key("a", "bc")


# The key


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-very-secret")
    echo = Answer(status=500, body=b"bad key sk-very-secret")
    with judge_server(in_turn(echo, Answer(words="no score"), Answer(status=401, body=b"sk-very-secret"))) as server:
        built = judge(server.url, cache=tmp_path, api_key_env="MY_JUDGE_KEY", attempts=2)
        assert built.score([answer(waveform=buzz())]) == [None]
        with pytest.raises(RewardError) as refused:
            built.score([answer(waveform=buzz())])
    assert server.keys == ["Bearer sk-very-secret"] * 3
    assert "MY_JUDGE_KEY" in str(refused.value)
    assert "secret" not in str(refused.value) + caplog.text + repr(built.client.config)
    assert not list(tmp_path.rglob("*.json"))


def test_a_key_that_cannot_be_one_is_not_shown_either(monkeypatch):
    monkeypatch.setenv("WAVALIGN_JUDGE_API_KEY", "sk-secret\nsk-other")
    with pytest.raises(RewardError, match="WAVALIGN_JUDGE_API_KEY") as refused:
        judge("http://127.0.0.1:9/v1")
    assert "secret" not in str(refused.value)


def test_without_a_key_none_is_sent(monkeypatch):
    monkeypatch.delenv("WAVALIGN_JUDGE_API_KEY", raising=False)
    with judge_server(always(Answer())) as server:
        judge(server.url).score([answer(waveform=buzz())])
    assert server.keys == [None]


def test_a_judge_must_be_configured():
    with pytest.raises(ValidationError, match=r"rewards\.judge is missing"):
        RewardConfig(weights={"judge": 1})
    with pytest.raises(ValidationError, match="http"):
        JudgeConfig(url="host/v1", model="m")
    with pytest.raises(ValidationError, match="api_key"):
        JudgeConfig(url="http://host/v1", model="m", api_key="sk-1")
