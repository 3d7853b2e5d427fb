"""VoiceBench's own figures: each subset in its published unit, and the overall score of the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.tasks.ifeval import Followed, rates
from evaluation.tasks.protocol import Scored

HIGHEST_RATING = 5.0


def summarised(
    by_subset: Mapping[str, Sequence[Scored]], scorers: Mapping[str, str], leaderboard: Sequence[str]
) -> dict[str, float]:
    """Open questions 1 to 5, all else 0 to 100; "ifeval/..." are its four rates; "overall" needs every subset.

    Replies that could not be scored are left out of a subset's figure; a subset of them alone has none.
    """
    figures: dict[str, float] = {}
    for name, scored in by_subset.items():
        if scorers[name] == "ifeval":
            found = rates([_followed(each.about) for each in scored if each.values.get("score") is not None])
            figures |= {f"{name}/{rate}": 100 * value for rate, value in found.items() if rate != "final"}
            figures |= {name: 100 * found["final"]} if found else {}
            continue
        metric = "rating" if scorers[name] == "open" else "score"
        known = [value for each in scored if (value := each.values.get(metric)) is not None]
        if known:
            figures[name] = sum(known) / len(known) * (1 if metric == "rating" else 100)
    if all(name in figures for name in leaderboard):
        figures["overall"] = overall({name: figures[name] for name in leaderboard}, scorers)
    return figures


def overall(figures: Mapping[str, float], scorers: Mapping[str, str]) -> float:
    """The mean over subsets on a scale of 100, ratings times 20.

    github.com/MatthewCYM/VoiceBench issue 2 gives the formula for the subsets of its time; the mean of today's nine
    agrees with the leaderboard (GPT-4o behind Whisper: 87.80).
    """
    scale = {name: 100 / HIGHEST_RATING if scorers[name] == "open" else 1.0 for name in figures}
    return sum(scale[name] * value for name, value in figures.items()) / len(figures)


def _followed(about: Mapping[str, Any]) -> Followed:
    return Followed(tuple(about["strict"]), tuple(about["loose"]))
