"""Stage ``decoder``: the codec's decoder again, on frozen tokens, for the assistant's sound alone.

While the tokens are learned, the decoder shares its capacity with users and sees codes that still move. Here it is
trained anew on codes that are final, and on the distance that is heard: the Euclidean one between mel-cepstra, which is
the mel-cepstral distortion up to a constant.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from wavalign.closedtalk.build.batches import bucketed, pad_rows
from wavalign.closedtalk.build.clips import Clip, read_all
from wavalign.closedtalk.build.train_codec import whole_tokens
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.codecs import world
from wavalign.codecs.fsq_world import FsqWorldCodec

ROWS = 16
#: Share of digits moved by one step: a language model's mistakes are often neighbours of the right code.
JITTER = 0.03


class Decoder(nn.Module):
    """The parts of a codec that turn vectors into WORLD features."""

    def __init__(self, codec: FsqWorldCodec) -> None:
        super().__init__()
        self.from_code, self.decoder = codec.from_code, codec.decoder
        self.to_world, self.to_mel = codec.to_world, codec.to_mel


class DecoderLoss:
    def __init__(self, codec: FsqWorldCodec, clips: list[Clip], seed: int) -> None:
        self.codec, self.clips = codec, clips
        with torch.inference_mode():
            mels = [codec.stacked(whole_tokens(clip.mel).to(codec.mel_mean.device)) for clip in clips]
            self.vectors = [codec.forward_encode(mel[None])[0].cpu().clone() for mel in mels]
        self.rows = bucketed([len(v) for v in self.vectors], ROWS, np.random.default_rng(seed))

    def skip(self, steps: int) -> None:
        for _ in itertools.islice(self.rows, steps):
            pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        codec, chosen = self.codec, next(self.rows)
        vectors = pad_rows([self.vectors[row] for row in chosen]).values.to(codec.mel_mean.device)
        grid = 2 / (codec.levels - 1)
        moved = (torch.rand_like(vectors) < JITTER) * (torch.randint_like(vectors, 0, 2) * 2 - 1) * grid
        predicted, mel = codec.forward_decode((vectors + moved).clamp(-1, 1))
        target = pad_rows([whole_tokens(self.clips[row].world) for row in chosen])
        mel_target = pad_rows([(whole_tokens(self.clips[row].mel) - codec.mel_mean) / codec.mel_std for row in chosen])
        frames = target.mask
        natural = predicted.float() * codec.world_std + codec.world_mean
        error = natural - target.values
        envelope = slice(0, world.ENVELOPE)
        cepstral = ((error[..., envelope] ** 2).sum(-1) + 1e-4).sqrt()
        # Loud frames are the ones that are heard; c0 follows the level.
        level = target.values[..., 0]
        loud = frames * torch.sigmoid((level - (level * frames).sum() / frames.sum()) * 0.5)
        distance = (cepstral * (0.2 * frames + loud)).sum() / (0.2 * frames + loud).sum()
        aperiodicity = (error[..., world.ENVELOPE].abs() / codec.world_std[world.ENVELOPE] * frames).sum() / frames.sum()
        voiced = target.values[..., world.VOICED] * frames
        pitch = (error[..., world.LN_F0].abs() * voiced).sum() / voiced.sum().clamp_min(1)
        voicing = (error[..., world.VOICED] ** 2 * frames).sum() / frames.sum()
        mel_loss = (functional.l1_loss(mel.float(), mel_target.values, reduction="none").mean(-1) * frames).sum()
        loss = distance + 0.2 * aperiodicity + 6 * pitch + voicing + 0.2 * mel_loss / frames.sum()
        return loss, {"cepstral": distance.item(), "ln_f0": pitch.item(), "voicing": voicing.item()}


def train_decoder(practised: FsqWorldCodec, clips: Path, checkpoint: Path, steps: int, seed: int) -> FsqWorldCodec:
    """A codec with the encoder, and so every token, of ``practised`` and a decoder trained from scratch."""
    torch.manual_seed(seed)
    codec = FsqWorldCodec()
    parts = ("from_code.", "decoder.", "to_world.", "to_mel.")
    kept = {name: value for name, value in practised.state_dict().items() if not name.startswith(parts)}
    codec.load_state_dict(kept, strict=False)
    # The shipped weights are fp16: the decoder learns the tokens that the rounded encoder gives.
    codec = codec.half().float().to(device()).requires_grad_(False)
    decoder = Decoder(codec).requires_grad_(True)
    loss = DecoderLoss(codec, list(read_all(clips, "assistant-*.npz")), seed)
    if checkpoint.exists():
        loss.skip(torch.load(checkpoint, weights_only=True)["step"])
    train(decoder, Schedule(steps, peak=2e-3, warmup=100, flat=0.3), loss, checkpoint, "decoder")
    return codec.eval()
