"""The votes as the Preferences page shows them: what is seen, by whom, and what leaves in an export."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest
import soundfile

from app.export_rows import Selection
from app.pages.preferences_desk import PreferencesDesk, selection_of
from app.preferences import PreferenceError, Preferences
from app.recordings import Recordings
from app.store import open_store
from tests.app.arena import Arena, make_arena, spoken, typed

OPEN = Selection("research")


def voted(folder: Path) -> Iterator[SimpleNamespace]:
    """Ada publishes (a spoken win of B, both bad, a tie), Ben allows research (a win of A), Eve allows nothing."""
    store = open_store(folder)
    arena: Arena = make_arena(store)
    for rater, level in (("b-ada", "publish"), ("b-ben", "research"), ("b-eve", "nothing")):
        arena.join(rater, level)
    arena.revealed(-2, "b-ada", spoken(), naturalness=-1, reason="A was flat.")
    arena.clock.forward(86_400)
    arena.revealed("both_bad", "b-ada", typed("what is one plus one"))
    arena.revealed(0, "b-ada")
    arena.revealed(3, "b-ben", typed("what is ten plus one"))
    arena.revealed(1, "b-eve")
    arena.clock.forward(10)
    recordings = Recordings(folder / "recordings", 2)
    desk = PreferencesDesk(SimpleNamespace(voting=arena.voting, recordings=recordings))
    desk.__dict__["preferences"] = Preferences(store, clock=arena.clock)
    yield SimpleNamespace(arena=arena, desk=desk, preferences=desk.preferences, store=store, exports=recordings.folder)
    store.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """For tests that only look."""
    yield from voted(tmp_path_factory.mktemp("preferences"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """For tests that change something."""
    yield from voted(tmp_path)


def test_counts_and_the_mix_of_consents(here):
    overview = here.preferences.overview(OPEN)
    assert (overview.votes, overview.raters, overview.counted) == (4, 2, 4)
    assert overview.consent == {"publish": 3, "research": 1}
    assert overview.rows == {"battles": 4, "preference": 2, "unpaired": 6}
    assert overview.pairs == (("base", "tuned", 4),)


def test_what_may_not_be_used_is_not_even_shown(here):
    assert {line.vote.rater for line in here.preferences.lines(OPEN, 0, 10)} == {"b-ada", "b-ben"}


def test_a_vote_that_can_still_be_undone_is_not_shown_and_not_exported(own, tmp_path):
    receipt = own.arena.voted(2, "b-ada")
    shown = [line.vote.vote for line in own.preferences.lines(OPEN, 0, 10)]
    assert receipt.receipt not in shown
    assert own.preferences.archive(OPEN, "battles", tmp_path / "all.zip") == 4
    own.arena.clock.forward(9.1)
    assert own.preferences.lines(OPEN, 0, 10)[0].vote.vote == receipt.receipt


def test_a_rater_whose_only_vote_was_taken_back_stands_as_one_of_whom_nothing_is_known(own):
    own.arena.voting.retract(own.arena.revealed(1, own.arena.join("b-fay", "research")).receipt, "b-fay")
    own.arena.clock.forward(10)
    line = own.preferences.lines(OPEN, 0, 10)[0]
    assert (line.vote.rater, line.vote.excluded, line.reliability) == ("b-fay", "retracted", 0.8)
    assert own.preferences.overview(Selection("research", least_reliability=0.8)).excluded == {"retracted": 1}
    assert own.preferences.overview(Selection("research", least_reliability=0.81)).votes == 0


def test_newest_first_page_by_page(here):
    words = [line.words for line in here.preferences.lines(OPEN, 0, 3)]
    assert words == ["what is ten plus one", "what is two plus two", "what is one plus one"]
    assert [line.vote.strength for line in here.preferences.lines(OPEN, 3, 3)] == [-2]


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ({"consent": "publish"}, 3),
        ({"pair": ["tuned", "base"]}, 4),
        ({"pair": ["base", "another"]}, 0),
        ({"until": "2023-11-14"}, 1),
        ({"since": "2023-11-15", "until": "2023-11-15"}, 3),
        ({"reliability": 0.81}, 0),
        ({"source": "simulated"}, 0),
        (None, 4),
    ],
)
def test_filters(here, chosen, left):
    assert here.preferences.overview(selection_of(chosen)).votes == left


@pytest.mark.parametrize(
    "chosen",
    [
        {"consent": "nothing"},
        {"source": "robots"},
        {"pair": "base"},
        {"pair": [1, 2]},
        {"since": "yesterday"},
        {"until": 5},
        {"reliability": float("nan")},
        {"reliability": "0.5"},
        {"reliability": 2},
    ],
)
def test_a_filter_that_is_none_is_one_sentence(here, chosen):
    answer = here.desk.answer({"do": "browse", "filter": chosen})
    assert answer["error"]["code"] == "preferences"
    assert answer["error"]["message"].endswith(".")


def test_both_replies_can_be_heard_as_the_rater_heard_them(here):
    [line] = here.preferences.lines(OPEN, 3, 1)
    answer = here.desk.answer({"do": "listen", "battle": line.vote.battle})
    [turn] = answer["turns"]
    lengths = set()
    for side in ("left", "right"):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(turn["audio"][side])))
        lengths.add((len(samples), rate))
    assert len(lengths) == 1
    assert base64.b64decode(turn["asked"])[:4] == b"RIFF"


@pytest.mark.parametrize("battle", [None, "", "../x", 7, ["a"], "0" * 32])
def test_a_battle_that_is_not_there_is_one_sentence(here, battle):
    assert here.desk.answer({"do": "listen", "battle": battle})["error"]["code"] == "preferences"


def test_what_was_erased_is_gone_from_here_too(own):
    [line] = own.preferences.lines(OPEN, 3, 1)
    own.arena.voting.erase("b-ada")
    assert own.preferences.overview(OPEN).votes == 1
    with pytest.raises(PreferenceError):
        own.preferences.listen(OPEN, line.vote.battle)


def test_preview_shows_one_row_without_its_audio(here):
    row = json.loads(
        here.desk.answer({"do": "preview", "shape": "preference", "filter": {"consent": "publish"}})["row"]
    )
    assert row["margin"] == 2.0
    assert row["chosen_side"] == "right"
    assert row["naturalness_margin"] == 1.0
    assert row["chosen_audio"].startswith("<wav, ")
    nothing = here.desk.answer({"do": "preview", "shape": "preference", "filter": {"source": "simulated"}})
    assert nothing == {"row": None}


def test_an_export_is_a_zip_of_parquet_and_a_card(here):
    made = here.desk.answer({"do": "export", "shape": "unpaired"})
    assert made["rows"] == 6
    with zipfile.ZipFile(made["path"]) as archive:
        files = [name for name in archive.namelist() if name.endswith(".parquet")]
        assert sorted(name.split("/")[0] for name in files) == ["unpaired", "unpaired_text"]
        assert "consent: publish" in archive.read("README.md").decode()
        table = pyarrow.parquet.read_table(io.BytesIO(archive.read(sorted(files)[0])))
    assert sum(table.column("label").to_pylist()) == 2


@pytest.mark.parametrize("message", [None, 3, [], {}, {"do": "erase"}, {"do": "export", "shape": "../../x"}])
def test_odd_messages_leave_nothing_half_written(here, message):
    before = list(here.exports.iterdir())
    assert here.desk.answer(message)["error"]["code"] == "preferences"
    assert list(here.exports.iterdir()) == before


def test_an_export_of_nothing_leaves_nothing(here):
    before = list(here.exports.iterdir())
    answer = here.desk.answer({"do": "export", "shape": "battles", "filter": {"source": "simulated"}})
    assert answer["error"]["message"] == "There is nothing to export with these filters."
    assert list(here.exports.iterdir()) == before
