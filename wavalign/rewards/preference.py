"""What raters would prefer: a model that was trained on votes, as a reward.

Scores are 1 + 4 Phi((s - centre) / spread) of its logits s (``preference_model.Calibration``): the spread is that
of voted replies to one question, and 3 is where raters begin to call a reply acceptable, or the mean reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wavalign.rewards.config import RewardConfig
from wavalign.rewards.preference_features import SOUND, Met, Reader
from wavalign.rewards.preference_model import FOLDER, PreferenceModel, fingerprint
from wavalign.rewards.protocol import LOWEST, Answer, Judged, RewardError
from wavalign.rewards.registry import RewardContext
from wavalign.rewards.train_preference import refusal


class PreferenceReward:
    """Refused, unless its weight is 0, while its held-out accuracy is not above chance.

    It reads replies with the base that its model was trained on, which must be the very same weights; a run that
    trains an adapter on that base lends its own, with the adapter switched off.
    """

    name = "preference"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        """Raises:
        RewardError: when the model or its base is missing, broken, or another, or is refused.
        """
        if config.preference is None:
            raise RewardError("rewards.preference is missing: the reward needs the path of a trained model.")
        self.folder = _found(config.preference.path, context.home)
        self.model = PreferenceModel.load(self.folder)
        if config.weights.get(self.name, 0.0) > 0 and not self.model.above_chance:
            raise RewardError(f"{self.folder}: {refusal(self.model)}")
        self.context = context
        self._check_base()
        self._reader: Reader | None = None

    @property
    def needs_audio(self) -> bool:
        return not set(SOUND).isdisjoint(self.model.facts["blocks"])

    @property
    def channel(self) -> Judged:
        if not self.needs_audio:
            return "text"
        return "speech" if {"text", "likelihood"}.isdisjoint(self.model.facts["blocks"]) else "both"

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """A reply without words, or without the sound that the model hears, is 1."""
        reader = self._reader = self._reader or self._opened()
        replies = [Met(each.example.prompt, each.text, each.waveform) for each in answers]
        usable = [place for place, reply in enumerate(replies) if reader.readable(reply)]
        scores: list[float | None] = [LOWEST] * len(answers)
        if usable:
            found = self.model.scores(reader.features([replies[place] for place in usable]))
            for place, score in zip(usable, found, strict=True):
                scores[place] = float(score)
        return scores

    def _opened(self) -> Reader:
        from wavalign.models.loading import load_base

        told = self.model.facts["base"]["name"]
        lent = self.context.base
        base = lent if lent is not None and lent.name == told else load_base(told, self._base_folder())
        return Reader(base, self.model.facts["blocks"], self.model.facts["layers"])

    def _base_folder(self) -> Path:
        from wavalign.models.protocol import CheckpointError
        from wavalign.models.registry import Registry

        try:
            checkpoint = Registry(self.context.assets, self.context.home).checkpoint(self.model.facts["base"]["name"])
        except CheckpointError as error:
            raise RewardError(f"The reward model in {self.folder} cannot be used: {error}") from error
        return Path(checkpoint.base)

    def _check_base(self) -> None:
        folder = self._base_folder()
        if fingerprint(folder) != self.model.facts["base"]["fingerprint"]:
            raise RewardError(
                f'The reward model in {self.folder} was trained on other weights of "{folder.name}" or its codec than '
                "are here. Train it again on the same votes."
            )


def _found(path: Path, home: Path | None) -> Path:
    """A folder, or the name of one among the home's reward models."""
    named = home / FOLDER / path if home is not None and path.name == str(path) else path
    return named if not path.exists() and named.exists() else path
