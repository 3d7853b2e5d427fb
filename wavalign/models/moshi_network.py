"""Moshi's two transformers as one network: steps of time, codes of a step, and teacher-forced scores of both.

Everything runs through ``forward``, so that what wraps the network (PEFT's rows with different adapters, a launcher's
data parallelism) sees every call. Mimi, which turns sound into codes and back, is no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.moshi_columns import Frames, MoshiIds
from wavalign.models.moshi_depth import unstack
from wavalign.models.shared_rows import SharedRow


class MoshiNetwork(nn.Module):
    """``full`` is transformers' ``MoshiForConditionalGeneration``, whose depth transformer is unstacked here.

    ``silence`` int64 (books,): what the user's stream holds while the model answers.
    """

    def __init__(self, full: Any, ids: MoshiIds, silence: np.ndarray) -> None:
        super().__init__()
        unstack(full.depth_decoder)
        self.embed_tokens = full.embed_tokens
        self.decoder = full.decoder
        self.depth_decoder = full.depth_decoder
        self.ids = ids
        self.silence = silence

    @property
    def device(self) -> torch.device:
        return self.decoder.lm_head.weight.device

    @property
    def nothing(self) -> int:
        """The code that stands where a stream has not begun."""
        return self.ids.codes

    def gradient_checkpointing_enable(self, settings: dict[str, Any] | None = None) -> None:
        """Activations of both transformers' layers are made again in the backward pass."""
        self.decoder.gradient_checkpointing_enable(settings)
        self.depth_decoder.gradient_checkpointing_enable(settings)

    def forward(self, call: str, **inputs: Any) -> Any:
        """``call`` is "step", "codes" or "score"."""
        return getattr(self, f"_{call}")(**inputs)

    # -- steps of time -------------------------------------------------------------------------------------------------

    def delayed(self, frames: Frames) -> np.ndarray:
        """What the backbone reads of ``frames``, int64 (n + 1, 1 + 2 books): one column before the first, where nothing
        is there yet, then each frame's text and semantic codes with the acoustic codes of the frame before it."""
        count, books = len(frames), self.ids.books
        table = np.full((count + 1, 1 + 2 * books), self.nothing, dtype=np.int64)
        table[0, 0] = self.ids.text_size
        table[1:, 0] = frames.text
        for start, codes in ((1, frames.own), (1 + books, frames.user)):
            table[1:, start] = codes[:, 0]
            table[2:, start + 1 : start + books] = codes[:-1, 1:]
        return table

    def embedded(self, columns: torch.Tensor) -> torch.Tensor:
        """Embeddings (..., H) of columns (..., 1 + 2 books)."""
        codes = sum(table(columns[..., 1 + number]) for number, table in enumerate(self.embed_tokens))
        return codes + self.decoder.model.embed_tokens(columns[..., 0])

    def _step(
        self, embeds: torch.Tensor, positions: torch.Tensor | None = None, mask: Any = None, cache: Any = None
    ) -> torch.Tensor:
        """Hidden states (B, L, H) of embeddings (B, L, H) behind what ``cache`` holds; positions (B, L)."""
        out = self.decoder.model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=mask,
            cache=cache,
            use_cache=cache is not None,
        )
        return out.last_hidden_state

    # -- codes of a step -----------------------------------------------------------------------------------------------

    def _codes(self, hidden: torch.Tensor, tokens: torch.Tensor, first: int = 0, cache: Any = None) -> torch.Tensor:
        """Logits (N, S, codes) of the codes that follow ``tokens`` (N, S), which stand at the places from ``first`` on:
        a column's text token at 0, then its codes. ``hidden`` (N, H) is the backbone's, before the column.
        """
        depth, places = self.depth_decoder, range(first, first + tokens.shape[1])
        tables = [depth.text_embed_tokens, *depth.embed_tokens]
        embeds = torch.stack([tables[place](tokens[:, i]) for i, place in enumerate(places)], 1)
        made = embeds + depth.input_projections(hidden[:, None], places)
        for layer in depth.layers:
            made = layer(made, cache=cache, codebook_idx=places)
        return depth.lm_heads(made, places)

    # -- scores --------------------------------------------------------------------------------------------------------

    def _score(self, rows: Sequence[SharedRow]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (with gradients) and entropies (N,) of the wanted tokens, in the order of ``score_rows``.

        ``rows`` have one completion each.
        """
        read, starts, tables = [], [], []
        for row in rows:
            frames = self.ids.frames(row.prompt)
            columns = self.ids.columns(row.completions[0].tokens)
            read.append(torch.from_numpy(np.concatenate([self.delayed(frames), self._answered(frames, columns)])))
            starts.append(len(frames))
            tables.append(columns)
        padded = pad_sequence(read, batch_first=True).to(self.device)
        hidden = self._step(self.embedded(padded))  # a causal model does not see what is behind a row
        text, codes = self._wanted(rows)
        parts = [self._text_scores(hidden, text, starts, tables)] if text else []
        if codes:
            parts.append(self._code_scores(hidden, codes, starts, tables))
        order = torch.tensor([each[0] for each in (*text, *codes)]).argsort().to(self.device)
        logprobs, entropy = (torch.cat([part[i] for part in parts])[order] for i in (0, 1))
        return logprobs + self._untouched(not codes), entropy

    def _answered(self, frames: Frames, columns: np.ndarray) -> np.ndarray:
        """What the backbone reads of a reply's columns (n, 1 + books) but the last, which predicts nothing wanted."""
        books = self.ids.books
        table = np.empty((len(columns) - 1, 1 + 2 * books), dtype=np.int64)
        table[:, : 1 + books] = columns[:-1]
        table[:, 1 + books :] = self.silence
        if len(table):
            table[0, 2 : 1 + books] = frames.own[-1, 1:]
            table[0, 2 + books :] = frames.user[-1, 1:]
        return table

    def _wanted(self, rows: Sequence[SharedRow]) -> tuple[list, list]:
        """(place in the result, row, column, place in the column) of the wanted text tokens, and of the codes."""
        text, codes, rank = [], [], 0
        for number, row in enumerate(rows):
            for index in row.completions[0].wanted:
                column, place = self.ids.place(int(index))
                (codes if place else text).append((rank, number, column, place))
                rank += 1
        return text, codes

    def _text_scores(self, hidden: torch.Tensor, wanted: list, starts: list, tables: list) -> tuple:
        at = self._before(hidden, [(number, column) for _, number, column, _ in wanted], starts)
        targets = torch.tensor([tables[number][column, 0] for _, number, column, _ in wanted], device=self.device)
        return chosen_logprobs(self.decoder.lm_head(at), targets)

    def _code_scores(self, hidden: torch.Tensor, wanted: list, starts: list, tables: list) -> tuple:
        """Columns with a wanted code, each whole through the depth transformer: its text token, then its codes."""
        asked = sorted({(number, column) for _, number, column, _ in wanted})
        line = {each: index for index, each in enumerate(asked)}
        columns = torch.from_numpy(np.stack([tables[number][column] for number, column in asked])).to(self.device)
        # What was not drawn is behind what is wanted, and not seen.
        logits = self._codes(self._before(hidden, asked, starts), columns[:, :-1].clamp(min=0))
        lines = torch.tensor([line[number, column] for _, number, column, _ in wanted], device=self.device)
        places = torch.tensor([place for *_, place in wanted], device=self.device)
        return chosen_logprobs(logits[lines, places - 1], columns[lines, places])

    def _before(self, hidden: torch.Tensor, columns: list, starts: list) -> torch.Tensor:
        """Hidden states (n, H) of which columns (row, number) of replies are drawn."""
        rows = torch.tensor([row for row, _ in columns], device=self.device)
        return hidden[rows, torch.tensor([starts[row] + column for row, column in columns], device=self.device)]

    def _untouched(self, silent: bool) -> torch.Tensor | float:
        """Zero, with a gradient of zero for a depth transformer that was not run: data parallelism waits for it."""
        if not silent or not torch.is_grad_enabled():
            return 0.0
        return sum((0.0 * p.sum() for p in self.depth_decoder.parameters() if p.requires_grad), start=0.0)
