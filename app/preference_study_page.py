"""The study from votes to a better model as a page of the docs; every number in it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.intervals import bootstrap_mean
from evaluation.reproduce_intervals import Ratio, over_seeds

BASE = "closedtalk-base"
TUNED, ANCHORED = "study-preference", "study-demonstrations"
_WANTED = {
    "right": "**the right answer**: the rule's grade, 1 to 5",
    "lively": "**a lively voice**: the standard deviation of the pitch, in semitones",
    "brief": "**brevity**: seconds of speech, the fewer the better",
}
_MEASURED = {
    "right": "Share of right answers, in per cent",
    "lively": "Standard deviation of the pitch, in semitones",
    "brief": "Seconds of speech, as negative numbers",
}


FIRST_SEEDS = 3
"""What was planned; seeds from this number on were added once these had been seen."""


def page(results: Sequence[dict[str, Any]], command: str) -> str:
    """Markdown of the figures of every seed, which ``app.preference_study.study`` gives."""
    plan = results[0]["plan"]
    lines = [
        "# From votes to a better model: a study with simulated raters",
        "",
        f"Made by `{command}`, on one CPU core. Nobody listened: programs voted, and every one of their votes says "
        "`simulated`. Each seed is a study of its own: its own votes, its own reward model, its own run. Seed 0 was in "
        f"view when the settings were chosen, the others were not.{_added(results)}",
        "",
        "## What was done",
        "",
        *_done(plan),
        "",
        "## The reward model on votes that it never saw",
        "",
        "Decided votes that are foretold, in per cent, by a model that saw neither the vote's prompt nor its rater, "
        "with 95 % intervals. Raters err and have habits, so 100 % cannot be reached.",
        "",
        *_foretold(results),
    ]
    trained = [each for each in results if each["above_chance"]]
    for each in results:
        if not each["above_chance"]:
            lines += ["", f"Seed {_seed(each)}: not above chance, so the reward was refused and nothing run."]
    if trained:
        kind = plan["criterion"]
        lines += [
            "",
            "## The criterion on held-out prompts",
            "",
            f"{_MEASURED[kind]}, with 95 % intervals over prompts; the last two columns are gains, paired by "
            "prompt, bold where the interval excludes zero. "
            f"Sampled at temperature {plan['temperature']}, as rollouts and battles are:",
            "",
            *_criterion(trained, "criterion", kind),
            "",
            "The same at the base's own sampling, which is what one hears in Talk:",
            "",
            *_criterion(trained, "as_served", kind),
            "",
            "What the runs saw, the reward in their first and last tenth, from 1 to 5:",
            "",
            *(_run(each) for each in trained),
            "",
            "The demonstrations are wrong on purpose, more often on hard prompts. The anchor learns them, and the "
            "control learns nothing else.",
        ]
    lines += ["", "## What it took", ""]
    for each in results:
        stages = ", ".join(f"{what} {seconds:.0f}" for what, seconds in each["cpu_seconds"].items())
        lines.append(f"- seed {_seed(each)}, seconds of processor time: {stages}")
    return "\n".join(lines) + "\n"


def _done(plan: dict[str, Any]) -> Iterator[str]:
    yield (
        f"1. {plan['raters']} simulated raters cast {plan['votes']} votes on battles between two samples of `{BASE}`, "
        f"at the temperature of rollouts ({plan['temperature']}), on the {plan['votes']} typed questions of the "
        "post-training split that it answers least surely; no held-out dialogue asks them in the same words."
    )
    yield (
        f"2. The hidden criterion, which nothing else is told of, is {_WANTED[plan['criterion']]}. Raters err "
        f"(logistic noise of scale {plan['noise']}), lean to the left side (by {plan['left_bias']}) and call "
        "differences of less than half a unit a tie, mostly."
    )
    yield "3. The votes were exported as anybody's are, and a reward model was trained on the export."
    yield (
        f"4. A WavAlign run of {plan['steps']} updates ({plan['batch']} prompts, {plan['group']} replies each) had it "
        "as its only reward, on the dialogues of one turn of the same split, typed and spoken: those on whose "
        f"{plan['tries']} replies the reward differs, some acceptable to it (3 or more) and some not. The information "
        f"gate of lambda is wide open at a variance of {plan['variance']:.2f} (`method.mix.variance`), which is that "
        "of scores spread evenly from 1 to 5, as the reward's are by its calibration; the paper's 4 is for scores "
        "that are all 1 or 5."
    )
    yield (
        f"5. The criterion itself was measured on {plan['prompts']} held-out prompts (unseen voices, half of them in "
        f"unseen phrasings, a quarter with several turns), {plan['samples']} replies each. The control is the same run "
        "without its reward: the demonstrations alone, on the same prompts."
    )


def _foretold(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| Seed | Decided votes | Reward model | Longer reply | Left side | It reads |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in results:
        held, votes = each["held_out"], each["votes"]
        shares = [held["accuracy"], *(held["baselines"][name] for name in ("longer reply", "left side"))]
        model, *others = (_number(share, 100) for share in shares)
        decided = f"{votes['left'] + votes['right']} of {votes['used']}"
        yield f"| {_seed(each)} | {decided} | **{model}** | " + " | ".join([*others, ", ".join(each["reads"])]) + " |"


def _criterion(trained: Sequence[dict[str, Any]], measure: str, kind: str) -> Iterator[str]:
    scale = 100 if kind == "right" else 1
    yield "| Seed | Base | Demonstrations alone | With the votes' reward | Over the base | Over the demonstrations |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in trained:
        found = each[measure]
        cells = [_number(found[name], scale) for name in (BASE, ANCHORED, TUNED)]
        cells += [_gain(found[f"{TUNED} - {name}"], scale) for name in (BASE, ANCHORED)]
        yield f"| {_seed(each)} | " + " | ".join(cells) + " |"
    if len(trained) > 1:
        for name, mean in (("these runs", _of_these), ("any seed", _over_seeds)):
            over = [_gain(mean(trained, measure, other), scale) for other in (BASE, ANCHORED)]
            yield f"| {name} | | | | " + " | ".join(over) + " |"
        yield ""
        yield (
            "The last rows are means over the seeds: with an interval for these very runs, over prompts alone, and "
            "with one that allows for other seeds too, which is wide with so few."
        )


def _of_these(trained: Sequence[dict[str, Any]], measure: str, other: str) -> dict[str, float]:
    gains = np.mean(
        [np.subtract(*(each[measure]["by_prompt"][name] for name in (TUNED, other))) for each in trained], 0
    )
    mean = bootstrap_mean(gains.tolist())
    assert mean is not None  # every prompt was measured
    return asdict(mean)


def _over_seeds(trained: Sequence[dict[str, Any]], measure: str, other: str) -> dict[str, float]:
    def ratio(name: str) -> Ratio:
        values = np.array([each[measure]["by_prompt"][name] for each in trained])
        return Ratio(values, np.ones_like(values))

    found = over_seeds(ratio(TUNED), ratio(other))
    assert found is not None  # every prompt was measured
    return asdict(found)


def _run(result: dict[str, Any]) -> str:
    (first, last), weight, pool = result["metrics"]["reward"], result["metrics"]["lambda"], result["prompts"]
    taught = result["demonstrations"]
    return (
        f"- seed {_seed(result)}, on {pool['kept']} of {pool['of']} dialogues: reward {first:.2f} to {last:.2f}, "
        f"lambda {weight:.2f} on average; the demonstrations are right in {100 * taught['kept']:.0f} % of these "
        f"dialogues and in {100 * taught['of']:.0f} % of all of one turn"
    )


def _added(results: Sequence[dict[str, Any]]) -> str:
    later = [str(_seed(each)) for each in results if _seed(each) >= FIRST_SEEDS]
    if not later:
        return ""
    named = f"Seeds {' and '.join(later)} were" if len(later) > 1 else f"Seed {later[0]} was"
    return f" {named} added when the first three had been seen, to narrow the intervals, whatever they would give."


def _seed(result: dict[str, Any]) -> int:
    return int(result["plan"]["seed"])


def _gain(figures: dict[str, float], scale: float) -> str:
    told = _number(figures, scale, "+")
    return f"**{told}**" if figures["low"] > 0 or figures["high"] < 0 else told


def _number(figures: dict[str, float], scale: float, sign: str = "") -> str:
    value, low, high = (f"{scale * figures[name]:{sign}.1f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
