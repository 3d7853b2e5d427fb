"""The pool of prompts: who is kept, and that a stopped measurement goes on instead of starting again."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import processes
from tests.tiny import make_tiny_checkpoint
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, write_dialogues
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer
from wavalign.rewards.registry import RewardContext
from wavalign.training import pool
from wavalign.training.data import read_pool
from wavalign.training.examples import Example, Examples
from wavalign.training.pool import Difficulty, Journal, PoolError, measure, write_pool
from wavalign.training.world import Alone

SETTINGS = {"samples": 4, "seed": 0}
RIGHT, WRONG = "seven plus five is twelve", "seven plus five is eleven"


def examples(count):
    question = Dialogue((Turn("user", text="what is seven plus five"),))
    return Examples([Example(f"p{n}", question, facts={"item": "add/seven/five"}) for n in range(count)])


def answering(right_of_four):
    """Four replies to each prompt, so many of them right."""

    def sample(first, batch):
        counts = [right_of_four[first + place] for place in range(len(batch))]
        return [
            [Answer(example, RIGHT if k < count else WRONG, None, True) for k in range(4)]
            for example, count in zip(batch, counts, strict=True)
        ]

    return sample


@pytest.fixture
def rule(tmp_path):
    return RewardMix.of(RewardConfig(), RewardContext(tmp_path))


@pytest.mark.parametrize(
    ("passed", "scored", "kept"),
    [
        (0, 8, False),
        (1, 8, True),
        (4, 8, True),
        (7, 8, True),
        (8, 8, False),
        (1, 10, True),
        (9, 10, True),
        (0, 0, False),
    ],
)
def test_prompts_that_pass_between_10_and_90_percent_are_kept(passed, scored, kept):
    assert Difficulty("a", passed, scored).keeps(0.1, 0.9) is kept


def test_replies_of_at_least_the_pass_score_pass(rule):
    counted = [d for batch in measure(examples(5), answering([0, 1, 4, 2, 3]), rule, 4.0, at_once=2) for d in batch]
    assert counted == [Difficulty(f"p{n}", passed, 4) for n, passed in enumerate([0, 1, 4, 2, 3])]
    # Wrong answers of the right kind are graded 3.
    assert [d.passed for d in next(measure(examples(1), answering([1]), rule, 3.0))] == [4]


def test_a_failed_score_is_neither_a_pass_nor_a_miss():
    class Flaky:
        name, needs_audio, channel = "rule", False, "text"

        def score(self, answers):
            return [None, 5.0, 1.0, None]

    mix = RewardMix([Flaky()], RewardConfig())
    assert next(measure(examples(1), answering([4]), mix, 4.0)) == [Difficulty("p0", 1, 2)]


def test_what_is_done_is_not_sampled_again(rule):
    asked = []

    def sample(first, batch):
        asked.append(first)
        return answering([2] * 9)(first, batch)

    done = [Difficulty("p0", 1, 4), Difficulty("p1", 1, 4)]
    rest = [d.id for batch in measure(examples(5), sample, rule, 4.0, done, at_once=2) for d in batch]
    assert (asked, rest) == ([2, 4], ["p2", "p3", "p4"])


def test_a_journal_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SETTINGS)
    ids = ("p0", "p1", "p2")
    assert journal.read(ids) == []
    journal.add([Difficulty("p0", 1, 4)])
    journal.add([Difficulty("p1", 3, 4)])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"id": "p2", "pas')
    assert journal.read(ids) == [Difficulty("p0", 1, 4), Difficulty("p1", 3, 4)]
    assert journal.path.read_bytes() == whole
    journal.add([Difficulty("p2", 0, 4)])
    assert len(journal.read(ids)) == 3


def test_a_journal_cut_in_its_first_line_begins_anew(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", SETTINGS)
    journal.path.write_bytes(b'{"sampl')
    assert journal.read(("p0",)) == []
    journal.add([Difficulty("p0", 1, 4)])
    assert journal.read(("p0",)) == [Difficulty("p0", 1, 4)]


def test_a_journal_of_other_settings_or_prompts_is_refused(tmp_path):
    Journal(tmp_path / "j.jsonl", SETTINGS).add([Difficulty("p0", 1, 4)])
    with pytest.raises(PoolError, match="other settings"):
        Journal(tmp_path / "j.jsonl", {**SETTINGS, "seed": 1}).read(("p0",))
    with pytest.raises(PoolError, match="other settings"):
        Journal(tmp_path / "j.jsonl", SETTINGS).read(("q0",))
    (tmp_path / "j.jsonl").write_text("[]\nx\n")
    with pytest.raises(PoolError, match="not the journal"):
        Journal(tmp_path / "j.jsonl", SETTINGS).read(("p0",))


def test_the_written_pool_is_what_training_reads(tmp_path):
    measured = [Difficulty("a", 0, 4), Difficulty("b", 2, 4), Difficulty("c", 4, 4), Difficulty("d", 1, 4)]
    assert write_pool(tmp_path / "kept.json", measured, 0.1, 0.9, SETTINGS) == ["b", "d"]
    assert read_pool(tmp_path / "kept.json") == {"b", "d"}
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_an_empty_pool_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(PoolError, match="None of the 1 prompts passes between 10% and 90%"):
        write_pool(tmp_path / "kept.json", [Difficulty("a", 0, 4)], 0.1, 0.9, SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    make_tiny_checkpoint(folder / "tiny")
    turn = TurnRow(
        "what is two plus two", "plain", "add/two/two", "add", "question", None, "neutral", "two plus two is four",
        "two plus two is four", (1, 2), (3, 4),
    )  # fmt: skip
    rows = [DialogueRow("post_training", n, str(n), "seen", False, "espeak", "v", (turn,)) for n in range(6)]
    write_dialogues(folder / "closedtalk-data" / "post_training.parquet", rows)
    return folder


def command(assets, out, *more):
    overrides = [f"assets={assets}", "base=tiny", "rollouts.rows_at_once=4", "rollouts.max_tokens=24"]
    return pool.main([str(out), *overrides, "--samples", "2", "--low", "0", "--high", "1", *more])


def test_the_command_measures_a_model_and_goes_on_where_it_was_stopped(assets, tmp_path, monkeypatch, capsys):
    assert command(assets, tmp_path / "straight.json") == 0
    straight = json.loads((tmp_path / "straight.json").read_text())
    assert list(straight["passed_of_scored"]) == straight["kept"] == [f"post_training/{n}" for n in range(6)]
    assert "6 of 6 prompts kept" in capsys.readouterr().out

    real_add, added = Journal.add, []

    def interrupted(journal, measured):
        real_add(journal, measured)
        added.append(measured)
        if len(added) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", interrupted)
    assert command(assets, tmp_path / "resumed.json") == 130
    assert "Stopped after" in capsys.readouterr().err
    assert not (tmp_path / "resumed.json").exists()
    monkeypatch.setattr(Journal, "add", real_add)
    assert command(assets, tmp_path / "resumed.json") == 0
    assert json.loads((tmp_path / "resumed.json").read_text()) == straight
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed.json", "straight.json"]


def test_processes_share_the_prompts_and_measure_what_one_does(assets, tmp_path, monkeypatch):
    asked, here, loading, real = [], threading.local(), threading.Lock(), pool.model_sampler

    def sampler(*about):
        with loading:  # transformers does not load two models at a time
            sample = real(*about)
        return lambda first, batch: asked.append((first, len(batch))) or sample(first, batch)

    def run(world):
        here.world = world
        return command(assets, tmp_path / ("straight.json" if world.size == 1 else "shared.json"))

    monkeypatch.setattr(pool, "model_sampler", sampler)
    monkeypatch.setattr(pool, "launched", lambda: here.world)
    assert run(Alone()) == 0
    asked.clear()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, processes(2))) == [0, 0]
    assert sorted(asked) == [(0, 2), (2, 1), (3, 2), (5, 1)]
    assert (tmp_path / "shared.json").read_text() == (tmp_path / "straight.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared.json", "straight.json"]


def test_the_command_says_what_is_wrong_in_one_sentence(assets, tmp_path, capsys):
    for more, message in (
        (["data.split=nope"], "has no split"),
        (["base=nobody"], 'There is no checkpoint "nobody"'),
        (["rewards.weights.beauty=1"], "There is no reward"),
        (["rollouts.colour=red"], "is not a field"),
    ):
        assert command(assets, tmp_path / "kept.json", *more) == 1
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
