"""Probe: sums and comparisons that no dialogue ever had. Nothing here can be remembered, so little is expected."""

from __future__ import annotations

from dataclasses import replace

from evaluation.closedtalk_base import share
from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_prompts import prompt_of, sampled_replies
from evaluation.figures import Section, figure
from evaluation.intervals import bootstrap_mean, wilson

COUNT = 150
SAMPLES = 2


def sections(bench: Bench) -> list[Section]:
    """Answers to unseen combinations, greedy and at the default sampling."""
    prompts = [prompt_of(dialogue) for dialogue in bench.dialogues("unseen_combinations", COUNT)]
    default = replace(bench.model.default_sampling, seed=1000 * bench.seed + 700)
    greedy = [g[0] for g in sampled_replies(bench, prompts, 1, replace(default, temperature=0.0), False, "greedy")]
    groups = sampled_replies(bench, prompts, SAMPLES, default, False, "sampled")
    sampled = [reply for group in groups for reply in group]
    right = wilson(sum(r.correct for r in greedy), len(greedy))
    grades = bootstrap_mean([r.grade for r in greedy], seed=bench.seed)
    rows = (
        figure("unseen/accuracy_greedy", "right answers, greedy", right, "%"),
        figure("unseen/accuracy_sampled", "right answers, default sampling", share(sampled, bench.seed), "%"),
        figure("unseen/grade_greedy", "mean grade 1-5, greedy", grades),
    )
    return [Section(f"Probe: {bench.checkpoint} on unseen combinations", rows)]
