"""The interleaved layout as data: one stream in which text chunks and speech chunks alternate.

A family is a description (``interleaved.json`` beside the weights) and a codec; nothing else is needed. Examples:

- the embedded model: 4 text, 10 speech, repeated; ``<|end_of_text|>`` closes the text and the rest is speech;
- VITA-Audio Boost: 1 text and 8 speech first, then 4 and 8 repeated, every speech chunk between boundary tokens;
  the text ends where a chunk holds fewer than its 4 tokens, and all speech that is left goes into the last chunk;
- GLM-4-Voice: 13 text, 26 speech, no boundaries, and no end of text: speech that comes early or goes on tells it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.models.protocol import Channel, CheckpointError, Sampling, SamplingError

LAYOUT_FILE = "interleaved.json"


class LayoutError(CheckpointError):
    """A description that is wrong or does not fit its tokenizer; the message names the field."""


@dataclass(frozen=True)
class PromptMarks:
    """Strings (named tokens, or text that is tokenised) around the turns of a prompt; None where there is none."""

    bos: str | None = None
    system: str | None = None
    user: str | None = None
    assistant: str | None = None
    audio_begin: str | None = None
    audio_end: str | None = None
    end_of_turn: str | None = None


@dataclass(frozen=True)
class InterleavedDescription:
    """What ``interleaved.json`` says, by token name.

    ``first_chunks`` are (text, speech) sizes before the repeated (``text_chunk``, ``speech_chunk``); sizes do not
    count boundaries. ``text_end`` None means that a short text chunk, or speech past its chunk, ends the text.
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
    prompt: PromptMarks = field(default_factory=PromptMarks)
    codec: str | None = None
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> InterleavedDescription:
        """Checks and converts the JSON object.

        Raises:
            LayoutError: naming the first field that is missing, unknown or out of range.
        """
        if not isinstance(data, Mapping):
            raise LayoutError("The layout description must be a JSON object.")
        data = dict(data)
        if data.pop("layout", "interleaved") != "interleaved":
            raise LayoutError('The layout description must have "layout": "interleaved".')
        if data.pop("pattern", "repeat") != "repeat":
            raise LayoutError('The layout description must have "pattern": "repeat".')
        known = {item.name for item in fields(cls)}
        required = {"family", "text_chunk", "speech_chunk", "turn_end", "speech_first", "speech_count"}
        _only_known("layout description", data, known)
        for name in sorted(required - data.keys()):
            raise LayoutError(f'The layout description lacks "{name}".')
        for name in ("text_chunk", "speech_chunk", "speech_count"):
            data[name] = _positive(name, data[name])
        data["first_chunks"] = tuple(_pair(chunk) for chunk in data.get("first_chunks") or ())
        for name in ("family", "turn_end", "speech_first"):
            if not isinstance(data[name], str) or not data[name]:
                raise LayoutError(f'"{name}" in the layout description must be a token name, got {data[name]!r}.')
        for name in ("chunk_begin", "chunk_end", "text_end", "codec"):
            if data.get(name) is not None and not isinstance(data[name], str):
                raise LayoutError(f'"{name}" in the layout description must be a string or null, got {data[name]!r}.')
        if (data.get("chunk_begin") is None) != (data.get("chunk_end") is None):
            raise LayoutError('"chunk_begin" and "chunk_end" in the layout description go together.')
        marks = data.get("prompt") or {}
        _only_known("layout description's prompt", marks, {item.name for item in fields(PromptMarks)})
        data["prompt"] = PromptMarks(**marks)
        settings = data.get("sampling") or {}
        _only_known("layout description's sampling", settings, {item.name for item in fields(Sampling)})
        try:
            data["sampling"] = Sampling(**settings)
        except (SamplingError, TypeError) as error:
            raise LayoutError(f"The layout description's sampling is wrong: {error}") from error
        return cls(**data)

    @classmethod
    def read(cls, folder: str | Path) -> InterleavedDescription:
        """Reads ``interleaved.json`` from a checkpoint folder.

        Raises:
            LayoutError: when the file is missing, is not JSON, or is wrong.
        """
        path = Path(folder) / LAYOUT_FILE
        if not path.is_file():
            raise LayoutError(f"{path} is missing: it tells how text and speech tokens alternate.")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise LayoutError(f"{path} is not valid JSON.") from error
        return cls.parse(data)


@dataclass(frozen=True)
class TokenMap:
    """A description resolved against one tokenizer: ids instead of names.

    ``channels`` int8 (vocabulary size,); ``is_text`` bool (vocabulary size,), the ids that may stand in a text chunk.
    """

    description: InterleavedDescription
    vocabulary_size: int
    speech_start: int
    text_end: int | None
    chunk_begin: int | None
    chunk_end: int | None
    turn_end: int
    prompt: Mapping[str, tuple[int, ...]]
    channels: np.ndarray
    is_text: np.ndarray

    @property
    def speech_stop(self) -> int:
        return self.speech_start + self.description.speech_count

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values (int8) of the shape of ``ids``."""
        array = ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids, dtype=np.int64)
        return self.channels[array]

    def codes_of(self, ids: Sequence[int]) -> list[int]:
        """The codec's codes among ``ids``, in order."""
        return [i - self.speech_start for i in ids if self.speech_start <= i < self.speech_stop]

    def speech_ids(self, codes: Sequence[int]) -> list[int]:
        count = self.description.speech_count
        for code in codes:
            if not 0 <= code < count:
                raise LayoutError(f"The codec gave code {code}, but the model has {count} speech tokens.")
        return [self.speech_start + int(code) for code in codes]

    def text_ids(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if self.is_text[i]]

    def pack(self, text: Sequence[int], codes: Sequence[int]) -> list[int]:
        """The completion that carries these text ids and codec codes, in the layout's order, with its end marks.

        Raises:
            LayoutError: when there is no text or no speech, or the speech ends before the text does.
        """
        if not text or not codes:
            raise LayoutError("A spoken reply needs at least one text token and one speech token.")
        left_text, left_speech = list(text), self.speech_ids(codes)
        begin = [] if self.chunk_begin is None else [self.chunk_begin]
        end = [] if self.chunk_end is None else [self.chunk_end]
        chunks = self.description.first_chunks
        packed: list[int] = []
        index = 0
        while True:
            sizes = (self.description.text_chunk, self.description.speech_chunk)
            text_size, speech_size = chunks[index] if index < len(chunks) else sizes
            chunk, left_text = left_text[:text_size], left_text[text_size:]
            packed += chunk
            if self.text_end is not None:
                last = len(chunk) < text_size
                packed += [self.text_end] if last else []
            else:
                last = not left_text
            if last and (left_speech or (index and self.text_end is not None)):
                return [*packed, *begin, *left_speech, *end, self.turn_end]
            if last or len(left_speech) < speech_size:
                raise LayoutError(
                    f"The speech is too short for its text: {len(codes)} speech tokens for {len(text)} text tokens."
                )
            packed += [*begin, *left_speech[:speech_size], *end]
            left_speech = left_speech[speech_size:]
            index += 1


def resolve(description: InterleavedDescription, tokenizer: Any, vocabulary_size: int) -> TokenMap:
    """Finds every named token in ``tokenizer`` (a transformers tokenizer) of a model with ``vocabulary_size`` logits.

    Raises:
        LayoutError: when a name is missing, or the speech tokens are not one contiguous block in order.
    """
    vocabulary = tokenizer.get_vocab()

    def single(field_name: str, name: str | None) -> int | None:
        if name is None:
            return None
        if name not in vocabulary:
            raise LayoutError(f'The tokenizer has no token "{name}" (the layout\'s {field_name}).')
        return vocabulary[name]

    def several(field_name: str, text: str | None) -> tuple[int, ...]:
        if text is None:
            return ()
        if text in vocabulary:
            return (vocabulary[text],)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids or tokenizer.unk_token_id in ids:
            raise LayoutError(f'The tokenizer has no token "{text}" (the layout\'s prompt {field_name}).')
        return tuple(ids)

    start = _speech_start(description, vocabulary, vocabulary_size)
    stop = start + description.speech_count
    marks = {
        item.name: several(item.name, getattr(description.prompt, item.name)) for item in fields(description.prompt)
    }
    named = {
        name: single(name, getattr(description, name)) for name in ("text_end", "chunk_begin", "chunk_end", "turn_end")
    }
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {index for name, index in vocabulary.items() if name.startswith("<|") and name.endswith("|>")}
    special |= {index for index in named.values() if index is not None}
    special |= {ids[0] for ids in marks.values() if len(ids) == 1}
    channels = np.full(vocabulary_size, Channel.FORMAT, dtype=np.int8)
    is_text = np.zeros(vocabulary_size, dtype=bool)
    text_ids = [i for i in vocabulary.values() if i < vocabulary_size and not start <= i < stop and i not in special]
    if not text_ids:
        raise LayoutError("The tokenizer has no text tokens beside its special and speech tokens.")
    is_text[text_ids] = True
    channels[text_ids] = Channel.TEXT
    channels[start:stop] = Channel.SPEECH
    return TokenMap(description, vocabulary_size, start, prompt=marks, channels=channels, is_text=is_text, **named)


def _speech_start(description: InterleavedDescription, vocabulary: Mapping[str, int], vocabulary_size: int) -> int:
    first, count = description.speech_first, description.speech_count
    match = re.fullmatch(r"(.*?)(\d+)(\D*)", first)
    if match is None:
        raise LayoutError(f'"speech_first" must name a numbered token like "<|audio_0|>", got "{first}".')
    before, number, after = match[1], int(match[2]), match[3]
    if first not in vocabulary:
        raise LayoutError(f'The tokenizer has no token "{first}" (the first of {count} speech tokens).')
    start = vocabulary[first]
    for index in range(count):
        name = f"{before}{number + index}{after}"
        if vocabulary.get(name) != start + index:
            found = "is missing" if name not in vocabulary else f"has id {vocabulary[name]}, not {start + index}"
            raise LayoutError(f'The speech tokens must be one block in order: "{name}" {found}.')
    if start + count > vocabulary_size:
        raise LayoutError(
            f"The speech tokens reach id {start + count - 1}, but the model has only {vocabulary_size} logits."
        )
    return start


def _only_known(where: str, data: Any, known: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise LayoutError(f"The {where} must be a JSON object, got {data!r}.")
    for name in sorted(data.keys() - known):
        raise LayoutError(f'The {where} has an unknown field "{name}"; the fields are: {", ".join(sorted(known))}.')


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LayoutError(f'"{name}" in the layout description must be a whole number of at least 1, got {value!r}.')
    return value


def _pair(chunk: Any) -> tuple[int, int]:
    if not isinstance(chunk, Sequence) or isinstance(chunk, str) or len(chunk) != 2:
        raise LayoutError(f'"first_chunks" in the layout description must hold [text, speech] pairs, got {chunk!r}.')
    return _positive("first_chunks", chunk[0]), _positive("first_chunks", chunk[1])
