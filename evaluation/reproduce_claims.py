"""What the comparison is expected to show, and whether it does: figures with targets, from a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.figures import Figure, Section, Target

LEAST_GAIN_OVER_SFT, LEAST_GAIN_OVER_BASE = 0.05, 0.07
WER_WITHIN, DELIVERY_WITHIN = 0.02, 0.03
BREAKS_BY = 0.08
LORA_SHARE = 0.8
_SPEECH = (
    ("wer/own", "WER", -1),
    ("wer/warm", "WER at T 0.8", -1),
    ("delivery/own", "delivery", 1),
    ("delivery/warm", "delivery at T 0.8", 1),
)
"""Measures of speech, and in which direction each is better."""


def claims(found: Mapping[str, Any]) -> list[Section]:
    """The figures whose variants are there; others are left out. Values are judged by their targets; what their
    intervals say to that is in the notes."""
    rows = found["variants"]
    right = "accuracy/sampled"
    figures: list[Figure | None] = [
        _of(rows, "wavalign", "minus_sft", right, "right replies above sft", Target(low=LEAST_GAIN_OVER_SFT)),
        _of(rows, "wavalign", "minus_base", right, "right replies above base", Target(low=LEAST_GAIN_OVER_BASE)),
        _of(rows, "wavalign", "minus_base", "wer/own", "WER above base", Target(high=WER_WITHIN)),
        _of(rows, "wavalign", "minus_base", "delivery/own", "delivery above base", Target(low=-DELIVERY_WITHIN)),
        *(
            _of(rows, name, "minus_base", f"wer/{kind}", f"WER above base, {label}", Target(low=BREAKS_BY))
            for name in ("grpo-all", "grpo-text")
            for kind, label in (("own", "own sampling"), ("warm", "T 0.8"))
        ),
        _of(rows, "alpo-anchored", "minus_wavalign", right, "right replies above wavalign", Target(low=0.0)),
        _better_speech(rows, "alpo-anchored"),
        _of(rows, "fixed-at-mean", "minus_wavalign", right, "right replies above wavalign", None),
        _lora(rows),
        _of(rows, "wavalign", "minus_full", "wer/own", "WER above all weights", Target(high=WER_WITHIN)),
        _of(rows, "wavalign", "minus_full", "delivery/own", "delivery above all weights", Target(low=-DELIVERY_WITHIN)),
    ]
    known = tuple(figure for figure in figures if figure is not None)
    return [Section("What was expected", known)] if known else []


def _of(rows: Mapping[str, Any], name: str, block: str, key: str, label: str, target: Target | None) -> Figure | None:
    differences = rows.get(name, {}).get(block, {})
    if key not in differences:
        return None
    value, low, high = (differences[key][part] for part in ("value", "low", "high"))
    return Figure(
        f"comparison/{name}/{block}/{key}",
        f"{name}: {label}",
        value,
        "points",
        low,
        high,
        _seeds(rows, name, block),
        target,
        note="n: seeds" if target is None else f"n: seeds; {_agreement(target, low, high)}",
    )


def _agreement(target: Target, low: float, high: float) -> str:
    """What an interval says to a target that is open on one side."""
    met = [target.met_by(end) for end in (low, high)]
    if all(met):
        return "whole interval on the right side"
    if not any(met):
        return "whole interval on the wrong side"
    nothing = target.low is not None and target.low > 0 >= low
    return "the interval includes the bound and zero" if nothing else "the interval includes the bound"


def _better_speech(rows: Mapping[str, Any], name: str) -> Figure | None:
    """How far the clearest of the differences in speech from wavalign is from 0: the nearer end of its interval,
    above 0 where the whole interval lies on the better side."""
    differences = rows.get(name, {}).get("minus_wavalign", {})
    ends = {
        label: differences[key]["low"] if better > 0 else -differences[key]["high"]
        for key, label, better in _SPEECH
        if key in differences
    }
    if not ends:
        return None
    best = max(ends, key=lambda label: ends[label])
    return Figure(
        f"comparison/{name}/minus_wavalign/speech",
        f"{name}: WER or delivery better than wavalign's, by the whole interval",
        ends[best],
        "points",
        n=_seeds(rows, name, "minus_wavalign"),
        target=Target(low=0.0, strict=True),
        note=f"n: seeds; nearer end of the interval of {best}, the best of {len(ends)}, not corrected for the choice",
    )


def _lora(rows: Mapping[str, Any]) -> Figure | None:
    """The adapter's gain over base as a share of all weights' gain, by the difference of the seeds that both have; its
    interval is that difference's, the gain of all weights taken as known."""
    whole = rows.get("wavalign-full", {}).get("minus_base", {}).get("accuracy/sampled")
    paired = rows.get("wavalign", {}).get("minus_full", {}).get("accuracy/sampled")
    if whole is None or paired is None or whole["value"] <= 0:
        return None
    share, low, high = (1 + paired[part] / whole["value"] for part in ("value", "low", "high"))
    target = Target(low=LORA_SHARE)
    return Figure(
        "comparison/lora_share",
        "LoRA's gain as a share of full fine-tuning's",
        share,
        "%",
        low,
        high,
        _seeds(rows, "wavalign", "minus_full"),
        target,
        note=f"n: seeds; {_agreement(target, low, high)}, the gain of all weights taken as known",
    )


def _seeds(rows: Mapping[str, Any], name: str, block: str) -> int:
    """Of a difference: those that both sides have."""
    return len(rows[name][block].get("seeds", rows[name]["seeds"]))
