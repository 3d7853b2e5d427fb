"""Stage ``base``: a small Llama over text and speech tokens, on dialogues with imperfect demonstrations.

Logits are computed at the assistant's positions only, rows are padded on the right without an attention mask (causal
attention never looks there), and matrices run in bf16: together about five times cheaper on a CPU.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from wavalign.closedtalk.build.batches import bucketed
from wavalign.closedtalk.build.tokenizer import DESCRIPTION, make_tokenizer
from wavalign.closedtalk.build.tokens import read_split, shuffled
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.closedtalk.dataset import DialogueRow
from wavalign.models.layout import InterleavedDescription, TokenMap, resolve

BATCH = 16
NONE, TEXT, SPEECH = 0, 1, 2
#: Share of spoken dialogues that are shown as typed ones: cheap practice in answering and speaking.
ALSO_TYPED = 0.15


def make_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=9,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


class Sequences:
    """Rows of a split as token ids with a channel for each: what is predicted there, text or speech, or nothing."""

    def __init__(self, rows: Sequence[DialogueRow]) -> None:
        self.tokenizer = make_tokenizer()
        description = InterleavedDescription.parse(DESCRIPTION)
        self.map: TokenMap = resolve(description, self.tokenizer, len(self.tokenizer))
        self.vocabulary = self.tokenizer.get_vocab()
        self.rows = rows

    def words(self, text: str) -> list[int]:
        return [self.vocabulary[word] for word in text.split()]

    def build(self, row: DialogueRow, typed: bool = False) -> tuple[list[int], list[int]]:
        marks = {name: list(ids) for name, ids in self.map.prompt.items()}
        ids, channels = marks["bos"][:], [NONE]
        for turn in row.turns:
            if row.typed or typed or not turn.user_codes:
                said = self.words(turn.text)
            else:
                said = [*marks["audio_begin"], *self.map.speech_ids(turn.user_codes), *marks["audio_end"]]
            prompt = [*marks["user"], *said, *marks["end_of_turn"], *marks["assistant"]]
            reply = self.map.pack(self.words(turn.demonstration), turn.reply_codes)
            ids += prompt + reply
            channels += [NONE] * len(prompt)
            channels += [SPEECH if self.map.speech_start <= i or i == self.map.turn_end else TEXT for i in reply]
        return ids, channels

    def length(self, row: DialogueRow) -> int:
        return 1 + sum(
            (len(turn.user_codes) or len(turn.text.split()))
            + len(turn.reply_codes)
            + len(turn.demonstration.split())
            + 7
            for turn in row.turns
        )


class BaseLoss:
    def __init__(self, model: LlamaForCausalLM, sequences: Sequences, seed: int) -> None:
        self.model, self.sequences, self.seed = model, sequences, seed
        lengths = [sequences.length(row) for row in sequences.rows]
        self.batches = bucketed(lengths, BATCH, np.random.default_rng(seed))

    def skip(self, steps: int) -> None:
        for _ in itertools.islice(self.batches, steps):
            pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = random.Random(f"{self.seed}/{step}")
        pairs = [
            self.sequences.build(self.sequences.rows[row], rng.random() < ALSO_TYPED) for row in next(self.batches)
        ]
        return losses(self.model, pairs)


def losses(
    model: LlamaForCausalLM, pairs: Sequence[tuple[list[int], list[int]]]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean NLL over text plus mean NLL over speech: six text tokens weigh as much as forty of speech."""
    where = model.device
    longest = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    channels = torch.zeros(len(pairs), longest, dtype=torch.long)
    for row, (tokens, kinds) in enumerate(pairs):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        channels[row, : len(kinds)] = torch.tensor(kinds)
    ids, channels = ids.to(where), channels.to(where)
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = channels[:, 1:] != NONE
    logits = model.lm_head(hidden[wanted]).float()
    nll = functional.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    kinds = channels[:, 1:][wanted]
    text, speech = nll[kinds == TEXT].mean(), nll[kinds == SPEECH].mean()
    return text + speech, {"text": text.item(), "speech": speech.item()}


#: (share of the steps, peak learning rate) of each cycle: a second warm restart still gains much.
CYCLES = ((0.605, 1.5e-3), (0.395, 1.2e-3))


def train_base(tokens: Path, checkpoint: Path, steps: int, seed: int) -> LlamaForCausalLM:
    """Trains in cycles, each with its own optimiser and its own file beside ``checkpoint``."""
    sequences = Sequences(shuffled(read_split(tokens, "train"), seed))
    model = make_model(len(sequences.tokenizer), seed).to(device())
    for cycle, (share, peak) in enumerate(CYCLES):
        path = checkpoint.with_stem(f"{checkpoint.stem}-{cycle + 1}")
        loss = BaseLoss(model, sequences, seed + cycle)
        if path.exists():
            loss.skip(torch.load(path, weights_only=True)["step"])
        schedule = Schedule(max(1, round(steps * share)), peak=peak, warmup=150 if cycle == 0 else 50, flat=0.4)
        train(model, schedule, loss, path, f"base, cycle {cycle + 1}", weight_decay=0.05, betas=(0.9, 0.95))
    return model
