"""Attention of many rows to the prompts they share: the keys of a prompt are read once for all rows that continue it.

Decoding a group of replies is bound by reading the cache. Rows that share a prompt are therefore queries of one product
with its keys, and only what each row has added itself is attended to row by row; the two results are merged by their
log-sum-exp.
"""

from __future__ import annotations

import torch


class SharedPrompts:
    """``cache`` (layers, 2, P, kv heads, L, d) of P prompts, ``hidden`` (P, L) True on pads or None, ``copies`` rows of
    each prompt, one after another."""

    def __init__(self, cache: torch.Tensor, hidden: torch.Tensor | None, copies: int) -> None:
        self.cache = cache
        self.mask = None
        if hidden is not None:
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
            self.mask = mask.repeat_interleave(cache.shape[3], dim=0)[:, None]  # (P * kv heads, 1, L)
        self.owner = torch.arange(cache.shape[2]).repeat_interleave(copies)
        self._settle()

    def _settle(self) -> None:
        """Views of the cache as bmm reads it, and where each row stands among the rows of its prompt."""
        self.views = [(layer[0].flatten(0, 1), layer[1].flatten(0, 1)) for layer in self.cache]
        prompts, heads = self.cache.shape[2], self.cache.shape[3]
        counts = torch.bincount(self.owner, minlength=prompts)
        self.widest = int(counts.max())
        first = torch.cumsum(counts, 0) - counts
        place = torch.arange(len(self.owner)) - first[self.owner]
        self.rectangular = bool((counts == self.widest).all())
        # Prompts with fewer rows are filled up with row 0, whose results there nobody reads.
        self.rows = torch.zeros(prompts, self.widest, dtype=torch.long)
        self.rows[self.owner, place] = torch.arange(len(self.owner))
        self.prompts, self.heads = prompts, heads
        self.back = self.owner * self.widest + place

    def attended(self, index: int, q: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Layer ``index``: queries q (B, kv heads, g, d) to outputs of that shape and log-sum-exp (B, kv heads, g, 1).

        g query heads share a kv head.
        """
        keys, values = self.views[index]
        _, heads, g, d = q.shape
        spread = q if self.rectangular else q[self.rows.flatten()]
        grouped = spread.view(self.prompts, self.widest, heads, g, d).transpose(1, 2)
        grouped = grouped.reshape(self.prompts * heads, self.widest * g, d)
        mask = q.new_zeros(()) if self.mask is None else self.mask
        scores = torch.baddbmm(mask, grouped, keys.transpose(1, 2), beta=0 if self.mask is None else 1, alpha=scale)
        mass = scores.logsumexp(-1, keepdim=True)
        out = torch.bmm((scores - mass).exp_(), values)
        return self._by_row(out, heads, g), self._by_row(mass, heads, g)

    def _by_row(self, x: torch.Tensor, heads: int, g: int) -> torch.Tensor:
        rows = x.view(self.prompts, heads, self.widest, g, -1).transpose(1, 2)
        rows = rows.reshape(self.prompts * self.widest, heads, g, -1)
        return rows if self.rectangular else rows[self.back]

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these (ascending), and prompts that have none left."""
        owner = self.owner[rows]
        left, self.owner = torch.unique(owner, return_inverse=True)
        if len(left) < self.prompts:
            self.cache = self.cache[:, :, left]
            if self.mask is not None:
                by_prompt = self.mask.view(self.prompts, self.heads, 1, -1)
                self.mask = by_prompt[left].reshape(len(left) * self.heads, 1, -1)
        self._settle()
