from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest

from tests.metrics.tones import RATE, vibrato, voice
from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.delivery import FEATURES, DeliveryError, DeliveryReferences, Reference, features
from wavalign.metrics.measures import Measures, measure

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng_loader is not installed: the reference renderings cannot be made",
)


def references(**means: tuple[float, float, float, float]) -> DeliveryReferences:
    """Each delivery at the given mean with a spread of 1 in every feature."""
    return DeliveryReferences(
        {d: Reference(np.array(means.get(d.value, (90.0 + i,) * 4)), np.ones(4), 10) for i, d in enumerate(Delivery)}
    )


def measured(log_f0: float, spread: float, log_pace: float, level: float) -> Measures:
    return Measures(
        1.0,
        f0_median_hz=math.exp(log_f0),
        f0_sd_semitones=spread,
        letters_per_second=math.exp(-log_pace),
        energy_db=level,
    )


def test_the_features_are_what_they_are_called():
    row = features(measure(voice(vibrato(200.0, 1.0, 3.0), 2.0, level=0.1), "ten letters"))
    assert row == pytest.approx([math.log(200), 1 / math.sqrt(2), math.log(0.2), -20.0], abs=0.12)
    assert len(FEATURES) == 4


def test_distance_and_score_by_hand():
    # Wanted at the origin, the other at (4, 0, 0, 0), the reply at (1, 0, 0, 0):
    # distances sqrt(1/4) = 0.5 and sqrt(9/4) = 1.5, score 1.5 / 2.
    stored = references(neutral=(0, 0, 0, 0), happy=(4, 0, 0, 0))
    distances = stored.distances_of(measured(1, 0, 0, 0))
    assert distances[Delivery.NEUTRAL] == pytest.approx(0.5)
    assert distances[Delivery.HAPPY] == pytest.approx(1.5)
    adherence = stored.adherence_of(measured(1, 0, 0, 0), Delivery.NEUTRAL)
    assert adherence.score == pytest.approx(0.75)
    assert adherence.right
    assert adherence.deviations["log_f0"] == pytest.approx(1.0)


def test_the_score_passes_one_half_on_the_border():
    stored = references(neutral=(0, 0, 0, 0), happy=(4, 0, 0, 0))
    assert stored.adherence_of(measured(2, 0, 0, 0), Delivery.HAPPY).score == pytest.approx(0.5)
    beyond = stored.adherence_of(measured(1.9, 0, 0, 0), Delivery.HAPPY)
    assert beyond.score < 0.5
    assert beyond.nearest is Delivery.NEUTRAL


def test_what_cannot_be_measured_is_not_right_and_has_no_score():
    silent = Waveform(np.zeros(RATE), RATE)
    adherence = references().adherence(silent, "seven", Delivery.NEUTRAL)
    assert (adherence.nearest, adherence.score, adherence.right) == (None, None, False)
    assert references().classify(voice(150.0), "") is None


def test_saved_references_come_back(tmp_path):
    path = tmp_path / "references.json"
    stored = references(neutral=(4.5, 1.5, -2.6, -21.25))
    stored.save(path)
    loaded = DeliveryReferences.load(path)
    for delivery in Delivery:
        assert loaded.by_delivery[delivery].mean == pytest.approx(stored.by_delivery[delivery].mean)
    assert loaded.spread == pytest.approx(stored.spread)


@pytest.mark.parametrize("content", ["not json", "[]", '{"schema": "other"}', None])
def test_a_broken_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "references.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DeliveryError, match="references"):
        DeliveryReferences.load(path)


def test_a_missing_delivery_is_named(tmp_path):
    path = tmp_path / "references.json"
    references().save(path)
    stored = json.loads(path.read_text())
    del stored["deliveries"]["calm"]
    path.write_text(json.dumps(stored))
    with pytest.raises(DeliveryError, match="calm"):
        DeliveryReferences.load(path)


def test_too_few_renderings_are_refused():
    with pytest.raises(DeliveryError, match="at least 2"):
        DeliveryReferences.fit([(Delivery.NEUTRAL, voice(150.0), "seven")])


@needs_espeak
def test_every_delivery_of_the_reference_voice_is_recognised_on_unseen_sentences():
    from wavalign.closedtalk.synthesis import speak_assistant

    fitted = ["seven plus five is twelve", "the cow says moo", "july comes after june", "the opposite of big is small"]
    unseen = ["nine is bigger than four", "the sky is blue"]
    stored = DeliveryReferences.fit((d, speak_assistant(text, d), text) for d in Delivery for text in fitted)
    for delivery in Delivery:
        for text in unseen:
            assert stored.classify(speak_assistant(text, delivery), text) is delivery
