"""Teacher-forced scores through the transformers model itself, with gradients where the caller wants them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from wavalign.models.channel_adapters import SpeechOf, speaking
from wavalign.models.protocol import Scores


def score(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    adapter: str | None,
    speech_of: SpeechOf | None = None,
) -> Scores:
    """Log-probabilities and entropies of the completions' tokens; one forward, right-padded, no attention mask.

    A causal model does not see the padding behind a row. Only positions from the shortest prompt on are projected to
    the vocabulary. ``adapter`` None scores the base, with any adapters switched off. ``speech_of`` is needed for one
    that is split by channel.
    """
    network = model.get_base_model() if hasattr(model, "peft_config") else model
    device = next(network.parameters()).device
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    longest, width = max(map(len, rows)), max(map(len, completions))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    first = min(map(len, prompts)) - 1
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    shortened = "logits_to_keep" in inspect.signature(network.forward).parameters
    if shortened:
        inputs["logits_to_keep"] = longest - first
    with active(model, adapter), speaking(network, _positions(prompts, completions, longest, speech_of, device)):
        logits = network(**inputs).logits if shortened else network(**inputs).logits[:, first:]
    starts = torch.tensor([len(prompt) - 1 - first for prompt in prompts], device=device)
    offsets = torch.arange(width, device=device)
    lengths = torch.tensor([len(completion) for completion in completions], device=device)
    mask = offsets < lengths[:, None]
    positions = (starts[:, None] + offsets).clamp(max=logits.shape[1] - 1)
    targets = ids.gather(1, (positions + first + 1).clamp(max=longest - 1))
    chosen = logits.gather(1, positions[..., None].expand(-1, -1, logits.shape[-1])).float()
    logprobs = chosen.log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    picked = logprobs.gather(-1, targets[..., None])[..., 0]
    return Scores(picked * mask, entropy * mask, mask)


def _positions(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    longest: int,
    speech_of: SpeechOf | None,
    device: torch.device,
) -> torch.Tensor | None:
    """bool (B, longest): speech's positions, of which each predicts the token after it."""
    if speech_of is None:
        return None
    speech = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        speech[row, len(prompt) - 1 : len(prompt) - 1 + len(completion)] = torch.from_numpy(speech_of(completion))
    return speech.to(device)


def linear_names(network: nn.Module) -> list[str]:
    """The last name parts of all linear modules except the output head, in order of appearance."""
    head = network.get_output_embeddings()
    names: dict[str, None] = {}
    for path, module in network.named_modules():
        module = getattr(module, "base_layer", module)
        inside_adapter = ".lora_" in path or path.endswith(".base_layer")
        if isinstance(module, nn.Linear) and module is not head and not inside_adapter:
            names[path.rsplit(".", 1)[-1]] = None
    return list(names)


@contextmanager
def active(model: Any, adapter: str | None) -> Iterator[None]:
    """``model`` runs with this adapter; None: with all switched off."""
    if not hasattr(model, "peft_config"):
        yield
    elif adapter is None:
        with model.disable_adapter():
            yield
    else:
        if model.active_adapters != [adapter]:
            model.set_adapter(adapter)
        yield
