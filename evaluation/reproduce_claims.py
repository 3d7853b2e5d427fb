"""What the comparison is expected to show, and whether it does: figures with targets, from a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.figures import Figure, Section, Target

LEAST_GAIN_OVER_SFT, LEAST_GAIN_OVER_BASE = 0.05, 0.07
WER_WITHIN, DELIVERY_WITHIN = 0.02, 0.03
BREAKS_BY = 0.08
LORA_SHARE = 0.8


def claims(found: Mapping[str, Any]) -> list[Section]:
    """The figures whose variants are there; others are left out."""
    rows = found["variants"]
    figures: list[Figure | None] = [
        _of(
            rows,
            "wavalign",
            "minus_sft",
            "accuracy/sampled",
            "right replies above sft",
            Target(low=LEAST_GAIN_OVER_SFT),
        ),
        _of(
            rows,
            "wavalign",
            "minus_base",
            "accuracy/sampled",
            "right replies above base",
            Target(low=LEAST_GAIN_OVER_BASE),
        ),
        _of(rows, "wavalign", "minus_base", "wer/own", "WER above base", Target(high=WER_WITHIN)),
        _of(rows, "wavalign", "minus_base", "delivery/own", "delivery above base", Target(low=-DELIVERY_WITHIN)),
        *(
            _of(rows, name, "minus_base", f"wer/{kind}", f"WER above base, {label}", Target(low=BREAKS_BY))
            for name in ("grpo-all", "grpo-text")
            for kind, label in (("own", "own sampling"), ("warm", "T 0.8"))
        ),
        _of(
            rows, "alpo-anchored", "minus_wavalign", "accuracy/sampled", "right replies above wavalign", Target(low=0.0)
        ),
        _excluding_zero(rows, "alpo-anchored", "wer/own", "WER above wavalign", below=True),
        _excluding_zero(rows, "alpo-anchored", "wer/warm", "WER at T 0.8 above wavalign", below=True),
        _excluding_zero(rows, "alpo-anchored", "delivery/own", "delivery above wavalign", below=False),
        _of(rows, "fixed-at-mean", "minus_wavalign", "accuracy/sampled", "right replies above wavalign", None),
        _lora(rows),
    ]
    known = tuple(figure for figure in figures if figure is not None)
    return [Section("What was expected", known)] if known else []


def _of(rows: Mapping[str, Any], name: str, block: str, key: str, label: str, target: Target | None) -> Figure | None:
    estimate = rows.get(name, {}).get(block, {}).get(key)
    if estimate is None:
        return None
    return Figure(
        f"comparison/{name}/{block}/{key}",
        f"{name}: {label}",
        estimate["value"],
        "points",
        estimate["low"],
        estimate["high"],
        len(rows[name]["seeds"]),
        target,
        note="n: seeds",
    )


def _excluding_zero(rows: Mapping[str, Any], name: str, key: str, label: str, below: bool) -> Figure | None:
    """Whether the interval lies on the better side of 0: its nearer end is what is judged."""
    whole = _of(rows, name, "minus_wavalign", key, label, None)
    if whole is None:
        return None
    end = whole.high if below else whole.low
    met = end is not None and (end < 0 if below else end > 0)
    return Figure(
        whole.id,
        whole.label,
        whole.value,
        whole.unit,
        whole.low,
        whole.high,
        whole.n,
        note=f"n: seeds; the interval {'excludes' if met else 'includes'} 0" if end is not None else "",
    )


def _lora(rows: Mapping[str, Any]) -> Figure | None:
    """The adapter's gain over base as a share of all weights' gain."""
    gains = [rows.get(name, {}).get("minus_base", {}).get("accuracy/sampled") for name in ("wavalign", "wavalign-full")]
    if None in gains or gains[1]["value"] <= 0:
        return None
    share = gains[0]["value"] / gains[1]["value"]
    return Figure(
        "comparison/lora_share",
        "LoRA's gain as a share of full fine-tuning's",
        share,
        "%",
        target=Target(low=LORA_SHARE),
    )
