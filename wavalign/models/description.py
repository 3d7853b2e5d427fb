"""The interleaved layout as a description: one stream in which text chunks and speech chunks alternate, by token names.

A family is such a description (``families/*.yaml``, found by ``config.json``) and a codec. A checkpoint may bring its
own as ``interleaved.json`` beside the weights: whole, or as changes to a family's (``"extends": "glm-4-voice"``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from wavalign.models import families
from wavalign.models.protocol import CheckpointError, Sampling, SamplingError

LAYOUT_FILE = "interleaved.json"
_REQUIRED = ("family", "text_chunk", "speech_chunk", "turn_end", "speech_first", "speech_count")
_NAMES = ("chunk_begin", "chunk_end", "text_end", "text_pad", "speech_pad", "reply_end", "backbone")


class LayoutError(CheckpointError):
    """A description that is wrong or does not fit its tokenizer; the message names the field."""


@dataclass(frozen=True)
class PromptMarks:
    """Strings (named tokens, or text that is tokenised) around the turns of a prompt; None where there is none.

    ``system_spoken`` stands for ``system`` where the first turn is a recording. ``after_reply`` is what follows the end
    of a reply in the history.
    """

    bos: str | None = None
    system: str | None = None
    system_spoken: str | None = None
    user: str | None = None
    assistant: str | None = None
    audio_begin: str | None = None
    audio_end: str | None = None
    end_of_turn: str | None = None
    after_reply: str | None = None


@dataclass(frozen=True)
class UserAudio:
    """How a user's speech stands in the prompt. ``codes``: as the model's own speech tokens. ``features``: as what the
    checkpoint's own encoder makes of it, in place of ``placeholder``; ``ears`` names what opens that encoder."""

    kind: str = "codes"
    ears: str | None = None
    placeholder: str | None = None


@dataclass(frozen=True)
class InterleavedDescription:
    """What a description says, by token name.

    ``first_chunks`` are (text, speech) sizes before the repeated (``text_chunk``, ``speech_chunk``); sizes do not
    count boundaries. ``text_end`` None means that a short text chunk, or speech past its chunk, ends the text; with
    ``text_pad`` and ``speech_pad`` every chunk is full, and they stand where words or speech have ended. ``reply_end``
    comes before ``turn_end``. ``text_suffix`` ends the words of every spoken reply. ``backbone`` says how the network
    is opened (``wavalign.models.backbones``); None is transformers' auto class.
    """

    family: str
    text_chunk: int
    speech_chunk: int
    turn_end: str
    speech_first: str
    speech_count: int
    first_chunks: tuple[tuple[int, int], ...] = ()
    chunk_begin: str | None = None
    chunk_end: str | None = None
    text_end: str | None = None
    text_pad: str | None = None
    speech_pad: str | None = None
    reply_end: str | None = None
    text_suffix: str = ""
    prompt: PromptMarks = field(default_factory=PromptMarks)
    user_audio: UserAudio = field(default_factory=UserAudio)
    codec: str | Mapping[str, Any] | None = None
    backbone: str | None = None
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> InterleavedDescription:
        """Checks and converts the JSON object.

        Raises:
            LayoutError: naming the first field that is missing, unknown or out of range.
        """
        if not isinstance(data, Mapping):
            raise LayoutError("The layout description must be a JSON object.")
        data = extended(data)
        if data.pop("layout", "interleaved") != "interleaved":
            raise LayoutError('The layout description must have "layout": "interleaved".')
        if data.pop("pattern", "repeat") != "repeat":
            raise LayoutError('The layout description must have "pattern": "repeat".')
        _only_known("layout description", data, {item.name for item in fields(cls)})
        for name in sorted(set(_REQUIRED) - data.keys()):
            raise LayoutError(f'The layout description lacks "{name}".')
        for name in ("text_chunk", "speech_chunk", "speech_count"):
            data[name] = _positive(name, data[name])
        data["first_chunks"] = tuple(_pair(chunk) for chunk in data.get("first_chunks") or ())
        for name in ("family", "turn_end", "speech_first"):
            if not isinstance(data[name], str) or not data[name]:
                raise LayoutError(f'"{name}" in the layout description must be a token name, got {data[name]!r}.')
        for name in _NAMES:
            if data.get(name) is not None and not isinstance(data[name], str):
                raise LayoutError(f'"{name}" in the layout description must be a string or null, got {data[name]!r}.')
        if not isinstance(data.setdefault("text_suffix", ""), str):
            raise LayoutError(f'"text_suffix" in the layout description must be text, got {data["text_suffix"]!r}.')
        if data.get("codec") is not None and not isinstance(data["codec"], str | Mapping):
            raise LayoutError(
                f'"codec" in the layout description must be a folder or an object with a "type", got {data["codec"]!r}.'
            )
        for one, other in (("chunk_begin", "chunk_end"), ("text_pad", "speech_pad")):
            if (data.get(one) is None) != (data.get(other) is None):
                raise LayoutError(f'"{one}" and "{other}" in the layout description go together.')
        if data.get("text_pad") and (data.get("chunk_begin") or data.get("text_end") or data["first_chunks"]):
            raise LayoutError(
                'With "text_pad" the layout description has no "chunk_begin", "text_end" or "first_chunks".'
            )
        data["prompt"] = PromptMarks(**_strings("prompt", data.get("prompt"), PromptMarks))
        heard = data["user_audio"] = UserAudio(**_strings("user_audio", data.get("user_audio"), UserAudio))
        if heard.kind not in ("codes", "features"):
            raise LayoutError(f'The layout\'s user_audio must be of kind "codes" or "features", got {heard.kind!r}.')
        if heard.kind == "features" and not (heard.ears and heard.placeholder):
            raise LayoutError('The layout\'s user_audio of kind "features" needs "ears" and "placeholder".')
        settings = data.get("sampling") or {}
        _only_known("layout description's sampling", settings, {item.name for item in fields(Sampling)})
        try:
            data["sampling"] = Sampling(**settings)
        except (SamplingError, TypeError) as error:
            raise LayoutError(f"The layout description's sampling is wrong: {error}") from error
        return cls(**data)

    @classmethod
    def read(cls, folder: str | Path) -> InterleavedDescription:
        """Of a checkpoint's folder: its ``interleaved.json``, else its family's by ``config.json``.

        Raises:
            LayoutError: when there is neither, or the file is no JSON, or is wrong.
        """
        folder = Path(folder)
        path = folder / LAYOUT_FILE
        if path.is_file():
            try:
                return cls.parse(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise LayoutError(f"{path} is not valid JSON.") from error
        told = families.description_in(folder)
        if told is None:
            raise LayoutError(f"{path} is missing: it tells how text and speech tokens alternate.")
        return cls.parse(told)

    def told(self) -> dict[str, Any]:
        """The JSON object that ``parse`` makes this of."""
        return {"layout": "interleaved", **asdict(self)}


def extended(data: Mapping[str, Any]) -> dict[str, Any]:
    """A family's description with what ``data`` changes; nested objects are merged.

    Raises:
        LayoutError: when there is no such family.
    """
    data = dict(data)
    name = data.pop("extends", None)
    if name is None:
        return data
    if name not in families.names():
        raise LayoutError(
            f'The layout description extends "{name}"; the known families are: {", ".join(families.names())}.'
        )
    whole = families.description_of(name)
    for field_name, value in data.items():
        under = whole.get(field_name)
        merged = isinstance(value, Mapping) and isinstance(under, Mapping) and field_name != "codec"
        whole[field_name] = {**under, **value} if merged else value
    return whole


def _only_known(where: str, data: Any, known: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise LayoutError(f"The {where} must be a JSON object, got {data!r}.")
    for name in sorted(data.keys() - known):
        raise LayoutError(f'The {where} has an unknown field "{name}"; the fields are: {", ".join(sorted(known))}.')


def _strings(name: str, data: Any, kind: type) -> Mapping[str, str | None]:
    data = data or {}
    _only_known(f"layout description's {name}", data, {item.name for item in fields(kind)})
    for key, value in data.items():
        if value is not None and not isinstance(value, str):
            raise LayoutError(f'"{key}" in the layout description\'s {name} must be a string or null, got {value!r}.')
    return data


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LayoutError(f'"{name}" in the layout description must be a whole number of at least 1, got {value!r}.')
    return value


def _pair(chunk: Any) -> tuple[int, int]:
    if not isinstance(chunk, Sequence) or isinstance(chunk, str) or len(chunk) != 2:
        raise LayoutError(f'"first_chunks" in the layout description must hold [text, speech] pairs, got {chunk!r}.')
    return _positive("first_chunks", chunk[0]), _positive("first_chunks", chunk[1])
