"""Is the reply whole: words, sound, the layout's order, and an end? ALPO's reward for format tokens."""

from __future__ import annotations

from collections.abc import Sequence

from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer
from wavalign.rewards.registry import RewardContext


class Format:
    """5 when the reply is well formed and finished and has words, else 1: ALPO's 1 and 0 (arXiv 2608.03054).

    Speech is not asked for separately: a completion without any is not well formed. Wherever the waveform is known,
    an empty one counts as missing.
    """

    name = "format"
    needs_audio = False
    channel = "format"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        pass

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [HIGHEST if self._whole(answer) else LOWEST for answer in answers]

    @staticmethod
    def _whole(answer: Answer) -> bool:
        silent = answer.waveform is not None and len(answer.waveform.samples) == 0
        return answer.finished and answer.well_formed and bool(answer.text.strip()) and not silent
