"""Dialogues to the token ids of an interleaved model's prompt."""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.hearing import Heard, HeardPrompt, Recording
from wavalign.models.layout import LayoutError, TokenMap
from wavalign.models.protocol import GenerationError

TYPED_TEXT: dict[str, str] = {"closedtalk": "wavalign.closedtalk.normalising:normalise_typed"}
"""Family -> "module:function" that spells typed text as the family's tokenizer knows it; others take it as it is."""
_REMEMBERED_TURNS = 64


@dataclass(frozen=True)
class _Said:
    """Ids of a turn, or of several; ``spoken``: whether the first is a recording."""

    ids: list[int]
    spoken: bool = False
    recordings: tuple[Recording, ...] = ()


class Prompter:
    """Encodes dialogues for one base. Remembers the codes of recent recordings: a conversation repeats its history.

    ``heard``: what hears a user in models that do not take speech as codes; ``deaf`` says why there is none.
    """

    def __init__(
        self,
        tokens: TokenMap,
        tokenizer: Any,
        codec: SpeechCodec,
        context: int,
        heard: Heard | None = None,
        deaf: str | None = None,
    ) -> None:
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.codec = codec
        self.context = context
        self.heard = heard
        self.deaf = deaf
        self.suffix = self.text_ids(tokens.description.text_suffix)
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
        after = list(marks["assistant"])
        exchanges: list[_Said] = []
        for turn in dialogue.turns:
            said = self._turn(turn)
            if turn.role == "user" or not exchanges:
                exchanges.append(said)
            else:
                exchanges[-1] = self._joined([exchanges[-1], said], exchanges[-1].spoken)
        limit = self.context - room - len(self._before(exchanges[-1])) - len(after)
        if len(exchanges[-1].ids) > limit:
            raise GenerationError(self._too_long(dialogue.turns[-1], len(exchanges[-1].ids), limit))
        while sum(len(each.ids) for each in exchanges) > limit:
            exchanges.pop(0)
        whole = self._joined(exchanges, exchanges[0].spoken)
        ids = [*self._before(exchanges[0]), *whole.ids, *after]
        if not whole.recordings:
            return ids
        prompt = HeardPrompt(ids)
        prompt.recordings = whole.recordings
        return prompt

    def _before(self, first: _Said) -> list[int]:
        """What opens a prompt; some families ask for a spoken question to be answered in other words."""
        marks = self.tokens.prompt
        system = marks["system_spoken"] if first.spoken and marks["system_spoken"] else marks["system"]
        return [*marks["bos"], *system]

    def _joined(self, parts: Sequence[_Said], spoken: bool) -> _Said:
        """One after another. Where the end of a reply is the mark of the next turn, it stands once."""
        ids: list[int] = []
        for part in parts:
            again = ids[-1:] == [self.tokens.turn_end] == part.ids[:1]
            ids += part.ids[1:] if again else part.ids
        return _Said(ids, spoken, tuple(each for part in parts for each in part.recordings))

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
        if self.heard is not None:
            self.heard.forget()

    def text_ids(self, text: str) -> list[int]:
        """Ids of words; special and speech tokens spelled out in a text do not become such tokens."""
        function = TYPED_TEXT.get(self.tokens.description.family)
        if function:
            module, _, name = function.partition(":")
            text = getattr(importlib.import_module(module), name)(text)
        unknown = self.tokenizer.unk_token_id
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [i for i in ids if self.tokens.is_text[i] or i == unknown]

    def packed(self, text: str, codes: Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``codes``; what the family puts behind the words of a spoken reply is
        left out where the speech would end before it.

        Raises:
            LayoutError: when there is no text or no speech, or the speech ends before the text does.
        """
        ids = self.text_ids(text)
        if ids and self.suffix and ids[-len(self.suffix) :] != self.suffix:
            try:
                return self.tokens.pack([*ids, *self.suffix], codes)
            except LayoutError:
                pass
        return self.tokens.pack(ids, codes)

    def completion_of(self, turn: Turn) -> list[int]:
        """An assistant turn as it stands in the history, its end of turn included."""
        if turn.tokens is not None:
            ids = list(turn.tokens)
            if any(not 0 <= i < self.tokens.vocabulary_size for i in ids):
                raise GenerationError("The conversation's history is of another model. Start a new conversation.")
        elif turn.speech is not None and turn.text:
            return self.packed(turn.text, self.speech_codes(turn.speech, reply=True))
        elif turn.codes and turn.text:
            return self.packed(turn.text, turn.codes)
        else:
            ids = self.text_ids(turn.text or "")
            ids += [] if self.tokens.text_end is None else [self.tokens.text_end]
        return ids if ids[-1:] == [self.tokens.turn_end] else [*ids, self.tokens.turn_end]

    def _turn(self, turn: Turn) -> _Said:
        marks = self.tokens.prompt
        if turn.role == "assistant":
            return _Said([*marks["assistant"], *self.completion_of(turn), *marks["after_reply"]])
        if turn.tokens is None and turn.speech is None and turn.codes is None:
            said = self.text_ids(turn.text or "")
            if not said:
                raise GenerationError("There are no words in that message. Type a question, or record one.")
            return _Said([*marks["user"], *said, *marks["end_of_turn"]])
        recordings: tuple[Recording, ...] = ()
        if self.tokens.description.user_audio.kind == "features":
            recording = self._heard(turn)
            recordings, segments = (recording,), self.heard.ids(recording)
        elif turn.tokens is not None:
            segments = [list(turn.tokens)]
        else:
            codes = self.speech_codes(turn.speech) if turn.codes is None else turn.codes
            if not codes:
                raise GenerationError("That recording is empty. Record again, or choose another file.")
            segments = [self.tokens.speech_ids(codes)]
        said = [i for ids in segments for i in (*marks["audio_begin"], *ids, *marks["audio_end"])]
        return _Said([*marks["user"], *said, *marks["end_of_turn"]], True, recordings)

    def _heard(self, turn: Turn) -> Recording:
        if turn.speech is None:
            raise GenerationError(
                "A turn is there only as speech tokens of another model, and this one hears recordings. Use dialogues "
                "with audio files."
            )
        if self.heard is None:
            raise GenerationError(self.deaf or "This checkpoint does not hear recordings. Type the question.")
        return self.heard.recording(turn.speech)

    def _too_long(self, turn: Turn, length: int, limit: int) -> str:
        if turn.speech is not None:
            rate = self.codec.tokens_per_second if self.heard is None else 1 / self.heard.ears.seconds_per_token
            seconds = max(0, limit - 4) / rate
            return (
                f"That recording is {turn.speech.seconds:.0f} s long and this model takes in about {seconds:.0f} s. "
                "Say it shorter."
            )
        return f"That message is {length} tokens long and this model takes in {max(0, limit)}. Shorten it."
