"""Is the reply spoken as it should be? Its measured distance from the wanted delivery's reference renderings."""

from __future__ import annotations

from collections.abc import Sequence

from wavalign.closedtalk.deliveries import Delivery
from wavalign.metrics.measures import measure
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer, RewardError
from wavalign.rewards.registry import RewardContext

HALF_WAY = 1.5
"""The distance that earns 3, in spreads within a delivery: between two neighbouring deliveries' means."""


class DeliveryReward:
    """1 + 4 / (1 + (d / 1.5)^2), d the RMS number of spreads from the wanted delivery's mean.

    A right or wrong label would be two heaps with nothing between; the distance also tells a good rendering from a
    better one, and of two wrong ones the nearer, because its tail is long. Typical renderings lie at 0.5 (4.6), the
    border to a neighbour at 1 to 2, other deliveries beyond 2 (2.4 and less). What cannot be measured (silence, no
    voice, no words) is not spoken as it should be: 1.
    """

    name = "delivery"
    needs_audio = True
    channel = "speech"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        self.references = context.references

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """Raises:
        RewardError: when an example does not say which delivery it wants.
        """
        return [self._score(answer, self._wanted(answer)) for answer in answers]

    def _score(self, answer: Answer, wanted: Delivery) -> float:
        if answer.waveform is None or not len(answer.waveform.samples):
            return LOWEST
        distances = self.references.distances_of(measure(answer.waveform, answer.text))
        return LOWEST if distances is None else reward_of(distances[wanted])

    def _wanted(self, answer: Answer) -> Delivery:
        wanted = answer.example.facts.get("delivery")
        try:
            return Delivery(wanted)
        except ValueError as error:
            known = ", ".join(delivery.value for delivery in Delivery)
            raise RewardError(
                f'The reward "delivery" needs a "delivery" fact, one of {known}: example {answer.example.id} has '
                f"{wanted!r}."
            ) from error


def reward_of(distance: float) -> float:
    """The reward of a distance from the wanted delivery, in spreads."""
    return LOWEST + (HIGHEST - LOWEST) / (1 + (distance / HALF_WAY) ** 2)
