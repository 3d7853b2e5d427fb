"""ClosedTalk's shipped dialogues as examples: the words, the codes of both speakers, and the facts a rule needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wavalign.closedtalk import dataset
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, read_dialogues
from wavalign.closedtalk.grading import is_correct
from wavalign.closedtalk.world import item_of
from wavalign.dialogue import Dialogue, Turn
from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError, Entry, Example, UnreadableRow

FOLDER = "closedtalk-data"
SPLIT = "post_training"


def read(config: DataConfig, assets: Path) -> tuple[list[Entry], list[UnreadableRow]]:
    """The examples of a split: one a dialogue (``turns`` "last"), or one a turn that may be asked ("each").

    Raises:
        DataError: when the split's file is missing or holds something else.
    """
    folder = Path(config.path) if config.path else assets / FOLDER
    split = config.split or SPLIT
    path = folder / f"{split}.parquet"
    if folder.is_dir() and not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.parquet") if file.stem != "evaluation_audio"))
        raise DataError(f'{folder} has no split "{split}"; it has: {known or "none"}.')
    try:
        dialogues = read_dialogues(path)
    except dataset.DataError as error:
        raise DataError(str(error)) from error
    entries: list[Entry] = []
    for dialogue in dialogues:
        asked = askable_turns(dialogue)
        for place in asked if config.turns == "each" else asked[-1:]:
            id_ = f"{split}/{dialogue.index}" + (f"/{place}" if config.turns == "each" else "")
            entries.append(Entry(id_, _task(dialogue.turns[place]), partial(example, dialogue, place, id_)))
    return entries, []


def askable_turns(dialogue: DialogueRow) -> list[int]:
    """Places of the turns that every demonstration before was right for.

    A demonstration may be wrong on purpose. "Say it again in a sad voice" after a wrong one asks for the mistake, and
    "and Spain?" after one invites another, so such turns are not asked.
    """
    places: list[int] = []
    for place, turn in enumerate(dialogue.turns):
        places.append(place)
        if not is_correct(turn.demonstration, item_of(turn.item)):
            break
    return places


def example(dialogue: DialogueRow, place: int, id_: str) -> Example:
    """The turn at ``place`` as a prompt, the ones before as they were demonstrated."""
    turn = dialogue.turns[place]
    turns: list[Turn] = []
    for before in dialogue.turns[:place]:
        turns += [_user(before), Turn("assistant", text=before.demonstration, codes=before.reply_codes)]
    facts = {
        "item": turn.item,
        "family": turn.family,
        "delivery": turn.delivery,
        "tone": turn.tone,
        "requested": turn.requested,
        "kind": turn.kind,
        "typed": dialogue.typed,
        "phrasing": dialogue.phrasing,
        "answer": turn.answer,
    }
    return Example(
        id=id_,
        prompt=Dialogue((*turns, _user(turn))),
        target_text=turn.demonstration,
        target_speech=turn.reply_codes,
        task=_task(turn),
        question_text=turn.text,
        facts=facts,
    )


def _user(turn: TurnRow) -> Turn:
    return Turn("user", text=turn.text, codes=turn.user_codes or None)


def _task(turn: TurnRow) -> str:
    """Every turn has a right answer; where a delivery is asked for, in words or by tone, it is also a task of sound."""
    return "semantic" if turn.requested is None and turn.tone == "plain" else "both"
