"""Stage ``base``: a small Llama over text and speech tokens, on dialogues with imperfect demonstrations.

Logits are computed at the assistant's positions only, rows are padded on the right without an attention mask (causal
attention never looks there), and matrices run in bf16: together about five times cheaper on a CPU.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
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

ROWS = 16
NONE, TEXT, SPEECH, ONSET = 0, 1, 2, 3
#: Share of spoken dialogues of which one turn is shown to be written down instead: words that are always right, where
#: a demonstration has few of them and is wrong on purpose. The mark before the words is never seen in a dialogue.
WRITTEN_DOWN = 0.25
#: A reply's first speech tokens decide its delivery, and are few among those that only carry it on.
ONSET_TOKENS, ONSET_WEIGHT = 3, 0.3


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
            channels += self._channels(reply)
        return ids, channels

    def _channels(self, reply: list[int]) -> list[int]:
        spoken = 0
        channels = []
        for i in reply:
            speech = self.map.speech_start <= i
            spoken += speech
            if speech and spoken <= ONSET_TOKENS:
                channels.append(ONSET)
            else:
                channels.append(SPEECH if speech or i == self.map.turn_end else TEXT)
        return channels

    def written_down(self, row: DialogueRow, number: int) -> tuple[list[int], list[int]]:
        """A spoken turn, then its words: ``<user> <audio> ... </audio> <user> words <end of turn>``."""
        marks = {name: list(ids) for name, ids in self.map.prompt.items()}
        turn = row.turns[number]
        said = [*marks["audio_begin"], *self.map.speech_ids(turn.user_codes), *marks["audio_end"]]
        before = [*marks["bos"], *marks["user"], *said, *marks["user"]]
        words = [*self.words(turn.text), *marks["end_of_turn"]]
        return before + words, [NONE] * len(before) + [TEXT] * len(words)

    def length(self, row: DialogueRow) -> int:
        return 1 + sum(
            (len(turn.user_codes) or len(turn.text.split()))
            + len(turn.reply_codes)
            + len(turn.demonstration.split())
            + 7
            for turn in row.turns
        )


class BaseLoss:
    """``also_typed``: the share of spoken dialogues shown as typed ones, practice in answering and speaking."""

    def __init__(
        self, model: LlamaForCausalLM, sequences: Sequences, max_rows: int, seed: int, also_typed: float = 0.15
    ) -> None:
        self.model, self.sequences, self.seed, self.also_typed = model, sequences, seed, also_typed
        lengths = [sequences.length(row) for row in sequences.rows]
        self.batches = bucketed(lengths, min(ROWS, max_rows), np.random.default_rng(seed))

    def skip(self, steps: int) -> None:
        for _ in itertools.islice(self.batches, steps):
            pass

    def __call__(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = random.Random(f"{self.seed}/{step}")
        return losses(self.model, [self._shown(self.sequences.rows[row], rng) for row in next(self.batches)])

    def _shown(self, row: DialogueRow, rng: random.Random) -> tuple[list[int], list[int]]:
        draw = rng.random()
        if not row.typed and draw < WRITTEN_DOWN:
            return self.sequences.written_down(row, rng.randrange(len(row.turns)))
        return self.sequences.build(row, typed=draw < WRITTEN_DOWN + self.also_typed)


def losses(
    model: LlamaForCausalLM, pairs: Sequence[tuple[list[int], list[int]]]
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean NLL over text plus mean NLL over speech, its onsets once more: six text tokens weigh as much as forty."""
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
    text, speech, onset = nll[kinds == TEXT].mean(), nll[kinds >= SPEECH].mean(), nll[kinds == ONSET].mean()
    return text + speech + ONSET_WEIGHT * onset, {"text": text.item(), "speech": speech.item(), "onset": onset.item()}


@dataclass(frozen=True)
class Cycle:
    """One warm restart. ``typed``: the share of typed dialogues that take part; ``also_typed``: see ``BaseLoss``."""

    share_of_steps: float
    peak: float
    typed: float
    also_typed: float


#: Answering and speaking are learned first; then nearly all practice goes to hearing, which takes longest.
CYCLES = (Cycle(0.605, 1.5e-3, typed=1.0, also_typed=0.15), Cycle(0.395, 1.2e-3, typed=0.2, also_typed=0.05))


def train_base(tokens: Path, checkpoint: Path, steps: int, max_rows: int, seed: int) -> LlamaForCausalLM:
    """Trains in cycles, each with its own optimiser and its own file beside ``checkpoint``."""
    rows = shuffled(read_split(tokens, "train"), seed)
    model = make_model(len(make_tokenizer()), seed).to(device())
    for number, cycle in enumerate(CYCLES):
        path = checkpoint.with_stem(f"{checkpoint.stem}-{number + 1}")
        rng = random.Random(f"cycle/{seed}/{number}")
        shown = [row for row in rows if not row.typed or rng.random() < cycle.typed]
        loss = BaseLoss(model, Sequences(shown), max_rows, seed + number, cycle.also_typed)
        if path.exists():
            loss.skip(torch.load(path, weights_only=True)["step"])
        steps_here = max(1, round(steps * cycle.share_of_steps))
        schedule = Schedule(steps_here, peak=cycle.peak, warmup=150 if number == 0 else 50, flat=0.4)
        train(model, schedule, loss, path, f"base, cycle {number + 1}", weight_decay=0.05, betas=(0.9, 0.95))
    return model
