"""Stage ``voice``: the assistant's own encoder and the decoder, trained together for sound alone.

The tokens of a user carry words through noise and strange voices; the assistant has one voice and no noise. One encoder
for both gave the words nearly all of its capacity, and the sound was what remained. Here the loss is the distance that
is heard: the Euclidean one between mel-cepstra, which is the mel-cepstral distortion up to a constant. The reader that
stage ``codec`` trained stays frozen and keeps one meaning for a token in both encoders.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wavalign.closedtalk.build.batches import bucketed, pad_rows
from wavalign.closedtalk.build.clips import Clip, read_all
from wavalign.closedtalk.build.train_codec import letters_loss, standardise_world, whole_tokens
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.codecs import world
from wavalign.codecs.fsq_world import FsqWorldCodec

ROWS = 16
#: Share of digits moved by one step: a language model's mistakes are often neighbours of the right code.
JITTER = 0.03
READER_WEIGHT = 0.1


class Voice(nn.Module):
    """The parts of a codec that belong to the assistant's voice: its encoder and the decoder."""

    def __init__(self, codec: FsqWorldCodec) -> None:
        super().__init__()
        self.reply_enter, self.reply_encoder, self.reply_to_code = (
            codec.reply_enter,
            codec.reply_encoder,
            codec.reply_to_code,
        )
        self.from_code, self.decoder, self.to_world = codec.from_code, codec.decoder, codec.to_world


class VoiceLoss:
    def __init__(self, codec: FsqWorldCodec, clips: list[Clip], max_rows: int, seed: int) -> None:
        self.codec, self.clips = codec, clips
        self.rows = bucketed([len(clip.mel) for clip in clips], min(ROWS, max_rows), np.random.default_rng(seed))

    def skip(self, steps: int) -> None:
        for _ in itertools.islice(self.rows, steps):
            pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        codec, chosen = self.codec, [self.clips[row] for row in next(self.rows)]
        where = codec.mel_mean.device
        mels = pad_rows([codec.stacked_reply(whole_tokens(clip.mel).to(where)) for clip in chosen])
        vectors = codec.forward_encode_reply(mels.values, mels.mask)
        grid = 2 / (codec.levels - 1)
        moved = (torch.rand_like(vectors) < JITTER) * (torch.randint_like(vectors, 0, 2) * 2 - 1) * grid
        predicted = codec.forward_decode((vectors + moved).clamp(-1, 1))
        target = pad_rows([whole_tokens(clip.world) for clip in chosen])
        loss, parts = reconstruction(codec, predicted, target.values, target.mask)
        letters = letters_loss(codec.forward_letters(vectors, mels.mask), mels.mask, [clip.text for clip in chosen])
        return loss + READER_WEIGHT * letters, parts | {"letters": letters.item()}


def reconstruction(
    codec: FsqWorldCodec, predicted: torch.Tensor, target: torch.Tensor, frames: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Standardised prediction (B, T, 33) against natural features (B, T, 33) on ``frames`` (B, T)."""
    error = predicted.float() * codec.world_std + codec.world_mean - target
    cepstral = ((error[..., : world.ENVELOPE] ** 2).sum(-1) + 1e-4).sqrt()
    # Loud frames are the ones that are heard; c0 follows the level.
    level = target[..., 0]
    loud = frames * torch.sigmoid((level - (level * frames).sum() / frames.sum()) * 0.5)
    weight = 0.2 * frames + loud
    distance = (cepstral * weight).sum() / weight.sum()
    aperiodicity = (error[..., world.ENVELOPE].abs() / codec.world_std[world.ENVELOPE] * frames).sum() / frames.sum()
    voiced = target[..., world.VOICED] * frames
    pitch = (error[..., world.LN_F0].abs() * voiced).sum() / voiced.sum().clamp_min(1)
    voicing = (error[..., world.VOICED] ** 2 * frames).sum() / frames.sum()
    loss = distance + 0.2 * aperiodicity + 6 * pitch + voicing
    return loss, {"cepstral": distance.item(), "ln_f0": pitch.item(), "voicing": voicing.item()}


def train_voice(
    practised: FsqWorldCodec, clips: Path, checkpoint: Path, steps: int, max_rows: int, seed: int
) -> FsqWorldCodec:
    """A codec that hears as ``practised`` does, with the assistant's encoder and the decoder trained from scratch."""
    torch.manual_seed(seed)
    codec = FsqWorldCodec()
    parts = ("reply_", "from_code.", "decoder.", "to_world.")
    kept = {name: value for name, value in practised.state_dict().items() if not name.startswith(parts)}
    codec.load_state_dict(kept, strict=False)
    assistant = list(read_all(clips, "assistant-*.npz"))
    standardise_world(codec, assistant)
    # The shipped weights are fp16: what is kept is rounded before anything is built on it.
    codec = codec.half().float().to(device()).requires_grad_(False)
    voice = Voice(codec).requires_grad_(True)
    loss = VoiceLoss(codec, assistant, max_rows, seed)
    if checkpoint.exists():
        loss.skip(torch.load(checkpoint, weights_only=True)["step"])
    train(voice, Schedule(steps, peak=2e-3, warmup=200, flat=0.4), loss, checkpoint, "voice")
    return codec.eval()
