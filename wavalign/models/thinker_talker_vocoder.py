"""The families' own decoders from codes to sound, in windows: a stream gives out exactly what the whole gives.

Speech is decoded in windows that depend on their place alone: each with some codes before and after it whose sound is
thrown away. So the first sound comes with the first window, and nothing that was heard is changed later.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.models.protocol import GenerationError
from wavalign.models.thinker_talker_families import SpeechPieces

_SAMPLE_RATE = 24_000
_NOISE_SEED = 0
_REMEMBERED = 128


@dataclass(frozen=True)
class Windows:
    """In frames: the first window is ``first`` long, the others ``size``; ``before`` and ``after`` are read with it."""

    first: int
    size: int
    before: int
    after: int

    def bounds(self, index: int) -> tuple[int, int]:
        start = 0 if index == 0 else self.first + (index - 1) * self.size
        return start, self.first + index * self.size


class Vocoder(Protocol):
    """A family's decoder of one window."""

    books: int
    codes: int
    frames_per_second: float
    samples_per_frame: int
    windows: Windows

    def window(self, frames: np.ndarray, start: int) -> np.ndarray:
        """Samples of ``frames`` int64 (n, books), of which the first is the ``start``-th of the reply."""


class FlowVocoder:
    """Qwen2.5-Omni's token2wav: flow matching to a mel spectrogram, then BigVGAN. One book, 50 codes a second.

    The noise that the flow starts from is a fixed function of the place, so a reply always sounds the same.
    """

    books = 1

    def __init__(self, token2wav: Any, speaker: Any) -> None:
        self.token2wav = token2wav.float().eval()
        dit = token2wav.config.dit_config
        self.codes = dit.num_embeds - 1
        self.repeats = dit.repeats
        self.mels = dit.mel_dim
        self.samples_per_frame = self.repeats * int(np.prod(token2wav.config.bigvgan_config.upsample_rates))
        self.frames_per_second = _SAMPLE_RATE / self.samples_per_frame
        device = next(token2wav.parameters()).device
        self.conditioning = speaker["cond"].to(device).float()
        self.reference = speaker["ref_mel"].to(device).float()
        # Attention is within blocks, one block ahead and one or two back; windows begin where blocks do. BigVGAN's
        # convolutions reach about 25 mel frames, which two blocks hold.
        block = max(1, dit.block_size // self.repeats)
        self.windows = Windows(2 * block, 4 * block, 2 * block, block)

    @torch.inference_mode()
    def window(self, frames: np.ndarray, start: int) -> np.ndarray:
        codes = torch.from_numpy(frames[:, 0]).to(self.conditioning.device)[None]
        first, count = start * self.repeats, len(frames) * self.repeats
        noise = np.random.default_rng(_NOISE_SEED).standard_normal((first + count, self.mels), dtype=np.float32)[first:]
        mel = self._mel(codes, torch.from_numpy(np.ascontiguousarray(noise)).to(codes.device)[None])
        return self.token2wav.code2wav_bigvgan_model(mel).reshape(-1).float().cpu().numpy()

    def _mel(self, codes: torch.Tensor, noise: torch.Tensor, steps: int = 10, guidance: float = 0.5) -> torch.Tensor:
        """Mel spectrogram (1, mels, frames), as the family's own ``sample`` makes it from this noise."""
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import RungeKutta4ODESolver

        speaker = self.conditioning[:, None].expand(-1, noise.shape[1], -1)

        def velocity(time: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            both = self.token2wav.code2wav_dit_model(
                hidden_states=state,
                quantized_code=codes,
                speaker_embedding=speaker,
                condition_vector=self.reference,
                time_step=time,
                apply_cfg=True,
            )
            guided, free = both.chunk(2, dim=0)
            return guided + (guided - free) * guidance

        times = torch.linspace(0, 1, steps, device=noise.device)
        times = times - (torch.cos(torch.pi / 2 * times) - 1 + times)
        return RungeKutta4ODESolver(velocity, noise).integrate(times)[-1].permute(0, 2, 1)


class CausalVocoder:
    """Qwen3-Omni's code2wav: a causal decoder of 16 books, 12.5 frames a second."""

    def __init__(self, code2wav: Any) -> None:
        self.code2wav = code2wav.eval()
        self.books = code2wav.config.num_quantizers
        self.codes = code2wav.config.codebook_size
        self.samples_per_frame = int(code2wav.total_upsample)
        self.frames_per_second = _SAMPLE_RATE / self.samples_per_frame
        # A decode ends some samples early; they come with the next frame, so one is read after the window.
        self.windows = Windows(8, 25, 25, 1)

    @torch.inference_mode()
    def window(self, frames: np.ndarray, start: int) -> np.ndarray:
        device = next(self.code2wav.parameters()).device
        codes = torch.from_numpy(np.ascontiguousarray(frames.T)).to(device)[None]
        return self.code2wav(codes).reshape(-1).float().cpu().numpy()


class OmniCodec:
    """A ``SpeechCodec`` over a vocoder: codes are flat, frame by frame, ``book * codes + code``.

    The families' encoders were not published, so there is none here.
    """

    sample_rate = _SAMPLE_RATE

    def __init__(self, vocoder: Vocoder, title: str) -> None:
        self.vocoder = vocoder
        self.title = title
        self.codebook_size = vocoder.books * vocoder.codes
        self.tokens_per_second = vocoder.frames_per_second * vocoder.books
        self._known: OrderedDict[tuple[int, bytes], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def pieces(self) -> SpeechPieces:
        """How many tokens a stream waits for."""
        windows, books = self.vocoder.windows, self.vocoder.books
        return SpeechPieces(windows.size * books, ((1, (windows.first + windows.after) * books),))

    def encode(self, waveform: Waveform) -> list[int]:
        raise GenerationError(
            f"{self.title} cannot turn a recording into its own speech codes: its encoder was not published. Give the "
            "target's codes: python -m wavalign.training.spoken_targets lets the model itself say the targets' words."
        )

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        """Frames to a waveform; codes behind the last whole frame are not heard."""
        stream = self.stream()
        return Waveform(np.concatenate([stream.push(list(codes)), stream.finish()]), self.sample_rate)

    def stream(self) -> OmniStream:
        return OmniStream(self)

    def frames_of(self, codes: Sequence[int]) -> np.ndarray:
        """int64 (frames, books), each in [0, codes).

        Raises:
            GenerationError: when a code is not of the book whose turn it is.
        """
        books, size = self.vocoder.books, self.vocoder.codes
        flat = np.asarray(codes[: len(codes) // books * books], dtype=np.int64).reshape(-1, books)
        frames = flat - np.arange(books) * size
        if frames.size and not ((frames >= 0) & (frames < size)).all():
            raise GenerationError(f"These are not speech codes of {self.title}: {books} books of {size} codes.")
        return frames

    def heard(self, frames: np.ndarray, index: int) -> np.ndarray:
        """Samples of the ``index``-th window; ``frames`` are all that are known, and enough of them."""
        windows = self.vocoder.windows
        start, stop = windows.bounds(index)
        stop = min(stop, len(frames))
        first = max(0, start - windows.before)
        read = frames[first : stop + windows.after]
        key = (start, read.tobytes())
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        per_frame = self.vocoder.samples_per_frame
        samples = self.vocoder.window(read, first)[(start - first) * per_frame : (stop - first) * per_frame]
        with self._lock:
            self._known[key] = samples
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return samples


class OmniStream:
    """A ``StreamingDecoder``: gives out a window as soon as the codes behind it are there."""

    def __init__(self, codec: OmniCodec) -> None:
        self.codec = codec
        self.codes: list[int] = []
        self.window = 0

    def push(self, codes: list[int]) -> np.ndarray:
        self.codes += codes
        frames = self.codec.frames_of(self.codes)
        windows = self.codec.vocoder.windows
        given = [np.zeros(0, np.float32)]
        while windows.bounds(self.window)[1] + windows.after <= len(frames):
            given.append(self.codec.heard(frames, self.window))
            self.window += 1
        return np.concatenate(given)

    def finish(self) -> np.ndarray:
        frames = self.codec.frames_of(self.codes)
        windows = self.codec.vocoder.windows
        given = [np.zeros(0, np.float32)]
        while windows.bounds(self.window)[0] < len(frames):
            given.append(self.codec.heard(frames, self.window))
            self.window += 1
        return np.concatenate(given)
