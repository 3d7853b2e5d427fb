"""Votes as rows of a dataset: everything, preferences, and unpaired judgements, all from the one log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import select

from app.battles import SIDES, Rules, Side
from app.store import Store, histories, queries
from app.store.queries import LEVELS, Level, VoteRecord
from app.store.reliability import reliabilities
from app.store.schema import ErasedBattle
from wavalign import audio
from wavalign.audio import Waveform

View = Literal["battles", "preference", "unpaired", "preference_text", "unpaired_text"]
VIEWS: tuple[View, ...] = ("battles", "preference", "unpaired", "preference_text", "unpaired_text")
_GAP_SECONDS = 0.5

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which votes. Times in seconds since 1970; ``pair`` two names in any order; ``reliability`` 0..1."""

    least_consent: Level = "research"
    source: Literal["human", "simulated"] = "human"
    since: float | None = None
    until: float | None = None
    pair: frozenset[str] | None = None
    least_reliability: float | None = None

    def __post_init__(self) -> None:
        if self.least_consent not in ("research", "publish"):
            raise ValueError("What may not be used is never exported: choose research or publish.")

    def of(self, votes: list[VoteRecord]) -> list[VoteRecord]:
        """The selected ones of all votes of all kinds, in the order they were cast."""
        reliability = reliabilities(votes)
        return [
            vote
            for vote in votes
            if vote.source == self.source
            and vote.excluded not in ("erased", "consent")
            and LEVELS.index(vote.consent) >= LEVELS.index(self.least_consent)
            and (self.since is None or vote.at >= self.since)
            and (self.until is None or vote.at < self.until)
            and (self.pair is None or {vote.left, vote.right} == self.pair)
            and (self.least_reliability is None or reliability[vote.rater].score >= self.least_reliability)
        ]


def selected(store: Store, selection: Selection) -> list[VoteRecord]:
    """What an export of this selection holds, excluded votes with their reasons among them."""
    return selection.of(queries.votes(store, counted_only=False))


def rows(store: Store, view: View, votes: list[VoteRecord]) -> Iterator[Row]:
    """The rows of one view. A battle that is erased while this runs is left out."""
    with_audio = not view.endswith("_text")
    for vote in votes:
        if view != "battles" and (vote.excluded is not None or vote.outcome == "tie"):
            continue
        if view.startswith("preference") and vote.outcome == "both_bad":
            continue
        told = _Told.of(store, vote, with_audio)
        if told is None:
            continue
        if view == "battles":
            yield _battle(told)
        elif view.startswith("preference"):
            yield _preference(told)
        else:
            yield from _unpaired(told)


@dataclass
class SameWords:
    """Rows as they go by; ``count`` those whose chosen and rejected words are the same: only the sound tells them
    apart."""

    rows: Iterable[Row]
    count: int = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.count += "chosen" in row and row["chosen"] == row["rejected"]
            yield row


@dataclass(frozen=True)
class _Told:
    """One battle as it was said and heard. Messages are {"role", "content"}; audio is wav bytes or None."""

    vote: VoteRecord
    history: histories.History
    prompt: list[dict[str, str]]
    said: dict[Side, list[dict[str, str]]]
    prompt_audio: bytes | None
    audio: dict[Side, bytes | None]

    @classmethod
    def of(cls, store: Store, vote: VoteRecord, with_audio: bool) -> _Told | None:
        with store.reading() as session:
            if session.scalar(select(ErasedBattle.battle).where(ErasedBattle.battle == vote.battle)) is not None:
                return None
            history = histories.load(session, vote.battle)
        words = [turn.typed or turn.text or turn.heard or "" for turn in history.turns]
        said: dict[Side, list[dict[str, str]]] = {}
        for side in SIDES:
            messages = []
            for turn in history.turns:
                if turn.number:
                    messages.append({"role": "user", "content": words[turn.number]})
                messages.append({"role": "assistant", "content": history.reply(turn.number, side).text})
            said[side] = messages
        prompt_audio, sounds = None, dict.fromkeys(SIDES)
        if with_audio:
            prompt_audio = _joined(store, [turn.audio for turn in history.turns if turn.audio])
            for side in SIDES:
                sounds[side] = _joined(store, [each.presented for each in history.replies if each.side == side])
        return cls(vote, history, [{"role": "user", "content": words[0]}], said, prompt_audio, sounds)


def _battle(told: _Told) -> Row:
    vote, history = told.vote, told.history
    first, last = history.battle.rounds[0], history.battle.rounds[-1]
    heard = dict.fromkeys(SIDES, 0.0)
    for each in history.battle.listening(Rules()).replies:
        heard[each.side] += each.heard
    return {
        "battle": vote.battle,
        "vote": vote.vote,
        "prompt": told.prompt,
        "left_messages": told.said["left"],
        "right_messages": told.said["right"],
        "prompt_audio": told.prompt_audio,
        "left_audio": told.audio["left"],
        "right_audio": told.audio["right"],
        "left_checkpoint": vote.left,
        "right_checkpoint": vote.right,
        "left_revision": history.row.left_revision,
        "right_revision": history.row.right_revision,
        "outcome": vote.outcome,
        "strength": vote.strength,
        "helpfulness": vote.helpfulness,
        "naturalness": vote.naturalness,
        "reason": vote.reason,
        **_common(vote),
        "kind": vote.kind,
        "gold_side": vote.gold_side,
        "repeat_of": vote.repeat_of,
        "excluded": vote.excluded,
        "propensity": vote.propensity,
        "log_duration_ratio": vote.covariates.get("log_duration_ratio"),
        "articulation_rate_difference": vote.covariates.get("articulation_rate"),
        "words_difference": vote.covariates.get("words"),
        "loudness_difference": vote.covariates.get("loudness_residual"),
        "asked_at": first.asked_at,
        "released_at": last.released_at,
        "delivered_at": max(last.delivered.values(), default=None),
        "voted_at": vote.at,
        "left_heard_seconds": heard["left"],
        "right_heard_seconds": heard["right"],
    }


def _preference(told: _Told) -> Row:
    vote = told.vote
    chosen: Side = "left" if vote.strength > 0 else "right"
    rejected: Side = "right" if chosen == "left" else "left"
    sign = 1 if chosen == "left" else -1
    return {
        "prompt": told.prompt,
        "chosen": told.said[chosen],
        "rejected": told.said[rejected],
        "margin": float(abs(vote.strength)),
        "helpfulness_margin": None if vote.helpfulness is None else float(sign * vote.helpfulness),
        "naturalness_margin": None if vote.naturalness is None else float(sign * vote.naturalness),
        "prompt_audio": told.prompt_audio,
        "chosen_audio": told.audio[chosen],
        "rejected_audio": told.audio[rejected],
        "chosen_checkpoint": getattr(vote, chosen),
        "rejected_checkpoint": getattr(vote, rejected),
        "chosen_side": chosen,
        "battle": vote.battle,
        "vote": vote.vote,
        **_common(vote),
    }


def _unpaired(told: _Told) -> Iterator[Row]:
    vote = told.vote
    for side in SIDES:
        yield {
            "prompt": told.prompt,
            "completion": told.said[side],
            "label": vote.outcome == side,
            "prompt_audio": told.prompt_audio,
            "completion_audio": told.audio[side],
            "checkpoint": getattr(vote, side),
            "side": side,
            "outcome": vote.outcome,
            "battle": vote.battle,
            "vote": vote.vote,
            **_common(vote),
        }


def _common(vote: VoteRecord) -> Row:
    names = ("rater", "source", "consent", "category", "language", "turns")
    return {name: getattr(vote, name) for name in names}


def _joined(store: Store, names: list[str]) -> bytes | None:
    """One turn's recording as it is; several one after another, half a second apart."""
    if len(names) < 2:
        return store.audio.get(names[0]) if names else None
    parts = [audio.read(store.audio.get(name)) for name in names]
    rate = max(part.sample_rate for part in parts)
    gap = np.zeros(round(_GAP_SECONDS * rate), np.float32)
    pieces = [piece for part in parts for piece in (gap, part.resampled(rate).samples)][1:]
    return Waveform(np.concatenate(pieces), rate).to_wav_bytes()
