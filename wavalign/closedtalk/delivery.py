"""Is a reply delivered as it should be? Measured against the reference renderings of every delivery.

A waveform becomes four numbers: log of the F0 median, F0 spread in semitones, log of the seconds per letter, level in
dBFS. Each delivery is the mean of those numbers over its reference renderings. A reply belongs to the delivery whose
mean is nearest, in units of the spread within a delivery (pooled over deliveries, so that a delivery is not favoured
for being varied).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery
from wavalign.metrics.measures import Measures, measure

SCHEMA = "closedtalk-delivery-references/1"
#: Features in order, and the least spread each is given: what a codec and ordinary wording move it by.
LEAST_SPREAD = {"log_f0": 0.04, "f0_sd_semitones": 0.35, "log_seconds_per_letter": 0.10, "energy_db": 1.2}
FEATURES = tuple(LEAST_SPREAD)


class DeliveryError(ValueError):
    """References that cannot be fitted or read; the message is one sentence."""


@dataclass(frozen=True)
class Adherence:
    """How near a reply is to the delivery that was wanted.

    ``score`` is d_other / (d_wanted + d_other) with the distances to the wanted and to the nearest other delivery:
    1 on the wanted reference, 0.5 on the border, so above 0.5 exactly when ``nearest`` is the wanted one.
    All are None when the waveform cannot be measured. ``deviations`` are per feature, in spreads from the wanted mean.
    """

    wanted: Delivery
    nearest: Delivery | None = None
    score: float | None = None
    deviations: Mapping[str, float] | None = None

    @property
    def right(self) -> bool:
        """An unmeasurable reply (silence, no voice, no words) is not right."""
        return self.nearest is self.wanted


def features(measures: Measures) -> np.ndarray | None:
    """``FEATURES`` of measures taken with the text, shape (4,); None when one of them could not be measured."""
    f0, spread, rate, level = (
        measures.f0_median_hz,
        measures.f0_sd_semitones,
        measures.letters_per_second,
        measures.energy_db,
    )
    if f0 is None or spread is None or rate is None or level is None:
        return None
    return np.array([math.log(f0), spread, -math.log(rate), level])


@dataclass(frozen=True)
class Reference:
    """``mean`` and ``spread`` (standard deviation) of ``FEATURES``, shape (4,), over ``count`` renderings."""

    mean: np.ndarray
    spread: np.ndarray
    count: int


@dataclass(frozen=True)
class DeliveryReferences:
    """What each delivery measures on its reference renderings."""

    by_delivery: Mapping[Delivery, Reference]

    @classmethod
    def fit(cls, samples: Iterable[tuple[Delivery, Waveform, str]]) -> DeliveryReferences:
        """Measures reference renderings with their texts.

        Raises:
            DeliveryError: when a delivery has fewer than two renderings that can be measured.
        """
        rows: dict[Delivery, list[np.ndarray]] = {delivery: [] for delivery in Delivery}
        for delivery, waveform, text in samples:
            row = features(measure(waveform, text))
            if row is not None:
                rows[delivery].append(row)
        for delivery, measured in rows.items():
            if len(measured) < 2:
                raise DeliveryError(
                    f"The delivery {delivery.value!r} has {len(measured)} measurable reference renderings; "
                    "give at least 2."
                )
        return cls({d: Reference(np.mean(r, axis=0), np.std(r, axis=0, ddof=1), len(r)) for d, r in rows.items()})

    def save(self, path: str | Path) -> None:
        deliveries = {
            delivery.value: {
                "count": reference.count,
                "mean": dict(zip(FEATURES, np.round(reference.mean, 5).tolist(), strict=True)),
                "spread": dict(zip(FEATURES, np.round(reference.spread, 5).tolist(), strict=True)),
            }
            for delivery, reference in self.by_delivery.items()
        }
        Path(path).write_text(json.dumps({"schema": SCHEMA, "deliveries": deliveries}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> DeliveryReferences:
        """Reads what ``save`` wrote.

        Raises:
            DeliveryError: when the file is missing, is not such a file, or lacks a delivery.
        """
        try:
            stored = json.loads(Path(path).read_text())
            if stored.get("schema") != SCHEMA:
                raise DeliveryError(f"{path} is not a file of delivery references ({SCHEMA}).")
            return cls(
                {
                    delivery: Reference(
                        np.array([stored["deliveries"][delivery.value]["mean"][name] for name in FEATURES]),
                        np.array([stored["deliveries"][delivery.value]["spread"][name] for name in FEATURES]),
                        int(stored["deliveries"][delivery.value]["count"]),
                    )
                    for delivery in Delivery
                }
            )
        except OSError as error:
            raise DeliveryError(f"The delivery references {path} cannot be read ({error.strerror}).") from error
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise DeliveryError(f"{path} is not a complete file of delivery references ({error}).") from error

    @property
    def spread(self) -> np.ndarray:
        """The pooled spread within a delivery that distances are counted in, shape (4,)."""
        references = self.by_delivery.values()
        freedom = sum(r.count - 1 for r in references)
        pooled = np.sqrt(sum((r.count - 1) * r.spread**2 for r in references) / max(freedom, 1))
        return np.maximum(pooled, list(LEAST_SPREAD.values()))

    def distances_of(self, measures: Measures) -> dict[Delivery, float] | None:
        """RMS number of spreads from each delivery's mean; None when the measures are incomplete."""
        row = features(measures)
        if row is None:
            return None
        spread = self.spread
        return {
            delivery: float(np.sqrt(np.mean(((row - reference.mean) / spread) ** 2)))
            for delivery, reference in self.by_delivery.items()
        }

    def distances(self, waveform: Waveform, text: str) -> dict[Delivery, float] | None:
        """As ``distances_of``, of a waveform and the text it says."""
        return self.distances_of(measure(waveform, text))

    def classify(self, waveform: Waveform, text: str) -> Delivery | None:
        """The nearest delivery; None when the waveform cannot be measured (silence, no voice) or the text is empty."""
        distances = self.distances(waveform, text)
        return min(distances, key=distances.__getitem__) if distances else None

    def adherence(self, waveform: Waveform, text: str, wanted: Delivery) -> Adherence:
        """How near ``waveform``, saying ``text``, is to the ``wanted`` delivery."""
        return self.adherence_of(measure(waveform, text), wanted)

    def adherence_of(self, measures: Measures, wanted: Delivery) -> Adherence:
        """As ``adherence``, of measures that were taken with the text."""
        distances = self.distances_of(measures)
        if distances is None:
            return Adherence(wanted)
        other = min(value for delivery, value in distances.items() if delivery is not wanted)
        deviations = (features(measures) - self.by_delivery[wanted].mean) / self.spread
        return Adherence(
            wanted,
            nearest=min(distances, key=distances.__getitem__),
            score=other / max(distances[wanted] + other, 1e-9),
            deviations=dict(zip(FEATURES, deviations.tolist(), strict=True)),
        )
