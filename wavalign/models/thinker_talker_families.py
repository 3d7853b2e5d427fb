"""The thinker-talker families as data, and their token ids: what is a word, what is speech, what ends each.

A completion is the thinker's words and the mark that ends them, then the talker's codes and the code that ends them:

    word ... word <|im_end|> | frame ... frame end         (a frame has one code of each code book)

Ids of the thinker's vocabulary stand for themselves; behind them comes one block of speech tokens, book by book, and
then the talker's own marks. The first is what makes a speech token differ from a word with the same number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.models.grammar import TokenClass
from wavalign.models.protocol import Channel, CheckpointError, Sampling, SamplingError

DESCRIPTION_FILE = "thinker_talker.json"
"""Optional, beside the weights: changes ``system``, ``speaker`` and ``sampling`` of the family."""


@dataclass(frozen=True)
class Family:
    """What cannot be read from ``config.json``. ``model_class`` is the class of transformers that loads it."""

    model_type: str
    model_class: str
    title: str
    audio_begin: str
    audio_mark: str
    audio_end: str
    system: str | None
    speaker: str
    sampling: Sampling


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="qwen2_5_omni",
            model_class="Qwen2_5OmniForConditionalGeneration",
            title="Qwen2.5-Omni",
            audio_begin="<|audio_bos|>",
            audio_mark="<|AUDIO|>",
            audio_end="<|audio_eos|>",
            # The talker was trained behind this very sentence; the model card asks for it wherever speech is wanted.
            system=(
                "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving "
                "auditory and visual inputs, as well as generating text and speech."
            ),
            speaker="Chelsie",
            sampling=Sampling(0.7, 0.9, 40, 0.8, 64, 1.05, max_seconds=40.0, max_tokens=2048),
        ),
        Family(
            model_type="qwen3_omni_moe",
            model_class="Qwen3OmniMoeForConditionalGeneration",
            title="Qwen3-Omni",
            audio_begin="<|audio_start|>",
            audio_mark="<|audio_pad|>",
            audio_end="<|audio_end|>",
            system=None,
            speaker="Ethan",
            # 16 code books of 12.5 frames a second are 200 tokens a second.
            sampling=Sampling(0.7, 0.9, 50, 1.0, 64, 1.05, max_seconds=40.0, max_tokens=8192),
        ),
    )
}
"""``config.json``'s model_type -> family. Sampling of the speech: the defaults of each family's own ``generate``."""


def family_of(name: str, folder: Path, config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, with what ``thinker_talker.json`` changes.

    Raises:
        CheckpointError: when the architecture is another, or the file is wrong.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise CheckpointError(
            f'Checkpoint "{name}" is of type {model_type!r}; thinker-talker models are: {", ".join(FAMILIES)}.'
        )
    family = FAMILIES[model_type]
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        return family
    wrong = f'Checkpoint "{name}": {DESCRIPTION_FILE}'
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{wrong} is not valid JSON.") from error
    if not isinstance(data, dict) or set(data) - {"system", "speaker", "sampling"}:
        raise CheckpointError(f"{wrong} must be an object with system, speaker and sampling, or some of them.")
    known = {item.name for item in fields(Sampling)}
    settings = data.pop("sampling", {})
    if not isinstance(settings, dict) or set(settings) - known:
        raise CheckpointError(f"{wrong}: sampling may have {', '.join(sorted(known))}.")
    for key, value in data.items():
        if not isinstance(value, str) and not (key == "system" and value is None):
            raise CheckpointError(f"{wrong}: {key} must be text.")
    try:
        return replace(family, **data, sampling=replace(family.sampling, **settings))
    except (SamplingError, TypeError) as error:
        raise CheckpointError(f"{wrong}: {error}") from error


@dataclass(frozen=True)
class SpeechPieces:
    """How much speech is decoded at once, in tokens: what ``ReplyBuilder`` asks of a layout's description."""

    speech_chunk: int
    first_chunks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OmniTokens:
    """Ids of one model. ``codes`` to a book, ``books`` books; ``talker_size`` logits of the talker.

    ``talker_ends`` are ids of the talker that end the speech, the first of them the one that targets end with;
    ``is_text`` bool (vocabulary,): what may be said; ``channels`` int8 (vocabulary,).
    """

    text_size: int
    text_end: int
    codes: int
    books: int
    talker_size: int
    talker_ends: tuple[int, ...]
    is_text: np.ndarray
    channels: np.ndarray
    description: SpeechPieces = field(default=SpeechPieces(1, ()))

    @classmethod
    def of(
        cls,
        words: Sequence[int],
        text_size: int,
        text_end: int,
        codes: int,
        books: int,
        talker_size: int,
        talker_ends: Sequence[int],
        description: SpeechPieces,
    ) -> OmniTokens:
        """``words``: ids of the thinker that may stand in a reply's text."""
        vocabulary = text_size + (books - 1) * codes + talker_size
        is_text = np.zeros(vocabulary, dtype=bool)
        is_text[list(words)] = True
        is_text[text_end] = False
        channels = np.full(vocabulary, Channel.FORMAT, dtype=np.int8)
        channels[is_text] = Channel.TEXT
        channels[text_size : text_size + books * codes] = Channel.SPEECH
        ends = tuple(talker_ends)
        return cls(text_size, text_end, codes, books, talker_size, ends, is_text, channels, description)

    @property
    def vocabulary_size(self) -> int:
        return len(self.channels)

    @property
    def speech_start(self) -> int:
        return self.text_size

    @property
    def speech_stop(self) -> int:
        return self.text_size + self.books * self.codes

    @property
    def speech_size(self) -> int:
        """Ids behind the words: codes of all books, then the talker's marks."""
        return self.vocabulary_size - self.text_size

    @property
    def turn_end(self) -> int:
        return self.text_size + self.place_of(self.talker_ends[0])

    def place_of(self, talker_id: int) -> int:
        """Where an id of the talker's vocabulary stands among the ids behind the words."""
        return talker_id if talker_id < self.codes else talker_id + (self.books - 1) * self.codes

    def talker_id(self, place: torch.Tensor) -> torch.Tensor:
        """The talker's ids at places behind the words that are not codes of its second or a later book."""
        return torch.where(place < self.codes, place, place - (self.books - 1) * self.codes)

    def spread(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (..., talker_size) at their places behind the words, (..., speech_size); -inf elsewhere."""
        if self.books == 1:
            return logits
        gap = logits.new_full((*logits.shape[:-1], (self.books - 1) * self.codes), -torch.inf)
        return torch.cat([logits[..., : self.codes], gap, logits[..., self.codes :]], -1)

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values (int8) of the shape of ``ids``."""
        return self.channels[ids.cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids, dtype=np.int64)]

    def split(self, completion: Sequence[int]) -> tuple[list[int], list[int]]:
        """The thinker's ids of a completion, and the places behind the words of the talker's."""
        text = [i for i in completion if i < self.text_size]
        return text, [i - self.text_size for i in completion if i >= self.text_size]

    def text_ids(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if self.is_text[i]]

    def codes_of(self, ids: Sequence[int]) -> list[int]:
        """The speech tokens among ``ids``, counted from the first one."""
        return [i - self.speech_start for i in ids if self.speech_start <= i < self.speech_stop]

    def well_formed(self, completion: Sequence[int], whole: bool) -> bool:
        """Words, their end, frames, their end; one that is not ``whole`` may stop anywhere on the way."""
        text, speech = self.split(completion)
        if not text or list(completion[: len(text)]) != text or not self.is_text[text[0]]:
            return False
        ended = text[-1] == self.text_end
        words = text[:-1] if ended else text
        if not all(self.is_text[i] for i in words) or (speech and not ended):
            return False
        frames = speech
        ends = {self.place_of(end) for end in self.talker_ends}
        closed = bool(speech) and speech[-1] in ends
        if closed:
            frames = speech[:-1]
            if not frames or len(frames) % self.books:
                return False
        books = all(place // self.codes == index % self.books for index, place in enumerate(frames))
        return books and (not whole or closed)


class TextGrammar:
    """Words, at least one, then their end; the attributes are those of ``wavalign.models.grammar.Grammar``."""

    def __init__(self, tokens: OmniTokens) -> None:
        self.start, self.done = 0, 2
        is_text = tokens.is_text[: tokens.text_size]
        self.class_of = np.where(is_text, TokenClass.TEXT, TokenClass.OTHER).astype(np.int8)
        self.class_of[tokens.text_end] = TokenClass.TEXT_END
        self.following = np.full((3, len(TokenClass)), -1, dtype=np.int16)
        self.following[:2, TokenClass.TEXT] = 1
        self.following[1, TokenClass.TEXT_END] = self.done
        self.masks = np.stack([is_text, is_text, np.zeros_like(is_text)])
        self.masks[1:, tokens.text_end] = True
        self.mask_of = np.arange(3)
        self.speaks = np.zeros(3, dtype=bool)
        self.text_over = np.array([False, False, True])

    def advance(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The states (B,) after one token (B,) each; a finished row stays finished."""
        return np.where(states == self.done, self.done, self.following[states, self.class_of[tokens]])


class SpeechGrammar:
    """Whole frames, at least one, then an end. Ids are places behind the words."""

    def __init__(self, tokens: OmniTokens) -> None:
        codes, books = tokens.codes, tokens.books
        # State b < books: the code of book b comes next, of the first frame; books + b: of a later frame.
        self.start, self.done = 0, 2 * books
        self.class_of = np.full(tokens.speech_size, TokenClass.OTHER, dtype=np.int8)
        self.class_of[: books * codes] = TokenClass.SPEECH
        ends = [tokens.place_of(end) for end in tokens.talker_ends]
        self.class_of[ends] = TokenClass.TURN_END
        self.following = np.full((2 * books + 1, len(TokenClass)), -1, dtype=np.int16)
        self.masks = np.zeros((2 * books + 1, tokens.speech_size), dtype=bool)
        for state in range(2 * books):
            book = state % books
            self.following[state, TokenClass.SPEECH] = state + 1 if book + 1 < books else books
            self.masks[state, book * codes : (book + 1) * codes] = True
        self.following[books, TokenClass.TURN_END] = self.done
        self.masks[books, ends] = True
        # A finished row keeps something to draw until it is removed, whichever book it is the turn of.
        self.masks[self.done] = True
        self.mask_of = np.arange(2 * books + 1)
        self.speaks = np.ones(2 * books + 1, dtype=bool)
        self.text_over = np.ones(2 * books + 1, dtype=bool)

    advance = TextGrammar.advance
