from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.tasks.items import Entry, spread
from evaluation.tasks.protocol import Item, TaskError
from evaluation.tasks.registry import create
from tests.evaluation.shipped import dialogue_row, turn_row
from tests.evaluation.tasks.datasets import context, said
from tests.rewards.replies import buzz, silence
from wavalign.closedtalk.dataset import write_dialogues
from wavalign.closedtalk.families import FAMILIES
from wavalign.dialogue import Dialogue, Turn

ASSETS = Path(__file__).resolve().parents[3] / "assets"
HOT, COLD = ("hot",), ("cold",)


@pytest.fixture
def split(tmp_path):
    rows = [
        dialogue_row("held_out", 0, turn_row(HOT)),
        dialogue_row("held_out", 1, turn_row(COLD, requested="sad", delivery="sad")),
    ]
    write_dialogues(tmp_path / "held_out.parquet", rows)
    return tmp_path


def task_of(split):
    shipped = context(closedtalk=split)
    return create("closedtalk", type(shipped)(ASSETS, shipped.data))


def test_a_reply_is_scored_by_its_words_and_by_what_is_heard(split):
    task = task_of(split)
    first, second = task.items()
    assert first.category == "opposites"
    assert second.facts["asking"] == "in words"
    right, wrong = task.score(
        [(first, said("the opposite of hot is cold", "the opposite of hot is old")), (first, said("hot"))]
    )
    assert (right.values["correct"], right.values["grade"], right.values["correct_heard"]) == (1, 5, 0)
    assert right.values["delivery"] is None
    assert not right.failed
    assert wrong.values["correct"] == 0
    assert wrong.values["correct_heard"] is None
    assert task.summary([(first, right)]) == {}
    assert task.judges() == {}


def test_what_cannot_be_measured_is_not_delivered_as_it_should_be(split):
    task = task_of(split)
    first, _ = task.items()
    quiet, voiced = task.score(
        [(first, said("cold", waveform=silence())), (first, said("the opposite of hot is cold", waveform=buzz()))]
    )
    assert quiet.values["delivery"] == 0
    assert quiet.about["nearest"] is None
    assert voiced.values["delivery"] in (0, 1)
    assert voiced.about["nearest"] is not None


def test_the_shipped_held_out_split_covers_every_family():
    task = create("closedtalk", type(context())(ASSETS))
    items = task.items()
    assert len(items) == len(set(items.ids)) >= 500
    assert set(items.categories) == set(FAMILIES)
    some = task.items(50, seed=1)
    assert len(some) == 50
    assert set(some.ids) < set(task.items(100, seed=1).ids)
    answered = task.score([(item, said(item.facts["answer"], item.facts["answer"])) for item in some])
    assert {each.values["grade"] for each in answered} == {5}


def test_splits_that_it_was_trained_on_are_refused_and_missing_ones_said(tmp_path):
    with pytest.raises(TaskError, match="no split"):
        create("closedtalk/post_training", context())
    (tmp_path / "held_out.parquet").write_bytes(b"not parquet")
    with pytest.raises(TaskError, match="no split"):
        create("closedtalk/unseen_combinations", context(closedtalk=tmp_path)).items()
    with pytest.raises(TaskError, match="does not hold ClosedTalk dialogues"):
        create("closedtalk", context(closedtalk=tmp_path)).items()


def test_an_even_spread_takes_turns_and_a_plain_one_does_not():
    def entry(number, category):
        dialogue = Dialogue((Turn("user", text="hello"),))
        return Entry(f"{category}{number}", category, lambda: Item(f"{category}{number}", category, dialogue))

    entries = [entry(n, "many") for n in range(90)] + [entry(n, "few") for n in range(10)]
    assert spread(entries, 10, 0).categories.count("few") == 5
    plain = [spread(entries, 20, seed, even=False).categories.count("few") for seed in range(40)]
    assert 1.5 < sum(plain) / len(plain) < 2.5
    assert spread(entries, None, 0).ids[0] == "many0"
    assert spread(entries, 3, 0)[:2][0].category in ("many", "few")
