"""Mimi, Moshi's codec: sound to codes and back, 12.5 frames a second, streamed without seams.

Mimi is causal from codes to samples, so the sound of a prefix is a prefix of the sound. A stream keeps what later
frames still hear: the last latent frame (for the upsampling), the transformer's keys and values, and as many of its
outputs as the convolutions reach back.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from wavalign.audio import Waveform
from wavalign.models.moshi_columns import MoshiIds
from wavalign.models.moshi_family import TITLE
from wavalign.models.protocol import GenerationError

_REMEMBERED = 64


class MimiCodec:
    """A ``SpeechCodec``: codes are flat, frame by frame, ``book * size + code``; ``books`` of Mimi's are used.

    Mimi runs in float32 always: codes of a recording must not depend on the precision that the model runs in.
    """

    def __init__(self, mimi: Any, books: int) -> None:
        self.mimi = mimi.float().eval()
        self.books = books
        self.size = int(mimi.config.codebook_size)
        self.sample_rate = int(mimi.config.sampling_rate)
        self.frames_per_second = float(mimi.config.frame_rate)
        self.samples_per_frame = round(self.sample_rate / self.frames_per_second)
        self.codebook_size = books * self.size
        self.tokens_per_second = self.frames_per_second * books
        self.reach = _reach(mimi.config)
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        return next(self.mimi.parameters()).device

    def frames(self, waveform: Waveform) -> np.ndarray:
        """Codes int64 (n, books) of a recording at any sample rate; the last frame is filled up with silence.

        Raises:
            GenerationError: when there is nothing in it.
        """
        if not len(waveform.samples):
            raise GenerationError("That recording is empty. Record again, or choose another file.")
        samples = waveform.resampled(self.sample_rate).samples
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        made = self._encoded(samples)
        with self._lock:
            self._known[key] = made
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return made

    def silence(self, count: int) -> np.ndarray:
        """Codes int64 (count, books) of ``count`` frames in which nothing is heard."""
        quiet = np.zeros(count * self.samples_per_frame, np.float32)
        return self.frames(Waveform(quiet, self.sample_rate))

    def encode(self, waveform: Waveform) -> list[int]:
        """A recording's codes, flat; see ``SpeechCodec``."""
        return self.flat(self.frames(waveform))

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        """Whole frames to a waveform; codes behind the last whole frame are not heard."""
        return Waveform(self.stream().push(list(codes)), self.sample_rate)

    def stream(self) -> MimiStream:
        return MimiStream(self)

    def flat(self, frames: np.ndarray) -> list[int]:
        return (frames + np.arange(self.books) * self.size).flatten().tolist()

    def unflat(self, codes: Sequence[int]) -> np.ndarray:
        """int64 (n, books) of whole frames.

        Raises:
            GenerationError: when a code is not of the book whose turn it is.
        """
        whole = np.asarray(codes[: len(codes) // self.books * self.books], dtype=np.int64).reshape(-1, self.books)
        frames = whole - np.arange(self.books) * self.size
        if frames.size and not ((frames >= 0) & (frames < self.size)).all():
            raise GenerationError(f"These are not speech codes of {TITLE}: {self.books} books of {self.size} codes.")
        return frames

    @torch.no_grad()
    def _encoded(self, samples: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).to(self.device)[None, None]
        codes = self.mimi.encode(values, num_quantizers=self.books).audio_codes
        return codes[0].T.cpu().numpy().astype(np.int64)


class MimiStream:
    """A ``StreamingDecoder``: every whole frame is given out at once, and as it is in the whole."""

    def __init__(self, codec: MimiCodec) -> None:
        self.codec = codec
        self.rest: list[int] = []
        self.latent: torch.Tensor | None = None
        self.made: torch.Tensor | None = None
        decoder = codec.mimi.decoder
        self.cache = DynamicCache(config=decoder.decoder_transformer.config)

    @torch.no_grad()
    def push(self, codes: list[int]) -> np.ndarray:
        codec, decoder = self.codec, self.codec.mimi.decoder
        self.rest += codes
        frames = codec.unflat(self.rest)
        self.rest = self.rest[frames.size :]
        if not len(frames):
            return np.zeros(0, np.float32)
        latents = codec.mimi.quantizer.decode(torch.from_numpy(frames.T.copy()).to(codec.device)[None])
        before = [] if self.latent is None else [self.latent]
        hidden = latents if decoder.upsample is None else decoder.upsample(torch.cat([*before, latents], -1))
        hidden = hidden[..., hidden.shape[-1] * len(before) // (len(before) + len(frames)) :] if before else hidden
        self.latent = latents[..., -1:]
        out = decoder.decoder_transformer(hidden.transpose(1, 2), cache=self.cache, use_cache=True)
        made = out.last_hidden_state.transpose(1, 2)
        known = 0 if self.made is None else self.made.shape[-1]
        heard = made if self.made is None else torch.cat([self.made, made], -1)
        self.made = heard[..., -codec.reach :]
        samples = decoder.decoder_seanet(heard).reshape(-1)
        return samples[len(samples) * known // heard.shape[-1] :].float().cpu().numpy()

    def finish(self) -> np.ndarray:
        return np.zeros(0, np.float32)


class DrawnCodec:
    """A ``SpeechCodec`` whose codes are in the order in which a completion has them; else it is ``codec``."""

    def __init__(self, codec: MimiCodec, ids: MoshiIds) -> None:
        self.codec = codec
        self.aligned: Callable[[Sequence[int]], list[int]] = ids.aligned
        self.mimi = codec.mimi
        self.sample_rate, self.codebook_size = codec.sample_rate, codec.codebook_size
        self.tokens_per_second = codec.tokens_per_second
        self.encode, self.encode_reply = codec.encode, codec.encode_reply

    def decode(self, codes: list[int]) -> Waveform:
        return self.codec.decode(self.aligned(codes))

    def stream(self) -> DrawnStream:
        return DrawnStream(self)


class DrawnStream:
    """A ``StreamingDecoder`` that waits for the acoustic codes of each frame."""

    def __init__(self, codec: DrawnCodec) -> None:
        self.aligned = codec.aligned
        self.inner = codec.codec.stream()
        self.codes: list[int] = []
        self.given = 0

    def push(self, codes: list[int]) -> np.ndarray:
        self.codes += codes
        whole = self.aligned(self.codes)
        new, self.given = whole[self.given :], len(whole)
        return self.inner.push(new)

    def finish(self) -> np.ndarray:
        return self.inner.finish()


def _reach(config: Any) -> int:
    """How many of the transformer's outputs before its own a sample is made of, by the decoder's convolutions."""
    back = config.last_kernel_size - 1
    residual = (config.residual_kernel_size - 1) * sum(
        config.dilation_growth_rate**number for number in range(config.num_residual_layers)
    )
    for ratio in reversed(config.upsampling_ratios):
        back = math.ceil((back + residual) / ratio) + 1
    return back + config.kernel_size - 1
