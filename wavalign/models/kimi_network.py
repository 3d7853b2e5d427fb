"""Kimi-Audio's transformer as one network: steps of two streams in, logits of both out, and teacher-forced scores.

``full`` is the checkpoint's own model: shared layers, from one of which the audio's own layers branch off
(``mimo_layers``), and a head for each stream. Inputs are embedded here, because the model's own way from ids takes one
recording-bearing row at a time. Everything runs through ``forward``, so that what wraps the network (PEFT's rows with
different adapters, a launcher's data parallelism) sees every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from wavalign.models.kimi_prompting import audio_of, text_of
from wavalign.models.kimi_tokens import Columns, Streams
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.shared_rows import SharedRow

Cache = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values (B, heads, L, size) of every layer: the shared stack's, then the audio's own."""


@dataclass(frozen=True)
class Inputs:
    """What stands in the positions of one row: two streams of ids, and recordings' features (n, D) in places of audio.

    ``heard``: (first position, features) of each recording.
    """

    audio: list[int]
    text: list[int]
    heard: Sequence[tuple[int, torch.Tensor]] = ()


class KimiNetwork(nn.Module):
    """``streams`` may be set later than the network is made, but before it is scored with."""

    streams: Streams

    def __init__(self, full: Any) -> None:
        super().__init__()
        self.model = full.model
        self.lm_head = full.lm_head
        self.mimo_output = full.mimo_output
        # As transformers calls it: what stays whole where weights are shared out among processes.
        self._no_split_modules = sorted({type(layer).__name__ for layer in self.layers})

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    @property
    def layers(self) -> list[nn.Module]:
        return [*self.model.layers, *self.model.mimo_layers]

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def gradient_checkpointing_enable(self, settings: dict[str, Any] | None = None) -> None:
        """Activations of all layers are made again in the backward pass: the published code has no such thing."""
        for layer in self.layers:
            layer.forward = partial(_again, type(layer).forward, layer, settings or {"use_reentrant": False})

    def gradient_checkpointing_disable(self) -> None:
        for layer in self.layers:
            layer.__dict__.pop("forward", None)

    def forward(self, call: str, **inputs: Any) -> Any:
        """``call`` is "open", "step" or "score"."""
        return getattr(self, f"_{call}")(**inputs)

    def embedded(self, rows: Sequence[Inputs], left: bool = False) -> torch.Tensor:
        """Embeddings (B, L, H) of ``rows`` padded on the right, or on the ``left``.

        Both streams' embeddings are added; where a recording stands, the audio's is joined by its projected features,
        scaled by the square root of 2.
        """
        longest, blank = max(len(row.audio) for row in rows), self.streams.marks.blank

        def padded(ids: list[int]) -> list[int]:
            fill = [blank] * (longest - len(ids))
            return [*fill, *ids] if left else [*ids, *fill]

        audio = torch.tensor([padded(row.audio) for row in rows], device=self.device)
        text = torch.tensor([padded(row.text) for row in rows], device=self.device)
        embeds = self.model.embed_tokens(audio)
        heard = torch.zeros_like(embeds)
        there = torch.zeros_like(audio, dtype=torch.bool)
        for number, row in enumerate(rows):
            shift = longest - len(row.audio) if left else 0
            for start, features in row.heard:
                place = slice(shift + start, shift + start + len(features))
                projected = self.model.vq_adaptor(features.to(self.device, embeds.dtype))
                heard[number, place] = projected.to(heard)
                there[number, place] = True
        if any(row.heard for row in rows):
            embeds = torch.where(there[..., None], (embeds + heard) * 2**0.5, embeds)
        return embeds + self.model.embed_tokens(text)

    def _open(self, rows: Sequence[Inputs], positions: torch.Tensor, mask: Any) -> tuple:
        """Reads ``rows``, padded on the left; see ``_read``."""
        return self._read(self.embedded(rows, left=True), positions, mask, None)

    def _step(self, columns: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Cache) -> tuple:
        """Reads one step of each row, ``columns`` (2, B) of audio and text ids; see ``_read``."""
        embeds = self.model.embed_tokens(columns).sum(0)[:, None]
        return self._read(embeds, positions, mask, cache)

    def _read(self, embeds: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Cache | None) -> tuple:
        """Logits of text and of audio (B, V) after the last position, and the cache; ``mask`` (B, all positions)."""
        hidden, own, cache = self._run(embeds, positions, mask, cache, True)
        return self.lm_head(hidden[:, -1]).float(), self.mimo_output(own[:, -1]).float(), cache

    def _run(self, embeds: Any, positions: Any, mask: Any, cache: Cache | None, keep: bool) -> tuple:
        """Hidden states (B, L, H) for the text's head and for the audio's, and the cache when ``keep``."""
        out = self.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=keep,
            output_attentions=False,
            output_hidden_states=False,
            return_dict=False,
        )
        return out[0], out[1], out[2] if keep else None

    def _score(self, rows: Sequence[SharedRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (with gradients) and entropies (N,) of the wanted tokens of ``rows``, in order.

        ``rows`` have one completion each. Step 0 is predicted at the prompt's last position, step s + 1 at step s.
        """
        inputs, order, places, targets = [], [], ([], []), ([], [])
        number = 0
        for row in rows:
            (completion,) = row.completions
            columns = self.streams.columns(completion.tokens)
            inputs.append(inputs_of(row.prompt, columns))
            steps, audio = self.streams.steps_of(completion.tokens), self.streams.is_audio(completion.tokens)
            before = len(row.prompt) // 2 - 1
            for index in completion.wanted:
                stream = int(audio[index])
                places[stream].append((len(inputs) - 1, before + int(steps[index])))
                targets[stream].append(int(completion.tokens[index]))
                order.append((stream, number))
                number += 1
        embeds = self.embedded(inputs)
        positions = torch.arange(embeds.shape[1], device=embeds.device).expand(embeds.shape[:2])
        hidden, own, _ = self._run(embeds, positions, None, None, False)
        parts = []
        # Both heads run, if on nothing: data parallelism waits for the gradient of every weight.
        for stream, (states, head) in enumerate(((hidden, self.lm_head), (own, self.mimo_output))):
            at = torch.tensor(places[stream], dtype=torch.long, device=embeds.device).reshape(-1, 2)
            wanted = torch.tensor(targets[stream], dtype=torch.long, device=embeds.device)
            parts.append(chosen_logprobs(head(states[at[:, 0], at[:, 1]]), wanted))
        back = torch.tensor([number for stream in (0, 1) for each, number in order if each == stream])
        back = torch.argsort(back).to(embeds.device)
        logprobs, entropy = (torch.cat([text, audio])[back] for text, audio in zip(*parts, strict=True))
        return logprobs + self._unheard(inputs), entropy

    def _unheard(self, rows: Sequence[Inputs]) -> torch.Tensor | float:
        """Zero, with a gradient of zero for what projects recordings, where there is none among ``rows``."""
        if not torch.is_grad_enabled() or any(row.heard for row in rows):
            return 0.0
        projecting = getattr(self.model, "vq_adaptor", None)
        weights = [] if projecting is None else [p for p in projecting.parameters() if p.requires_grad]
        return sum((0.0 * weight.sum() for weight in weights), start=0.0)


def inputs_of(prompt: Sequence[int], columns: Columns | None = None) -> Inputs:
    """A prompt, two ids a position, and steps behind it. Recordings stand where the prompt says."""
    audio, text = audio_of(prompt), text_of(prompt)
    if columns is not None:
        audio, text = audio + columns.audio, text + columns.text
    heard = [(start, torch.from_numpy(recording.features)) for start, recording in getattr(prompt, "heard", ())]
    return Inputs(audio, text, heard)


def _again(forward: Callable[..., Any], layer: nn.Module, settings: dict[str, Any], *given: Any, **named: Any) -> Any:
    if torch.is_grad_enabled() and layer.training:
        return checkpoint(forward, layer, *given, **settings, **named)
    return forward(layer, *given, **named)
