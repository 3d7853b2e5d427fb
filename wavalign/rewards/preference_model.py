"""A fitted reward model: what its features are multiplied with, how its scores become 1 to 5, and how it was made."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, ndtr

from wavalign.rewards.preference_fit import BOTH_BAD
from wavalign.rewards.protocol import HIGHEST, LOWEST, RewardError

TENSORS, FACTS = "preference.safetensors", "preference.json"
FORMAT = 1
FOLDER = "reward-models"
"""Of the home folder: models there are known by their folder's name."""
_ENOUGH_BOTH_BAD = 10
_ENDS = 1 << 20
_OF_MANY_UNITS = ("measures", "likelihood")


@dataclass(frozen=True)
class Scaling:
    """Features (k,) to the scale that one prior suits: centred, every block of one size, within what was voted on.

    A feature beyond all replies that were voted on counts as the outermost of them: nobody said that more is better
    still, and a policy that is trained against the score would otherwise leave for where nobody has been.
    """

    mean: np.ndarray
    factor: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, sizes: Mapping[str, int]) -> Scaling:
        """From both replies' features (n, k) of every vote; what cannot be measured is NaN.

        Each block of differences has a mean squared length of 1, so that a prior width is what a block may add to a
        gap in logits. Measures and likelihoods have units of their own and are first divided by their deviations.
        """
        both = np.concatenate([left, right])
        known = np.isfinite(both)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, both, 0.0).sum(0) / count
        factor = np.ones(both.shape[1])
        start = 0
        for block, size in sizes.items():
            place = slice(start, start + size)
            start += size
            if block in _OF_MANY_UNITS:
                centred = np.where(known[:, place], both[:, place] - mean[place], 0.0)
                deviation = np.sqrt(np.square(centred).sum(0) / count[place])
                factor[place] = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1.0), 0.0)
            apart = np.nan_to_num((left - right)[:, place] * factor[place])
            length = math.sqrt(float(np.square(apart).sum(1).mean()))
            factor[place] *= 1 / length if length > 0 else 0.0
        scaled = np.where(known, (both - mean) * factor, 0.0)
        return cls(mean, factor, scaled.min(0), scaled.max(0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, k) to (n, k); what is not known is the mean of what was voted on."""
        scaled = np.where(np.isfinite(features), (features - self.mean) * self.factor, 0.0)
        return np.clip(scaled, self.low, self.high)


@dataclass(frozen=True)
class Calibration:
    """Scores in logits to 1..5: 1 + 4 Phi((score - centre) / spread).

    ``spread`` is the standard deviation of replies to one question, of those that were voted on: votes tell of no other
    differences, and the information gate looks at those within a group. ``centre`` gets 3, "acceptable", where the
    direction gate is half open: the point below which raters call replies bad when enough votes were "both bad", else
    the mean of the replies that were voted on.
    """

    centre: float
    spread: float
    told_by: str

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, outcome: np.ndarray) -> Calibration:
        """From scores (n,) of both replies of every vote."""
        scores = np.concatenate([left, right])
        mean, spread = float(scores.mean()), float(np.sqrt(np.mean((left - right) ** 2) / 2))
        bad = outcome == BOTH_BAD
        if spread == 0 or bad.sum() < _ENOUGH_BOTH_BAD or bad.all():
            return cls(mean, spread, "the mean of the replies that were voted on")
        low, high = np.quantile(scores, [0.1, 0.9])

        def loss(threshold: float) -> float:
            # A reply is acceptable with the chance with which it would be preferred to one at the threshold.
            both = log_expit(threshold - left) + log_expit(threshold - right)
            return -float(np.where(bad, both, np.log(-np.expm1(np.minimum(both, -1e-12)))).sum())

        # Within the middle of what was voted on: a scale on which nearly all is 1 or 5 tells nothing apart.
        found = minimize_scalar(loss, bounds=(float(low), float(high)), method="bounded")
        return cls(float(found.x), spread, f"{int(bad.sum())} votes of both bad")

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        if self.spread == 0:
            return np.full(len(scores), (LOWEST + HIGHEST) / 2)
        return LOWEST + (HIGHEST - LOWEST) * ndtr((scores - self.centre) / self.spread)


@dataclass(frozen=True)
class PreferenceModel:
    """``weights`` (k,) of scaled features. ``facts`` is all that is known of how it was made, as plain JSON:

    base (name, fingerprint), blocks, layer, source, votes, held_out (accuracy, baselines), calibration, made_from.
    """

    weights: np.ndarray
    scaling: Scaling
    calibration: Calibration
    facts: Mapping[str, Any]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n,) from features (n, k); differences of two are logits of preferring one to the other."""
        return self.scaling(features) @ self.weights

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(n,) from 1 to 5."""
        return self.calibration(self.logits(features))

    @property
    def above_chance(self) -> bool:
        return self.facts["held_out"]["accuracy"]["low"] > 0.5

    def save(self, folder: Path) -> None:
        """All of it or nothing.

        Raises:
            RewardError: when the folder holds something already.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RewardError(f"{folder} is not empty; choose a new folder for the reward model.")
        draft = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        scaling = self.scaling
        tensors = {"weights": self.weights, "mean": scaling.mean, "factor": scaling.factor}
        tensors |= {"low": scaling.low, "high": scaling.high}
        save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, str(draft / TENSORS))
        calibration = {"centre": self.calibration.centre, "spread": self.calibration.spread}
        facts = {"format": FORMAT, **self.facts, "calibration": {**calibration, "told_by": self.calibration.told_by}}
        (draft / FACTS).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)

    @classmethod
    def load(cls, folder: Path) -> PreferenceModel:
        """Raises:
        RewardError: when the folder is no reward model, or a broken one.
        """
        folder = Path(folder)
        if not (folder / FACTS).is_file():
            raise RewardError(
                f"There is no preference reward model in {folder}. Make one with "
                "python -m wavalign.rewards.train_preference EXPORT --out FOLDER."
            )
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            tensors = load_file(str(folder / TENSORS))
            calibration = Calibration(**facts.pop("calibration"))
            if facts.pop("format") != FORMAT:
                raise RewardError(f"{folder} was made by a newer program.")
            scaling = Scaling(*(tensors[name] for name in ("mean", "factor", "low", "high")))
            model = cls(tensors["weights"], scaling, calibration, facts)
            model.facts["held_out"]["accuracy"]["low"], model.facts["base"]["fingerprint"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise RewardError(f"The preference reward model in {folder} is broken: restore or remake it.") from error
        return model


def fingerprint(folder: Path, codec: Path) -> str:
    """Tells these weights of a base and its codec from others: sizes, ends and configs of their files."""
    digest = hashlib.sha256()
    for path in sorted([*Path(folder).glob("*.safetensors"), *Path(codec).glob("*.safetensors")]):
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            for place in (0, size // 2, max(0, size - _ENDS)):
                file.seek(place)
                digest.update(file.read(_ENDS))
    return digest.hexdigest()[:16]
