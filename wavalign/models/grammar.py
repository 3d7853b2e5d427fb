"""The state machine of the interleaved layout: which classes of token may follow, as two small tables.

The layout is finite (chunk, position in it, has the text ended), so it is compiled once and then followed for a whole
batch by indexing, without Python work for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from wavalign.models.layout import LayoutError, TokenMap


class TokenClass(IntEnum):
    """What a token is to the grammar. OTHER is never allowed in a completion."""

    TEXT = 0
    TEXT_END = 1
    CHUNK_BEGIN = 2
    SPEECH = 3
    CHUNK_END = 4
    TURN_END = 5
    OTHER = 6
    TEXT_PAD = 7
    SPEECH_PAD = 8
    REPLY_END = 9


_START = ("text", 0, 0)
_DONE = ("done",)


class Grammar:
    """The compiled machine of one ``TokenMap``.

    Attributes:
        start, done: state numbers.
        class_of: int8 (vocabulary,), the ``TokenClass`` of each token.
        following: int16 (states, classes), the next state or -1 where the class is not allowed.
        mask_of: int64 (states,), which row of ``masks`` holds in a state.
        masks: bool (distinct masks, vocabulary), True where the token is allowed.
        speaks: bool (distinct masks,), True where speech is among the allowed classes.
        text_over: bool (states,), True where no word can follow any more.
        speech_only: bool (states,), True where neither a word nor the end of the text may come next: a position of
            speech, to adapters that are split by channel.
    """

    def __init__(self, tokens: TokenMap) -> None:
        self.tokens = tokens
        edges = _edges(tokens) if tokens.text_pad is None else _padded_edges(tokens)
        number = {state: index for index, state in enumerate(edges)}
        self.start, self.done = number[_START], number[_DONE]
        self.following = np.full((len(edges), len(TokenClass)), -1, dtype=np.int16)
        for state, moves in edges.items():
            for token_class, target in moves.items():
                self.following[number[state], token_class] = number[target]
        self.class_of = _classes(tokens)
        allowed = self.following >= 0
        allowed[self.done, TokenClass.TURN_END] = True  # a finished row keeps a token to draw until it is removed
        patterns, self.mask_of = np.unique(allowed, axis=0, return_inverse=True)
        self.mask_of = self.mask_of.reshape(-1)
        self.masks = patterns[:, self.class_of]
        self.speaks = patterns[:, TokenClass.SPEECH].copy()
        self.text_over = ~_leading_to(self.following, TokenClass.TEXT)
        self.speech_only = ~(allowed[:, TokenClass.TEXT] | allowed[:, TokenClass.TEXT_END])
        self._moves = self.following.tolist()

    def speech_of(self, completion: Sequence[int]) -> np.ndarray:
        """bool (T,): True where a token of a completion is predicted at a position of speech.

        A demonstration may hold what is never sampled, such as an unknown word's mark: it stands for a word.

        Raises:
            LayoutError: when the completion breaks the layout.
        """
        states = []
        state = self.start
        classes = self.class_of[np.asarray(completion, dtype=np.int64)]
        classes = np.where(classes == TokenClass.OTHER, TokenClass.TEXT, classes)
        for position, token_class in enumerate(classes.tolist()):
            states.append(state)
            state = self._moves[state][token_class]
            if state < 0:
                raise LayoutError(f"Token {position} of the completion ({completion[position]}) breaks the layout.")
        return self.speech_only[np.array(states, dtype=np.int64)]

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The states (B,) after one token (B,) each; a finished row stays finished."""
        after = self.following[states, self.class_of[tokens]]
        return np.where(states == self.done, self.done, after)

    def check(self, completion: Sequence[int], whole: bool = True) -> None:
        """Raises:
        LayoutError: at the first token that the layout does not allow, or when ``whole`` and it does not end.
        """
        state = self.start
        for position, token in enumerate(completion):
            state = int(self.following[state, self.class_of[token]])
            if state < 0:
                name = TokenClass(int(self.class_of[token])).name
                raise LayoutError(f"Token {position} of the completion ({token}, {name}) breaks the layout.")
        if whole and state != self.done:
            raise LayoutError("The completion stops before its end of turn.")


def _leading_to(following: np.ndarray, token_class: TokenClass) -> np.ndarray:
    """bool (states,): from where a token of ``token_class`` can still come, now or later."""
    leads = following[:, token_class] >= 0
    while True:
        further = leads | ((following >= 0) & leads[following]).any(1)
        if (further == leads).all():
            return leads
        leads = further


def _classes(tokens: TokenMap) -> np.ndarray:
    classes = np.full(tokens.vocabulary_size, TokenClass.OTHER, dtype=np.int8)
    classes[tokens.is_text] = TokenClass.TEXT
    classes[tokens.speech_start : tokens.speech_stop] = TokenClass.SPEECH
    for token, token_class in (
        (tokens.text_end, TokenClass.TEXT_END),
        (tokens.chunk_begin, TokenClass.CHUNK_BEGIN),
        (tokens.chunk_end, TokenClass.CHUNK_END),
        (tokens.text_pad, TokenClass.TEXT_PAD),
        (tokens.speech_pad, TokenClass.SPEECH_PAD),
        (tokens.reply_end, TokenClass.REPLY_END),
        (tokens.turn_end, TokenClass.TURN_END),
    ):
        if token is not None:
            classes[token] = token_class
    return classes


def _edges(tokens: TokenMap) -> dict[tuple, dict[TokenClass, tuple]]:
    """State -> allowed class -> next state. The first chunk is unrolled: a reply starts with text and says something.

    States: ("text", chunk, n said), ("begin", chunk, last?), ("speech", chunk, n said), ("close", chunk),
    ("rest", may it end?), ("closed",), ("done",).
    """
    description = tokens.description
    repeated = (description.text_chunk, description.speech_chunk)
    sizes = [*(description.first_chunks or (repeated,)), repeated]
    bounded = tokens.chunk_begin is not None
    ends_by_name = tokens.text_end is not None
    text, text_end, speech = TokenClass.TEXT, TokenClass.TEXT_END, TokenClass.SPEECH
    begin, end = TokenClass.CHUNK_BEGIN, TokenClass.CHUNK_END
    # What ends a reply, and where it leads.
    named_end = tokens.reply_end is not None
    turn_end, ended = (TokenClass.REPLY_END, ("over",)) if named_end else (TokenClass.TURN_END, _DONE)

    def following_chunk(chunk: int) -> int:
        return min(chunk + 1, len(sizes) - 1)

    def speech_starts(chunk: int, last: bool) -> tuple:
        if bounded:
            return ("begin", chunk, last)
        return ("rest", chunk > 0) if last else ("speech", chunk, 0)

    edges: dict[tuple, dict[TokenClass, tuple]] = {
        _DONE: {},
        ("closed",): {turn_end: ended},
        ("over",): {TokenClass.TURN_END: _DONE},
    }
    for may_end in (False, True):
        edges["rest", may_end] = {speech: ("rest", True)}
        if may_end:
            edges["rest", may_end][end if bounded else turn_end] = ("closed",) if bounded else ended
    for chunk, (text_size, speech_size) in enumerate(sizes):
        for said in range(text_size):
            full = said + 1 == text_size
            moves = {text: speech_starts(chunk, False) if full else ("text", chunk, said + 1)}
            begun = chunk > 0 or said > 0
            if begun and ends_by_name:
                moves[text_end] = speech_starts(chunk, True)
            elif begun:
                moves[begin if bounded else speech] = ("rest", chunk > 0) if bounded else ("rest", True)
                if said == 0:
                    moves[turn_end] = ended
            edges["text", chunk, said] = moves
        edges["begin", chunk, False] = {begin: ("speech", chunk, 0)}
        edges["begin", chunk, True] = {begin: ("rest", chunk > 0)}
        next_text = ("text", following_chunk(chunk), 0)
        for said in range(speech_size):
            full = said + 1 == speech_size
            after = ("close", chunk) if bounded else next_text
            moves = {speech: after if full else ("speech", chunk, said + 1)}
            if said > 0 and not ends_by_name:
                moves[end if bounded else turn_end] = ("closed",) if bounded else ended
            edges["speech", chunk, said] = moves
        edges["close", chunk] = {end: next_text}
        if not ends_by_name:
            edges["close", chunk][speech] = ("rest", True)
    return edges


def _padded_edges(tokens: TokenMap) -> dict[tuple, dict[TokenClass, tuple]]:
    """The same where every chunk is full: text or its pad, then speech or its pad. What has ended stays ended.

    States: ("text", n said, has the text ended, has the speech ended), ("speech", ...), ("over",), ("done",). A reply
    ends before a chunk, or in one whose speech is cut short, once both text and speech have been heard.
    """
    text_size, speech_size = tokens.description.text_chunk, tokens.description.speech_chunk
    over = ("over",) if tokens.reply_end is not None else _DONE
    end = TokenClass.REPLY_END if tokens.reply_end is not None else TokenClass.TURN_END
    edges: dict[tuple, dict[TokenClass, tuple]] = {_DONE: {}, ("over",): {TokenClass.TURN_END: _DONE}}
    first = ("text", 0, 0)

    def text_at(chunk: int, said: int, silent: bool, mute: bool) -> tuple:
        if said < text_size:
            return ("text", chunk, said, silent, mute)
        return ("speech", chunk, 0, silent, mute)

    def speech_at(chunk: int, said: int, silent: bool, mute: bool) -> tuple:
        if said < speech_size:
            return ("speech", chunk, said, silent, mute)
        return ("text", 1, 0, silent, mute)

    for chunk in (0, 1):
        for silent in (False, True):
            for mute in (False, True):
                for said in range(text_size):
                    moves = {} if silent else {TokenClass.TEXT: text_at(chunk, said + 1, False, mute)}
                    if (chunk or said) and not (silent and mute):
                        moves[TokenClass.TEXT_PAD] = text_at(chunk, said + 1, True, mute)
                    if chunk and not said:
                        moves[end] = over
                    edges["text", chunk, said, silent, mute] = moves
                for said in range(speech_size):
                    moves = {} if mute else {TokenClass.SPEECH: speech_at(chunk, said + 1, silent, False)}
                    if chunk or said:
                        moves[TokenClass.SPEECH_PAD] = speech_at(chunk, said + 1, silent, True)
                        if not mute:
                            moves[end] = over
                    edges["speech", chunk, said, silent, mute] = moves
    edges[first] = edges.pop(("text", 0, 0, False, False))
    return edges


class FreeGrammar:
    """No layout: every token may follow every token, and only ``end`` tokens end a row. Same attributes as Grammar."""

    def __init__(self, vocabulary_size: int, end: Sequence[int] = ()) -> None:
        self.start, self.done = 0, 1
        self.class_of = np.full(vocabulary_size, TokenClass.TEXT, dtype=np.int8)
        self.class_of[list(end)] = TokenClass.TURN_END
        self.following = np.full((2, len(TokenClass)), -1, dtype=np.int16)
        self.following[:, TokenClass.TEXT] = self.start, self.done
        self.following[:, TokenClass.TURN_END] = self.done
        self.mask_of = np.zeros(2, dtype=np.int64)
        self.masks = np.ones((1, vocabulary_size), dtype=bool)
        self.speaks = np.zeros(1, dtype=bool)
        self.text_over = np.array([False, True])
        self.speech_only = np.zeros(2, dtype=bool)

    advance = Grammar.advance
