"""What the page is told: nothing too much, nothing twice, in words with units."""

from __future__ import annotations

import base64
import json

import numpy as np

from app import view
from app.answering import Live, LiveSide
from app.conversation import Answer, Asked, Conversation, Exchange, Figures
from wavalign.audio import Waveform
from wavalign.dialogue import Reply, Turn


def wave(*values: float) -> Waveform:
    return Waveform(np.array(values), 16_000)


def finished(text: str = "hot", **how) -> Conversation:
    answer = Answer("x", Reply(text, wave(0.1, 0.2), (1,)), **how)
    return Conversation(("x",)).plus(Exchange(Asked(Turn("user", text="hello")), (answer,)))


def test_every_update_adds_one_piece_with_what_is_new():
    outgoing = view.Outgoing()
    outgoing.pieces(0, (wave(0.0, 0.5),))
    pieces = outgoing.pieces(0, (wave(0.0, 0.5), wave(1.0), wave(-1.0)))
    decoded = [np.frombuffer(base64.b64decode(piece), "<i2").tolist() for piece in pieces]
    assert decoded == [[0, 16383], [32767, -32767]]
    assert outgoing.pieces(0, (wave(0.0, 0.5), wave(1.0), wave(-1.0))) == pieces


def test_a_live_exchange_comes_after_the_finished_ones_and_carries_its_sound():
    live = Live(Asked(Turn("user", text="next")), (LiveSide("so far", (wave(0.1),), 0.2, 0.3),))
    told = view.stage("key", finished(), live)
    assert [each["live"] for each in told["exchanges"]] == [False, True]
    answer = told["exchanges"][1]["answers"]["a"]
    assert (answer["state"], answer["text"], len(answer["chunks"]), answer["rate"]) == ("live", "So far", 1, 16_000)
    assert told["state"] == "live"


def test_everything_is_json_and_no_tokens_leave():
    told = json.dumps(view.stage("key", finished(), error="One sentence."))
    assert "tokens" not in told
    assert json.loads(told)["error"] == "One sentence."


def test_figures_have_units_and_what_is_not_measured_is_left_out():
    rows = view.figure_rows(Figures(first_audio_seconds=0.214, word_error_rate=0.25, energy_db=-20.4))
    assert [(name, value) for name, value, _ in rows] == [
        ("First audio", "0.21 s"),
        ("Level", "-20 dBFS"),
        ("WER", "25 %"),
    ]


def test_words_are_written_as_a_person_would_and_own_capitals_stay():
    assert view.written("the capital of france is paris", ".") == "The capital of France is Paris."
    assert view.written("Hello there!", ".") == "Hello there!"


def test_a_reply_that_ended_early_says_why():
    assert finished_remark(stopped=True) == view.STOPPED
    assert finished_remark() is None
    cut = Answer("x", Reply("hot", wave(0.1), (1,), finished=False))
    told = view.stage("k", Conversation(("x",)).plus(Exchange(Asked(Turn("user", text="hello")), (cut,))))
    assert told["exchanges"][0]["answers"]["a"]["remark"] == view.CUT


def finished_remark(**how) -> str | None:
    return view.stage("k", finished(**how))["exchanges"][0]["answers"]["a"]["remark"]


def test_what_was_heard_is_shown_as_heard():
    def words(live: bool, **how) -> str:
        asked = Asked(Turn("user", speech=wave(0.1)), **how)
        conversation = Conversation(("x",))
        if live:
            return view.stage("k", conversation, Live(asked))["exchanges"][0]["asked"]["words"]
        return view.stage("k", conversation.plus(Exchange(asked)))["exchanges"][0]["asked"]["words"]

    assert words(False, heard="what is one plus one") == "Heard: “What is one plus one”"
    assert words(False, heard="") == "Heard: no clear words"
    assert words(True) == "Listening …"
    assert words(False) == ""
