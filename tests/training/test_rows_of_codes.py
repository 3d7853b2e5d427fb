"""Targets in a model's own codes, in rows of the published schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError

ROW = {"id": "a", "messages": [{"role": "user", "content": "what is two"}], "sft_target_text": "two"}


def read(folder: Path, **fields: object):
    (folder / "rows.jsonl").write_text(json.dumps({**ROW, **fields}) + "\n", encoding="utf-8")
    return load_examples(DataConfig(source="jsonl", path=str(folder / "rows.jsonl")))[0]


@pytest.mark.parametrize("codes", [[3, 0, 7], "[3, 0, 7]"], ids=["list", "JSON text"])
def test_codes_stand_for_the_audio(tmp_path: Path, codes: object) -> None:
    example = read(tmp_path, sft_target_codes=codes, rejected_text="three", rejected_codes=[5])
    assert example.target_speech == (3, 0, 7)
    assert example.rejected_speech == (5,)
    assert example.has_target
    assert example.has_rejected
    assert "sft_target_codes" not in example.facts


@pytest.mark.parametrize("codes", [[1.5], [-1], [True], {"0": 1}, 7, "two"])
def test_what_is_no_list_of_codes_is_one_sentence(tmp_path: Path, codes: object) -> None:
    with pytest.raises(DataError, match=r"^[^\n]*rows.jsonl[^\n]*(whole numbers|must be lists)"):
        read(tmp_path, sft_target_codes=codes)


@pytest.mark.parametrize("codes", [None, []])
def test_no_codes_are_no_speech(tmp_path: Path, codes: object) -> None:
    assert read(tmp_path, sft_target_codes=codes).target_speech is None
