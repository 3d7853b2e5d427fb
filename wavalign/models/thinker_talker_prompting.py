"""Dialogues to a thinker's prompt: token ids with placeholders, and the recordings that stand in their place.

Made from the tokenizer and the mel features alone: the family's processor needs torchvision for videos nobody sends.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import GenerationError
from wavalign.models.thinker_talker_families import Family, OmniTokens

_REMEMBERED = 64
_LEAST_SECONDS = 0.1
"""Shorter recordings are filled up with silence: the encoder makes nothing of a few samples."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What was heard: ``features`` float32 (mels, frames), ``tokens`` placeholders long; ``digest`` tells it apart."""

    features: np.ndarray
    tokens: int
    digest: bytes


class Prompt(list[int]):
    """Token ids up to and including the assistant mark, with the recordings that their placeholders stand for."""

    def __init__(self, ids: Iterable[int], recordings: Iterable[Recording] = ()) -> None:
        super().__init__(ids)
        self.recordings = tuple(recordings)

    def __eq__(self, other: object) -> bool:
        mine = [recording.digest for recording in self.recordings]
        return list.__eq__(self, other) is True and mine == [r.digest for r in getattr(other, "recordings", ())]

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


class Ears:
    """Recordings to mel features, as the family's own processor makes them; remembers those of recent turns.

    ``tokens_of`` says how many placeholders so many frames become.
    """

    def __init__(self, extractor: Any, tokens_of: Callable[[int], int]) -> None:
        self.extractor = extractor
        self.tokens_of = tokens_of
        self._known: OrderedDict[bytes, Recording] = OrderedDict()
        self._lock = threading.Lock()

    def hear(self, waveform: Waveform) -> Recording:
        """Raises:
        GenerationError: when there is nothing in the recording.
        """
        if not len(waveform.samples):
            raise GenerationError("That recording is empty. Record again, or choose another file.")
        rate = self.extractor.sampling_rate
        digest = hashlib.blake2b(waveform.samples.tobytes(), digest_size=16)
        digest.update(str(waveform.sample_rate).encode())
        key = digest.digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        samples = waveform.resampled(rate).samples
        samples = np.pad(samples, (0, max(0, int(_LEAST_SECONDS * rate) - len(samples))))
        features = self._features(samples)
        recording = Recording(features, self.tokens_of(features.shape[1]), key)
        with self._lock:
            self._known[key] = recording
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return recording

    def _features(self, samples: np.ndarray) -> np.ndarray:
        """The frames (mels, frames) that padding to the longest recording (30 or 300 s) and cutting would give.

        Silence of a window behind the end is enough for that: its frames are below every floor.
        """
        hop, window = self.extractor.hop_length, self.extractor.n_fft
        frames = -(-len(samples) // hop)
        padded = np.pad(samples, (0, (frames + 1) * hop + window - len(samples)))
        made = self.extractor(
            padded, sampling_rate=self.extractor.sampling_rate, padding="do_not_pad", truncation=False,
            return_tensors="np",
        )  # fmt: skip
        return np.asarray(made["input_features"][0], dtype=np.float32)[:, :frames]


class OmniPrompter:
    """Encodes dialogues for one base, in ChatML with the family's audio marks."""

    def __init__(
        self, family: Family, tokens: OmniTokens, tokenizer: Any, ears: Ears, audio_mark: int, context: int
    ) -> None:
        self.family = family
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.ears = ears
        self.audio_mark = audio_mark
        self.context = context

    def encode(self, dialogue: Dialogue, room: int) -> Prompt:
        """Leaves ``room`` for the reply's words; the oldest exchanges are dropped until it fits.

        Raises:
            GenerationError: when there is nothing to answer, or the last turn alone does not fit.
        """
        if not dialogue.turns or dialogue.turns[-1].role != "user":
            raise GenerationError("There is nothing to answer: the last turn must be the user's.")
        before = self._block("system", self.family.system) if self.family.system else []
        after = self._ids("<|im_start|>assistant\n")
        exchanges: list[Prompt] = []
        for turn in dialogue.turns:
            block = self._turn(turn)
            if turn.role == "user" or not exchanges:
                exchanges.append(block)
            else:
                exchanges[-1] = Prompt([*exchanges[-1], *block], (*exchanges[-1].recordings, *block.recordings))
        limit = self.context - room - len(before) - len(after)
        if len(exchanges[-1]) > limit:
            raise GenerationError(self._too_long(dialogue.turns[-1], len(exchanges[-1]), limit))
        while sum(map(len, exchanges)) > limit:
            exchanges.pop(0)
        ids = [*before, *(i for exchange in exchanges for i in exchange), *after]
        return Prompt(ids, (recording for exchange in exchanges for recording in exchange.recordings))

    def text_ids(self, text: str) -> list[int]:
        """Ids of words; marks spelled out in a text do not become marks."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [i for i in ids if i < self.tokens.text_size and self.tokens.is_text[i]]

    def _turn(self, turn: Turn) -> Prompt:
        if turn.role == "assistant":
            return Prompt(self._block("assistant", self._said(turn)))
        if turn.speech is not None:
            recording = self.ears.hear(turn.speech)
            marks = [*self._ids(self.family.audio_begin), *[self.audio_mark] * recording.tokens]
            return Prompt(self._block("user", [*marks, *self._ids(self.family.audio_end)]), [recording])
        if turn.codes is not None or turn.tokens is not None:
            raise GenerationError(
                f"A turn is there only as speech tokens of another model, and {self.family.title} hears recordings. "
                "Use dialogues with audio files."
            )
        words = self.text_ids(turn.text or "")
        if not words:
            raise GenerationError("There are no words in that message. Type a question, or record one.")
        return Prompt(self._block("user", words))

    def _said(self, turn: Turn) -> list[int]:
        """The words of an assistant's turn: speech is no part of what the thinker reads."""
        if turn.tokens is not None:
            if any(not 0 <= i < self.tokens.vocabulary_size for i in turn.tokens):
                raise GenerationError("The conversation's history is of another model. Start a new conversation.")
            return self.tokens.text_ids(turn.tokens)
        if not turn.text:
            raise GenerationError(
                f"A turn of the assistant has no words, and {self.family.title} reads its own turns. Add its text."
            )
        return self.text_ids(turn.text)

    def _block(self, role: str, said: list[int] | str) -> list[int]:
        words = self.text_ids(said) if isinstance(said, str) else said
        return [*self._ids(f"<|im_start|>{role}\n"), *words, *self._ids("<|im_end|>\n")]

    def _ids(self, marks: str) -> list[int]:
        return self.tokenizer(marks, add_special_tokens=False)["input_ids"]

    def _too_long(self, turn: Turn, length: int, limit: int) -> str:
        if turn.speech is not None:
            seconds = turn.speech.seconds * max(0, limit) / length
            return (
                f"That recording is {turn.speech.seconds:.0f} s long and this model takes in about {seconds:.0f} s. "
                "Say it shorter."
            )
        return f"That message is {length} tokens long and this model takes in {max(0, limit)}. Shorten it."
