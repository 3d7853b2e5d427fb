"""A battle as the Arena page draws it: plain JSON. Nothing but ``reveal`` and ``my_vote`` names a checkpoint."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from app import view
from app.battles import BOTH_BAD
from app.conversation import Figures
from app.rater_views import Delivered, MyVote, Progress, Reveal, RevealedSide
from app.settings import Settings

_FIGURES = ("f0_median_hz", "f0_sd_semitones", "articulation_rate", "energy_db", "word_error_rate")

Json = dict[str, Any]


def where_it_goes(settings: Settings) -> str:
    """What is recorded, as the consent says where it is kept."""
    said = "Into a database and a folder on the computer that runs this workbench."
    if settings.push_backup:
        said += " A private copy of what may be used is kept at Hugging Face."
    if settings.push_votes:
        said += f" What you allow to be published goes into the open dataset {settings.push_votes} at Hugging Face."
    return said


def about_you(signed_in: bool) -> str:
    """What is kept of the person, as the consent says it."""
    who = (
        "A code made from your account's name with a secret key, never the name itself."
        if signed_in
        else ("A random number that this browser keeps. No name.")
    )
    return f"{who} Your network address is kept only as a keyed code, to stop floods of votes."


def turn_of(delivered: Delivered) -> Json:
    """Both files travel in one answer: no names, no headers, no order of arrival, and the same length."""
    user = delivered.user
    return {
        "turn": delivered.turn,
        "words": view.written(user.words, ""),
        "asked": base64_of(user.audio) if user.audio else None,
        "audio": {side: base64_of(delivered.audio[side]) for side in ("left", "right")},
        "text": {side: view.written(delivered.text[side], ".") for side in ("left", "right")},
    }


def progress_of(progress: Progress) -> Json:
    return {
        "battle": progress.battle,
        "stage": progress.stage.value,
        "may_vote": progress.may_vote,
        "missing": progress.missing,
        "wait_seconds": round(progress.wait_seconds, 2),
        "heard": {side: round(share, 3) for side, share in progress.heard.items()},
        "turns_left": progress.turns_left,
    }


def reveal_of(reveal: Reveal) -> Json:
    why_not = _WHY_NOT.get(reveal.excluded, reveal.excluded)
    return {
        "receipt": reveal.receipt,
        "kind": reveal.kind,
        "choice": BOTH_BAD if reveal.outcome == BOTH_BAD else reveal.strength,
        "winner": reveal.outcome if reveal.outcome in ("left", "right") else None,
        "counted": "It counts." if reveal.counted else f"It does not count: {why_not}.",
        "left": _revealed(reveal.left),
        "right": _revealed(reveal.right),
    }


_WHY_NOT = {
    "gold": "one side was spoilt on purpose, to see whether votes follow what is heard",
    "repeat": "it was a dialogue you heard before, with the sides swapped",
    "consent": "you allowed no use of it",
}


def _revealed(side: RevealedSide) -> Json:
    """The means over all turns, as the Talk page shows the measures of one reply."""
    means = {
        name: float(np.mean([each[name] for each in side.measures if name in each]))
        for name in _FIGURES
        if any(name in each for each in side.measures)
    }
    seconds = sum(each.get("seconds", 0.0) for each in side.measures)
    words = sum(each.get("words", 0) for each in side.measures)
    rows = [
        ("Length", f"{seconds:.1f} s", "Speech of all turns, as it was made"),
        ("Words", f"{words:.0f}", "Words of all turns"),
        *view.figure_rows(Figures(**means)),
    ]
    return {"checkpoint": side.checkpoint, "figures": rows}


def my_vote(vote: MyVote) -> Json:
    return {
        "receipt": vote.receipt,
        "at": vote.at,
        "left": vote.left,
        "right": vote.right,
        "choice": choice_of(vote),
        "reason": vote.reason,
        "words": view.written(vote.words, ""),
        "status": vote.status,
        "may_retract": vote.may_retract,
    }


def choice_of(vote: MyVote) -> int | str:
    return BOTH_BAD if vote.outcome == BOTH_BAD else vote.strength


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
