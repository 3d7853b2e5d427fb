"""What the Preferences page's script asks of the server: one message in, one answer out, plain JSON."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from app import view
from app.battles import BOTH_BAD, SIDES
from app.export_rows import Selection
from app.pages.arena_view import base64_of
from app.preferences import PreferenceError, Preferences, shape_of
from app.services import Services
from app.store import StoreError

LINES = 20
_PREVIEW_WORDS = 240

Json = dict[str, Any]


@dataclass
class PreferencesDesk:
    services: Services

    @cached_property
    def preferences(self) -> Preferences:
        voting = self.services.voting
        return Preferences(voting.store, voting.rules)

    def answer(self, message: Any) -> Json:
        acts = {"browse": self._browse, "listen": self._listen, "preview": self._preview, "export": self._export}
        try:
            if not isinstance(message, dict) or not isinstance(message.get("do"), str) or message["do"] not in acts:
                raise PreferenceError("That is not a message this page sends.")
            return acts[message["do"]](message)
        except (PreferenceError, StoreError) as error:
            return {"error": {"code": "preferences", "message": str(error)}}
        except Exception as error:  # the outermost boundary: a sentence goes out, the traceback is logged
            traceback.print_exception(error, file=sys.stderr)
            return {"error": {"code": "fault", "message": "Something went wrong here, and was logged. Try again."}}

    def _browse(self, message: Mapping[str, Any]) -> Json:
        selection = selection_of(message.get("filter"))
        first = message.get("first")
        first = first if isinstance(first, int) and not isinstance(first, bool) and first > 0 else 0
        overview = self.preferences.overview(selection)
        return {
            "overview": {
                "votes": overview.votes,
                "raters": overview.raters,
                "counted": overview.counted,
                "consent": dict(overview.consent),
                "excluded": dict(overview.excluded),
                "pairs": [list(pair) for pair in overview.pairs],
                "rows": dict(overview.rows),
            },
            "lines": [_line(each) for each in self.preferences.lines(selection, first, LINES)],
            "first": first,
            "more": overview.votes > first + LINES,
        }

    def _listen(self, message: Mapping[str, Any]) -> Json:
        heard = self.preferences.listen(selection_of(message.get("filter")), message.get("battle"))
        return {
            "turns": [
                {
                    "turn": number,
                    "words": view.written(each.words, ""),
                    "asked": base64_of(each.asked) if each.asked else None,
                    "audio": {side: base64_of(each.audio[side]) for side in SIDES},
                    "text": {side: view.written(each.text[side], ".") for side in SIDES},
                }
                for number, each in enumerate(heard)
            ]
        }

    def _preview(self, message: Mapping[str, Any]) -> Json:
        row = self.preferences.preview(selection_of(message.get("filter")), message.get("shape"))
        if row is None:
            return {"row": None}
        cells = [f'  "{name}": {json.dumps(_shown(value), ensure_ascii=False)}' for name, value in row.items()]
        return {"row": "{\n" + ",\n".join(cells) + "\n}"}

    def _export(self, message: Mapping[str, Any]) -> Json:
        selection, shape = selection_of(message.get("filter")), shape_of(message.get("shape"))
        path = self.services.recordings.place(f"preferences-{shape}.zip")
        try:
            rows = self.preferences.archive(selection, shape, path)
        except BaseException:
            self.services.recordings.drop([path])
            raise
        return {"path": str(path), "name": path.name, "rows": rows, "megabytes": round(path.stat().st_size / 1e6, 1)}


def selection_of(filter_: Any) -> Selection:
    """The page's filter: ``consent``, ``source``, ``since`` and ``until`` (days, the last included), ``pair``,
    ``reliability``; what is absent or empty does not filter.

    Raises:
        PreferenceError: one sentence about the field that cannot be used.
    """
    wanted = filter_ if isinstance(filter_, dict) else {}
    consent, source = wanted.get("consent") or "research", wanted.get("source") or "human"
    if consent not in ("research", "publish"):
        raise PreferenceError("Consent is research or publish.")
    if source not in ("human", "simulated"):
        raise PreferenceError("The source is human or simulated.")
    pair = wanted.get("pair") or None
    if pair is not None and not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair)):
        raise PreferenceError("A pair is two checkpoints.")
    least = wanted.get("reliability") or None
    number = isinstance(least, int | float) and not isinstance(least, bool) and math.isfinite(least)
    if least is not None and not (number and 0 <= least <= 1):
        raise PreferenceError("Reliability is a number from 0 to 1.")
    until = _day(wanted.get("until"))
    return Selection(
        least_consent=consent,
        source=source,
        since=None if (since := _day(wanted.get("since"))) is None else since.timestamp(),
        until=None if until is None else (until + timedelta(days=1)).timestamp(),
        pair=frozenset(pair) if pair else None,
        least_reliability=least,
    )


def _day(text: Any) -> datetime | None:
    if text is None or text == "":
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise PreferenceError("A day is written like 2026-11-22.") from None


def _line(line: Any) -> Json:
    vote = line.vote
    return {
        "battle": vote.battle,
        "at": vote.at,
        "words": view.written(line.words, ""),
        "left": vote.left,
        "right": vote.right,
        "choice": BOTH_BAD if vote.outcome == BOTH_BAD else vote.strength,
        "helpfulness": vote.helpfulness,
        "naturalness": vote.naturalness,
        "reason": vote.reason,
        "turns": vote.turns,
        "category": vote.category,
        "consent": vote.consent,
        "source": vote.source,
        "rater": vote.rater[:8],
        "reliability": round(line.reliability, 2),
        "excluded": vote.excluded,
    }


def _shown(value: Any) -> Any:
    """One cell of a row as a person reads it: audio is its size, long words are cut."""
    if isinstance(value, bytes):
        return f"<wav, {len(value) / 1000:.0f} kB>"
    if isinstance(value, str) and len(value) > _PREVIEW_WORDS:
        return value[:_PREVIEW_WORDS] + " …"
    return value
