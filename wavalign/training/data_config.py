"""Which examples a run learns from, as one typed block of its config."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["closedtalk", "jsonl", "datasets", "votes"]


class DataConfig(BaseModel):
    """Examples of one source, in one order."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: Source = Field(
        "closedtalk",
        description="closedtalk: the shipped world; jsonl: rows of messages, audios, sft_target_*; datasets: the same "
        "rows in a parquet folder, a saved dataset or a hub id; votes: prompts with a chosen and a rejected reply",
    )
    path: str | None = Field(
        None,
        description="the JSONL or parquet file, the folder, or the hub id; for closedtalk the folder of its parquet "
        "files (default: the one in the assets)",
    )
    split: str | None = Field(
        None,
        description="closedtalk: post_training (default), validation, held_out; datasets: train by default; votes: "
        "the preference view of an export by default",
    )
    revision: str | None = Field(None, description="of a hub data set: a branch, tag or commit")
    turns: Literal["last", "each"] = Field(
        "last",
        description="closedtalk: ask the last turn of a dialogue whose history is right, or each such turn",
    )
    pool: Path | None = Field(
        None, description="a file of kept ids from python -m wavalign.training.pool: other examples are left out"
    )
    tasks: tuple[str, ...] = Field((), description="keep the rows of these task types only; empty keeps all")
    limit: int | None = Field(None, ge=1, description="the first so many examples, after every filter")
    unreadable: Literal["skip", "fail"] = Field(
        "fail", description="what a row that cannot be used does: it is left out and reported, or it stops the run"
    )
    check_audio: bool = Field(
        True, description="decode every audio file once at the start, so that a broken one shows before training does"
    )
    seed: int = Field(0, ge=0, description="of the order in which examples are drawn; each epoch has its own order")
    shuffle: bool = Field(True, description="draw in a new order each epoch, instead of the source's order")

    @model_validator(mode="after")
    def _complete(self) -> DataConfig:
        if self.source != "closedtalk" and self.path is None:
            raise ValueError(f'data.path is missing: the source "{self.source}" needs a file, a folder or a hub id.')
        if self.revision is not None and self.source != "datasets":
            raise ValueError('data.revision goes with the source "datasets" only.')
        return self
