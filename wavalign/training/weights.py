"""How much each token counts: the normalisers of the objectives, with counts of the whole (global) batch.

Counts are taken before the forward, from the batches of all processes; with them every loss is a plain weighted sum.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Normalise = Literal["sequence", "tokens", "constant"]
"""sequence: mean over a completion's tokens, then over completions (GRPO). tokens: mean over all tokens (DAPO).
constant: divided by the longest possible completion, so that length has no say (Dr.GRPO)."""


def row_weights(counts: np.ndarray, normalise: Normalise, longest: int) -> np.ndarray:
    """The weight (R,) of each masked token of a row, given the ``counts`` int (R,) of masked tokens of ALL rows.

    Rows without masked tokens count as rows (an empty text is part of the mean over completions) but have weight 0.
    ``longest``: the limit of a completion in tokens, used by "constant".
    """
    rows = len(counts)
    some = counts > 0
    if not some.any():
        return np.zeros(rows)
    if normalise == "sequence":
        return np.where(some, 1.0 / (rows * np.maximum(counts, 1)), 0.0)
    if normalise == "tokens":
        return np.where(some, 1.0 / counts.sum(), 0.0)
    return np.where(some, 1.0 / (rows * longest), 0.0)
