"""Dialogues to Kimi-Audio's prompt: two streams of ids, and the features of recordings that join the audio's.

A prompt is flat, two ids a position (audio, then text). What was said aloud stands in the audio stream as speech
tokens, between marks, with the features of the Whisper encoder at the same rate; what was typed stands in the text
stream. The model's own earlier replies stand in both, as it made them: audio ``delay`` steps behind the text.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.kimi_tokens import KimiTokenizer, Streams
from wavalign.models.layout import LayoutError
from wavalign.models.protocol import GenerationError

_REMEMBERED = 64
_RATE = 16_000
_LEAST_SECONDS = 0.1
"""Shorter recordings are filled up with silence: a codec makes nothing of a few samples."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What was heard: ``ids`` of its speech tokens and ``features`` float32 (len(ids), D), None where the model takes
    none; ``digest`` tells it apart."""

    ids: tuple[int, ...]
    features: np.ndarray | None
    digest: bytes


class KimiPrompt(list[int]):
    """Two ids a position up to and including the assistant mark; ``heard``: where features join, and of what."""

    def __init__(self, ids: Iterable[int], heard: Iterable[tuple[int, Recording]] = ()) -> None:
        super().__init__(ids)
        self.heard = tuple(heard)

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self, other) is True and self._told() == getattr(other, "_told", tuple)()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def _told(self) -> tuple[tuple[int, bytes], ...]:
        return tuple((start, recording.digest) for start, recording in self.heard)

    def __add__(self, other: KimiPrompt) -> KimiPrompt:
        shift = len(self) // 2
        return KimiPrompt(
            list.__add__(self, other), (*self.heard, *((shift + start, heard) for start, heard in other.heard))
        )


def audio_of(prompt: Sequence[int]) -> list[int]:
    return list(prompt[0::2])


def text_of(prompt: Sequence[int]) -> list[int]:
    return list(prompt[1::2])


class WhisperFeatures:
    """The checkpoint's Whisper encoder: recordings to features, ``group`` of its frames to a speech token.

    Recordings are read in windows of the encoder's length (30 s), each filled up with silence.
    """

    def __init__(self, encoder: Any, group: int) -> None:
        from transformers import WhisperFeatureExtractor

        self.encoder = encoder.eval().requires_grad_(False)
        self.group = group
        config = encoder.config
        self.samples_per_token = 2 * 160 * group  # 100 mel frames a second, two to a frame of the encoder
        self.window = config.max_source_positions * 2 * 160
        self.extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins, sampling_rate=_RATE)

    @torch.inference_mode()
    def of(self, samples: np.ndarray) -> np.ndarray:
        """16 kHz samples (n,) to features float32 (ceil(n / samples_per_token), group * D)."""
        made = []
        weight = next(self.encoder.parameters())
        for start in range(0, len(samples), self.window):
            part = samples[start : start + self.window]
            padded = np.pad(part, (0, self.window - len(part)))
            mel = self.extractor(
                padded, sampling_rate=_RATE, padding="do_not_pad", truncation=False, return_tensors="pt"
            )  # fmt: skip
            hidden = self.encoder(mel["input_features"].to(weight)).last_hidden_state[0]
            tokens = -(-len(part) // self.samples_per_token)
            made.append(hidden[: tokens * self.group].reshape(tokens, -1).float().cpu().numpy())
        return np.concatenate(made)


class Ears:
    """Recordings to speech tokens and features; remembers those of recent turns."""

    def __init__(self, codec: SpeechCodec, first: int, features: WhisperFeatures | None) -> None:
        self.codec = codec
        self.first = first
        self.features = features
        self._known: OrderedDict[bytes, Recording] = OrderedDict()
        self._lock = threading.Lock()

    def hear(self, waveform: Waveform) -> Recording:
        """Raises:
        GenerationError: when there is nothing in the recording.
        """
        if not len(waveform.samples):
            raise GenerationError("That recording is empty. Record again, or choose another file.")
        digest = hashlib.blake2b(waveform.samples.tobytes(), digest_size=16)
        digest.update(str(waveform.sample_rate).encode())
        key = digest.digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        samples = waveform.resampled(_RATE).samples
        samples = np.pad(samples, (0, max(0, int(_LEAST_SECONDS * _RATE) - len(samples))))
        codes = self.codec.encode(Waveform(samples, _RATE))
        features = self.features.of(samples) if self.features is not None else None
        size = len(codes) if features is None else min(len(codes), len(features))
        recording = Recording(
            tuple(self.first + code for code in codes[:size]), None if features is None else features[:size], key
        )
        with self._lock:
            self._known[key] = recording
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return recording


class KimiPrompter:
    """Encodes dialogues for one base. ``context``: positions that the model holds."""

    def __init__(self, streams: Streams, tokenizer: KimiTokenizer, ears: Ears, context: int) -> None:
        self.streams = streams
        self.marks = streams.marks
        self.tokens = streams.tokens
        self.tokenizer = tokenizer
        self.ears = ears
        self.context = context

    def encode(self, dialogue: Dialogue, room: int) -> KimiPrompt:
        """Leaves ``room`` positions for the reply; the oldest exchanges are dropped until it fits.

        Raises:
            GenerationError: when there is nothing to answer, or the last turn alone does not fit.
        """
        if not dialogue.turns or dialogue.turns[-1].role != "user":
            raise GenerationError("There is nothing to answer: the last turn must be the user's.")
        after = self._positions([self.marks.assistant])
        exchanges: list[KimiPrompt] = []
        for turn in dialogue.turns:
            block = self._turn(turn)
            if turn.role == "user" or not exchanges:
                exchanges.append(block)
            else:
                exchanges[-1] = exchanges[-1] + block
        limit = 2 * (self.context - room) - len(after)
        if len(exchanges[-1]) > limit:
            raise GenerationError(self._too_long(dialogue.turns[-1], len(exchanges[-1]) // 2, limit // 2))
        while sum(map(len, exchanges)) > limit:
            exchanges.pop(0)
        prompt = KimiPrompt(())
        for exchange in exchanges:
            prompt = prompt + exchange
        return prompt + after

    def text_ids(self, text: str) -> list[int]:
        """Ids of words; marks spelled out in a text do not become marks."""
        ids = self.tokenizer(text)["input_ids"]
        return [i for i in ids if 0 <= i < self.tokens.vocabulary_size and self.tokens.is_text[i]]

    def _turn(self, turn: Turn) -> KimiPrompt:
        marks = self.marks
        if turn.role == "assistant":
            audio, text = self._said(turn)
            return self._positions([marks.assistant, *audio, marks.msg_end], [marks.blank, *text, marks.blank])
        if turn.speech is not None:
            heard = self.ears.hear(turn.speech)
            ids = [marks.user, marks.media_begin, *heard.ids, marks.media_end, marks.speak, marks.msg_end]
            block = self._positions(ids)
            return KimiPrompt(block, [(2, heard)] if heard.features is not None else [])
        if turn.codes is not None or turn.tokens is not None:
            raise GenerationError(
                "A turn is there only as speech tokens, and Kimi-Audio hears the recording itself too. Use dialogues "
                "with audio files."
            )
        words = self.text_ids(turn.text or "")
        if not words:
            raise GenerationError("There are no words in that message. Type a question, or record one.")
        blanks = [marks.blank] * len(words)
        return self._positions([marks.user, *blanks, marks.msg_end], [marks.blank, *words, marks.blank])

    def _said(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Both streams of a reply, of one length, as the family writes them into a history: one that was only written
        keeps the mark that ends its text, one that was spoken has neither that nor one behind its codes."""
        marks, start = self.marks, self.tokens.speech_start
        if turn.tokens is not None:
            if any(not 0 <= i < self.tokens.vocabulary_size for i in turn.tokens):
                raise GenerationError("The conversation's history is of another model. Start a new conversation.")
            words, speech = self.tokens.text_ids(turn.tokens), self.tokens.codes_of(turn.tokens)
        else:
            words = self.text_ids(turn.text or "")
            speech = turn.codes or (self.ears.codec.encode_reply(turn.speech) if turn.speech is not None else [])
        if not words:
            raise GenerationError("A turn of the assistant has no words. Add its text.")
        words = words if speech else [*words, marks.text_end]
        size = max(len(words), self.streams.delay + len(speech) if speech else 0)
        audio = [*[marks.blank] * self.streams.delay, *(start + code for code in speech)] if speech else []
        return tuple([*each, *[marks.blank] * (size - len(each))] for each in (audio, words))

    def _positions(self, audio: Sequence[int], text: Sequence[int] | None = None) -> KimiPrompt:
        text = [self.marks.blank] * len(audio) if text is None else text
        return KimiPrompt(i for pair in zip(audio, text, strict=True) for i in pair)

    def _too_long(self, turn: Turn, length: int, limit: int) -> str:
        if turn.speech is not None:
            seconds = turn.speech.seconds * max(0, limit) / length
            return (
                f"That recording is {turn.speech.seconds:.0f} s long and this model takes in about {seconds:.0f} s. "
                "Say it shorter."
            )
        return f"That message is {length} tokens long and this model takes in {max(0, limit)}. Shorten it."


def target_of(prompter: KimiPrompter, text: str, speech: Waveform | Sequence[int]) -> list[int]:
    """The completion that says ``text`` with ``speech``.

    Raises:
        GenerationError: when they cannot be one reply.
    """
    codes = prompter.ears.codec.encode_reply(speech) if isinstance(speech, Waveform) else speech
    try:
        return prompter.streams.pack(prompter.text_ids(text), codes)
    except LayoutError as error:
        raise GenerationError(str(error)) from error
