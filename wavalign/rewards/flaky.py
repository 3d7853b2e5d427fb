"""A judge that loses its judgement from time to time, for studies of how a recipe stands that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from wavalign.rewards.config import FlakyConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer, Judged, Reward, Score


class Flaky:
    """``reward`` in good phases; in bad ones a guess, 1 to 5, instead of a share of its scores.

    The phases take turns by the update a reply was sampled for, a good one first; a reply of no update gets its
    true score. A guess depends on the reward's name, the example, the update and the text alone: the same in every
    process and after a resume, and the same for replies that say the same.
    """

    needs_audio: bool
    channel: Judged

    def __init__(self, reward: Reward, config: FlakyConfig) -> None:
        self.reward = reward
        self.config = config
        self.name, self.needs_audio, self.channel = reward.name, reward.needs_audio, reward.channel

    def score(self, answers: Sequence[Answer]) -> list[Score]:
        return [
            self._guess(answer) if score is not None and self._guesses(answer) else score
            for answer, score in zip(answers, self.reward.score(answers), strict=True)
        ]

    def _guesses(self, answer: Answer) -> bool:
        bad = answer.step is not None and answer.step // self.config.period % 2 == 1
        return bad and self._fraction("whether", answer) < self.config.share

    def _guess(self, answer: Answer) -> float:
        return LOWEST + int(self._fraction("what", answer) * (HIGHEST - LOWEST + 1))

    def _fraction(self, what: str, answer: Answer) -> float:
        """From 0, included, to 1, excluded."""
        said = "\0".join([what, self.name, str(answer.step), answer.example.id, answer.text])
        return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=6).digest()) / 2**48
