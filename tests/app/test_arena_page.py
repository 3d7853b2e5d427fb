"""The Arena page without a browser: what its script may ask, and what the composer's handlers tell."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.asks import Asks
from app.examples import Example
from app.intake import NOTHING_GIVEN
from app.line import Line
from app.pages.arena_desk import ACTS, STRANGER, Desk
from app.pages.arena_handlers import NO_WORDS, OUTSIDE, UNASKED, Composer, Handlers, Ticket
from app.raters import Raters
from app.services import Stops
from app.settings import Settings
from app.store import open_store
from app.under_way import UnderWay
from tests.app.arena import Arena, hum, make_arena
from wavalign.models.protocol import CheckpointError

ODD = (None, -7, 2.5, math.nan, True, "", "../../etc/passwd", "x" * 10_000, "\x00\ud800", [], {}, [["left"]], {"a": {}})


class Senses:
    """Knows sums; understands everything as it is typed."""

    def wording(self, text: str) -> str:
        return "" if text == "🙂" else text.lower()

    def knows(self, text: str, history: list[str]) -> bool:
        return "plus" in text


@pytest.fixture
def here(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The services that the page needs, an arena with a clock moved by hand behind them."""
    store = open_store(tmp_path)
    arena = make_arena(store)
    services = SimpleNamespace(
        voting=arena.voting,
        raters=Raters(b"0123456789abcdef"),
        senses=Senses(),
        stops=Stops(),
        settings=Settings(tmp_path, tmp_path),
        under_way=UnderWay(),
        line=Line(at_once=2, waiting=4),
    )
    yield SimpleNamespace(arena=arena, services=services, desk=Desk(services, clock=lambda: -math.inf), store=store)
    store.close()


def joined(here: SimpleNamespace, level: str = "publish") -> str:
    token = here.desk.answer({"do": "hello"})["token"]
    here.desk.answer({"do": "consent", "token": token, "level": level})
    return token


def asked(
    here: SimpleNamespace, token: str, text: str = "one plus two", battle: str | None = None, ask: str | None = None
) -> dict[str, Any]:
    """What the page is told at the end of asking."""
    composer = Composer("stage", "recording", "text")
    examples = (Example("one plus one"),)
    handlers = Handlers(here.services, here.desk, composer, examples)
    ticket = json.dumps({"token": token, "battle": battle, "ask": ask})
    *_, last = handlers.send_text(request(), None, ticket, text)
    return last["stage"]


def request(**headers: str) -> SimpleNamespace:
    return SimpleNamespace(session_hash="s1", headers=headers, client=SimpleNamespace(host="10.0.0.7"))


def heard(here: SimpleNamespace, token: str) -> str:
    """A battle of this browser that is open for the vote."""
    battle = asked(here, token)["battle"]
    arena: Arena = here.arena
    arena.listen(battle, here.services.raters.rater_of(token))
    return battle


def test_a_new_browser_gets_an_id_and_an_old_one_keeps_its_own(here):
    first = here.desk.answer({"do": "hello"})
    assert first["consent"] is None
    assert first["votes"] == 0
    again = here.desk.answer({"do": "hello", "token": first["token"]})
    assert "token" not in again
    forged = first["token"][:-1] + ("0" if first["token"][-1] != "0" else "1")
    assert here.desk.answer({"do": "hello", "token": forged})["token"] != forged


def test_consent_says_where_it_goes(here):
    assert "Hugging Face" not in here.desk.answer({"do": "hello"})["where"]
    here.services.settings = replace(here.services.settings, push_votes="someone/votes", push_backup="someone/copy")
    where = here.desk.answer({"do": "hello"})["where"]
    assert "open dataset someone/votes" in where
    assert "private copy" in where


def test_consent_says_what_is_kept_of_whoever_signed_in(here):
    assert "random number" in here.desk.answer({"do": "hello"})["about"]
    about = here.desk.answer({"do": "hello"}, account="ada")["about"]
    assert "account" in about
    assert "ada" not in about


def test_a_signed_in_account_is_the_same_rater_everywhere(here):
    here.desk.answer({"do": "consent", "level": "publish"}, account="ada")
    assert here.desk.answer({"do": "hello"}, account="ada")["consent"] == "publish"
    assert "ada" not in repr(here.services.raters.account("ada"))


def test_the_whole_way_and_no_name_before_the_reveal(here):
    token = joined(here)
    battle = heard(here, token)
    fetched = here.desk.answer({"do": "fetch", "token": token, "battle": battle, "after": 0})
    assert fetched["progress"]["may_vote"]
    assert fetched["today"] == 1
    assert set(fetched["turns"][0]["audio"]) == {"left", "right"}
    voted = here.desk.answer({"do": "vote", "token": token, "battle": battle, "choice": 2})
    assert voted["votes"] == 1
    assert here.desk.answer({"do": "reveal", "token": token, "battle": battle})["error"]["code"] == "too_early"
    mine = here.desk.answer({"do": "mine", "token": token})["mine"]
    assert (mine[0]["left"], mine[0]["right"]) == ("", "")
    undone = here.desk.answer({"do": "undo", "token": token, "battle": battle})
    assert undone["votes"] == 0
    here.desk.answer({"do": "vote", "token": token, "battle": battle, "choice": -3})
    assert here.desk.answer({"do": "detail", "token": token, "battle": battle, "naturalness": -1})["saved"]
    reloaded = here.desk.answer({"do": "fetch", "token": token, "battle": battle})["receipt"]
    assert (reloaded["choice"], reloaded["naturalness"]) == (-3, -1)
    here.arena.clock.forward(8.1)
    reveal = here.desk.answer({"do": "reveal", "token": token, "battle": battle})["reveal"]
    assert {reveal["left"]["checkpoint"], reveal["right"]["checkpoint"]} == {"base", "tuned"}
    assert (reveal["winner"], reveal["choice"], reveal["counted"]) == ("right", -3, "It counts.")
    assert dict(row[:2] for row in reveal["left"]["figures"])["Rate"] == "4.0 syl/s"
    assert here.desk.answer({"do": "hello", "token": token})["current"] is None


def test_what_is_delivered_before_the_vote_names_nobody(here):
    token = joined(here)
    battle = asked(here, token)["battle"]
    for said in here.arena.speakers.names:
        # The fakes say their own names aloud; the words of a reply are what is compared, and are left out here.
        seen = here.desk.answer({"do": "fetch", "token": token, "battle": battle})
        for turn in seen["turns"]:
            del turn["text"]
        assert said not in repr(seen)


def test_an_account_that_erased_everything_is_asked_again(here):
    here.desk.answer({"do": "consent", "level": "publish"}, account="ada")
    erased = here.desk.answer({"do": "erase"}, account="ada")
    assert "token" not in erased
    assert erased["consent"] is None
    assert "new id" not in erased["words"]
    assert here.desk.answer({"do": "hello"}, account="ada")["consent"] is None


def test_a_vote_can_be_taken_back_and_everything_erased(here):
    token = joined(here)
    battle = heard(here, token)
    here.desk.answer({"do": "vote", "token": token, "battle": battle, "choice": "both_bad"})
    here.arena.clock.forward(9)
    [vote] = here.desk.answer({"do": "mine", "token": token})["mine"]
    assert vote["choice"] == "both_bad"
    back = here.desk.answer({"do": "retract", "token": token, "receipt": vote["receipt"]})
    assert (back["votes"], back["retracted"]["may_retract"]) == (0, False)
    erased = here.desk.answer({"do": "erase", "token": token})
    assert erased["words"].startswith("Erased: 1 battle and ")
    assert erased["consent"] is None
    assert erased["token"] != token
    assert here.desk.answer({"do": "mine", "token": erased["token"]})["mine"] == []


def test_nobody_reaches_into_anothers_battle(here):
    owner, other = joined(here), joined(here)
    battle = heard(here, owner)
    for what in ("fetch", "progress", "report", "vote", "detail", "undo", "reveal"):
        answer = here.desk.answer({"do": what, "token": other, "battle": battle, "choice": 3, "reports": []})
        assert answer["error"]["code"] == "unknown", what
    assert here.desk.answer({"do": "progress", "token": owner, "battle": battle})["progress"]["may_vote"]
    assert asked(here, other, battle=battle)["code"] == "unknown"


@pytest.mark.parametrize("what", [*ACTS, "hello", "answer", "__class__", None, ["vote"]])
def test_odd_messages_get_a_sentence_and_change_nothing(here, what):
    token = joined(here)
    battle = heard(here, token)
    names = ("choice", "level", "reason", "receipt", "after", "helpfulness")
    for odd in ODD:
        messages = [odd, {"do": what, "token": odd}, {"do": what, "token": token, "battle": odd, "reports": odd}]
        fields = dict.fromkeys(names, odd)
        messages.append({"do": what, "token": token, "battle": battle, "reports": [odd], **fields})
        for message in messages:
            if what == "erase" and isinstance(message, dict) and message.get("token") == token:
                continue  # that one is meant
            answer = here.desk.answer(message)
            assert isinstance(answer, dict)
            assert answer.get("error", {}).get("code") != "fault", (message, answer)
    assert here.arena.voting.counts()["votes"] == 0
    assert here.desk.answer({"do": "progress", "token": token, "battle": battle})["progress"]["may_vote"]


def test_refused_without_consent_and_told_why(here):
    token = here.desk.answer({"do": "hello"})["token"]
    told = asked(here, token)
    assert told["code"] == "consent"
    assert told["error"].endswith(".")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", NOTHING_GIVEN), ("🙂", NO_WORDS), ("who are you", OUTSIDE)],
    ids=["nothing", "no words", "outside the world"],
)
def test_a_question_that_cannot_be_asked_opens_no_battle(here, text, sentence):
    assert asked(here, joined(here), text)["error"] == sentence
    assert here.arena.voting.counts()["battles"] == 0


def test_a_second_turn_stays_in_the_battle(here):
    token = joined(here)
    battle = heard(here, token)
    assert asked(here, token, "and seven plus two", battle)["battle"] == battle
    fetched = here.desk.answer({"do": "fetch", "token": token, "battle": battle, "after": 1})
    assert [turn["turn"] for turn in fetched["turns"]] == [1]
    assert not fetched["progress"]["may_vote"]


def test_a_side_that_fails_is_told_kindly_and_names_nobody(here):
    here.arena.speakers.broken["tuned"] = CheckpointError("tuned is broken")
    told = asked(here, joined(here))
    assert told["code"] == "void"
    assert "tuned" not in told["error"]
    assert here.arena.voting.failures()


def test_a_question_is_stopped_while_it_is_answered(here, monkeypatch):
    token, speakers = joined(here), here.arena.speakers
    reply = speakers.reply

    def interrupted(names, dialogues, settings, stop):
        assert here.desk.answer({"do": "stop", "token": token, "ask": "0123456789abcdef"}) == {"stopping": True}
        assert stop.is_set()
        return reply(names, dialogues, settings, stop)

    monkeypatch.setattr(speakers, "reply", interrupted)
    told = asked(here, token, ask="0123456789abcdef")
    assert (told["code"], told["error"]) == ("void", "Stopped: this battle does not count.")
    assert here.desk.answer({"do": "hello", "token": token})["current"] is None
    monkeypatch.undo()
    assert asked(here, token, ask="0123456789abcdef")["battle"]


def test_a_question_stopped_before_its_turn_came_is_never_asked(here):
    token, other = joined(here), joined(here)
    here.desk.answer({"do": "stop", "token": token, "ask": "0123456789abcdef"})
    here.desk.answer({"do": "stop", "token": other, "ask": "abcd1234"})
    told = asked(here, token, ask="0123456789abcdef")
    assert (told["code"], told["error"]) == ("stopped", UNASKED)
    assert here.arena.voting.counts()["battles"] == 0
    assert asked(here, token, ask="abcd1234")["battle"], "nobody stops another's"


def test_stops_of_questions_that_never_came_are_forgotten():
    asks = Asks()
    running = asks.begin("b-1", "running")
    for number in range(3000):
        asks.stop("b-1", str(number))
    assert not running.is_set()
    assert asks.begin("b-1", "running") is running
    assert not asks.begin("b-1", "0").is_set()
    assert asks.begin("b-1", "2999").is_set()


def test_a_recording_is_asked_and_rubbish_is_not(here, tmp_path):
    token = joined(here)
    handlers = Handlers(here.services, here.desk, Composer("stage", "recording", "text"), ())
    spoken, rubbish = tmp_path / "voice.wav", tmp_path / "notes.wav"
    spoken.write_bytes(hum(0.8).to_wav_bytes())
    rubbish.write_bytes(b"this is not audio\n" * 40)
    ticket = json.dumps({"token": token})
    *_, last = handlers.recorded(request(), None, ticket, str(spoken))
    assert last["stage"]["battle"]
    *_, last = handlers.recorded(request(), None, ticket, str(rubbish))
    assert "not audio we can read" in last["stage"]["error"]


def test_a_fault_of_ours_is_logged_and_told_in_general_words(here, monkeypatch, capsys):
    monkeypatch.setattr(here.arena.voting, "open", lambda *_, **__: 1 / 0)
    told = asked(here, joined(here))
    assert told["error"] == "Something went wrong here, and was logged. Try again."
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "no json", "[]", "1", '{"token": 3, "battle": ["x"]}', "{" * 2000])
def test_a_ticket_that_is_none_names_nobody(text):
    assert Ticket.of(text) == Ticket()


def test_a_stranger_is_told_to_reload(here):
    told = asked(here, "r1.forged")
    assert (told["error"], told["code"]) == (STRANGER, "rater")


def test_the_sound_check_is_audible_without_examples(here):
    answer = here.desk.answer({"do": "sound", "token": joined(here)})
    assert len(answer["audio"]) > 10_000
