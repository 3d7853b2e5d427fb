"""The thinker and its talker as one network: reading, speaking, and teacher-forced scores of both.

Positions are one-dimensional: without images and videos the three rows of the families' rotary positions are equal.
Everything runs through ``forward``, so that what wraps the network (PEFT's rows with different adapters, a launcher's
data parallelism) sees every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.shared_rows import Scored, SharedRow
from wavalign.models.thinker_talker_families import OmniTokens


@dataclass(frozen=True)
class Read:
    """What the thinker made of rows (B, L): ``embeds`` and ``hidden`` (B, L, H), after the last layer.

    ``middle`` is the hidden state that the talker is given where that is another layer's, else None.
    """

    embeds: torch.Tensor
    hidden: torch.Tensor
    middle: torch.Tensor | None


@dataclass(frozen=True)
class Cue:
    """What a talker is told of one reply: ``opening`` (P, D) before the first code, then ``lines`` (R, D).

    Line t is added to the t-th code, the last line to all codes that come later.
    """

    opening: torch.Tensor
    lines: torch.Tensor


class OmniNetwork(nn.Module):
    """``full`` is the family's model of transformers; its vocoder is no part of the network.

    ``tokens`` may be set later than the network is made, but before it is used.
    """

    tokens: OmniTokens

    def __init__(self, full: Any) -> None:
        super().__init__()
        self.thinker = full.thinker
        self.talker = full.talker

    @property
    def device(self) -> torch.device:
        return self.language_model.embed_tokens.weight.device

    @property
    def language_model(self) -> Any:
        return self.thinker.model.language_model

    @property
    def text_config(self) -> Any:
        return self.language_model.config

    def gradient_checkpointing_enable(self, settings: dict[str, Any] | None = None) -> None:
        """Activations of the thinker's and the talker's layers are made again in the backward pass."""
        self.language_model.gradient_checkpointing_enable(settings)
        self.talker.model.gradient_checkpointing_enable(settings)

    def forward(self, call: str, **inputs: Any) -> Any:
        """``call`` is "read", "think", "talk", "detail" or "score"."""
        return getattr(self, f"_{call}")(**inputs)

    # -- the thinker -------------------------------------------------------------------------------------------------

    def embedded(self, rows: Sequence[Sequence[int]], heard: Sequence[torch.Tensor], left: bool = False) -> Any:
        """Embeddings (B, L, H) of ``rows`` padded on the right, or on the ``left``; ``heard`` (n, H) are the encoded
        recordings in the order of their placeholders."""
        longest = max(map(len, rows))
        pads = [[0] * (longest - len(row)) for row in rows]
        padded = [[*pad, *row] if left else [*row, *pad] for row, pad in zip(rows, pads, strict=True)]
        ids = torch.tensor(padded, device=self.device)
        embeds = self.language_model.embed_tokens(ids)
        if heard:
            there = (ids == self.thinker.config.audio_token_id)[..., None].expand_as(embeds)
            embeds = embeds.masked_scatter(there, torch.cat(list(heard)).to(embeds))
        return embeds

    @torch.no_grad()
    def encoded(self, features: torch.Tensor) -> torch.Tensor:
        """A recording's mel features (mels, frames) to what stands in its placeholders' place, (n, H)."""
        tower = self.thinker.model.audio_tower
        weight = next(tower.parameters())
        length = torch.tensor([features.shape[1]], device=weight.device)
        inputs = {"input_features": features.to(weight), "feature_lens": length}
        if hasattr(tower, "avg_pooler"):
            inputs["aftercnn_lens"] = tower._get_feat_extract_output_lengths(length)[0]
        return tower(**inputs).last_hidden_state

    def _think(self, embeds: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Any) -> torch.Tensor:
        """Logits (B, V) after the last position; positions (B, L)."""
        out = self.language_model(
            inputs_embeds=embeds,
            position_ids=_three(positions),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        return self.thinker.lm_head(out.last_hidden_state[:, -1]).float()

    def _read(self, embeds: torch.Tensor) -> Read:
        """Rows (B, L, H) padded on the right: a causal model does not see what is behind a row."""
        layer = self.middle_layer
        kept: list[torch.Tensor] = []
        hook = None
        if layer is not None:
            place = self.language_model.layers[layer - 1]
            hook = place.register_forward_hook(lambda *call: kept.append(call[-1]))
        positions = torch.arange(embeds.shape[1], device=embeds.device).expand(embeds.shape[:2])
        try:
            out = self.language_model(inputs_embeds=embeds, position_ids=_three(positions), use_cache=False)
        finally:
            if hook is not None:
                hook.remove()
        if not kept:
            return Read(embeds, out.last_hidden_state, None)
        return Read(embeds, out.last_hidden_state, kept[0][0] if isinstance(kept[0], tuple) else kept[0])

    # -- the talker: what the families differ in -----------------------------------------------------------------------

    middle_layer: int | None = None
    """Layers after which the talker listens in; None for the last one."""

    def cue(self, read: Read, row: int, prompt: Sequence[int], words: int) -> Cue:
        """Of the reply whose ``words`` follow ``prompt`` in row ``row``."""
        raise NotImplementedError

    def projected(self, inputs: torch.Tensor) -> torch.Tensor:
        """The talker's inputs in its own size."""
        raise NotImplementedError

    def code_embeds(self, frames: torch.Tensor) -> torch.Tensor:
        """What frames (..., books) of places behind the words add to the talker's inputs, (..., D)."""
        raise NotImplementedError

    def _talk(self, inputs: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Any) -> torch.Tensor:
        """The talker's hidden states (B, L, D') of inputs (B, L, D); logits are ``codec_head`` of them."""
        out = self.talker.model(
            inputs_embeds=self.projected(inputs),
            position_ids=_three(positions),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return out.last_hidden_state

    def _detail(self, inputs: torch.Tensor, cache: Any) -> torch.Tensor:
        """The code predictor's hidden states of inputs (B, L, D'), for the books after the first."""
        out = self.talker.code_predictor.model(inputs_embeds=inputs, past_key_values=cache, use_cache=cache is not None)
        return out.last_hidden_state

    # -- scores --------------------------------------------------------------------------------------------------------

    def _score(
        self, rows: Sequence[SharedRow], heard: Sequence[Sequence[torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (with gradients) and entropies (N,) of the wanted tokens, in the order of ``score_rows``.

        ``rows`` have one completion each; ``heard`` are the encoded recordings of each row's prompt.
        """
        completions = [row.completions[0] for row in rows]
        split = [self.tokens.split(completion.tokens) for completion in completions]
        texts = [[*row.prompt, *text] for row, (text, _) in zip(rows, split, strict=True)]
        read = self._read(self.embedded(texts, [each for several in heard for each in several]))
        parts = [self._text_scores(read, rows, split)]
        if any(speech for _, speech in split):
            parts.append(self._speech_scores(read, rows, split))
        order = torch.cat([part[0] for part in parts])
        logprobs, entropy = (torch.cat([part[i] for part in parts]) for i in (1, 2))
        logprobs = logprobs + self._untouched(len(parts) == 1)
        back = torch.argsort(order).to(logprobs.device)
        return logprobs[back], entropy[back]

    def _untouched(self, silent: bool) -> torch.Tensor | float:
        """Zero, with a gradient of zero for a talker that was not run: data parallelism waits for every weight."""
        if not silent or not torch.is_grad_enabled():
            return 0.0
        return sum((0.0 * p.sum() for p in self.talker.parameters() if p.requires_grad), start=0.0)

    def _text_scores(self, read: Read, rows: Sequence[SharedRow], split: Sequence[tuple]) -> tuple:
        order, places, targets = [], [], []
        length = read.hidden.shape[1]
        for number, (row, (text, _)) in enumerate(zip(rows, split, strict=True)):
            for rank, index in _wanted(row, 0, len(text)):
                order.append((number, rank))
                places.append(number * length + len(row.prompt) + index - 1)
                targets.append(text[index])
        hidden = read.hidden.flatten(0, 1)[torch.tensor(places, device=self.device, dtype=torch.long)]
        chosen = torch.tensor(targets, device=self.device, dtype=torch.long)
        return _ranks(rows, order), *chosen_logprobs(self.thinker.lm_head(hidden), chosen)

    def _speech_scores(self, read: Read, rows: Sequence[SharedRow], split: Sequence[tuple]) -> tuple:
        """The talker, teacher-forced: its hidden states at the place before each frame give the frame's first code."""
        books = self.tokens.books
        speaking = [number for number, (_, speech) in enumerate(split) if speech]
        inputs, openings, framed = [], [], []
        for number in speaking:
            text, speech = split[number]
            words = len(text) - (text[-1:] == [self.tokens.text_end])
            cue = self.cue(read, number, rows[number].prompt, words)
            frames = torch.tensor(speech + [0] * (-len(speech) % books), device=self.device).view(-1, books)
            later = frames[:-1]
            lines = cue.lines[torch.arange(len(later), device=self.device).clamp(max=len(cue.lines) - 1)]
            inputs.append(torch.cat([cue.opening, self.code_embeds(later).to(lines) + lines]))
            openings.append(len(cue.opening))
            framed.append(frames)
        padded = pad_sequence(inputs, batch_first=True)
        positions = torch.arange(padded.shape[1], device=self.device).expand(padded.shape[:2])
        hidden = self._talk(padded, positions, None, None)
        first, rest = ([], [], []), ([], [], [])  # order, place, target
        offsets = torch.tensor([0, *map(len, framed)]).cumsum(0).tolist()
        for place, number in enumerate(speaking):
            text, speech = split[number]
            for rank, index in _wanted(rows[number], len(text), len(text) + len(speech)):
                frame, book = divmod(index - len(text), books)
                order, places, targets = first if book == 0 else rest
                order.append((number, rank))
                targets.append(speech[index - len(text)])
                if book == 0:
                    places.append(place * padded.shape[1] + openings[place] - 1 + frame)
                else:
                    places.append((offsets[place] + frame, book))
        flat = hidden.flatten(0, 1)
        at = torch.tensor(first[1], device=self.device, dtype=torch.long)
        target = self.tokens.talker_id(torch.tensor(first[2], device=self.device, dtype=torch.long))
        logprobs, entropy = chosen_logprobs(self.talker.codec_head(flat[at]), target)
        order = first[0]
        if books > 1:
            before = torch.cat(
                [
                    hidden[place, openings[place] - 1 : openings[place] - 1 + len(frames)]
                    for place, frames in enumerate(framed)
                ]
            )
            more = self._detail_scores(before, torch.cat(framed), rest)
            logprobs, entropy = torch.cat([logprobs, more[0]]), torch.cat([entropy, more[1]])
            order = [*order, *rest[0]]
        return _ranks(rows, order), logprobs, entropy

    def _detail_scores(self, before: torch.Tensor, frames: torch.Tensor, wanted: tuple) -> tuple:
        """Codes of the later books: the talker's hidden state (F, D) before each frame (F, books), then its codes."""
        _, places, targets = wanted
        made = self._detail(torch.cat([before[:, None], self.book_embeds(frames[:, :-1]).to(before)], 1), None)
        logprobs, entropy, order = [], [], []
        for book in range(1, self.tokens.books):
            mine = [i for i, (_, b) in enumerate(places) if b == book]
            at = torch.tensor([places[i][0] for i in mine], device=self.device, dtype=torch.long)
            code = torch.tensor([targets[i] - book * self.tokens.codes for i in mine], device=self.device)
            result = chosen_logprobs(self.talker.code_predictor.lm_head[book - 1](made[at, book]), code.long())
            logprobs.append(result[0])
            entropy.append(result[1])
            order += mine
        back = torch.argsort(torch.tensor(order, dtype=torch.long)).to(before.device)
        return torch.cat(logprobs)[back], torch.cat(entropy)[back]

    def book_embeds(self, codes: torch.Tensor) -> torch.Tensor:
        """Embeddings (F, b, D) of the first b codes of frames, each by its own book's table."""
        raise NotImplementedError


def _three(positions: torch.Tensor) -> torch.Tensor:
    return positions[None].expand(3, -1, -1)


def _wanted(row: SharedRow, start: int, stop: int) -> list[tuple[int, int]]:
    """(place among the wanted tokens, index in the completion) of those that lie in [start, stop)."""
    completion: Scored = row.completions[0]
    return [(rank, int(index)) for rank, index in enumerate(completion.wanted) if start <= index < stop]


def _ranks(rows: Sequence[SharedRow], order: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Places in the flat result of (row, place among its wanted tokens)."""
    sizes = [len(row.completions[0].wanted) for row in rows]
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return torch.tensor([starts[number] + rank for number, rank in order], dtype=torch.long)
