"""A fitted reward model: what its features are multiplied with, how its scores become 1 to 5, and how it was made."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
FORMAT = 2
FOLDER = "reward-models"
"""Of the home folder: models there are known by their folder's name."""
_ENOUGH_BOTH_BAD = 10
_ENDS = 1 << 20
_OF_MANY_UNITS = ("measures", "likelihood", "speech likelihood")
_NOTHING = 1e-6
"""Directions in which replies differ by less than this share of the widest are dropped."""


@dataclass(frozen=True)
class Part:
    """One part's features (k,) to coordinates (m,): centred by ``mean``, turned and stretched by ``axes`` (k, m), and
    held between ``low`` and ``high`` (m,)."""

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, many_units: bool) -> Part:
        both = np.concatenate([left, right])
        known = np.isfinite(both)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, both, 0.0).sum(0) / count
        centred = np.where(known, both - mean, 0.0)
        if many_units:
            deviation = np.sqrt(np.square(centred).sum(0) / count)
            axes = np.diag(np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0))
        else:
            _, size, directions = np.linalg.svd(centred, full_matrices=False)
            kept = size > _NOTHING * max(size[0], np.finfo(float).tiny)
            axes = directions[kept].T / np.sqrt(size[kept])
        scaled = centred @ axes
        apart = scaled[: len(left)] - scaled[len(left) :]
        length = math.sqrt(float(np.square(apart).sum(1).mean()))
        stretch = 1 / length if length > 0 else 0.0
        scaled = scaled * stretch
        return cls(mean, axes * stretch, scaled.min(0), scaled.max(0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        scaled = np.where(np.isfinite(features), features - self.mean, 0.0) @ self.axes
        return np.clip(scaled, self.low, self.high)


@dataclass(frozen=True)
class Scaling:
    """Features (n, k) to coordinates (n, m) on the scale that one prior suits, part by part; what is not known is the
    mean of what was voted on.

    The differences of each part have a mean squared length of 1, so that a prior width is what a part may add to a gap
    in logits. Measures and likelihoods have units of their own and are divided by their deviations. Hidden states vary
    most with what was asked and how it is phrased; every principal axis is divided by the root of its deviation, which
    is halfway to all axes counting alike.

    A coordinate beyond all replies that were voted on counts as the outermost of them: nobody said that more is better
    still, and a policy that is trained against the score would otherwise leave for where nobody has been.
    """

    parts: Mapping[str, Part]

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, sizes: Mapping[str, int]) -> Scaling:
        """From both replies' features (n, k) of every vote; what cannot be measured is NaN. ``sizes`` of the parts."""
        places = _places(sizes)
        return cls({name: Part.of(left[:, at], right[:, at], name in _OF_MANY_UNITS) for name, at in places.items()})

    @property
    def coordinates(self) -> dict[str, slice]:
        """Where each part's coordinates are."""
        return _places({name: part.axes.shape[1] for name, part in self.parts.items()})

    def __call__(self, features: np.ndarray) -> np.ndarray:
        places = _places({name: len(part.mean) for name, part in self.parts.items()})
        return np.concatenate([part(features[:, places[name]]) for name, part in self.parts.items()], axis=1)

    def only(self, blocks: Sequence[str]) -> Scaling:
        """Of these blocks' parts."""
        return Scaling({name: part for name, part in self.parts.items() if name.split()[0] in blocks})


def _places(sizes: Mapping[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values()))
    return {name: slice(int(end) - size, int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}


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
    """``weights`` (m,) of coordinates. ``facts`` is all that is known of how it was made, as plain JSON:

    base (name, fingerprint), blocks, layers, source, votes, held_out (accuracy, baselines), calibration, made_from.
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
        tensors = {"weights": self.weights}
        for name, part in self.scaling.parts.items():
            tensors |= {f"{name}/{field.name}": getattr(part, field.name) for field in fields(Part)}
        save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, str(draft / TENSORS))
        told = {"parts": list(self.scaling.parts), "calibration": asdict(self.calibration)}
        facts = {"format": FORMAT, **self.facts, **told}
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
                raise RewardError(f"{folder} was made by another version of this program: train it again.")
            names = [field.name for field in fields(Part)]
            parts = {part: Part(*(tensors[f"{part}/{name}"] for name in names)) for part in facts.pop("parts")}
            scaling = Scaling(parts)
            model = cls(tensors["weights"], scaling, calibration, facts)
            model.facts["held_out"]["accuracy"]["low"], model.facts["base"]["fingerprint"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise RewardError(f"The preference reward model in {folder} is broken: restore or remake it.") from error
        return model


def fingerprint(folder: Path) -> str:
    """Tells these weights of a base and its codec from others: sizes, ends and configs of their files.

    Raises:
        LayoutError: when the base does not say what its codec is.
    """
    from wavalign.codecs.loading import codec_folders
    from wavalign.models.description import InterleavedDescription

    told = InterleavedDescription.read(folder).codec
    places = [folder, *(codec_folders(told, folder) if isinstance(told, Mapping) else [folder / (told or "codec")])]
    digest = hashlib.sha256()
    for path in sorted(file for place in places for file in Path(place).glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            for place in (0, size // 2, max(0, size - _ENDS)):
                file.seek(place)
                digest.update(file.read(_ENDS))
    return digest.hexdigest()[:16]
