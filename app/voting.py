"""The service behind the Arena page: every step of a rater, checked here and nowhere else, durable when it returns.

Times are the server's, owners are checked against the row, and what a client says about itself is a claim.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import arena_host, my_votes
from app.battles import SIDES, Ballot, Battle, BattleError, Cast, Stage
from app.conversation import Asked
from app.listening import PlaybackError, Played
from app.rater_views import (
    Delivered,
    Erased,
    Failure,
    MyVote,
    Opened,
    Progress,
    Receipt,
    Reveal,
    RevealedSide,
    UserTurn,
)
from app.staging import Staging
from app.store import histories, owners, queries
from app.store.queries import LEVELS
from app.store.schema import (
    BattleRow,
    Consent,
    Delivery,
    Playback,
    Retraction,
    RevealRow,
    VoidRow,
    VoteDetail,
    VoteRow,
)

REPORTS_AT_ONCE = 64
CONSENTS_AN_HOUR = 30
PLAYBACK_FLAG = "playback"


class Voting:
    """One instance serves all visitors; several processes may share one database."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.store = staging.store
        self.rules = staging.rules
        self._now = staging.clock

    def consent_of(self, rater: str) -> queries.Level | None:
        """What the rater allows now; None: not asked yet."""
        with self.store.reading() as session:
            return owners.latest_consent(session, rater)

    def consent(self, rater: str, level: object, source: str = "human") -> None:
        """``nothing``: the battle is only for the rater. ``research``: used on this host. ``publish``: shared too.

        Raises:
            BattleError: ``consent``, for any other level; ``rate``, when more is allowed again and again.
        """
        if not isinstance(level, str) or level not in LEVELS:
            raise BattleError("consent", "Choose one of the three: nothing, research or publish.")
        now = self._now()
        with self.store.writing() as session:
            owners.first_seen(session, rater, source, now)
            known = owners.latest_consent(session, rater)
            if known != level:
                # Allowing less is always heard.
                if known is not None and LEVELS.index(level) > LEVELS.index(known):
                    self._consents_within_rate(session, rater, now)
                session.add(Consent(id=secrets.token_hex(16), rater=rater, at=now, level=level))

    @staticmethod
    def _consents_within_rate(session: Session, rater: str, now: float) -> None:
        recent = select(func.count()).select_from(Consent).where(Consent.rater == rater, Consent.at > now - 3600)
        if session.scalar(recent) >= CONSENTS_AN_HOUR:
            raise BattleError("rate", "That was changed often enough for one hour; come back a little later.")

    def open(
        self,
        rater: str,
        asked: Asked,
        *,
        address: str | None = None,
        category: str = "",
        language: str = "en",
        stop: threading.Event | None = None,
    ) -> Opened:
        """A new battle with both replies ready; see ``Staging.open``."""
        return self.staging.open(rater, asked, address=address, category=category, language=language, stop=stop)

    def ask(self, battle: object, rater: str, asked: Asked, *, stop: threading.Event | None = None) -> Opened:
        """The next turn of a battle; see ``Staging.ask``."""
        return self.staging.ask(battle, rater, asked, stop=stop)

    def repeat(self, rater: str) -> Opened | None:
        """An earlier battle that comes again, when one is due; see ``Staging.repeat``."""
        return self.staging.repeat(rater)

    def deliver(self, battle: object, rater: str) -> tuple[Delivered, ...]:
        """Both replies of every turn so far, oldest first. The first time is the one that counts.

        Raises:
            BattleError: ``unknown``, or the stage when nothing is there to be heard.
        """
        with self.store.reading() as session:
            history = owners.owned(session, battle, rater, lock=False)
        now = self._now()
        stage = history.battle.stage(now, self.rules)
        ready = [number for number, each in enumerate(history.battle.rounds) if each.released_at is not None]
        if history.battle.erased:
            raise BattleError("erased", "This battle was erased.")
        if not ready or stage in (Stage.VOID, Stage.EXPIRED):
            history.battle.delivered(now, self.rules)  # says what is wrong
        delivered = tuple(self._delivered(history, number) for number in ready)
        if stage is Stage.RELEASED:
            with self.store.writing() as session:
                state = owners.owned(session, battle, rater).battle
                now = self._now()
                if state.stage(now, self.rules) is Stage.RELEASED:
                    state.delivered(now, self.rules)
                    number = len(state.rounds) - 1
                    session.add_all(
                        Delivery(id=secrets.token_hex(16), battle=state.id, number=number, side=side, at=now)
                        for side in SIDES
                    )
        return delivered

    def report_playback(self, battle: object, rater: str, reports: object) -> Progress:
        """What the client says it played: ``[{"turn": 0, "side": "left", "start": 0.0, "end": 1.2}, ...]``.

        Claims of more than there was time for are worth nothing, and are flagged.

        Raises:
            PlaybackError: for anything that is not such a list; nothing of it is stored.
            BattleError: ``unknown``, ``playback``, or the stage.
        """
        if not isinstance(reports, Sequence) or isinstance(reports, str | bytes) or len(reports) > REPORTS_AT_ONCE:
            raise PlaybackError(f"Playback is reported as a list of at most {REPORTS_AT_ONCE} stretches.")
        with self.store.writing() as session:
            history = owners.owned(session, battle, rater)
            now = self._now()
            state = history.battle
            if state.stage(now, self.rules) in (Stage.VOTED, Stage.REVEALED):
                return self._progress(state, now)  # what was still on its way when the vote was cast
            for report in reports:
                turn, played = self._played(history, report, now)
                state = state.played(turn, played, now, self.rules)
                session.add(
                    Playback(
                        id=secrets.token_hex(16),
                        battle=state.id,
                        number=turn,
                        side=played.side,
                        at=now,
                        start=played.start,
                        end=played.end,
                    )
                )
            impossible = state.listening(self.rules).impossible
            known = history.battle.listening(self.rules).impossible
            if impossible and not known:
                claimed = sum(each.end - each.start for each in impossible)
                detail = {"impossible_seconds": claimed}
                session.add(arena_host.flag_row(PLAYBACK_FLAG, "raised", now, battle=state.id, detail=detail))
        return self._progress(state, now)

    def progress(self, battle: object, rater: str) -> Progress:
        with self.store.reading() as session:
            state = owners.owned(session, battle, rater, lock=False).battle
        return self._progress(state, self._now())

    def vote(
        self,
        battle: object,
        rater: str,
        choice: object,
        helpfulness: object = None,
        naturalness: object = None,
        reason: object = None,
    ) -> Receipt:
        """One transaction; on disk when this returns. The same vote sent twice is the same vote.

        Raises:
            BattleError: ``ballot``, ``unknown``, ``unheard``, ``voted``, ``expired``, ``void`` or another stage.
        """
        ballot = Ballot.of(choice, helpfulness, naturalness, reason, self.rules)
        try:
            with self.store.writing() as session:
                history = owners.owned(session, battle, rater)
                now = self._now()
                known = history.battle.standing
                again = known is not None and known.ballot == ballot and known.retracted_at is None
                if again and not history.battle.erased:
                    receipt, cast = history.standing.id, known
                else:
                    receipt, cast = secrets.token_hex(16), history.battle.voted(ballot, now, self.rules).casts[-1]
                    session.add(
                        VoteRow(
                            id=receipt,
                            battle=history.battle.id,
                            ballot=cast.number,
                            rater=rater,
                            at=now,
                            outcome=ballot.outcome,
                            strength=ballot.strength,
                            helpfulness=ballot.helpfulness,
                            naturalness=ballot.naturalness,
                            reason=ballot.reason,
                        )
                    )
                standing = my_votes.standing_in(session, rater)
        except IntegrityError as error:  # another tab was faster
            raise BattleError("voted", "You voted on this battle already.") from error
        return self._receipt(history.battle.id, receipt, cast, now, standing)

    def receipt(self, battle: object, rater: str) -> Receipt:
        """Of the vote that stands, for a page that was loaded again.

        Raises:
            BattleError: ``unknown`` or ``not_voted``.
        """
        with self.store.reading() as session:
            history = owners.owned(session, battle, rater, lock=False)
            standing = my_votes.standing_in(session, rater)
        if history.standing is None:
            raise BattleError("not_voted", "There is no vote of yours on this battle.")
        cast = history.battle.standing
        return self._receipt(history.battle.id, history.standing.id, cast, self._now(), standing)

    def detail(
        self,
        battle: object,
        rater: str,
        helpfulness: object = None,
        naturalness: object = None,
        reason: object = None,
    ) -> Receipt:
        """What is said about a vote after it, until the reveal; None leaves what was said before.

        Raises:
            BattleError: ``ballot``, ``unknown``, ``not_voted``, or ``voted`` after the reveal.
        """
        said = Ballot.of(0, helpfulness, naturalness, reason, self.rules)
        with self.store.writing() as session:
            history = owners.owned(session, battle, rater)
            now = self._now()
            cast = history.battle.standing
            if cast is None or cast.retracted_at is not None or history.battle.erased:
                raise BattleError("not_voted", "Vote first, then say why.")
            if history.battle.revealed_at is not None:
                raise BattleError("voted", "Who was who is known by now; what you said before stands.")
            receipt = history.standing.id
            earlier = session.scalar(select(func.count()).select_from(VoteDetail).where(VoteDetail.vote == receipt))
            if earlier >= 20:
                raise BattleError("rate", "That is enough about one vote.")
            before = cast.ballot
            session.add(
                VoteDetail(
                    id=secrets.token_hex(16),
                    vote=receipt,
                    number=earlier + 1,
                    at=now,
                    helpfulness=before.helpfulness if said.helpfulness is None else said.helpfulness,
                    naturalness=before.naturalness if said.naturalness is None else said.naturalness,
                    reason=before.reason if said.reason is None else said.reason,
                )
            )
            standing = my_votes.standing_in(session, rater)
        return self._receipt(history.battle.id, receipt, cast, now, standing)

    def undo(self, battle: object, rater: str) -> Progress:
        """Within eight seconds of the vote; the battle can be voted on again.

        Raises:
            BattleError: ``unknown``, ``too_late``, or the stage.
        """
        with self.store.writing() as session:
            history = owners.owned(session, battle, rater)
            now = self._now()
            state = history.battle.undone(now, self.rules)
            session.add(Retraction(id=secrets.token_hex(16), vote=history.standing.id, at=now, kind="undo"))
        return self._progress(state, now)

    def reveal(self, battle: object, rater: str) -> Reveal:
        """Who was who; only when the vote can no longer be undone.

        Raises:
            BattleError: ``unknown``, ``not_voted``, ``too_early``, ``erased``.
        """
        with self.store.writing() as session:
            history = owners.owned(session, battle, rater)
            now = self._now()
            if history.battle.erased:
                raise BattleError("erased", "This battle was erased.")
            history.battle.revealed(now, self.rules)
            if history.battle.revealed_at is None:
                session.add(RevealRow(id=secrets.token_hex(16), battle=history.battle.id, at=now))
            record = queries.read_votes(session, counted_only=False, battle=history.battle.id)[-1]
        sides = {
            side: RevealedSide(
                getattr(history.row, side),
                tuple(
                    {**each.measures, "loudness": each.equalised["loudness_after"]}
                    for each in history.replies
                    if each.side == side
                ),
            )
            for side in SIDES
        }
        return Reveal(
            receipt=record.vote,
            left=sides["left"],
            right=sides["right"],
            outcome=record.outcome,
            strength=record.strength,
            kind=history.row.kind,
            counted=record.excluded is None,
            excluded=record.excluded,
        )

    def current(self, rater: str) -> str | None:
        """The rater's newest battle, when it still waits to be heard, voted on or revealed."""
        with self.store.reading() as session:
            newest = session.scalar(
                select(BattleRow.id)
                .outerjoin(VoidRow, VoidRow.battle == BattleRow.id)
                .where(BattleRow.rater == rater, VoidRow.id.is_(None))
                .order_by(BattleRow.at.desc())
                .limit(1)
            )
            history = histories.load(session, newest) if newest else None
        if history is None or history.battle.erased:
            return None
        waiting = (Stage.RELEASED, Stage.DELIVERED, Stage.VOTED)
        return newest if history.battle.stage(self._now(), self.rules) in waiting else None

    def mine(self, rater: str, reveal: bool = False) -> list[MyVote]:
        """The rater's votes, newest first, with the names of what was revealed. ``reveal`` reveals first whatever can
        no longer be undone."""
        if reveal:
            my_votes.settle(self.store, rater, self._now(), self.rules)
        return my_votes.mine(self.store, rater, self._now(), self.rules)

    def retract(self, receipt: object, rater: str) -> MyVote:
        return my_votes.retract(self.store, receipt, rater, self._now(), self.rules)

    def erase(self, rater: str) -> Erased:
        return my_votes.erase(self.store, rater, self._now())

    def flag(
        self,
        kind: str,
        state: str,
        *,
        battle: str | None = None,
        rater: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """A check's finding; see ``arena_host.flag``."""
        arena_host.flag(self.store, kind, state, self._now(), battle=battle, rater=rater, detail=detail)

    def failures(self) -> list[Failure]:
        return arena_host.failures(self.store)

    def counts(self) -> dict[str, int]:
        return arena_host.counts(self.store, self._now())

    def today(self) -> int:
        """Battles of people since midnight here that are not void: the live counter of the page."""
        return arena_host.today(self.store, self._now())

    def sweep(self) -> None:
        """Whatever is due: see ``arena_host.sweep``."""
        arena_host.sweep(self.store, self._now(), self.rules)

    def _delivered(self, history: histories.History, number: int) -> Delivered:
        turn = history.turns[number]
        replies = {side: history.reply(number, side) for side in SIDES}
        return Delivered(
            turn=number,
            user=UserTurn(
                turn.typed or turn.text or turn.heard or "", self.store.audio.get(turn.audio) if turn.audio else None
            ),
            audio={side: self.store.audio.get(replies[side].presented) for side in SIDES},
            text={side: replies[side].text for side in SIDES},
            seconds=replies["left"].file_seconds,
        )

    def _played(self, history: histories.History, report: object, now: float) -> tuple[int, Played]:
        if not isinstance(report, Mapping):
            raise PlaybackError("A playback report has a turn, a side, a start and an end.")
        turn, side = report.get("turn"), report.get("side")
        if not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < len(history.turns):
            raise PlaybackError("A playback report names a turn of the battle.")
        reply = history.reply(turn, side) if side in SIDES else None
        longest = reply.file_seconds if reply is not None else 0.0
        return turn, Played.of(side, report.get("start"), report.get("end"), now, longest)

    def _progress(self, state: Battle, now: float) -> Progress:
        stage, heard = state.stage(now, self.rules), state.listening(self.rules)
        missing = heard.missing(now) if heard.replies else "The replies were not delivered yet."
        cast = state.standing
        return Progress(
            battle=state.id,
            stage=stage,
            may_vote=stage is Stage.DELIVERED and missing is None,
            missing=missing,
            wait_seconds=max(0.0, heard.ready_at - now) if heard.replies else 0.0,
            heard={side: heard.share(side) for side in SIDES},
            turns=len(state.rounds),
            turns_left=self.rules.turns - len(state.rounds),
            undo_seconds=max(0.0, cast.at + self.rules.undo - now) if stage is Stage.VOTED and cast else 0.0,
        )

    def _receipt(self, battle: str, receipt: str, cast: Cast, now: float, standing: int) -> Receipt:
        reveal_at = cast.at + self.rules.undo
        return Receipt(battle, receipt, reveal_at, max(0.0, reveal_at - now), standing)
