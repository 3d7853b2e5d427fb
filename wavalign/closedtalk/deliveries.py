"""How a reply can be spoken, how a user can sound, and which delivery fits which request or tone."""

from __future__ import annotations

from enum import StrEnum


class Delivery(StrEnum):
    """How the assistant speaks a reply."""

    NEUTRAL = "neutral"
    HAPPY = "happy"
    SAD = "sad"
    EXCITED = "excited"
    CALM = "calm"


class Tone(StrEnum):
    """How the user speaks a turn; it decides the delivery when the words ask for none."""

    PLAIN = "plain"
    SLOW_LOW = "slow_low"
    FAST_HIGH = "fast_high"


REQUEST_PHRASES: dict[Delivery, str] = {
    Delivery.NEUTRAL: "in a normal voice",
    Delivery.HAPPY: "in a happy voice",
    Delivery.SAD: "in a sad voice",
    Delivery.EXCITED: "in an excited voice",
    Delivery.CALM: "in a calm voice",
}

FITTING: dict[Tone, Delivery] = {
    Tone.PLAIN: Delivery.NEUTRAL,
    Tone.SLOW_LOW: Delivery.CALM,
    Tone.FAST_HIGH: Delivery.EXCITED,
}


def fitting_delivery(requested: Delivery | None, tone: Tone) -> Delivery:
    """The delivery a reply should have: an explicit request wins over the user's tone."""
    return FITTING[tone] if requested is None else requested
