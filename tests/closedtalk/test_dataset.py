from pathlib import Path

import pytest

from wavalign.closedtalk.dataset import DataError, DialogueRow, TurnRow, read_dialogues, write_dialogues

TURN = TurnRow(
    text="what is two plus two",
    tone="plain",
    item="add/two/two",
    family="add",
    kind="question",
    requested=None,
    delivery="neutral",
    answer="two plus two is four",
    demonstration="two plus two is five",
    user_codes=(1, 2559, 0),
    reply_codes=(7, 8),
)
ROW = DialogueRow(
    "validation", 3, "what is two plus two (plain) @17", "seen", False, "espeak", "en-us+m1", (TURN, TURN)
)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert write_dialogues(tmp_path / "a" / "validation.parquet", [ROW]) == 1
    assert read_dialogues(tmp_path / "a" / "validation.parquet") == [ROW]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_missing_or_foreign_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        read_dialogues(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(DataError, match="does not hold ClosedTalk dialogues"):
        read_dialogues(tmp_path / "text.parquet")
