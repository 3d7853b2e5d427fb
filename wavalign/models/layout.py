"""The interleaved layout resolved against a tokenizer: ids instead of names, what each is, and how a reply is packed.

Families (``wavalign.models.families``) and the embedded model differ only in their descriptions:

- the embedded model: 4 text, 10 speech, repeated; ``<|end_of_text|>`` closes the text and the rest is speech;
- VITA-Audio Boost: 1 text and 8 speech first, then 4 and 8 repeated, every speech chunk between boundary tokens;
  the text ends where a chunk holds fewer than its 4 tokens, and all speech that is left goes into the last chunk;
- GLM-4-Voice: 13 text, 26 speech, no boundaries, and no end of text: speech that comes early or goes on tells it;
- Step-Audio 2: 1 text, 4 speech, and one pad for each kind, so that every chunk is full.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from wavalign.models.description import LAYOUT_FILE, InterleavedDescription, LayoutError, PromptMarks
from wavalign.models.protocol import Channel

__all__ = ["LAYOUT_FILE", "InterleavedDescription", "LayoutError", "PromptMarks", "TokenMap", "resolve"]


@dataclass(frozen=True)
class TokenMap:
    """A description resolved against one tokenizer: ids instead of names.

    ``channels`` int8 (vocabulary size,); ``is_text`` bool (vocabulary size,), the ids that may stand in a text chunk.
    """

    description: InterleavedDescription
    vocabulary_size: int
    speech_start: int
    text_end: int | None
    text_pad: int | None
    speech_pad: int | None
    chunk_begin: int | None
    chunk_end: int | None
    reply_end: int | None
    turn_end: int
    placeholder: int | None
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
        if self.text_pad is not None:
            return self._padded(left_text, left_speech)
        finish = [self.turn_end] if self.reply_end is None else [self.reply_end, self.turn_end]
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
                return [*packed, *begin, *left_speech, *end, *finish]
            if last or len(left_speech) < speech_size:
                raise LayoutError(
                    f"The speech is too short for its text: {len(codes)} speech tokens for {len(text)} text tokens."
                )
            packed += [*begin, *left_speech[:speech_size], *end]
            left_speech = left_speech[speech_size:]
            index += 1

    def _padded(self, text: list[int], speech: list[int]) -> list[int]:
        """As many full chunks as text and speech need, pads where one of them has ended."""
        text_size, speech_size = self.description.text_chunk, self.description.speech_chunk
        chunks = max(-(-len(text) // text_size), -(-len(speech) // speech_size))
        text = text + [self.text_pad] * (chunks * text_size - len(text))
        speech = speech + [self.speech_pad] * (chunks * speech_size - len(speech))
        packed: list[int] = []
        for index in range(chunks):
            packed += text[index * text_size : (index + 1) * text_size]
            packed += speech[index * speech_size : (index + 1) * speech_size]
        return [*packed, *([] if self.reply_end is None else [self.reply_end]), self.turn_end]


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
        name: single(name, getattr(description, name))
        for name in ("text_end", "text_pad", "speech_pad", "chunk_begin", "chunk_end", "reply_end", "turn_end")
    }
    named["placeholder"] = single("user_audio placeholder", description.user_audio.placeholder)
    special = set(tokenizer.all_special_ids)
    special |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    special |= {index for name, index in added.items() if name.startswith("<") and name.endswith(">")}
    special |= {index for name, index in vocabulary.items() if name.startswith("<|") and name.endswith("|>")}
    special |= {index for index in named.values() if index is not None}
    # A mark that is a token's name; one that only happens to be one token, such as a line break, may be said.
    special |= {ids[0] for name, ids in marks.items() if getattr(description.prompt, name) in vocabulary}
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
