"""Dialogues to the token ids of an interleaved model's prompt."""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.layout import TokenMap
from wavalign.models.protocol import GenerationError

TYPED_TEXT: dict[str, str] = {"closedtalk": "wavalign.closedtalk.normalising:normalise_typed"}
"""Family -> "module:function" that spells typed text as the family's tokenizer knows it; others take it as it is."""
_REMEMBERED_TURNS = 64


class Prompter:
    """Encodes dialogues for one base. Remembers the codes of recent recordings: a conversation repeats its history."""

    def __init__(self, tokens: TokenMap, tokenizer: Any, codec: SpeechCodec, context: int) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.codec = codec
        self.context = context
        self._codes: OrderedDict[tuple[bool, int, bytes], list[int]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, dialogue: Dialogue, room: int) -> list[int]:
        """Ids up to and including the assistant mark, leaving ``room`` for a completion.

        The oldest exchanges are dropped until it fits.

        Raises:
            GenerationError: when there is nothing to answer, or the last turn alone does not fit.
        """
        if not dialogue.turns or dialogue.turns[-1].role != "user":
            raise GenerationError("There is nothing to answer: the last turn must be the user's.")
        marks = self.tokens.prompt
        before, after = [*marks["bos"], *marks["system"]], list(marks["assistant"])
        limit = self.context - room - len(before) - len(after)
        exchanges: list[list[int]] = []
        for turn in dialogue.turns:
            ids = self._turn(turn)
            if turn.role == "user" or not exchanges:
                exchanges.append(ids)
            else:
                exchanges[-1].extend(ids)
        if len(exchanges[-1]) > limit:
            raise GenerationError(self._too_long(dialogue.turns[-1], len(exchanges[-1]), limit))
        while sum(map(len, exchanges)) > limit:
            exchanges.pop(0)
        return [*before, *(i for ids in exchanges for i in ids), *after]

    def speech_codes(self, waveform: Waveform, reply: bool = False) -> list[int]:
        """The codec's codes of what a user said, or of a ``reply``; from memory when encoded a short while ago."""
        digest = hashlib.blake2b(waveform.samples.tobytes(), digest_size=16).digest()
        key = (reply, waveform.sample_rate, digest)
        with self._lock:
            if key in self._codes:
                self._codes.move_to_end(key)
                return self._codes[key]
        codes = self.codec.encode_reply(waveform) if reply else self.codec.encode(waveform)
        with self._lock:
            self._codes[key] = codes
            while len(self._codes) > _REMEMBERED_TURNS:
                self._codes.popitem(last=False)
        return codes

    def forget(self) -> None:
        """Forgets the codes of recent recordings."""
        with self._lock:
            self._codes.clear()

    def text_ids(self, text: str) -> list[int]:
        """Ids of words; special and speech tokens spelled out in a text do not become such tokens."""
        function = TYPED_TEXT.get(self.tokens.description.family)
        if function:
            module, _, name = function.partition(":")
            text = getattr(importlib.import_module(module), name)(text)
        unknown = self.tokenizer.unk_token_id
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [i for i in ids if self.tokens.is_text[i] or i == unknown]

    def completion_of(self, turn: Turn) -> list[int]:
        """An assistant turn as it stands in the history, its end of turn included."""
        if turn.tokens is not None:
            ids = list(turn.tokens)
            if any(not 0 <= i < self.tokens.vocabulary_size for i in ids):
                raise GenerationError("The conversation's history is of another model. Start a new conversation.")
        elif turn.speech is not None and turn.text:
            return self.tokens.pack(self.text_ids(turn.text), self.speech_codes(turn.speech, reply=True))
        elif turn.codes and turn.text:
            return self.tokens.pack(self.text_ids(turn.text), turn.codes)
        else:
            ids = self.text_ids(turn.text or "")
            ids += [] if self.tokens.text_end is None else [self.tokens.text_end]
        return ids if ids[-1:] == [self.tokens.turn_end] else [*ids, self.tokens.turn_end]

    def _turn(self, turn: Turn) -> list[int]:
        marks = self.tokens.prompt
        if turn.role == "assistant":
            return [*marks["assistant"], *self.completion_of(turn)]
        if turn.tokens is not None:
            said: Sequence[int] = [*marks["audio_begin"], *turn.tokens, *marks["audio_end"]]
        elif turn.speech is not None or turn.codes is not None:
            codes = self.speech_codes(turn.speech) if turn.codes is None else turn.codes
            if not codes:
                raise GenerationError("That recording is empty. Record again, or choose another file.")
            said = [*marks["audio_begin"], *self.tokens.speech_ids(codes), *marks["audio_end"]]
        else:
            said = self.text_ids(turn.text or "")
            if not said:
                raise GenerationError("There are no words in that message. Type a question, or record one.")
        return [*marks["user"], *said, *marks["end_of_turn"]]

    def _too_long(self, turn: Turn, length: int, limit: int) -> str:
        if turn.speech is not None:
            seconds = max(0, limit - 4) / self.codec.tokens_per_second
            return (
                f"That recording is {turn.speech.seconds:.0f} s long and this model takes in about {seconds:.0f} s. "
                "Say it shorter."
            )
        return f"That message is {length} tokens long and this model takes in {max(0, limit)}. Shorten it."
