"""What validation chooses for every recipe: its own values, unless others are measurably better and leave speech whole.

A variant stands for its recipe's own values when its changes change nothing, such as sft@lr=1e-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.reproduce_claims import DELIVERY_WITHIN, WER_WITHIN
from evaluation.reproduce_variants import Variant
from wavalign.training.config_files import load_config, recipes

WORDS, WER, DELIVERY = "accuracy/sampled", "wer/own", "delivery/own"


def changes_nothing(variant: Variant) -> bool:
    """Whether ``variant`` is its recipe as it ships."""
    path = recipes()[variant.recipe]
    return variant.mean_of is None and load_config(path, variant.overrides) == load_config(path)


def choices(rows: Mapping[str, Any]) -> dict[str, str]:
    """Recipe -> the variant that validation chooses, of a summary's rows; recipes whose own values were not tried
    are left out.

    Another variant is chosen only when its right replies are above the recipe's own by the whole interval, its WER
    at most 2 points above the base's and its delivery at most 3 below; of several, the one with the most right replies.
    The recipe's own values need not leave speech whole.
    """
    result = {}
    for recipe in dict.fromkeys(row["recipe"] for row in rows.values()):
        tried = {name: row for name, row in rows.items() if row["recipe"] == recipe}
        own = next((name for name, row in tried.items() if row["shipped"]), None)
        if own is not None:
            better = [name for name, row in tried.items() if name != own and _better(row)]
            result[recipe] = max(better, key=lambda name: rows[name]["measures"][WORDS]["value"], default=own)
    return result


def _better(row: Mapping[str, Any]) -> bool:
    base = row["minus_base"]
    if WER not in base or DELIVERY not in base:  # nothing was spoken
        return False
    whole = base[WER]["value"] <= WER_WITHIN and base[DELIVERY]["value"] >= -DELIVERY_WITHIN
    return whole and row["minus_recipe"].get(WORDS, {}).get("low", 0.0) > 0
