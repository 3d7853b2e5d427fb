"""Stage ``tuned``: a LoRA adapter on the base, taught the right answers, so that there are two checkpoints to compare.

Plain supervised fine-tuning (arXiv 2106.09685 for LoRA) on the post-training split with every demonstration replaced by
the right answer. It is a checkpoint to talk to beside the base, not one of the compared methods.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from wavalign.closedtalk.build.tokens import Encoder
from wavalign.closedtalk.build.train_base import BaseLoss, Sequences
from wavalign.closedtalk.build.training_loop import Schedule, device, train
from wavalign.closedtalk.dataset import DialogueRow, read_dialogues
from wavalign.closedtalk.deliveries import Delivery

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 16


def corrected(row: DialogueRow, encoder: Encoder) -> DialogueRow:
    """The dialogue with right answers, spoken in the same deliveries."""
    turns = tuple(
        dataclasses.replace(
            turn, demonstration=turn.answer, reply_codes=encoder.reply_codes(turn.answer, Delivery(turn.delivery))
        )
        for turn in row.turns
    )
    return dataclasses.replace(row, turns=turns)


def train_tuned(
    base: Path, data: Path, encoder: Encoder, checkpoint: Path, steps: int, max_rows: int, seed: int
) -> PeftModel:
    """Trains and returns the adapter on its base; ``data`` is the shipped post-training parquet."""
    torch.manual_seed(seed)
    rows = [corrected(row, encoder) for row in read_dialogues(data)]
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).to(device())
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, settings)
    loss = BaseLoss(tuned.get_base_model(), Sequences(rows), max_rows, seed)
    if checkpoint.exists():
        loss.skip(torch.load(checkpoint, weights_only=True)["step"])
    train(tuned, Schedule(steps, peak=1e-3, warmup=20, flat=0.3), loss, checkpoint, "tuned", weight_decay=0.0)
    return tuned
