"""Stage ``codec``: reconstruction of the assistant, denoised reconstruction of users, and letters from the tokens."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from wavalign.closedtalk.build.batches import bucketed, equalised, letter_classes, pad_rows, warp_formants
from wavalign.closedtalk.build.clips import Clip, read_all
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.codecs import world
from wavalign.codecs.fsq_world import CTC_CLASSES, CTC_PER_TOKEN, FRAMES_PER_TOKEN, FsqWorldCodec
from wavalign.codecs.logmel import MELS

ASSISTANT_ROWS, USER_ROWS = 7, 12
#: A user's own sound matters only as far as words, pitch and level can be told from the tokens.
USER_RECONSTRUCTION = 0.15
CTC_WEIGHT = 1.0
EARLY_WEIGHT = 1.0
#: The decoder that the tokens are learned with; ``train_voice`` replaces it.
PRACTICE_DECODER = {"decoder_channels": 192, "decoder_blocks": 4}
#: Share of the quantised digits moved by one step before decoding: the codes that a language model predicts are often
#: neighbours of the right ones, and should sound like them.
JITTER = 0.05


def standardise(codec: FsqWorldCodec, assistant: list[Clip], users: list[Clip]) -> None:
    mels = np.concatenate([clip.mel for clip in [*assistant[:500], *users[:500]]]).astype(np.float32)
    codec.mel_mean.copy_(torch.as_tensor(mels.mean(0)))
    codec.mel_std.copy_(torch.as_tensor(mels.std(0)))
    standardise_world(codec, assistant)


def standardise_world(codec: FsqWorldCodec, assistant: list[Clip]) -> None:
    features = np.concatenate([clip.world for clip in assistant])
    codec.world_mean.copy_(torch.as_tensor(features.mean(0)))
    codec.world_std.copy_(torch.as_tensor(features.std(0) + 1e-3))
    # Voicing is predicted as it is.
    codec.world_mean[world.VOICED], codec.world_std[world.VOICED] = 0.0, 1.0


def whole_tokens(frames: np.ndarray) -> torch.Tensor:
    """(T, ...) repeated at the end to a whole number of tokens."""
    tensor = torch.as_tensor(frames.astype(np.float32))
    missing = -len(tensor) % FRAMES_PER_TOKEN
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])]) if missing else tensor


def letters_loss(logits: torch.Tensor, mask: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """CTC of ``logits`` (B, 2T, 28) over the tokens in ``mask`` (B, T) against each row's text."""
    targets = [letter_classes(text) for text in texts]
    return functional.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        torch.tensor(list(itertools.chain.from_iterable(targets))),
        (mask.sum(1) * CTC_PER_TOKEN).long(),
        torch.tensor([len(target) for target in targets]),
        zero_infinity=True,
    )


class Scaffold(nn.Module):
    """A codec with what only its training needs: a CTC head before quantisation, and a log-mel head on the decoder.

    Letters are learned several times faster where no gradient has to pass through rounding.
    """

    def __init__(self, codec: FsqWorldCodec) -> None:
        super().__init__()
        self.codec = codec
        self.letters = nn.Linear(codec.to_code.in_features, CTC_PER_TOKEN * CTC_CLASSES)
        self.mel = nn.Linear(codec.to_world.in_features, FRAMES_PER_TOKEN * MELS)

    def early_letters(self, hidden: torch.Tensor) -> torch.Tensor:
        b, t, _ = hidden.shape
        return self.letters(hidden).reshape(b, t * CTC_PER_TOKEN, CTC_CLASSES)

    def decode(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (B, T, levels) to standardised WORLD features (B, 4T, 33) and log-mel (B, 4T, 80)."""
        b, t, _ = vectors.shape
        h = self.codec.decoder(self.codec.from_code(vectors))
        return (
            self.codec.to_world(h).reshape(b, t * FRAMES_PER_TOKEN, -1),
            self.mel(h).reshape(b, t * FRAMES_PER_TOKEN, -1),
        )


class CodecLoss:
    def __init__(self, scaffold: Scaffold, assistant: list[Clip], users: list[Clip], max_rows: int, seed: int) -> None:
        self.codec, self.scaffold = scaffold.codec, scaffold
        self.assistant, self.users, self.seed = assistant, users, seed
        rng = np.random.default_rng(seed)
        self.assistant_rows = bucketed([len(c.mel) for c in assistant], min(ASSISTANT_ROWS, max_rows), rng)
        self.user_rows = bucketed([len(c.mel) for c in users], min(USER_ROWS, max_rows), rng)
        weights = torch.ones(world.FEATURES)
        weights[:6] = 2.0
        self.weights = weights

    def skip(self, steps: int) -> None:
        """Moves the batch order to where a resumed run left it."""
        for _ in itertools.islice(self.assistant_rows, steps):
            pass
        for _ in itertools.islice(self.user_rows, steps):
            pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        assistant = [self.assistant[i] for i in next(self.assistant_rows)]
        users = [self.users[i] for i in next(self.user_rows)]
        a_mel = [whole_tokens(clip.mel) for clip in assistant]
        u_mel, u_clean = [], []
        for clip in users:
            factor = float(rng.uniform(0.9, 1.12)) if rng.random() < 0.5 else 1.0
            u_mel.append(
                whole_tokens(
                    equalised(warp_formants(torch.as_tensor(clip.mel.astype(np.float32)), factor), rng).numpy()
                )
            )
            clean = clip.clean_mel
            u_clean.append(None if clean is None else warp_formants(whole_tokens(clean), factor))
        loss_a, parts_a = self._assistant(a_mel, assistant)
        loss_u, parts_u = self._users(u_mel, u_clean, users)
        return loss_a + loss_u, parts_a | parts_u

    def _encode(self, mels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantised vectors, the letters that can be read before quantising, and the mask."""
        padded = pad_rows([self.codec.stacked(mel) for mel in mels])
        hidden = self.codec.hidden(padded.values, padded.mask)
        return self.codec.quantise(self.codec.to_code(hidden)), self.scaffold.early_letters(hidden), padded.mask

    def _jittered(self, vectors: torch.Tensor) -> torch.Tensor:
        step = 2 / (self.codec.levels - 1)
        moved = (torch.rand_like(vectors) < JITTER) * (torch.randint_like(vectors, 0, 2) * 2 - 1) * step
        return (vectors + moved).clamp(-1, 1)

    def _assistant(self, mels: list[torch.Tensor], clips: list[Clip]) -> tuple[torch.Tensor, dict[str, float]]:
        codec = self.codec
        vectors, early, mask = self._encode(mels)
        texts = [clip.text for clip in clips]
        predicted, mel = self.scaffold.decode(self._jittered(vectors))
        target = pad_rows([(whole_tokens(clip.world) - codec.world_mean) / codec.world_std for clip in clips])
        mel_target = pad_rows([(m - codec.mel_mean) / codec.mel_std for m in mels]).values
        frames = target.mask[..., None]
        error = (predicted.float() - target.values).abs() * frames
        count = frames.sum()
        voiced = target.values[..., world.VOICED] * target.mask
        envelope = (error[..., : world.ENVELOPE + 1] * self.weights[: world.ENVELOPE + 1]).sum() / count / 34
        pitch = (error[..., world.LN_F0] * voiced).sum() / voiced.sum().clamp_min(1)
        voicing = (error[..., world.VOICED] ** 2).sum() / count
        mel_loss = ((mel.float() - mel_target).abs() * frames).sum() / count / MELS
        letters = letters_loss(codec.forward_letters(vectors, mask), mask, texts)
        before = letters_loss(early, mask, texts)
        loss = envelope + pitch + voicing + 0.5 * mel_loss + 0.3 * CTC_WEIGHT * letters + 0.3 * EARLY_WEIGHT * before
        return loss, {
            "envelope": envelope.item(),
            "pitch": pitch.item(),
            "voicing": voicing.item(),
            "ctc_assistant": letters.item(),
        }

    def _users(
        self, mels: list[torch.Tensor], clean: list[torch.Tensor | None], clips: list[Clip]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        codec = self.codec
        vectors, early, mask = self._encode(mels)
        texts = [clip.text for clip in clips]
        letters = letters_loss(codec.forward_letters(vectors, mask), mask, texts)
        before = letters_loss(early, mask, texts)
        known = [row for row, target in enumerate(clean) if target is not None]
        loss = CTC_WEIGHT * letters + EARLY_WEIGHT * before
        parts = {"ctc_user": letters.item(), "early_user": before.item()}
        if known:
            predicted, mel = self.scaffold.decode(vectors[known])
            mel_target = pad_rows([(clean[row] - codec.mel_mean) / codec.mel_std for row in known])
            pitch_target = pad_rows([whole_tokens(clips[row].pitch) for row in known])
            length = min(mel.shape[1], mel_target.values.shape[1])
            frames = mel_target.mask[:, :length, None]
            mel_loss = (
                ((mel[:, :length].float() - mel_target.values[:, :length]).abs() * frames).sum() / frames.sum() / MELS
            )
            target = pitch_target.values[:, :length]
            voiced = target[..., 1] * frames[..., 0]
            log_f0 = (target[..., 0] - codec.world_mean[world.LN_F0]) / codec.world_std[world.LN_F0]
            pitch = (
                (predicted[:, :length, world.LN_F0].float() - log_f0).abs() * voiced
            ).sum() / voiced.sum().clamp_min(1)
            loss = loss + USER_RECONSTRUCTION * (mel_loss + pitch)
            parts |= {"mel_user": mel_loss.item(), "pitch_user": pitch.item()}
        return loss, parts


def train_codec(clips: Path, checkpoint: Path, steps: int, max_rows: int, seed: int) -> FsqWorldCodec:
    """Trains on the shards under ``clips`` and returns the codec in evaluation mode."""
    torch.manual_seed(seed)
    assistant = list(read_all(clips, "assistant-*.npz"))
    users = [*read_all(clips, "detailed-*.npz"), *read_all(clips, "balanced-*.npz"), *read_all(clips, "other-*.npz")]
    codec = FsqWorldCodec(**PRACTICE_DECODER).to(device())
    scaffold = Scaffold(codec).to(device())
    standardise(codec, assistant, users)
    loss = CodecLoss(scaffold, assistant, users, max_rows, seed)
    if checkpoint.exists():
        loss.skip(torch.load(checkpoint, weights_only=True)["step"])
    train(scaffold, Schedule(steps, peak=2e-3, warmup=200, flat=0.25), loss, checkpoint, "codec")
    return codec
