"""The state machine of a layout with parallel streams, compiled from its edges for the decoding loop.

Tokens fall into kinds (a word, padding, a code of a certain book, ...); a layout says which kinds may follow in each
state.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np

from wavalign.models.grammar import TokenClass
from wavalign.models.layout import LayoutError


class CompiledGrammar:
    """What ``decode`` and ``Sampler`` ask of a grammar; see ``wavalign.models.grammar.Grammar`` for the attributes.

    ``edges``: state -> kind -> next state, with ``start`` and ``done`` among the states; ``kinds`` int (vocabulary,):
    the kind of each token, -1 for those that are never drawn. ``words`` and ``speech`` are the kinds of either.
    """

    def __init__(
        self,
        edges: Mapping[Hashable, Mapping[int, Hashable]],
        kinds: np.ndarray,
        start: Hashable,
        done: Hashable,
        words: Collection[int],
        speech: Collection[int],
    ) -> None:
        number = {state: index for index, state in enumerate(edges)}
        self.start, self.done = number[start], number[done]
        self.kinds = kinds.astype(np.int16)
        self.following = np.full((len(edges), int(kinds.max()) + 2), -1, dtype=np.int16)  # the last column is kind -1's
        for state, moves in edges.items():
            for kind, target in moves.items():
                self.following[number[state], kind] = number[target]
        self.class_of = np.full(len(kinds), TokenClass.OTHER, dtype=np.int8)
        self.class_of[np.isin(kinds, list(words))] = TokenClass.TEXT
        self.class_of[np.isin(kinds, list(speech))] = TokenClass.SPEECH
        allowed = self.following >= 0
        # A finished row keeps something to draw until it is removed, whatever it is the turn of.
        allowed[self.done] = True
        patterns, self.mask_of = np.unique(allowed, axis=0, return_inverse=True)
        self.mask_of = self.mask_of.reshape(-1)
        self.masks = patterns[:, self.kinds]
        self.speaks = patterns[:, list(speech)].any(1)
        self.text_over = ~self._leading_to(list(words))

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The states (B,) after one token (B,) each; a finished row stays finished."""
        return np.where(states == self.done, self.done, self.following[states, self.kinds[tokens]])

    def check(self, completion: Sequence[int], whole: bool = True) -> None:
        """Raises:
        LayoutError: at the first token that the layout does not allow, or when ``whole`` and it does not end.
        """
        state = self.start
        for position, token in enumerate(completion):
            known = 0 <= token < len(self.kinds)
            state = int(self.following[state, self.kinds[token]]) if known else -1
            if state < 0:
                raise LayoutError(f"Token {position} of the completion ({token}) breaks the layout.")
        if whole and state != self.done:
            raise LayoutError("The completion stops before its end.")

    def _leading_to(self, kinds: list[int]) -> np.ndarray:
        """bool (states,): from where a token of ``kinds`` can still come, now or later."""
        leads = (self.following[:, kinds] >= 0).any(1)
        while True:
            further = leads | ((self.following >= 0) & leads[self.following]).any(1)
            if (further == leads).all():
                return leads
            leads = further
