"""Which tokens of a completion a term may touch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavalign.models.protocol import Channel, TrainablePolicy

TEXT, SPEECH, FORMAT = Channel.TEXT, Channel.SPEECH, Channel.FORMAT
NAMES: dict[Channel, str] = {TEXT: "text", SPEECH: "speech", FORMAT: "format"}


def channels_of(policy: TrainablePolicy, tokens: Sequence[int]) -> np.ndarray:
    """``Channel`` values, int8 (T,), as training sees them.

    The mark that ends the text is TEXT here: choosing it is choosing to say no further word, at the same place and
    from the same distribution as a word. It carries no sound and no boundary.
    """
    channels = np.array(policy.channel_of(tokens), dtype=np.int8)
    if policy.text_end is not None:
        channels[np.asarray(tokens) == policy.text_end] = TEXT
    return channels


def mask_of(channels: np.ndarray, scope: str) -> np.ndarray:
    """bool (T,): the tokens that a scope ("text", "speech", "format" or "all") covers.

    A scope without tokens is empty; it never becomes another one.
    """
    if scope == "all":
        return np.ones(len(channels), dtype=bool)
    return channels == {name: channel for channel, name in NAMES.items()}[scope]
