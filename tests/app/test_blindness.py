"""Before the vote nothing on the wire tells which side is which, and the audit that says so would notice."""

from __future__ import annotations

import numpy as np
import pytest

from tests.app import blindness

BATTLES, LEAKING = 64, 40


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    with blindness.twins(tmp_path_factory.mktemp("twins")) as (client, services):
        yield client, services


def test_both_sides_say_the_same_and_no_name_is_on_the_wire(twins):
    client, _ = twins
    _, wire = client.battle(client.rater(), 0)
    text = dict(wire.seen)["fetch"]["turns"][0]["text"]
    assert text["left"] == text["right"]
    assert not any(name in repr(wire.seen) for name in (blindness.TWIN, "closedtalk-base", "tuned"))


def test_a_classifier_of_everything_on_the_wire_is_a_coin(twins):
    wires, tuned_left = blindness.play(*twins, BATTLES)
    verdict = blindness.audit(wires, tuned_left)
    assert verdict.blind, str(verdict)


def test_the_same_audit_finds_a_planted_file_name(twins):
    with blindness.planted_leak():
        wires, tuned_left = blindness.play(*twins, LEAKING)
    verdict = blindness.audit(wires, tuned_left)
    assert not verdict.blind, str(verdict)


def test_the_classifier_learns_one_telling_feature_among_a_thousand():
    rng = np.random.default_rng(0)
    labels = rng.random(80) < 0.5
    table = rng.standard_normal((80, 1000))
    table[:, 17] = np.where(labels, 30.0, -30.0)  # as strong as the trigrams of a name together
    weights, bias = blindness.logistic(table[:60], labels[:60])
    assert ((table[60:] @ weights + bias > 0) == labels[60:]).all()
