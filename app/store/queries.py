"""The votes as ratings and exports read them: one line a vote that stands, with the reason when it does not count."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Bundle, Session

from app.store.database import Store
from app.store.schema import (
    BattleRow,
    Consent,
    ErasedBattle,
    Flag,
    ReplyRow,
    Retraction,
    VoteDetail,
    VoteRow,
)

if TYPE_CHECKING:
    import pandas

Level = Literal["nothing", "research", "publish"]
LEVELS: tuple[Level, ...] = ("nothing", "research", "publish")
# Columns, not objects: of a million votes, what is not needed costs minutes.
_VOTE = Bundle(
    "vote",
    *(VoteRow.id, VoteRow.at, VoteRow.outcome, VoteRow.strength),
    *(VoteRow.helpfulness, VoteRow.naturalness, VoteRow.reason),
)
_BATTLE = Bundle(
    "battle",
    *(BattleRow.id, BattleRow.at, BattleRow.rater, BattleRow.source, BattleRow.consent, BattleRow.propensity),
    *(BattleRow.kind, BattleRow.gold_side, BattleRow.repeat_of),
    *(BattleRow.left, BattleRow.right, BattleRow.category, BattleRow.language),
)
COVARIATES = ("log_duration_ratio", "articulation_rate", "words", "loudness_residual")


@dataclass(frozen=True)
class VoteRecord:
    """``strength``, ``helpfulness`` and ``naturalness`` are positive when left is better. ``vote`` is the receipt.

    ``covariates`` are left minus right: log of the durations' ratio, syllables per second, words, LUFS; what could
    not be measured is absent. ``excluded`` None: the vote counts. ``consent``: the least that the rater ever allowed
    since the battle began.
    """

    battle: str
    vote: str
    at: float
    left: str
    right: str
    outcome: str
    strength: int
    helpfulness: int | None
    naturalness: int | None
    reason: str | None
    rater: str
    source: str
    kind: str
    gold_side: str | None
    repeat_of: str | None
    category: str
    language: str
    turns: int
    propensity: float
    consent: Level
    excluded: str | None = None
    covariates: Mapping[str, float] = field(default_factory=dict)


def votes(
    store: Store, *, source: Literal["human", "simulated"] | None = None, counted_only: bool = True
) -> list[VoteRecord]:
    """Votes in the order they were cast, undone ones left out; all sources unless one is named."""
    with store.reading() as session:
        return read_votes(session, source=source, counted_only=counted_only)


def votes_frame(
    store: Store, *, source: Literal["human", "simulated"] | None = None, counted_only: bool = True
) -> pandas.DataFrame:
    """The same as a table; covariates as columns ``cov_...``, NaN where absent."""
    import pandas

    rows = []
    for each in votes(store, source=source, counted_only=counted_only):
        row = asdict(each)
        covariates = row.pop("covariates")
        rows.append(row | {f"cov_{name}": covariates.get(name, math.nan) for name in COVARIATES})
    columns = [name for name in VoteRecord.__dataclass_fields__ if name != "covariates"]
    return pandas.DataFrame(rows, columns=[*columns, *(f"cov_{name}" for name in COVARIATES)])


def version(store: Store) -> str:
    """Changes whenever the votes could read differently: the key of whatever is computed from them."""
    tables = (VoteRow, VoteDetail, Retraction, Flag, Consent, ErasedBattle)
    with store.reading() as session:
        return "-".join(str(session.scalar(select(func.count()).select_from(table))) for table in tables)


def recordings(store: Store, battle: str) -> list[dict[str, Any]]:
    """Both replies of every turn: turn, side, checkpoint, text, audio (Path, None when erased), measures."""
    with store.reading() as session:
        row = session.get(BattleRow, battle)
        replies = session.scalars(
            select(ReplyRow).where(ReplyRow.battle == battle).order_by(ReplyRow.number, ReplyRow.side)
        )
        return [
            {
                "turn": each.number,
                "side": each.side,
                "checkpoint": getattr(row, each.side),
                "text": each.text,
                "audio": store.audio.path(each.presented) if each.presented else None,
                "measures": dict(each.measures),
            }
            for each in replies
        ]


def read_votes(
    session: Session,
    *,
    source: str | None = None,
    counted_only: bool = True,
    rater: str | None = None,
    battle: str | None = None,
) -> list[VoteRecord]:
    """As ``votes``, in the caller's transaction; of one rater or one battle when they are named."""
    chosen = select(_VOTE, _BATTLE, Retraction.kind).join(BattleRow, BattleRow.id == VoteRow.battle)
    chosen = chosen.outerjoin(Retraction, Retraction.vote == VoteRow.id)
    for column, wanted in ((BattleRow.source, source), (BattleRow.rater, rater), (BattleRow.id, battle)):
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    rows = [each for each in session.execute(chosen.order_by(VoteRow.at, VoteRow.id)) if each[2] != "undo"]
    if not rows:
        return []
    only = [row.id for _, row, _ in rows] if rater is not None or battle is not None else None
    details = _latest_details(session, [vote.id for vote, _, _ in rows] if only is not None else None)
    erased = dict(
        session.execute(_of(select(ErasedBattle.battle, ErasedBattle.cause), ErasedBattle.battle, only)).all()
    )
    levels = consents(session)
    flags = _flags(session)
    measured = _measured(session, only)
    records = []
    for vote, row, taken_back in rows:
        said = details.get(vote.id, vote)
        consent = least_level(row.consent, [level for at, level in levels.get(row.rater, ()) if at >= row.at])
        excluded = _excluded(row, taken_back, erased.get(row.id), consent, flags)
        if excluded is not None and counted_only:
            continue
        turns, covariates = _compared(measured.get(row.id, {}))
        records.append(
            VoteRecord(
                battle=row.id,
                vote=vote.id,
                at=vote.at,
                left=row.left,
                right=row.right,
                outcome=vote.outcome,
                strength=vote.strength,
                helpfulness=said.helpfulness,
                naturalness=said.naturalness,
                reason=said.reason,
                rater=row.rater,
                source=row.source,
                kind=row.kind,
                gold_side=row.gold_side,
                repeat_of=row.repeat_of,
                category=row.category,
                language=row.language,
                turns=turns,
                propensity=row.propensity,
                consent=consent,
                excluded=excluded,
                covariates=covariates,
            )
        )
    return records


def least_level(given: str, later: Sequence[str]) -> Level:
    """Allowing more later does not reach back; allowing less does."""
    return min((given, *later), key=LEVELS.index)


def _excluded(
    row: Any,
    taken_back: str | None,
    erased: str | None,
    consent: Level,
    flags: Mapping[tuple[str | None, str | None], str],
) -> str | None:
    if erased == "rater":
        return "erased"
    if taken_back == "retract":
        return "retracted"
    if consent == "nothing" or erased == "consent":
        return "consent"
    if row.kind != "ordinary":
        return row.kind
    flag = flags.get((row.id, None)) or flags.get((None, row.rater))
    return f"flag: {flag}" if flag else None


def _flags(session: Session) -> dict[tuple[str | None, str | None], str]:
    """Raised flags by (battle, None) and (None, rater); a check that was unavailable, or cleared later, raises none."""
    raised: dict[tuple[str | None, str | None, str], bool] = {}
    for flag in session.scalars(select(Flag).order_by(Flag.at, Flag.id)):
        key = (flag.battle, None if flag.battle else flag.rater, flag.kind)
        if flag.state != "unavailable":
            raised[key] = flag.state == "raised"
    return {key[:2]: key[2] for key, is_raised in sorted(raised.items(), key=str) if is_raised}


def consents(session: Session) -> dict[str, list[tuple[float, str]]]:
    """What every rater allowed and when, oldest first."""
    levels: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for rater, at, level in session.execute(select(Consent.rater, Consent.at, Consent.level).order_by(Consent.at)):
        levels[rater].append((at, level))
    return levels


def _latest_details(session: Session, only: Sequence[str] | None) -> dict[str, VoteDetail]:
    chosen = _of(select(VoteDetail), VoteDetail.vote, only)
    return {each.vote: each for each in session.scalars(chosen.order_by(VoteDetail.number))}


def _measured(session: Session, only: Sequence[str] | None) -> dict[str, dict[tuple[int, str], dict[str, Any]]]:
    """Per battle, per (turn, side): the numbers that replies are compared by."""
    found: dict[str, dict[tuple[int, str], dict[str, Any]]] = defaultdict(dict)
    columns = select(ReplyRow.battle, ReplyRow.number, ReplyRow.side, ReplyRow.measures, ReplyRow.equalised)
    for battle, number, side, measures, equalised in session.execute(_of(columns, ReplyRow.battle, only)):
        found[battle][number, side] = {**measures, "loudness": equalised.get("loudness_after")}
    return found


def _compared(replies: Mapping[tuple[int, str], Mapping[str, Any]]) -> tuple[int, dict[str, float]]:
    """Number of turns, and left minus right: sums over turns of seconds and words, means of rates and levels."""
    sides = {side: [each for (_, of), each in sorted(replies.items()) if of == side] for side in ("left", "right")}

    def total(side: str, name: str) -> float | None:
        values = [each.get(name) for each in sides[side]]
        return sum(values) if values and all(isinstance(value, int | float) for value in values) else None

    turns = len(sides["left"])
    seconds = total("left", "seconds"), total("right", "seconds")
    covariates: dict[str, float] = {}
    if all(seconds):
        covariates["log_duration_ratio"] = math.log(seconds[0] / seconds[1])
    for name, key, scale in (
        ("articulation_rate", "articulation_rate", turns),
        ("words", "words", 1),
        ("loudness_residual", "loudness", turns),
    ):
        left, right = total("left", key), total("right", key)
        if left is not None and right is not None:
            covariates[name] = (left - right) / scale
    return turns, covariates


def _of(chosen: Any, column: Any, only: Sequence[str] | None) -> Any:
    return chosen if only is None else chosen.where(column.in_(only))
