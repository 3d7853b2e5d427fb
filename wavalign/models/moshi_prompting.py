"""Dialogues to Moshi's streams.

Moshi is full duplex: it always hears and always makes sound. In turns that becomes: while the user speaks, the user's
stream holds the recording and Moshi's own is silent with padding for text; while Moshi answers, its own streams hold
the reply and the user's is silent. No stream carries written text of the user's, so a typed message is written into
Moshi's own text stream, a token a frame, while both are silent (as PersonaPlex, trained on Moshi, reads its role).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.layout import LayoutError
from wavalign.models.moshi_codec import MimiCodec
from wavalign.models.moshi_columns import Frames, MoshiIds
from wavalign.models.moshi_family import TITLE
from wavalign.models.moshi_words import padding_behind, pieces_of, placed, spoken_part
from wavalign.models.parallel_grammar import CompiledGrammar
from wavalign.models.parallel_tokens import ParallelTokens
from wavalign.models.protocol import GenerationError


class MoshiPrompter:
    """Encodes dialogues and targets for one base. ``context``: frames that prompt and reply may have together.

    ``silence`` int64 (books,): the user's stream while Moshi answers, as transformers' own ``generate`` fills it.
    """

    def __init__(
        self,
        ids: MoshiIds,
        tokens: ParallelTokens,
        grammar: CompiledGrammar,
        tokenizer: Any,
        codec: MimiCodec,
        context: int,
    ) -> None:
        self.ids = ids
        self.tokens = tokens
        self.grammar = grammar
        self.tokenizer = tokenizer
        self.codec = codec
        self.context = context
        self.silence = codec.silence(1)[0]

    def encode(self, dialogue: Dialogue, room: int) -> list[int]:
        """Leaves ``room`` frames for the reply; the oldest exchanges are dropped until it fits.

        Raises:
            GenerationError: when there is nothing to answer, or the last turn alone does not fit.
        """
        if not dialogue.turns or dialogue.turns[-1].role != "user":
            raise GenerationError("There is nothing to answer: the last turn must be the user's.")
        exchanges: list[list[Frames]] = []
        for turn in dialogue.turns:
            if turn.role == "user" or not exchanges:
                exchanges.append([])
            exchanges[-1].append(self._heard(turn) if turn.role == "user" else self._said(turn))
        lengths = [sum(map(len, exchange)) for exchange in exchanges]
        limit = self.context - room
        if lengths[-1] > limit:
            raise GenerationError(self._too_long(dialogue.turns[-1], lengths[-1], limit))
        while sum(lengths) > limit:
            lengths.pop(0)
            exchanges.pop(0)
        return [i for exchange in exchanges for frames in exchange for i in self.ids.flat(frames)]

    def target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``speech`` (see ``moshi_words``), silent behind it until it is over.

        Raises:
            GenerationError: when there are no words, more words than time, or codes that are not this model's.
        """
        words, own = self._spoken(text, speech)
        behind = padding_behind(words, self.ids)
        if behind > 1:
            own = np.concatenate([own, self.codec.silence(behind - 1)])
        return self.ids.completion(np.pad(words, (0, behind), constant_values=self.ids.padding), own)

    def _spoken(self, text: str, speech: Waveform | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The text stream (n,) and the own codes (n, books)."""
        pieces = pieces_of(text, self.tokenizer, self.tokens.is_text)
        if not pieces:
            raise GenerationError("A spoken target needs words, and there are none in its text.")
        if isinstance(speech, Waveform):
            own = self.codec.frames(speech)
            part = spoken_part(speech.resampled(self.codec.sample_rate), self.codec.samples_per_frame)
        else:
            own = self._codes(speech)
            part = (0, len(own))
        return placed(pieces, len(own), part, self.ids), own

    def _codes(self, codes: Sequence[int]) -> np.ndarray:
        if not len(codes) or len(codes) % self.ids.books:
            raise GenerationError(
                f"Speech as codes must be whole frames of {self.ids.books} codes of {TITLE}; got {len(codes)} codes."
            )
        return self.codec.unflat(codes)

    def _heard(self, turn: Turn) -> Frames:
        """A turn of the user's."""
        if turn.speech is not None or turn.codes is not None:
            user = self.codec.frames(turn.speech) if turn.speech is not None else self._codes(turn.codes)
            text = np.full(len(user), self.ids.padding, dtype=np.int64)
            return Frames(text, self.codec.silence(len(user)), user)
        if turn.tokens is not None:
            raise GenerationError(
                f"A turn is there only as tokens of another model, and {TITLE} hears recordings. Use dialogues with "
                "audio files."
            )
        pieces = pieces_of(turn.text or "", self.tokenizer, self.tokens.is_text)
        if not pieces:
            raise GenerationError("There are no words in that message. Type a question, or record one.")
        quiet = self.codec.silence(len(pieces))
        return Frames(np.array([piece.token for piece in pieces]), quiet, quiet)

    def _said(self, turn: Turn) -> Frames:
        """A turn of the assistant's."""
        if turn.tokens is not None:
            try:
                self.grammar.check(turn.tokens, whole=False)
            except LayoutError as error:
                raise GenerationError(
                    "The conversation's history is of another model. Start a new conversation."
                ) from error
            text, own = self.ids.said(turn.tokens, self.silence)
        elif not turn.text:
            raise GenerationError(
                f"A turn of the assistant has no words, and {TITLE} reads its own turns. Add its text."
            )
        elif turn.speech is not None or turn.codes is not None:
            text, own = self._spoken(turn.text, turn.speech if turn.speech is not None else turn.codes)
        else:
            written = self._heard(Turn("user", text=turn.text))
            text, own = written.text, written.own
        return Frames(text, own, np.tile(self.silence, (len(text), 1)))

    def _too_long(self, turn: Turn, length: int, limit: int) -> str:
        if turn.speech is not None:
            seconds = max(0, limit) / self.codec.frames_per_second
            return (
                f"That recording is {turn.speech.seconds:.0f} s long and this model takes in about {seconds:.0f} s. "
                "Say it shorter."
            )
        return f"That message is {length} steps long and this model takes in {max(0, limit)}. Shorten it."
