"""One row of the published schema as an example: messages, audios, sft_target_*, task_type, question_text, rejected_*.

A message's content is text with an ``<|audio|>`` mark where the next of ``audios`` is heard, or a list of parts
({"type": "text", "text": ...}, {"type": "audio"[, "audio": ...]}). Audio is a path (relative ones start at the row's
file), or bytes, or the struct {"bytes", "path"} that Hugging Face data sets keep. System messages are left out: a
model's own layout says how its prompts begin. A final assistant message is the target where sft_target_* are missing.
``sft_target_codes`` and ``rejected_codes`` are speech in the model's own codes, for models whose encoder nobody has;
they stand for the audio. Columns that the schema does not know become the example's facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from wavalign import audio
from wavalign.audio import AudioError, Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.training.examples import DataError, Entry, Example

MARK = "<|audio|>"
AudioValue = str | bytes | Mapping[str, Any]
_AUDIO_FIELDS = ("sft_target_audio", "rejected_audio")
_CODE_FIELDS = ("sft_target_codes", "rejected_codes")
_TEXT_FIELDS = ("sft_target_text", "rejected_text", "task_type", "question_text")
_KNOWN = frozenset(("id", "messages", "audios", *_AUDIO_FIELDS, *_CODE_FIELDS, *_TEXT_FIELDS))


class RowError(ValueError):
    """Why a row cannot be used, in one sentence without its place."""


@dataclass(frozen=True)
class _Said:
    """A message before its audio is read."""

    role: str
    text: str | None
    audio: AudioValue | None
    codes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Row:
    """A checked row; reading its audio makes it an example. ``place`` is its file and line."""

    id: str
    place: str
    folder: Path | None
    said: tuple[_Said, ...]
    target: _Said
    rejected: _Said
    task: str
    question: str | None
    facts: Mapping[str, Any]

    def example(self) -> Example:
        """Raises:
        DataError: when an audio file cannot be read any more.
        """
        return Example(
            id=self.id,
            prompt=Dialogue(tuple(Turn(s.role, text=s.text, speech=self._speech(s.audio)) for s in self.said)),
            target_text=self.target.text,
            target_speech=self.target.codes or self._speech(self.target.audio),
            rejected_text=self.rejected.text,
            rejected_speech=self.rejected.codes or self._speech(self.rejected.audio),
            task=self.task,
            question_text=self.question,
            facts=self.facts,
        )

    def _speech(self, value: AudioValue | None) -> Waveform | None:
        try:
            return None if value is None else audio.read(_source(value, self.folder))
        except AudioError as error:
            raise DataError(f"{self.place}: {_name(value)} cannot be read any more: {error}") from error


def entry_of(fields: Any, place: str, folder: Path | None, check_audio: bool) -> Entry:
    """The example of a row's fields; ``place`` (file and line) is its id unless it has one, and names it in errors.

    Raises:
        RowError: when the row is wrong, an audio file is missing, or (``check_audio``) one cannot be decoded.
    """
    if not isinstance(fields, Mapping):
        raise RowError(f"a row must be an object of the schema's fields, got {type(fields).__name__}.")
    said = _messages(fields)
    target = _reply(fields, "sft_target")
    while said and said[-1].role == "assistant":
        last = said.pop()
        given = (target.text, target.audio, target.codes) != (None, None, None)
        target = target if given else last
    if not said:
        raise RowError("messages hold no user turn to answer.")
    rejected = _reply(fields, "rejected")
    for value in (*(turn.audio for turn in said), target.audio, rejected.audio):
        if value is not None:
            _check(value, folder, check_audio)
    if isinstance(fields.get("id"), (Mapping, list, tuple)):
        raise RowError("id must be text or a number.")
    row = _Row(
        id=str(fields["id"]) if fields.get("id") not in (None, "") else place,
        place=place,
        folder=folder,
        said=tuple(said),
        target=target,
        rejected=rejected,
        task=_text(fields, "task_type") or "both",
        question=_text(fields, "question_text") or said[-1].text,
        facts={name: value for name, value in fields.items() if name not in _KNOWN and value is not None},
    )
    return Entry(row.id, row.task, row.example)


def _reply(fields: Mapping[str, Any], name: str) -> _Said:
    spoken = _audio(fields.get(f"{name}_audio"), f"{name}_audio")
    return _Said("assistant", _text(fields, f"{name}_text"), spoken, _codes(fields.get(f"{name}_codes"), name))


def _codes(value: Any, name: str) -> tuple[int, ...] | None:
    codes = _decoded(value)
    codes = codes.tolist() if hasattr(codes, "tolist") else codes
    if codes is None or codes == []:
        return None
    whole = (
        isinstance(codes, Sequence)
        and not isinstance(codes, str)
        and all(isinstance(code, Integral) and not isinstance(code, bool) and code >= 0 for code in codes)
    )
    if not whole:
        raise RowError(f"{name}_codes must be a list of whole numbers from 0 on.")
    return tuple(int(code) for code in codes)


def _messages(row: Mapping[str, Any]) -> list[_Said]:
    messages = _decoded(row.get("messages"))
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise RowError("messages must be a list of at least one {role, content}.")
    given = [_audio(value, "audios") for value in _recordings(row.get("audios"))]
    left = list(given)
    said: list[_Said] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or message.get("role") not in ("system", "user", "assistant"):
            raise RowError(f"message {number} needs a role (system, user or assistant) and a content.")
        text, marks = _content(message.get("content"), number)
        if message["role"] == "system" and not marks:
            continue
        if len(marks) > 1:
            raise RowError(f"message {number} has {len(marks)} recordings; a turn has at most one.")
        heard = None
        if marks:
            if marks[0] is None and not left:
                raise RowError(f"message {number} asks for a recording, but audios has only {len(given)}.")
            heard = left.pop(0) if marks[0] is None else marks[0]
        if text is None and heard is None:
            raise RowError(f"message {number} is empty.")
        said.append(_Said(message["role"], text, heard))
    if left:
        raise RowError(f"audios has {len(given)} recordings, but the messages mark only {len(given) - len(left)}.")
    return said


def _recordings(value: Any) -> Sequence[Any]:
    audios = _decoded(value)
    audios = audios.tolist() if hasattr(audios, "tolist") else audios
    if audios is None:
        return ()
    if not isinstance(audios, Sequence) or isinstance(audios, (str, bytes)):
        raise RowError(f"audios must be a list of recordings, got {type(audios).__name__}.")
    return audios


def _content(content: Any, number: int) -> tuple[str | None, list[AudioValue | None]]:
    """The text of a message and its recordings; None stands for the next one of ``audios``."""
    if isinstance(content, str):
        marks: list[AudioValue | None] = [None] * content.count(MARK)
        return content.replace(MARK, " ").strip() or None, marks
    if not isinstance(content, Sequence):
        raise RowError(f"message {number} has no content.")
    texts, marks = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "audio":
            marks.append(_audio(part.get("audio"), f"message {number}"))
        else:
            raise RowError(f"message {number} has a part that is neither text nor audio.")
    return "\n".join(texts).strip() or None, marks


def _decoded(value: Any) -> Any:
    """Tables without nested columns keep lists as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise RowError("messages, audios and codes must be lists, or lists as JSON text.") from error
    return value


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(f"{name} must be text, got {type(value).__name__}.")
    return (value or "").strip() or None


def _audio(value: Any, name: str) -> AudioValue | None:
    """A path, bytes, or the struct of either; None and "" are no audio."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None or isinstance(value, bytes):
        return value or None
    if not isinstance(value, str):
        raise RowError(f"{name} must be a path or audio bytes, got {type(value).__name__}.")
    return value.strip() or None


def _check(value: AudioValue, folder: Path | None, decode: bool) -> None:
    source = _source(value, folder)
    try:
        if isinstance(source, Path) and not source.is_file():
            raise RowError(f"the audio file {source} is missing.")
    except OSError as error:
        raise RowError(f"the audio file {str(source)[:80]} cannot be read ({error.strerror}).") from error
    if decode:
        try:
            audio.read(source)
        except AudioError as error:
            raise RowError(f"{_name(value)} cannot be decoded: {error}") from error


def _source(value: AudioValue, folder: Path | None) -> Path | bytes:
    if isinstance(value, bytes):
        return value
    path = Path(str(value)).expanduser()
    if not path.is_absolute() and folder is None:
        raise RowError(f'the audio path "{value}" is relative, and this source has no folder to start at.')
    return path if path.is_absolute() else folder / path


def _name(value: AudioValue | None) -> str:
    return "the audio" if isinstance(value, bytes) else f"the audio file {value}"
