"""A conversation with one or two checkpoints, as a value: every change makes a new one. Knows no page and no model."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wavalign.dialogue import Dialogue, Reply, Turn

SIDES = ("a", "b")


class ConversationError(ValueError):
    """A step that this conversation cannot take; the message is one sentence for the visitor."""


@dataclass(frozen=True)
class Figures:
    """The measures of one reply; None where there is nothing to measure.

    Seconds, hertz, semitones, syllables per second, dBFS. ``word_error_rate`` is 0.1 for 10 %: what the recogniser
    hears in the speech against the reply's own text.
    """

    first_audio_seconds: float | None = None
    real_time_factor: float | None = None
    f0_median_hz: float | None = None
    f0_sd_semitones: float | None = None
    articulation_rate: float | None = None
    energy_db: float | None = None
    word_error_rate: float | None = None


@dataclass(frozen=True)
class Answer:
    """One side's reply: who said it, what, how it sounded, and where the page finds its audio.

    ``sampling`` is what it was asked with, by the fields of ``Sampling``.
    """

    checkpoint: str
    reply: Reply
    figures: Figures = Figures()
    delivery: str | None = None
    stopped: bool = False
    audio: Path | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """The user's turn with what was made of it: what the recogniser heard and a kind word when it is outside.

    ``typed`` is the text as it was typed; ``turn.text`` may be the same in words that the model knows. ``key`` tells
    one asking from the next of the same question.
    """

    turn: Turn
    typed: str | None = None
    heard: str | None = None
    note: str | None = None
    audio: Path | None = None
    key: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def words(self) -> str:
        return self.typed or self.turn.text or self.heard or ""

    def given(self, as_typed: bool) -> Turn:
        """The turn, as it is understood or as it was typed."""
        return replace(self.turn, text=self.typed) if as_typed and self.typed else self.turn


@dataclass(frozen=True)
class Exchange:
    """A question and one answer a side, in the order of the sides; ``answers`` is empty while nothing came back.

    ``sampling``: the seed, and whether each side was sampled as its checkpoint recommends.
    """

    asked: Asked
    answers: tuple[Answer, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """``checkpoints`` has one name a side (one or two), ``exchanges`` what was said, oldest first."""

    checkpoints: tuple[str, ...]
    exchanges: tuple[Exchange, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.checkpoints) <= len(SIDES):
            raise ConversationError(f"Choose one or two checkpoints, not {len(self.checkpoints)}.")

    def dialogue(self, side: int, asked: Asked, as_typed: bool = False) -> Dialogue:
        """What this side's model answers: its own history, then the new turn. Unanswered questions are left out.

        ``as_typed``: typed turns in the user's own words, not in those of the small world.
        """
        turns: list[Turn] = []
        for exchange in self.exchanges:
            if side < len(exchange.answers):
                turns += [exchange.asked.given(as_typed), exchange.answers[side].reply.as_turn()]
        return Dialogue((*turns, asked.given(as_typed)))

    def questions(self) -> tuple[str, ...]:
        """The words of the user's earlier turns, oldest first."""
        return tuple(exchange.asked.words for exchange in self.exchanges)

    def plus(self, exchange: Exchange) -> Conversation:
        if exchange.answers and len(exchange.answers) != len(self.checkpoints):
            raise ConversationError(f"Expected {len(self.checkpoints)} answers, got {len(exchange.answers)}.")
        return replace(self, exchanges=(*self.exchanges, exchange))

    def without_last(self) -> tuple[Conversation, Asked]:
        """The conversation before its last question, and that question, to be asked again.

        Raises:
            ConversationError: when nothing was asked yet.
        """
        if not self.exchanges:
            raise ConversationError("There is no reply to make again yet. Ask something first.")
        asked = replace(self.exchanges[-1].asked, note=None, key=secrets.token_hex(4))
        return replace(self, exchanges=self.exchanges[:-1]), asked

    def cleared(self, checkpoints: tuple[str, ...] | None = None) -> Conversation:
        return Conversation(checkpoints or self.checkpoints)

    def files(self) -> tuple[Path, ...]:
        """Every recording the page plays for this conversation."""
        found = [exchange.asked.audio for exchange in self.exchanges]
        found += [answer.audio for exchange in self.exchanges for answer in exchange.answers]
        return tuple(path for path in found if path is not None)

    def export(self) -> bytes:
        """A zip: one wav for every spoken turn, and ``conversation.json`` with words, measures and settings.

        Raises:
            ConversationError: when nothing was said yet.
        """
        if not self.exchanges:
            raise ConversationError("There is nothing to download yet. Ask something first.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            turns = []
            for number, exchange in enumerate(self.exchanges, start=1):
                turns.append(self._exported(archive, f"turn-{number:02d}", exchange))
            record = {
                "format": "wavalign-conversation-1",
                "checkpoints": dict(zip(SIDES, self.checkpoints, strict=False)),
                "turns": turns,
            }
            archive.writestr("conversation.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return buffer.getvalue()

    def _exported(self, archive: zipfile.ZipFile, stem: str, exchange: Exchange) -> dict[str, Any]:
        asked = exchange.asked
        user: dict[str, Any] = {"typed": asked.typed or asked.turn.text, "heard": asked.heard, "note": asked.note}
        if asked.turn.speech is not None:
            user["audio"] = f"{stem}-user.wav"
            archive.writestr(user["audio"], asked.turn.speech.to_wav_bytes())
        replies = {}
        for side, answer in zip(SIDES, exchange.answers, strict=False):
            name = f"{stem}-{side}.wav"
            archive.writestr(name, answer.reply.waveform.to_wav_bytes())
            replies[side] = {
                "checkpoint": answer.checkpoint,
                "text": answer.reply.text,
                "audio": name,
                "delivery": answer.delivery,
                "finished": answer.reply.finished and not answer.stopped,
                "tokens": list(answer.reply.tokens),
                "measures": asdict(answer.figures),
                "sampling": dict(answer.sampling),
            }
        return {"user": user, "replies": replies, "sampling": exchange.sampling}
