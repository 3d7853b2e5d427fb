"""What a checkpoint's own encoder makes of a recording, as tokens of a prompt.

An encoder gives vectors, and everything that reads prompts (decoding, scoring, training) takes ids. So each vector gets
an id beyond the vocabulary, and the embedding looks such ids up here: prompts stay plain lists.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.models.protocol import GenerationError

EARS: dict[str, str] = {
    "sensevoice": "wavalign.models.ears_sensevoice:SenseVoiceEars",
    "step-audio-2": "wavalign.models.ears_step_audio:StepAudioEars",
}
"""What ``user_audio.ears`` of a description may name -> "module:class"; see ``Ears``."""

_STRIDE = 1 << 16
"""Ids that one recording may take; a vector for each 60 ms makes this an hour."""
_REMEMBERED = 256


class Ears(Protocol):
    """The encoder and projector of a checkpoint, run by its own code."""

    seconds_per_token: float
    modules: Mapping[str, nn.Module]
    """By the prefix of their names in the checkpoint's files."""

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Ears:
        """Raises:
        LayoutError: when its code, a package or a tensor is missing.
        """

    def hear(self, waveform: Waveform) -> list[torch.Tensor]:
        """A recording as vectors (n, hidden size) of the network, one tensor for each segment of it."""


def ears_class(name: str) -> Any:
    """Raises:
    KeyError: when there are no such ears.
    """
    module, _, class_name = EARS[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


class Recording:
    """One recording as vectors (n, hidden), and its ``number`` among all that were heard."""

    def __init__(self, number: int, segments: Sequence[torch.Tensor]) -> None:
        self.number = number
        self.vectors = torch.cat(list(segments))
        self.sizes = [len(segment) for segment in segments]


class HeardPrompt(list[int]):
    """A prompt that keeps the recordings its ids stand for."""

    recordings: tuple[Recording, ...] = ()


class Heard:
    """The recordings that prompts in use, or recent ones, stand for. Ids from ``first`` on are theirs."""

    def __init__(self, first: int, ears: Ears) -> None:
        self.first = first
        self.ears = ears
        self._known: weakref.WeakValueDictionary[int, Recording] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[bytes, Recording] = OrderedDict()
        self._numbers: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Heard:
        return self  # a copy of the network hears what the network hears

    def recording(self, waveform: Waveform) -> Recording:
        """The same waveform is the same recording, with the same ids.

        Raises:
            GenerationError: when there is nothing in it.
        """
        if not len(waveform.samples):
            raise GenerationError("That recording is empty. Record again, or choose another file.")
        digest = hashlib.blake2b(waveform.samples.tobytes(), digest_size=16)
        digest.update(str(waveform.sample_rate).encode())
        key = digest.digest()
        with self._lock:
            number = self._numbers.setdefault(key, len(self._numbers))
            found = self._known.get(number)
            if found is None:
                with torch.no_grad():
                    found = Recording(number, [part.detach().cpu() for part in self.ears.hear(waveform)])
                if len(found.vectors) >= _STRIDE:
                    raise GenerationError("That recording is too long. Say it shorter.")
                self._known[number] = found
            self._recent[key] = found
            self._recent.move_to_end(key)
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return found

    def ids(self, recording: Recording) -> list[list[int]]:
        """The ids of each segment."""
        start, ids = self.first + recording.number * _STRIDE, []
        for size in recording.sizes:
            ids.append(list(range(start, start + size)))
            start += size
        return ids

    def forget(self) -> None:
        with self._lock:
            self._recent.clear()

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (N,) from ``first`` on to vectors (N, hidden) on the CPU."""
        places = (ids - self.first).cpu()
        numbers, offsets = (places // _STRIDE).tolist(), (places % _STRIDE).tolist()
        kept = {number: self._known[number] for number in set(numbers)}
        return torch.stack([kept[number].vectors[offset] for number, offset in zip(numbers, offsets, strict=True)])


class HearingEmbedding(nn.Embedding):
    """The network's own token embedding, which also knows the ids of recordings. Shares its weight."""

    def __init__(self, plain: nn.Embedding, heard: Heard) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = plain.num_embeddings, plain.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = plain.padding_idx, plain.max_norm, plain.norm_type
        self.scale_grad_by_freq, self.sparse = plain.scale_grad_by_freq, plain.sparse
        self.weight = plain.weight
        self.heard = heard
        self.train(plain.training)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        spoken = ids >= self.heard.first
        # One token a row is a reply going on: recordings stand in prompts, between marks.
        if ids.shape[-1] == 1 or not bool(spoken.any()):
            return super().forward(ids)
        embedded = super().forward(ids.masked_fill(spoken, 0))
        vectors = self.heard.vectors(ids[spoken]).to(embedded.device, embedded.dtype)
        return embedded.masked_scatter(spoken[..., None], vectors)
