"""The exported dataset: what is in it, what is not, and that the tools it is made for take it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml

from app.export import ExportError, export, main
from app.export_card import card
from app.export_rows import VIEWS, SameWords, Selection, selected
from app.export_shards import ShardError, entries, rebuild, write_shard
from app.store import open_store, queries
from tests.app.arena import Arena, make_arena, spoken, typed
from wavalign import audio


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    """Seven votes: left, right in two turns, tie, both bad, research only, not to be used, retracted."""
    arena = make_arena(open_store(tmp_path_factory.mktemp("home")))
    arena.join("b-1", "publish")
    arena.join("b-2", "research")
    arena.join("b-3", "nothing")
    arena.revealed(3, asked=spoken(), helpfulness=1, naturalness=-1, reason="right answer, flat voice")
    battle = arena.heard(asked=typed("what is one plus one"))
    arena.voting.ask(battle, "b-1", typed("and plus two"))
    arena.listen(battle)
    arena.voting.vote(battle, "b-1", -1)
    arena.revealed(0)
    arena.revealed("both_bad")
    arena.revealed(2, "b-2")
    arena.revealed(2, "b-3")
    arena.voting.retract(arena.revealed(1).receipt, "b-1")
    return arena


@pytest.fixture(scope="module")
def exported(voted: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "votes"
    counts = export(voted.voting.store, folder, Selection(), name="test votes")
    assert counts == {"battles": 6, "preference": 3, "unpaired": 8, "preference_text": 3, "unpaired_text": 8}
    return folder


def table(folder: Path, view: str) -> list[dict]:
    (path,) = (folder / view).glob("*.parquet")
    return pq.read_table(path).to_pylist()


def test_preferences_say_what_was_chosen_and_by_how_much(voted: Arena, exported: Path) -> None:
    first, second, third = table(exported, "preference")
    vote = {vote.vote: vote for vote in queries.votes(voted.voting.store)}[first["vote"]]
    assert first["chosen_checkpoint"] == vote.left
    assert (first["margin"], first["helpfulness_margin"], first["naturalness_margin"]) == (3.0, 1.0, -1.0)
    assert first["prompt"] == [{"role": "user", "content": "what is two plus two"}]
    assert first["chosen"] == [{"role": "assistant", "content": f"four says {vote.left}"}]
    assert {len(audio.read(first[f"{name}_audio"]["bytes"]).samples) for name in ("chosen", "rejected")} != {0}
    assert first["prompt_audio"]["path"].endswith(".wav")
    assert second["chosen_side"] == "right"
    assert [each["role"] for each in second["chosen"]] == ["assistant", "user", "assistant"]
    assert second["prompt_audio"] is None
    assert second["margin"] == 1.0
    assert audio.read(second["chosen_audio"]["bytes"]).seconds > 2 * audio.read(first["chosen_audio"]["bytes"]).seconds
    assert third["consent"] == "research"


def test_both_bad_gives_two_negatives(exported: Path) -> None:
    rows = table(exported, "unpaired")
    bad = [row["label"] for row in rows if row["outcome"] == "both_bad"]
    assert bad == [False, False]
    assert sum(row["label"] for row in rows) == 3
    assert {row["outcome"] for row in rows} == {"left", "right", "both_bad"}


def test_battles_hold_everything_that_may_be_used(exported: Path) -> None:
    rows = table(exported, "battles")
    assert [row["excluded"] for row in rows] == [None] * 5 + ["retracted"]
    assert {row["rater"] for row in rows} == {"b-1", "b-2"}
    first = rows[0]
    assert first["asked_at"] <= first["released_at"] <= first["delivered_at"] < first["voted_at"]
    assert first["left_heard_seconds"] > 1
    assert first["reason"] == "right answer, flat voice"


def test_card_counts_and_says_how_sides_were_drawn(exported: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "other"
    assert [each["config_name"] for each in front["configs"]] == list(VIEWS)
    for claim in (
        "| All | 6 |",
        "| consent: publish | 5 |",
        "fair coin",
        "do not redistribute",
        "in `battles` only: retracted",
    ):
        assert claim in text


def test_card_of_simulated_votes_says_so() -> None:
    text = card("votes", Selection(source="simulated"), [], {"battles": 0})
    assert yaml.safe_load(text.split("---")[1])["pretty_name"] == "votes (simulated raters)"
    assert "human-feedback" not in text
    assert "Nobody listened." in text
    assert "had been heard, by" not in text
    assert "had been heard, by" in card("votes", Selection(), [], {"battles": 0})


def test_card_counts_the_preferences_that_words_do_not_tell_apart(exported: Path) -> None:
    yes, no = ([{"role": "assistant", "content": words}] for words in ("yes", "no"))
    told = SameWords([{"chosen": yes, "rejected": no}, {"chosen": yes, "rejected": list(yes)}, {"completion": yes}])
    assert len(list(told)) == 3
    assert told.count == 1
    text = card("votes", Selection(), [], {"preference_text": 2}, same_words=told.count)
    assert "chosen and rejected have the same words in 1 of them" in text
    assert "the same words in 0 of them" in (exported / "README.md").read_text(encoding="utf-8")


def test_only_what_may_be_published(voted: Arena, tmp_path: Path) -> None:
    export(voted.voting.store, tmp_path / "public", Selection(least_consent="publish"))
    assert {row["rater"] for row in table(tmp_path / "public", "battles")} == {"b-1"}
    assert "cc-by-4.0" in (tmp_path / "public" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="never exported"):
        Selection(least_consent="nothing")


def test_filters(voted: Arena) -> None:
    store = voted.voting.store
    everything = selected(store, Selection())
    assert len(selected(store, Selection(since=everything[2].at, until=everything[4].at))) == 2
    assert selected(store, Selection(pair=frozenset(("base", "other")))) == []
    assert len(selected(store, Selection(pair=frozenset(("tuned", "base"))))) == 6
    assert selected(store, Selection(source="simulated")) == []
    assert len(selected(store, Selection(least_reliability=0.8))) == 6
    assert selected(store, Selection(least_reliability=0.81)) == []


def test_export_is_whole_or_absent(voted: Arena, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not empty"):
        export(voted.voting.store, exported, Selection())
    with pytest.raises(ExportError, match="no vote"):
        export(voted.voting.store, tmp_path / "none", Selection(source="simulated"))
    assert list(tmp_path.iterdir()) == []


def test_datasets_loads_every_view(exported: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for view in VIEWS:
        (path,) = (exported / view).glob("*.parquet")
        loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(exported.parent))
        sounds = [name for name in loaded.column_names if name.endswith("_audio")]
        assert all(isinstance(loaded.features[name], datasets.Audio) for name in sounds)
        for name in sounds:
            loaded = loaded.cast_column(name, datasets.Audio(decode=False))
        first = loaded[0]
        assert first["prompt"][0]["role"] == "user"
        assert all(first[name]["bytes"][:4] == b"RIFF" for name in sounds)


def test_database_made_again_from_shards(voted: Arena, tmp_path: Path, database: str | None) -> None:
    store = voted.voting.store
    with store.reading() as session:
        held = list(entries(session, "everything", time.time()))
    half = len(held) // 2
    shards = [write_shard(store, tmp_path / "shards", part) for part in (held[:half], held[half:])]
    again = open_store(tmp_path / "again", database)
    made = rebuild(again, shards)
    assert made.rows == sum(1 for entry in held if entry.row is not None)
    assert rebuild(again, reversed(shards)).rows == 0
    usable = [vote for vote in queries.votes(store, counted_only=False) if vote.consent != "nothing"]
    assert queries.votes(again, counted_only=False) == usable
    with again.reading() as session:
        assert list(entries(session, "everything", time.time())) == held, "a copy of the copy is the same"
    assert set(again.audio.names()) == {entry.key[1] for entry in held if entry.row is None}
    again.close()


def test_tombstone_blanks_what_an_older_shard_still_holds(tmp_path: Path) -> None:
    arena = make_arena(open_store(tmp_path / "home"))
    arena.join()
    arena.revealed(asked=spoken(), reason="my words")
    store = arena.voting.store
    with store.reading() as session:
        before = write_shard(store, tmp_path, entries(session, "publish", time.time()))
    arena.voting.erase("b-1")
    with store.reading() as session:
        after = write_shard(store, tmp_path, entries(session, "publish", time.time()))
    for order, shards in enumerate(([before, after], [after, before])):
        again = open_store(tmp_path / f"again-{order}")
        made = rebuild(again, shards)
        assert (made.erased, made.recordings) == (1, 0)
        assert list(again.audio.names()) == []
        assert queries.votes(again, counted_only=False)[0].excluded == "erased"
        assert queries.votes(again, counted_only=False)[0].reason is None


def test_shards_that_do_not_make_a_whole(voted: Arena, tmp_path: Path) -> None:
    store = voted.voting.store
    with store.reading() as session:
        held = list(entries(session, "everything", time.time()))
    torn = write_shard(store, tmp_path, [entry for entry in held if entry.row is not None])
    again = open_store(tmp_path / "again")
    with pytest.raises(ShardError, match="recordings are in none"):
        rebuild(again, [torn])
    (tmp_path / "log-x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ShardError, match="is not a shard"):
        rebuild(again, [tmp_path / "log-x.parquet"])
    assert queries.votes(again, counted_only=False) == []


def test_command_writes_and_tells_what_it_cannot(
    voted: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAVALIGN_HOME", str(voted.voting.store.audio.folder.parent.parent))
    monkeypatch.delenv("WAVALIGN_DATABASE", raising=False)
    assert main(["write", str(tmp_path / "out"), "--view", "preference_text"]) == 0
    assert "preference_text" in capsys.readouterr().out
    assert main(["write", str(tmp_path / "out")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main(["rebuild", str(tmp_path / "out")]) == 1
    assert "no shards" in capsys.readouterr().err


def test_command_leaves_out_what_can_still_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = make_arena(open_store(tmp_path / "home"))
    arena.join("b-1", "publish")
    arena.revealed(1)
    arena.clock.forward(1)
    arena.voted(2)
    monkeypatch.setenv("WAVALIGN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WAVALIGN_DATABASE", raising=False)
    monkeypatch.setattr("app.export.time", SimpleNamespace(time=arena.clock))
    assert main(["write", str(tmp_path / "early"), "--view", "battles"]) == 0
    assert [row["strength"] for row in table(tmp_path / "early", "battles")] == [1]
    arena.clock.forward(9.1)
    assert main(["write", str(tmp_path / "late"), "--view", "battles", "--until", "2100-01-01"]) == 0
    assert len(table(tmp_path / "late", "battles")) == 2
    arena.voting.store.close()


@pytest.mark.slow
def test_trl_trains_two_steps_on_the_text_views(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    done = subprocess.run(
        [sys.executable, "-m", "tests.app.trl_steps", str(exported), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"RewardTrainer 2", "DPOTrainer 2"} <= set(done.stdout.splitlines())
