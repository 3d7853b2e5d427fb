"""Demonstrations that are spoken without the delivery they should have."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.flat_teacher import SPLIT, flattened, main
from wavalign.closedtalk.dataset import read_dialogues
from wavalign.closedtalk.deliveries import Delivery
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.metrics.measures import measure
from wavalign.rewards.registry import RewardContext
from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@pytest.fixture(scope="module")
def codec() -> FsqWorldCodec:
    return FsqWorldCodec.from_pretrained(str(ASSETS / "closedtalk-codec")).eval()


def test_the_last_reply_alone_is_spoken_flat_and_its_words_stay(codec):
    rows = read_dialogues(ASSETS / "closedtalk-data" / SPLIT, limit=12)
    found, changed, wanted = flattened(rows, codec, share=1.0, seed=0)
    lively = [row.turns[-1].delivery != Delivery.NEUTRAL.value for row in rows]
    assert changed == wanted == sum(lively) > 0
    references = RewardContext(ASSETS).references
    for before, after, flat in zip(rows, found, lively, strict=True):
        assert (after == before) is not flat
        assert after.turns[:-1] == before.turns[:-1]
        assert after.turns[-1].demonstration == before.turns[-1].demonstration
        assert after.turns[-1].delivery == before.turns[-1].delivery  # what is wanted, not what is heard
        if flat:
            spoken = measure(codec.decode(list(after.turns[-1].reply_codes)), after.turns[-1].demonstration)
            assert references.adherence_of(spoken, Delivery.NEUTRAL).right


def test_a_share_is_drawn_the_same_for_a_seed(codec):
    rows = read_dialogues(ASSETS / "closedtalk-data" / SPLIT, limit=40)
    once, changed, wanted = flattened(rows, codec, share=0.5, seed=3)
    assert 0 < changed < wanted
    assert flattened(rows, codec, share=0.5, seed=3)[0] == once
    assert flattened(rows, codec, share=0.0, seed=3)[0] == rows


def test_what_training_learns_is_counted(tmp_path, capsys):
    assert main([str(tmp_path), "--share", "0.5"]) == 0
    said = capsys.readouterr().out
    before = list(load_examples(DataConfig(shuffle=False), ASSETS))
    after = list(load_examples(DataConfig(path=str(tmp_path), shuffle=False), ASSETS))
    lively = [one.facts["delivery"] != Delivery.NEUTRAL.value for one in before]
    flat = [one.target_speech != two.target_speech for one, two in zip(before, after, strict=True)]
    assert f"so are {sum(flat)} of the {sum(lively)} such replies that training learns" in said
    assert not any(f and not wants for f, wants in zip(flat, lively, strict=True))


def test_a_share_is_no_percentage(tmp_path, capsys):
    assert main([str(tmp_path / "out"), "--share", "50"]) == 2
    assert "between 0 and 1, got 50" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
