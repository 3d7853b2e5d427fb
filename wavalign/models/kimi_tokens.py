"""Kimi-Audio's two streams as token ids: what is drawn in which step, and what its marks are called.

In every step there is one token of text and one of audio, and both are predicted from the steps before. Audio begins
``delay`` steps after the text; what fills the idle side is a blank, which is known and so neither drawn nor written:

    step      0    1    2    3    4    5    6    7    8    9
    text      I    am  fine  end  .    .    .    .    .    .
    audio     .    .    .    .    .    .    c0   c1   c2   end        flat: I am fine end c0 c1 c2 end

A completion is flat, step by step and text before audio; the k-th token of text stands in step k and the j-th of audio
in step ``delay`` + j. Both streams share one vocabulary: ids from ``kimia_token_offset`` on are speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from wavalign.models.layout import LayoutError
from wavalign.models.parallel_grammar import CompiledGrammar
from wavalign.models.parallel_tokens import ParallelTokens, SpeechPieces
from wavalign.models.protocol import CheckpointError

MARKS: dict[str, str] = {
    "msg_end": "<|im_msg_end|>",
    "media_begin": "<|im_media_begin|>",
    "media_end": "<|im_media_end|>",
    "blank": "<|im_kimia_text_blank|>",
    "text_end": "<|im_kimia_text_eos|>",
    "user": "<|im_kimia_user_msg_start|>",
    "assistant": "<|im_kimia_assistant_msg_start|>",
    "speak": "<|im_kimia_speech_ctd_id|>",
}
"""The family's marks by the names its tokenizer has for them. ``speak`` closes a recording that is to be answered aloud
(another closes one that is to be answered in writing alone)."""


@dataclass(frozen=True)
class Marks:
    """Ids of ``MARKS``."""

    msg_end: int
    media_begin: int
    media_end: int
    blank: int
    text_end: int
    user: int
    assistant: int
    speak: int

    @property
    def ends(self) -> tuple[int, int]:
        """What closes the audio, and with it the reply; targets end with the first."""
        return self.msg_end, self.media_end


class KimiTokenizer:
    """The family's tokenizer behind the calls that the rest of the program makes.

    The published one is Python code of its own (``encode(text, bos=, eos=)``, ``special_tokens``); checkpoints saved
    with a tokenizer of transformers work as well.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        told = getattr(inner, "special_tokens", None)
        self.special: dict[str, int] = dict(told) if isinstance(told, dict) else dict(inner.get_added_vocab())

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        try:
            ids = self.inner.encode(text, bos=False, eos=False)
        except TypeError:
            ids = self.inner.encode(text, add_special_tokens=False)
        return {"input_ids": list(ids)}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return self.inner.decode(list(ids))

    def words(self, size: int) -> list[int]:
        """Ids of words and pieces of words: all below ``size`` that are no marks."""
        marks = set(self.special.values())
        return [index for index in range(min(size, self.size)) if index not in marks]

    @property
    def size(self) -> int:
        return int(getattr(self.inner, "n_words", 0) or 0) or len(self.inner.get_vocab())


def marks_of(name: str, tokenizer: KimiTokenizer, config: Any) -> Marks:
    """Found by name, below the speech tokens, and the same that ``config.json`` means.

    Raises:
        CheckpointError: naming the first that does not hold.
    """
    found: dict[str, int] = {}
    for field, word in MARKS.items():
        if word not in tokenizer.special:
            raise CheckpointError(f'Checkpoint "{name}": its tokenizer has no token "{word}". Restore its files.')
        found[field] = tokenizer.special[word]
        if found[field] >= config.kimia_token_offset:
            raise CheckpointError(
                f'Checkpoint "{name}": {word} is token {found[field]}, but from {config.kimia_token_offset} '
                "(kimia_token_offset) on there are speech tokens. Restore tokenizer and config.json from one place."
            )
    if len(set(found.values())) < len(found):
        raise CheckpointError(f'Checkpoint "{name}": two of its marks are one token. Restore its tokenizer.')
    for field in ("media_begin", "media_end"):
        told = getattr(config, f"kimia_{field}", found[field])
        if told != found[field]:
            raise CheckpointError(
                f'Checkpoint "{name}": {MARKS[field]} is token {found[field]} of its tokenizer, but {told} in '
                "config.json. Restore both from one place."
            )
    return Marks(**found)


def tokens_of(
    name: str, tokenizer: KimiTokenizer, marks: Marks, config: Any, codes: int, pieces: SpeechPieces
) -> ParallelTokens:
    """The ids of a model whose codec has ``codes`` codes.

    Raises:
        CheckpointError: when the speech tokens are not one block behind all others, one for each code.
    """
    offset, size = config.kimia_token_offset, config.vocab_size
    if tokenizer.size > offset:
        raise CheckpointError(
            f'Checkpoint "{name}": its tokenizer has {tokenizer.size} tokens, but from {offset} (kimia_token_offset) '
            "on there are speech tokens. Restore tokenizer and config.json from one place."
        )
    if size - offset != codes:
        raise CheckpointError(
            f'Checkpoint "{name}" has {size - offset} speech tokens (from {offset} to {size - 1}), but its codec has '
            f"{codes} codes. Use the codec it was trained with."
        )
    words = tokenizer.words(offset)
    return ParallelTokens.of(words, size, offset, codes, 1, pieces, text_end=marks.text_end, turn_end=marks.msg_end)


@dataclass(frozen=True)
class Columns:
    """The steps of a completion. ``audio`` and ``text`` are ids, a blank where nothing was drawn."""

    audio: list[int]
    text: list[int]


@dataclass(frozen=True)
class Streams:
    """Text and audio of one model, apart and together. ``delay`` is in steps."""

    tokens: ParallelTokens
    marks: Marks
    delay: int

    def split(self, completion: Sequence[int]) -> tuple[list[int], list[int]]:
        """What was drawn in the text stream and in the audio stream, with the marks that end them."""
        audio = [i for i in completion if i >= self.tokens.speech_start or i in self.marks.ends]
        return [i for i in completion if i < self.tokens.speech_start and i not in self.marks.ends], audio

    def is_audio(self, completion: Sequence[int]) -> np.ndarray:
        """bool (T,): of which stream each token is."""
        ids = np.asarray(completion, dtype=np.int64)
        return (ids >= self.tokens.speech_start) | np.isin(ids, self.marks.ends)

    def steps_of(self, completion: Sequence[int]) -> np.ndarray:
        """int64 (T,): in which step each token stands."""
        audio = self.is_audio(completion)
        return np.where(audio, self.delay + np.cumsum(audio) - 1, np.cumsum(~audio) - 1)

    def columns(self, completion: Sequence[int]) -> Columns:
        """What the model reads, step by step."""
        text, audio = self.split(completion)
        size = max(len(text), self.delay + len(audio) if audio else 0)
        audio = [*[self.marks.blank] * self.delay, *audio]
        return Columns(*(stream[:size] + [self.marks.blank] * (size - len(stream)) for stream in (audio, text)))

    def pack(self, text: Sequence[int], codes: Sequence[int]) -> list[int]:
        """The completion that carries these text ids and codec codes, with the marks that end both streams.

        Raises:
            LayoutError: when there is no text or no speech, or the speech ends before the text does.
        """
        if not text or not codes:
            raise LayoutError("A spoken reply needs at least one text token and one speech token.")
        wrong = next((code for code in codes if not 0 <= code < self.tokens.codes), None)
        if wrong is not None:
            raise LayoutError(f"There is no code {wrong}; this model's codes are 0 to {self.tokens.codes - 1}.")
        words = [*text, self.marks.text_end]
        audio = [*(self.tokens.speech_start + int(code) for code in codes), self.marks.msg_end]
        if len(words) > self.delay + len(audio):
            raise LayoutError(
                f"The speech is too short for its text: {len(codes)} speech tokens for {len(text)} text tokens."
            )
        packed: list[int] = []
        for step in range(self.delay + len(audio)):
            packed += words[step : step + 1]
            packed += audio[step - self.delay : step - self.delay + 1] if step >= self.delay else []
        return packed


class Kind(IntEnum):
    """What a token is to the grammar."""

    WORD = 0
    TEXT_END = 1
    CODE = 2
    END = 3


def grammar_of(streams: Streams) -> CompiledGrammar:
    """At least one word, their end, and at least one code. Audio does not end before the text has.

    States: ("text", step up to the delay), ("audio",) while there is more text, ("first",) with nothing said and
    ("rest",) with something said after the text's end, ("done",).
    """
    delay, tokens = streams.delay, streams.tokens
    kinds = np.full(tokens.vocabulary_size, -1, dtype=np.int16)
    kinds[tokens.is_text] = Kind.WORD
    kinds[tokens.speech_start : tokens.speech_stop] = Kind.CODE
    kinds[streams.marks.text_end] = Kind.TEXT_END
    kinds[list(streams.marks.ends)] = Kind.END
    edges: dict[tuple, dict[int, tuple]] = {
        ("done",): {},
        ("audio",): {Kind.CODE: ("text", delay + 1)},
        ("first",): {Kind.CODE: ("rest",)},
        ("rest",): {Kind.CODE: ("rest",), Kind.END: ("done",)},
    }
    for step in range(delay + 2):  # the last one stands for all later steps, after something was said
        edges["text", step] = {Kind.WORD: ("text", step + 1) if step < delay else ("audio",)}
        if step > 0:
            edges["text", step][Kind.TEXT_END] = ("first",) if step <= delay else ("rest",)
    return CompiledGrammar(edges, kinds, ("text", 0), ("done",), words=[Kind.WORD], speech=[Kind.CODE])
