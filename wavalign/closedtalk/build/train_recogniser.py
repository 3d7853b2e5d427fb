"""Stage ``recogniser``: letters from clean, noisy and vocoded speech. What it never heard it would call a mistake."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from wavalign.closedtalk.build.batches import (
    bucketed,
    equalised,
    letter_classes,
    masked_bands,
    pad_rows,
    warp_formants,
)
from wavalign.closedtalk.build.clips import Clip, read_all
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.codecs import world
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.codecs.logmel import log_mel
from wavalign.metrics.recogniser import Recogniser

ASSISTANT_ROWS, USER_ROWS = 8, 10


def vocoded(clip: Clip) -> Clip:
    """The clip after WORLD analysis and synthesis."""
    samples = world.synthesise(clip.world)
    return Clip(clip.key + "/vocoded", clip.text, log_mel(samples).numpy())


@torch.inference_mode()
def recoded(clip: Clip, codec: FsqWorldCodec) -> Clip:
    """The clip after the codec's round trip, as a model's replies are heard."""
    stacked = codec.stacked(torch.as_tensor(clip.mel.astype(np.float32)))
    codes = codec.codes_of(codec.forward_encode(stacked[None]))[0].tolist()
    return Clip(clip.key + "/recoded", clip.text, log_mel(codec.decode(codes).samples).numpy())


def heard_forms(clips: list[Clip], codec: FsqWorldCodec) -> Iterator[Clip]:
    """Every assistant clip as synthesised, and every other one vocoded, the rest recoded."""
    for number, clip in enumerate(tqdm(clips, desc="vocoding")):
        yield clip
        yield vocoded(clip) if number % 2 else recoded(clip, codec)


class RecogniserLoss:
    def __init__(self, model: Recogniser, assistant: list[Clip], users: list[Clip], max_rows: int, seed: int) -> None:
        self.model, self.assistant, self.users, self.seed = model, assistant, users, seed
        rng = np.random.default_rng(seed)
        self.assistant_rows = bucketed([len(c.mel) for c in assistant], min(ASSISTANT_ROWS, max_rows), rng)
        self.user_rows = bucketed([len(c.mel) for c in users], min(USER_ROWS, max_rows), rng)

    def skip(self, steps: int) -> None:
        for rows in (self.assistant_rows, self.user_rows):
            for _ in itertools.islice(rows, steps):
                pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        losses = {}
        for name, pool, rows in (
            ("assistant", self.assistant, next(self.assistant_rows)),
            ("user", self.users, next(self.user_rows)),
        ):
            clips = [pool[row] for row in rows]
            mels = []
            for clip in clips:
                mel = torch.as_tensor(clip.mel.astype(np.float32))
                if name == "user" and rng.random() < 0.6:
                    mel = warp_formants(mel, float(rng.uniform(0.88, 1.14)))
                mels.append(masked_bands(equalised(mel, rng), rng))
            padded = pad_rows([self.model.stacked(mel) for mel in mels])
            logits = self.model(padded.values, padded.mask).float().log_softmax(-1).transpose(0, 1)
            targets = [letter_classes(clip.text) for clip in clips]
            losses[name] = functional.ctc_loss(
                logits,
                torch.tensor(list(itertools.chain.from_iterable(targets))),
                padded.mask.sum(1).long(),
                torch.tensor([len(target) for target in targets]),
                zero_infinity=True,
            )
        return losses["assistant"] + losses["user"], {key: float(value) for key, value in losses.items()}


def train_recogniser(
    clips: Path, codec: FsqWorldCodec, checkpoint: Path, lexicon: list[str], steps: int, max_rows: int, seed: int
) -> Recogniser:
    """Trains on the shards under ``clips``, the assistant's also vocoded and recoded, and returns the recogniser."""
    torch.manual_seed(seed)
    assistant = list(heard_forms(list(read_all(clips, "assistant-*.npz")), codec))
    users = [*read_all(clips, "detailed-*.npz"), *read_all(clips, "balanced-*.npz"), *read_all(clips, "other-*.npz")]
    model = Recogniser(lexicon).to(device())
    mels = np.concatenate([clip.mel for clip in [*assistant[:500], *users[:500]]]).astype(np.float32)
    model.mel_mean.copy_(torch.as_tensor(mels.mean(0)))
    model.mel_std.copy_(torch.as_tensor(mels.std(0)))
    loss = RecogniserLoss(model, assistant, users, max_rows, seed)
    if checkpoint.exists():
        loss.skip(torch.load(checkpoint, weights_only=True)["step"])
    train(model, Schedule(steps, peak=2e-3, warmup=200, flat=0.25), loss, checkpoint, "recogniser")
    return model
