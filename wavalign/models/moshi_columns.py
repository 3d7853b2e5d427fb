"""How Moshi's streams become flat lists of ids and back.

A *frame* is 80 ms: the text token, and one code of each book of the model's own speech (and, in prompts, of the
user's). What the backbone makes in one step is a *column*: the text token and the first, semantic, code of a frame, and
the other, acoustic, codes of the frame before it, because acoustic codes come one step late (Défossez et al.
2024). A completion is its columns in the order in which they are drawn:

    text c0 | text c0 c1 ... c7 | text c0 c1 ... c7 | ... | text

The first column has no acoustic codes: they are of the prompt's last frame and known. A reply ends with the padding
token that makes its pause long enough, and nothing is drawn for that column any more.

A prompt is its frames, undelayed: the text token, the own codes, the user's codes. Ids: the text vocabulary (with one
more that stands before the first frame), the own codes, the user's codes, each stream book by book.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavalign.models.moshi_family import TITLE
from wavalign.models.parallel_grammar import CompiledGrammar
from wavalign.models.parallel_tokens import ParallelTokens
from wavalign.models.protocol import GenerationError

_WORD, _PADDING, _WORD_COMES, _FIRST_BOOK = 0, 1, 2, 3


@dataclass(frozen=True)
class Frames:
    """``text`` int64 (n,); ``own`` and ``user`` int64 (n, books), each code in [0, codes)."""

    text: np.ndarray
    own: np.ndarray
    user: np.ndarray

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class MoshiIds:
    """The numbers of one model. ``text_size``: logits of the text head; ``padding``, ``word_comes``: text tokens."""

    text_size: int
    codes: int
    books: int
    padding: int
    word_comes: int
    pause: int
    """Steps of padding that end a reply."""

    @property
    def speech_start(self) -> int:
        return self.text_size + 1

    @property
    def user_start(self) -> int:
        return self.speech_start + self.books * self.codes

    @property
    def vocabulary_size(self) -> int:
        """Of prompts; completions use the ids below ``user_start``."""
        return self.user_start + self.books * self.codes

    @property
    def prompt_width(self) -> int:
        """Ids of a frame of a prompt."""
        return 1 + 2 * self.books

    @property
    def column_width(self) -> int:
        """Ids of a column but the first."""
        return 1 + self.books

    def flat(self, frames: Frames) -> list[int]:
        """The ids of a prompt."""
        steps = np.arange(self.books) * self.codes
        own, user = self.speech_start + steps + frames.own, self.user_start + steps + frames.user
        return np.concatenate([frames.text[:, None], own, user], 1).flatten().tolist()

    def frames(self, prompt: Sequence[int]) -> Frames:
        """The frames of a prompt's ids."""
        table = np.asarray(prompt, dtype=np.int64).reshape(-1, self.prompt_width)
        steps = np.arange(self.books) * self.codes
        own, user = table[:, 1 : 1 + self.books], table[:, 1 + self.books :]
        return Frames(table[:, 0], own - self.speech_start - steps, user - self.user_start - steps)

    def place(self, index: int) -> tuple[int, int]:
        """(column, place in it) of the ``index``-th token of a completion; place 0 is the text token."""
        if index < 2:
            return 0, index
        column, place = divmod(index - 2, self.column_width)
        return column + 1, place

    def columns(self, completion: Sequence[int]) -> np.ndarray:
        """Text tokens and codes (columns, 1 + books) of a completion, -1 where none was drawn."""
        flat = np.asarray(completion, dtype=np.int64)
        first, rest = flat[:2], flat[2:]
        table = np.full((1 + -(-len(rest) // self.column_width), self.column_width), -1, dtype=np.int64)
        table[0, : len(first)] = first
        table[1:].reshape(-1)[: len(rest)] = rest
        offsets = np.array([0, *(self.speech_start + np.arange(self.books) * self.codes)])
        return np.where(table < 0, -1, table - offsets)

    def completion(self, text: np.ndarray, own: np.ndarray) -> list[int]:
        """Tokens of a whole reply: ``text`` (n + 2,) for ``own`` frames (n + 1, books).

        The last frame has its semantic code alone, the last text token no code at all.
        """
        late = np.roll(own, 1, 0)
        late[:, 0] = own[:, 0]
        ids = late + self.speech_start + np.arange(self.books) * self.codes
        table = np.concatenate([text[:-1, None], ids], 1)
        return [*table[0, :2].tolist(), *table[1:].flatten().tolist(), int(text[-1])]

    def said(self, completion: Sequence[int], silence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Text (n,) and own codes (n, books) of a completion's frames; ``silence`` (books,) where none was drawn."""
        table = self.columns(completion)
        text, codes = table[:, 0], table[:, 1:]
        own = np.full(codes.shape, -1, dtype=np.int64)
        own[:, 0] = codes[:, 0]
        own[:-1, 1:] = codes[1:, 1:]
        return text, np.where(own < 0, silence, own)

    def aligned(self, codes: Sequence[int]) -> list[int]:
        """A completion's speech, as ``book * codes + code``, from drawing order to whole frames one after another."""
        flat = np.asarray(codes, dtype=np.int64)
        whole = max(0, len(flat) - 1) // self.books
        books, values = np.divmod(flat[: 1 + whole * self.books], self.codes)
        expected = np.arange(len(books) - 1) % self.books
        if len(books) and not (books[0] == 0 and (books[1:] == expected).all()):
            raise GenerationError(f"These are not speech tokens in the order in which {TITLE} draws them.")
        if not whole:
            return []
        rest = values[1:].reshape(whole, self.books)
        frames = np.concatenate([np.concatenate([values[:1], rest[:-1, 0]])[:, None], rest[:, 1:]], 1)
        return (frames + np.arange(self.books) * self.codes).flatten().tolist()


def grammar_of(ids: MoshiIds, tokens: ParallelTokens) -> CompiledGrammar:
    """Columns until a word has been said and ``ids.pause`` steps of padding follow it.

    A state is what is drawn next and how many steps of padding there were since a word, or its announcement; None
    before the first word, when padding is a breath and not an end.
    """
    kinds = np.full(tokens.vocabulary_size, -1, dtype=np.int64)
    kinds[tokens.is_text] = _WORD
    kinds[ids.padding], kinds[ids.word_comes] = _PADDING, _WORD_COMES
    kinds[tokens.speech_start : tokens.speech_stop] = _FIRST_BOOK + np.arange(ids.books).repeat(ids.codes)

    edges: dict[tuple, dict[int, tuple]] = {}

    def drawn(after: str, run: int | None) -> dict[int, tuple]:
        padded = None if run is None else run + 1
        announced = None if run is None else 0
        ends = padded == ids.pause
        return {
            _WORD: (after, 0, 0),
            _WORD_COMES: (after, 0, announced),
            _PADDING: ("done",) if ends else (after, 0, padded),
        }

    edges["open",] = drawn("first", None)
    for run in (None, *range(ids.pause)):
        edges["text", run] = drawn("book", run)
        for book in range(ids.books):
            last = book + 1 == ids.books
            edges["book", book, run] = {_FIRST_BOOK + book: ("text", run) if last else ("book", book + 1, run)}
        if not run:
            edges["first", 0, run] = {_FIRST_BOOK: ("text", run)}
    edges["done",] = {}
    speech = range(_FIRST_BOOK, _FIRST_BOOK + ids.books)
    return CompiledGrammar(edges, kinds, ("open",), ("done",), (_WORD,), tuple(speech))
