"""The embedded codec: log-mel -> finite scalar quantisation (arXiv 2309.15505) at 25 tokens/s -> WORLD -> waveform.

Two encoders share the codes: one hears anybody's words through noise, the other keeps the assistant's own sound. A CTC
head reads letters from the quantised vectors, as in GLM-4-Voice's supervised tokenizer (arXiv 2412.02612): it makes the
tokens of a *user's* speech carry words for a small language model. The decoder looks three tokens ahead, so speech is
final 120 ms after its last token.
"""

from __future__ import annotations

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs import world
from wavalign.codecs.convnext import ConvNeXtStack
from wavalign.codecs.logmel import MELS, SAMPLE_RATE, log_mel

FRAMES_PER_TOKEN = 4
SAMPLES_PER_TOKEN = 640
LETTERS = " abcdefghijklmnopqrstuvwxyz"
CTC_CLASSES = len(LETTERS) + 1
CTC_PER_TOKEN = 2

#: WORLD's synthesis of the last frames still changes when more frames follow.
UNSETTLED_FRAMES = 6
#: Tokens that each decoder block looks ahead; further blocks look at none.
LOOK_AHEADS: list[int | None] = [1, 1, 1]


class FsqWorldCodec(nn.Module, PyTorchModelHubMixin):
    """A ``SpeechCodec`` (see ``wavalign.codecs.protocol``) as a Hugging Face folder: config.json, model.safetensors."""

    def __init__(
        self,
        codec_type: str = "fsq_world",
        levels: tuple[int, ...] = (8, 8, 8, 5),
        encoder_channels: int = 224,
        encoder_blocks: int = 6,
        reply_channels: int = 160,
        reply_blocks: int = 4,
        decoder_channels: int = 224,
        decoder_blocks: int = 6,
        reader_channels: int = 192,
    ) -> None:
        super().__init__()
        self.codec_type = codec_type
        self.sample_rate = SAMPLE_RATE
        self.tokens_per_second = SAMPLE_RATE / SAMPLES_PER_TOKEN
        self.codebook_size = int(np.prod(levels))
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        strides = np.concatenate([[1], np.cumprod(levels[:-1])])
        self.register_buffer("strides", torch.tensor(strides, dtype=torch.long), persistent=False)
        self.register_buffer("mel_mean", torch.zeros(MELS))
        self.register_buffer("mel_std", torch.ones(MELS))
        self.register_buffer("world_mean", torch.zeros(world.FEATURES))
        self.register_buffer("world_std", torch.ones(world.FEATURES))
        c, e, d, r = encoder_channels, reply_channels, decoder_channels, reader_channels
        look_aheads = [*LOOK_AHEADS, *([0] * decoder_blocks)][:decoder_blocks]
        self.enter = nn.Linear(2 * FRAMES_PER_TOKEN * MELS, c)
        self.encoder = ConvNeXtStack(c, int(2.5 * c), [None] * encoder_blocks)
        self.to_code = nn.Linear(c, len(levels))
        self.reply_enter = nn.Linear(FRAMES_PER_TOKEN * MELS, e)
        self.reply_encoder = ConvNeXtStack(e, int(2.5 * e), [None] * reply_blocks)
        self.reply_to_code = nn.Linear(e, len(levels))
        self.from_code = nn.Sequential(nn.Linear(len(levels), d), nn.GELU(), nn.Linear(d, d))
        self.decoder = ConvNeXtStack(d, int(2.5 * d), look_aheads)
        #: Earlier and later tokens that the sound of a token depends on.
        self.look_back = sum(block.padding[0] for block in self.decoder.blocks)
        self.look_ahead = sum(block.padding[1] for block in self.decoder.blocks)
        self.to_world = nn.Linear(d, FRAMES_PER_TOKEN * world.FEATURES)
        self.ctc_enter = nn.Sequential(nn.Linear(len(levels), r), nn.GELU(), nn.Linear(r, r))
        self.ctc = ConvNeXtStack(r, int(2.5 * r), [None] * 3)
        self.to_letters = nn.Linear(r, CTC_PER_TOKEN * CTC_CLASSES)

    def quantise(self, z: torch.Tensor) -> torch.Tensor:
        """(..., levels) real to the nearest grid point, in [-1, 1]; gradients pass straight through."""
        top = self.levels - 1
        u = (torch.tanh(z.float()) + 1) / 2 * top
        u = u + (u.round() - u).detach()
        return u / top * 2 - 1

    def codes_of(self, vectors: torch.Tensor) -> torch.Tensor:
        """Quantised vectors (..., levels) to codes (...)."""
        digits = ((vectors + 1) / 2 * (self.levels - 1)).round().long()
        return (digits * self.strides).sum(-1)

    def vectors_of(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (...) to quantised vectors (..., levels)."""
        digits = (codes[..., None] // self.strides) % self.levels.long()
        return digits.float() / (self.levels - 1) * 2 - 1

    def hidden(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``stacked`` log-mel (B, T, 640), mask (B, T) to the encoder's output before quantisation (B, T, C)."""
        return self.encoder(self.enter(mel), mask)

    def forward_encode(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``stacked`` log-mel (B, T, 640), mask (B, T) to quantised vectors (B, T, levels)."""
        return self.quantise(self.to_code(self.hidden(mel, mask)))

    def forward_encode_reply(self, mel: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``stacked_reply`` log-mel (B, T, 320), mask (B, T) to quantised vectors (B, T, levels)."""
        return self.quantise(self.reply_to_code(self.reply_encoder(self.reply_enter(mel), mask)))

    def forward_decode(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (B, T, levels) to standardised WORLD features (B, 4T, 33)."""
        b, t, _ = vectors.shape
        return self.to_world(self.decoder(self.from_code(vectors))).reshape(b, t * FRAMES_PER_TOKEN, -1)

    def forward_letters(self, vectors: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors (B, T, levels) to CTC logits (B, 2T, 28); class 0 is blank, then a space and the letters."""
        b, t, _ = vectors.shape
        return self.to_letters(self.ctc(self.ctc_enter(vectors), mask)).reshape(b, t * CTC_PER_TOKEN, CTC_CLASSES)

    def stacked(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel (T, 80) to (ceil(T / 4), 640): standardised, and standardised without the utterance's mean.

        The first carries the level, the second does not depend on a microphone's frequency response.
        """
        level = self._standardised(mel)
        both = torch.stack([level, level - level.mean(0)], dim=1)
        return both.reshape(-1, 2 * FRAMES_PER_TOKEN * MELS)

    def stacked_reply(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel (T, 80) to (ceil(T / 4), 320), standardised."""
        return self._standardised(mel).reshape(-1, FRAMES_PER_TOKEN * MELS)

    def _standardised(self, mel: torch.Tensor) -> torch.Tensor:
        missing = -len(mel) % FRAMES_PER_TOKEN
        if missing:
            mel = torch.cat([mel, mel[-1:].expand(missing, -1)])
        return (mel - self.mel_mean) / self.mel_std

    @torch.inference_mode()
    def encode(self, waveform: Waveform) -> list[int]:
        """Anybody's speech to codes, one for each 40 ms (the last may be partly padding)."""
        mel = self._mel(waveform)
        return [] if mel is None else self.codes_of(self.forward_encode(self.stacked(mel)[None]))[0].tolist()

    @torch.inference_mode()
    def encode_reply(self, waveform: Waveform) -> list[int]:
        """The assistant's own speech to codes, as many as ``encode`` gives."""
        mel = self._mel(waveform)
        return (
            [] if mel is None else self.codes_of(self.forward_encode_reply(self.stacked_reply(mel)[None]))[0].tolist()
        )

    def _mel(self, waveform: Waveform) -> torch.Tensor | None:
        samples = waveform.resampled(SAMPLE_RATE).samples
        return log_mel(samples).to(self.mel_mean.device) if len(samples) else None

    @torch.inference_mode()
    def features(self, codes: list[int]) -> np.ndarray:
        """Codes (T,) to WORLD features (4T, 33) in natural units."""
        vectors = self.vectors_of(torch.tensor(codes, device=self.mel_mean.device)[None])
        features = self.forward_decode(vectors)[0].float() * self.world_std + self.world_mean
        return features.cpu().numpy()

    def decode(self, codes: list[int]) -> Waveform:
        self._check(codes)
        if not codes:
            return Waveform(np.zeros(0, np.float32), SAMPLE_RATE)
        return Waveform(world.synthesise(self.features(codes)), SAMPLE_RATE)

    @torch.inference_mode()
    def letter_log_probs(self, codes: list[int]) -> np.ndarray:
        """What the CTC head reads from the codes: log-probabilities (2 * len(codes), 28)."""
        if not codes:
            return np.zeros((0, CTC_CLASSES))
        return self.forward_letters(self.vectors_of(torch.tensor(codes)[None]))[0].log_softmax(-1).numpy()

    def stream(self) -> FsqWorldStream:
        return FsqWorldStream(self)

    def _check(self, codes: list[int]) -> None:
        if codes and not (min(codes) >= 0 and max(codes) < self.codebook_size):
            raise ValueError(f"Codes must lie in 0..{self.codebook_size - 1}, got {min(codes)}..{max(codes)}.")


class FsqWorldStream:
    """Decodes a growing sequence; only samples that later codes cannot change are given out."""

    def __init__(self, codec: FsqWorldCodec) -> None:
        self._codec = codec
        self._codes: list[int] = []
        self._settled = np.zeros((0, world.FEATURES), np.float32)
        self._given = 0

    def push(self, codes: list[int]) -> np.ndarray:
        self._codec._check(codes)
        self._codes.extend(codes)
        settled_tokens = len(self._codes) - self._codec.look_ahead
        settled_frames = settled_tokens * FRAMES_PER_TOKEN - UNSETTLED_FRAMES
        if settled_frames * 160 <= self._given:
            return np.zeros(0, np.float32)
        unsettled = self._codec.look_ahead * FRAMES_PER_TOKEN
        self._settled = np.concatenate([self._settled, self._new_features()[:-unsettled]])
        return self._give(world.synthesise(self._settled)[: settled_frames * 160])

    def finish(self) -> np.ndarray:
        if not self._codes:
            return np.zeros(0, np.float32)
        return self._give(world.synthesise(np.concatenate([self._settled, self._new_features()])))

    def _new_features(self) -> np.ndarray:
        """Features of every token that is not settled, decoded with as many before them as the decoder can see."""
        first = len(self._settled) // FRAMES_PER_TOKEN
        start = max(0, first - self._codec.look_back)
        return self._codec.features(self._codes[start:])[(first - start) * FRAMES_PER_TOKEN :]

    def _give(self, samples: np.ndarray) -> np.ndarray:
        new = samples[self._given :]
        self._given = max(self._given, len(samples))
        return new


def collapse_ctc(classes: list[int]) -> str:
    """Greedy CTC: repeats merged, blanks (class 0) dropped, spaces normalised."""
    letters = [LETTERS[c - 1] for i, c in enumerate(classes) if c and (i == 0 or classes[i - 1] != c)]
    return " ".join("".join(letters).split())
