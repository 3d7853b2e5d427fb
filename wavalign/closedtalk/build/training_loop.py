"""What the three small trainings share: one-cycle AdamW, bf16 where it is fast, a progress bar, and exact resuming."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm


@dataclass(frozen=True)
class Schedule:
    """``flat`` is the share of the steps at the peak after ``warmup`` steps; then a cosine to 2 % of the peak."""

    steps: int
    peak: float
    warmup: int = 150
    flat: float = 0.3

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        start = int(self.steps * self.flat)
        if step < start:
            return self.peak
        progress = min(1.0, (step - start) / max(1, self.steps - start))
        return self.peak * (0.02 + 0.98 * 0.5 * (1 + float(torch.cos(torch.tensor(progress * torch.pi)))))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    model: torch.nn.Module,
    schedule: Schedule,
    loss_of: Callable[[int], tuple[torch.Tensor, dict[str, float]]],
    checkpoint: Path,
    name: str,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.98),
    every: int = 200,
    stop: int | None = None,
) -> None:
    """Runs ``loss_of(step)`` for each step. Saves every 200 steps and continues from the last save.

    ``stop`` ends the run before that step, to be continued by another call.

    ``loss_of`` makes its tensors on the default device, which is the model's while it runs.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak, betas=betas, weight_decay=weight_decay)
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    log = checkpoint.with_suffix(".jsonl").open("a")
    where = next(model.parameters()).device.type
    model.train()
    end = schedule.steps if stop is None else min(stop, schedule.steps)
    bar = tqdm(range(start, end), initial=start, total=schedule.steps, desc=name, mininterval=5)
    began = time.monotonic()
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        with torch.device(where), torch.autocast(where, dtype=torch.bfloat16):
            loss, parts = loss_of(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{name}: the loss is {loss.item()} at step {step}; lower the learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix({key: f"{value:.3f}" for key, value in parts.items()})
            log.write(json.dumps({"step": step, "seconds": round(time.monotonic() - began, 1), **parts}) + "\n")
            log.flush()
        if (step + 1) % every == 0 or step + 1 == end:
            temporary = checkpoint.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, temporary)
            temporary.replace(checkpoint)
    log.close()
    model.eval()
