"""Step-Audio 2's codec: CosyVoice2's tokenizer (25 codes/s) and a flow-matching decoder with HiFT, at 24 kHz.

The code is the Step-Audio2 repository's ``token2wav.py``, run from the host's checkout; the weights are the folder
``token2wav`` in the checkpoint. The voice is that of a recording, by default one of the checkout's.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from wavalign.audio import Waveform
from wavalign.codecs.blocks import BlockStream, checked, fixed_noise
from wavalign.codecs.checkouts import Checkout, check_recipe
from wavalign.codecs.parts import CodecError, find_part, first_words, need_files, said_by

SAMPLE_RATE = 24_000
CODES = 6561
CODES_PER_SECOND = 25.0
BLOCK = 25
VOICE = "assets/default_female.wav"
CHECKOUT = Checkout("Step-Audio 2", "https://github.com/stepfun-ai/Step-Audio2", "WAVALIGN_STEP_AUDIO_2")
_FILES = ("flow.yaml", "flow.pt", "hift.pt", "campplus.onnx", "speech_tokenizer_v2_25hz.onnx")


class CosyVoice2Codec:
    """A ``SpeechCodec`` around the checkout's ``Token2wav``.

    Checkouts before streaming was added decode whole replies only: a stream then gives everything at its end.
    """

    def __init__(self, token2wav: Any, voice: Path, device: torch.device) -> None:
        self.token2wav = token2wav
        self.voice = str(voice)
        self.device = device
        self.flow, self.hift = token2wav.flow, token2wav.hift
        self.sample_rate = SAMPLE_RATE
        self.tokens_per_second = CODES_PER_SECOND
        self.codebook_size = CODES
        self.lock = threading.Lock()
        """``Token2wav`` keeps the caches of the reply under way in itself."""

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], base: Path, device: torch.device) -> CosyVoice2Codec:
        """``parts``: "decoder", the folder of weights, and "voice", a recording that the reply is to sound like.

        Raises:
            CodecError: when a part, or the checkout, is missing or does not fit.
        """
        folder = find_part(str(parts.get("decoder") or "token2wav"), base, "decoder")
        need_files(folder, _FILES, "The speech decoder")
        check_recipe(folder / "flow.yaml", CHECKOUT)
        with CHECKOUT.importable() as checkout:
            voice = Path(str(parts["voice"])).expanduser() if parts.get("voice") else checkout / VOICE
            if not voice.is_file():
                raise CodecError(f'{voice} is missing: the recording of the voice ("voice" of the layout\'s codec).')
            made = CHECKOUT.module("token2wav").Token2wav
            try:
                return cls(made(str(folder)), voice, device)
            except Exception as error:  # code of the checkout
                raise CodecError(f"The speech decoder in {folder} cannot be loaded: {first_words(error)}.") from error

    @staticmethod
    def missing(parts: Mapping[str, Any], base: Path | None) -> Iterator[str]:
        """See ``COMPOSED``."""
        source = str(parts.get("decoder") or "token2wav")
        own = [] if base is None else [lambda: find_part(source, base, "decoder")]
        return said_by([*own, CHECKOUT.folder])

    def encode(self, waveform: Waveform) -> list[int]:
        import s3tokenizer  # what the checkout itself needs

        samples = torch.from_numpy(waveform.resampled(16_000).samples)
        if not len(samples):
            return []
        mels, lengths = s3tokenizer.padding([s3tokenizer.log_mel_spectrogram(samples)])
        with self.lock, torch.inference_mode():
            codes, sizes = self.token2wav.audio_tokenizer.quantize(mels.to(self.device), lengths.to(self.device))
        return codes[0, : int(sizes[0])].tolist()

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        stream = self.stream()
        samples = [stream.push(codes), stream.finish()]
        return Waveform(np.concatenate(samples), SAMPLE_RATE)

    def stream(self) -> CosyVoice2Stream:
        return CosyVoice2Stream(self)


class CosyVoice2Stream(BlockStream):
    def __init__(self, codec: CosyVoice2Codec) -> None:
        whole = not hasattr(codec.token2wav, "stream")
        sizes = (10**9,) if whole else (BLOCK,)
        look_ahead = 0 if whole else int(codec.flow.pre_lookahead_len)
        super().__init__(lambda: (_Whole if whole else _Streamed)(codec), sizes, look_ahead)
        self._size = codec.codebook_size

    def push(self, codes: list[int]) -> np.ndarray:
        return super().push(checked(codes, self._size))


class _Whole:
    def __init__(self, codec: CosyVoice2Codec) -> None:
        self.codec = codec

    @torch.inference_mode()
    def block(self, codes: list[int], last: bool) -> np.ndarray:
        with self.codec.lock, fixed_noise(self.codec.device):
            made = self.codec.token2wav(codes, self.codec.voice)
        return soundfile.read(io.BytesIO(made), dtype="float32")[0].reshape(-1)

    def close(self) -> None:
        pass


class _Streamed:
    """The caches of one reply, put into ``Token2wav`` for the time of a block."""

    def __init__(self, codec: CosyVoice2Codec) -> None:
        self.codec = codec
        self.caches: tuple[Any, Any] | None = None

    @torch.inference_mode()
    def block(self, codes: list[int], last: bool) -> np.ndarray:
        decoder = self.codec.token2wav
        with self.codec.lock, fixed_noise(self.codec.device):
            if self.caches is None:
                decoder.set_stream_cache(self.codec.voice)
            else:
                decoder.stream_cache, decoder.hift_cache_dict = self.caches
            made = decoder.stream(codes, prompt_wav=self.codec.voice, last_chunk=last)
            self.caches = decoder.stream_cache, decoder.hift_cache_dict
            decoder.stream_cache, decoder.hift_cache_dict = None, {}
        return np.frombuffer(made, dtype="<i2").astype(np.float32) / 32767.0

    def close(self) -> None:
        self.caches = None
