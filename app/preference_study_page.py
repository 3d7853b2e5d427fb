"""The study from votes to a better model as a page of the docs; every number in it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BASE = "closedtalk-base"
TUNED, ANCHORED = "study-preference", "study-demonstrations"


def page(results: Sequence[dict[str, Any]], command: str) -> str:
    """Markdown of the figures of every seed, which ``app.preference_study.study`` gives."""
    plan = results[0]["plan"]
    lines = [
        "# From votes to a better model: a study with simulated raters",
        "",
        f"Made by `{command}`, on one CPU core. Nobody listened: programs voted, and every one of their votes says "
        "`simulated`. Each seed is a study of its own: its own votes, its own reward model, its own run.",
        "",
        "## What was done",
        "",
        f"1. {plan['raters']} simulated raters cast {plan['votes']} votes on battles between two samples of `{BASE}`, "
        f"at the temperature of rollouts ({plan['temperature']}), on the {plan['votes']} typed questions of the "
        "post-training split that it answers least surely; no held-out dialogue asks them in the same words.",
        "2. The hidden criterion, which nothing else is told of, is **the right answer**: the rule's grade, 1 to 5. "
        f"Raters err (logistic noise of scale {plan['noise']} grades), lean to the left side (by {plan['left_bias']} "
        "grades) and call differences of less than half a grade a tie, mostly.",
        "3. The votes were exported as anybody's are, and a reward model was trained on the export.",
        f"4. A WavAlign run of {plan['steps']} updates ({plan['batch']} prompts, {plan['group']} replies each) had it "
        "as its only reward, on the dialogues of one turn of the same split, typed and spoken.",
        f"5. The criterion itself was measured on {plan['prompts']} held-out prompts (unseen voices, half of them in "
        f"unseen phrasings, a quarter with several turns), {plan['samples']} replies each, sampled as the base "
        "recommends. The control is the same run without its reward: the demonstrations alone.",
        "",
        "## The reward model on votes that it never saw",
        "",
        "How many decided votes are foretold, by a model that saw neither the vote's prompt nor its rater, with 95 % "
        "intervals. Raters err and have habits, so 100 % cannot be reached.",
        "",
        "| Seed | Decided votes | Reward model | Longer reply | Left side | It reads |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in results:
        held, votes = each["held_out"], each["votes"]
        cells = [f"**{_share(held['accuracy'])}**"]
        cells += [_share(held["baselines"][name]) for name in ("longer reply", "left side")]
        decided = f"{votes['left'] + votes['right']} of {votes['used']}"
        lines.append(f"| {_seed(each)} | {decided} | " + " | ".join([*cells, ", ".join(each["reads"])]) + " |")
    trained = [each for each in results if each["above_chance"]]
    for each in results:
        if not each["above_chance"]:
            lines += ["", f"Seed {_seed(each)}: not above chance, so the reward was refused and nothing run."]
    if trained:
        lines += [
            "",
            "## The criterion on held-out prompts",
            "",
            "Share of right answers, with 95 % intervals over prompts; gains are paired by prompt.",
            "",
            "| Seed | Base | Demonstrations alone | With the votes' reward | Gain over the base | Gain over the "
            "demonstrations alone |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for each in trained:
            found = each["criterion"]
            cells = [_share(found[name]) for name in (BASE, ANCHORED, TUNED)]
            cells += [f"**{_points(found[f'{TUNED} - {name}'])}**" for name in (BASE, ANCHORED)]
            lines.append(f"| {_seed(each)} | " + " | ".join(cells) + " |")
        gains = [100 * each["criterion"][f"{TUNED} - {BASE}"]["value"] for each in trained]
        if len(gains) > 1:
            lines += [
                "",
                f"Over {len(gains)} seeds the gain over the base is {sum(gains) / len(gains):+.1f} points on average, "
                f"from {min(gains):+.1f} to {max(gains):+.1f}.",
            ]
        lines += ["", "What the runs saw, the reward in their first and last tenth, from 1 to 5:", ""]
        for each in trained:
            (first, last), weight = each["metrics"]["reward"], each["metrics"]["lambda"]
            lines.append(f"- seed {_seed(each)}: reward {first:.2f} to {last:.2f}, lambda {weight:.2f} on average")
    lines += ["", "## What it took", ""]
    for each in results:
        stages = ", ".join(f"{what} {seconds:.0f}" for what, seconds in each["cpu_seconds"].items())
        lines.append(f"- seed {_seed(each)}, seconds of processor time: {stages}")
    return "\n".join(lines) + "\n"


def _seed(result: dict[str, Any]) -> int:
    return int(result["plan"]["seed"])


def _share(figures: dict[str, float]) -> str:
    return f"{100 * figures['value']:.1f} % ({100 * figures['low']:.1f} to {100 * figures['high']:.1f})"


def _points(figures: dict[str, float]) -> str:
    return f"{100 * figures['value']:+.1f} points ({100 * figures['low']:+.1f} to {100 * figures['high']:+.1f})"
