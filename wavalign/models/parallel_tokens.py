"""Token ids of a model whose text and speech are streams side by side, in one vocabulary.

Text ids stand for themselves; the codes of the model's own stream come in one block behind them, book by book, then
whatever else the layout has. So an id alone says which stream it is of, and a completion is a flat list.

Only words are TEXT. What fills the text stream between them (padding, "a word comes", blanks) is FORMAT: it says when
something is said, not what. Most steps are padding, so an objective over it would be an objective over silence and
tempo, and a reward for what was said would reach the words as a small part of its gradient. Demonstrations still teach
it: the anchor covers every channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from wavalign.models.protocol import Channel


@dataclass(frozen=True)
class SpeechPieces:
    """How much speech is decoded at once, in speech tokens: what ``ReplyBuilder`` asks of a layout's description."""

    speech_chunk: int
    first_chunks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ParallelTokens:
    """Ids of one model. ``books`` code books of ``codes`` codes each, from ``speech_start`` on.

    ``is_text`` bool (vocabulary,): words; ``channels`` int8 (vocabulary,). ``text_end`` closes the text in families
    that have such a token; ``turn_end`` closes the reply, None where nothing is drawn for that.
    """

    speech_start: int
    codes: int
    books: int
    is_text: np.ndarray
    channels: np.ndarray
    description: SpeechPieces = field(default=SpeechPieces(1))
    text_end: int | None = None
    turn_end: int | None = None

    @classmethod
    def of(
        cls,
        words: Sequence[int],
        vocabulary_size: int,
        speech_start: int,
        codes: int,
        books: int,
        description: SpeechPieces,
        text_end: int | None = None,
        turn_end: int | None = None,
    ) -> ParallelTokens:
        """``words``: ids of the text stream that are words, or pieces of words."""
        is_text = np.zeros(vocabulary_size, dtype=bool)
        is_text[list(words)] = True
        channels = np.full(vocabulary_size, Channel.FORMAT, dtype=np.int8)
        channels[is_text] = Channel.TEXT
        channels[speech_start : speech_start + books * codes] = Channel.SPEECH
        return cls(speech_start, codes, books, is_text, channels, description, text_end, turn_end)

    @property
    def vocabulary_size(self) -> int:
        return len(self.channels)

    @property
    def speech_stop(self) -> int:
        return self.speech_start + self.books * self.codes

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values (int8) of the shape of ``ids``."""
        return self.channels[ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids, dtype=np.int64)]

    def text_ids(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if self.is_text[i]]

    def codes_of(self, ids: Sequence[int]) -> list[int]:
        """The speech tokens among ``ids``, counted from the first one: ``book * codes + code``."""
        return [i - self.speech_start for i in ids if self.speech_start <= i < self.speech_stop]

    def spread(self, logits: torch.Tensor, start: int) -> torch.Tensor:
        """Logits (B, n) of the ids from ``start`` on in the whole vocabulary, (B, V); -inf elsewhere."""
        whole = logits.new_full((len(logits), self.vocabulary_size), -torch.inf, dtype=torch.float32)
        whole[:, start : start + logits.shape[1]] = logits
        return whole
