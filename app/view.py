"""A conversation as the page draws it: plain JSON, with nothing in it that the visitor should not see."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from app.answering import Live, LiveSide
from app.conversation import SIDES, Answer, Asked, Conversation, Exchange, Figures
from wavalign.audio import Waveform
from wavalign.closedtalk.understanding import in_sentence_case

PEAKS_PER_SECOND = 25
CUT = "Cut off: it reached the limit of length."
STOPPED = "You stopped it here."
NO_SPEECH = "This reply has no speech."

Json = dict[str, Any]


class Outgoing:
    """The speech of one exchange under way, as it goes to the page: every update adds at most one piece a side."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[str]] = {}
        self._taken: dict[int, int] = {}

    def pieces(self, side: int, audio: tuple[Waveform, ...]) -> list[str]:
        """All pieces so far, 16-bit PCM in base64; what came since the last call is one new piece."""
        new = audio[self._taken.get(side, 0) :]
        self._taken[side] = len(audio)
        pieces = self._pieces.setdefault(side, [])
        if new:
            pieces.append(pcm16(np.concatenate([each.samples for each in new])))
        return pieces.copy()


def stage(
    key: str,
    conversation: Conversation,
    live: Live | None = None,
    outgoing: Outgoing | None = None,
    *,
    status: str | None = None,
    error: str | None = None,
    autoplay: bool = True,
) -> Json:
    """The whole stage. ``key`` names the conversation: a new one clears the page. ``live`` comes last.

    Answers stand under their side's name and not in a list: Gradio sends only what changed between two values of a
    generator, and its patch of a list inside a list is wrong when that list loses two entries (6.31).
    """
    sides = [{"id": side, "name": name} for side, name in zip(SIDES, conversation.checkpoints, strict=False)]
    exchanges = [_exchange(number, each, sides) for number, each in enumerate(conversation.exchanges)]
    if live is not None:
        exchanges.append(_live(len(exchanges), live, outgoing or Outgoing(), sides))
    state = "live" if live is not None or status else "ready" if exchanges else "empty"
    return {
        "conversation": key,
        "state": state,
        "sides": sides,
        "exchanges": exchanges,
        "status": "Measuring the replies" if live is not None and live.measuring else status,
        "error": error,
        "autoplay": autoplay,
    }


def peaks(waveform: Waveform) -> list[float]:
    """The loudest sample of every fortieth of a second, for drawing."""
    step = max(1, round(waveform.sample_rate / PEAKS_PER_SECOND))
    samples = np.abs(waveform.samples)
    return [round(float(samples[at : at + step].max()), 3) for at in range(0, len(samples), step)]


def pcm16(samples: np.ndarray) -> str:
    """Samples in -1..1 as little-endian 16-bit integers in base64."""
    return base64.b64encode((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()).decode("ascii")


def figure_rows(figures: Figures) -> list[tuple[str, str, str]]:
    """Name, value with its unit, and what it means; what was not measured is left out."""
    rows = [
        ("First audio", figures.first_audio_seconds, "{:.2f} s", "From asking to the first sound of the reply"),
        ("Speed", figures.real_time_factor, "{:.2f}×", "Real-time factor: seconds of work for a second of speech"),
        ("Pitch", figures.f0_median_hz, "{:.0f} Hz", "Median fundamental frequency"),
        ("Liveliness", figures.f0_sd_semitones, "{:.1f} st", "Standard deviation of the pitch, in semitones"),
        ("Rate", figures.articulation_rate, "{:.1f} syl/s", "Syllables per second, pauses left out"),
        ("Level", figures.energy_db, "{:.0f} dBFS", "Energy of the speech, relative to full scale"),
        ("WER", figures.word_error_rate, "{:.0%}", "Words of the text that the recogniser does not hear in the speech"),
    ]
    return [
        (name, unit.format(value).replace("%", " %"), hint) for name, value, unit, hint in rows if value is not None
    ]


def written(text: str, end: str) -> str:
    """Bare lower-case words as a person would write them; text that has its own capitals stays as it is."""
    return in_sentence_case(text, end) if text == text.lower() else text


def _exchange(number: int, exchange: Exchange, sides: list[Json]) -> Json:
    answers = {
        side["id"]: _answer(answer, {**side, "name": answer.checkpoint})
        for answer, side in zip(exchange.answers, sides, strict=False)
    }
    return {
        "id": _id(number, exchange.asked),
        "live": False,
        "asked": _asked(exchange.asked, False),
        "answers": answers,
    }


def _live(number: int, live: Live, outgoing: Outgoing, sides: list[Json]) -> Json:
    answers = {
        side["id"]: _live_answer(each, outgoing.pieces(index, each.audio), side)
        for index, (each, side) in enumerate(zip(live.sides, sides, strict=False))
    }
    return {"id": _id(number, live.asked), "live": True, "asked": _asked(live.asked, True), "answers": answers}


def _id(number: int, asked: Asked) -> str:
    return f"{number}-{asked.key}"


def _asked(asked: Asked, live: bool) -> Json:
    spoken = asked.turn.speech
    if spoken is None:
        words = asked.words
    elif asked.heard:
        words = f"Heard: “{written(asked.heard, '')}”"
    else:
        words = "Heard: no clear words" if asked.heard is not None else "Listening …" if live else ""
    return {"words": words, "spoken": spoken is not None, "note": asked.note, **_audio(spoken, asked.audio)}


def _answer(answer: Answer, side: Json) -> Json:
    reply = answer.reply
    remark = STOPPED if answer.stopped else None if reply.finished else CUT
    if not len(reply.waveform.samples) and remark is None:
        remark = NO_SPEECH
    return {
        "side": side,
        "state": "done",
        "text": written(reply.text, "." if reply.finished else " …"),
        "delivery": answer.delivery,
        "remark": remark,
        "figures": figure_rows(answer.figures),
        **_audio(reply.waveform, answer.audio),
    }


def _live_answer(live: LiveSide, pieces: list[str], side: Json) -> Json:
    return {
        "side": side,
        "state": "live",
        "text": written(live.text, ""),
        "chunks": pieces,
        "rate": live.audio[0].sample_rate if live.audio else None,
    }


def _audio(waveform: Waveform | None, path: Path | None) -> Json:
    if waveform is None or path is None or not len(waveform.samples):
        return {}
    return {"url": f"recordings/{path.name}", "peaks": peaks(waveform), "seconds": round(waveform.seconds, 3)}
