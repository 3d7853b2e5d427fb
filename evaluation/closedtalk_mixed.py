"""Is there something to learn from rollouts? How often eight samples of one prompt disagree on being right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_prompts import prompt_of, sampled_replies
from evaluation.figures import Figure, Section, Target, figure
from evaluation.intervals import bootstrap_mean, wilson

COUNT = 200
SAMPLES = 8
TEMPERATURE = 0.9


def sections(bench: Bench) -> list[Section]:
    """Pass rates on post-training prompts: 8 samples each at temperature 0.9."""
    prompts = [prompt_of(dialogue) for dialogue in bench.dialogues("post_training", COUNT)]
    sampling = replace(bench.model.default_sampling, temperature=TEMPERATURE, seed=1000 * bench.seed + 500)
    groups = list(sampled_replies(bench, prompts, SAMPLES, sampling, False, f"{SAMPLES} samples a prompt"))
    passed = [sum(reply.correct for reply in group) for group in groups]
    mixed = sum(0.1 <= count / SAMPLES <= 0.9 for count in passed)
    histogram = Counter(passed)
    rows = [
        figure(
            "mixed/share",
            "prompts with a pass rate of 10-90 %",
            wilson(mixed, len(passed)),
            "%",
            Target(low=0.40),
        ),
        figure(
            "mixed/pass_rate",
            "mean pass rate",
            bootstrap_mean([count / SAMPLES for count in passed], seed=bench.seed),
            "%",
        ),
        figure(
            "mixed/grade",
            "mean grade 1-5",
            bootstrap_mean([sum(r.grade for r in group) / SAMPLES for group in groups], seed=bench.seed),
        ),
    ]
    rows += [
        Figure(f"mixed/passed_{count}", f"prompts with {count} of {SAMPLES} right", float(histogram[count]))
        for count in range(SAMPLES + 1)
    ]
    return [
        Section(
            f"{bench.checkpoint}, {SAMPLES} samples at temperature {TEMPERATURE:g}, post-training prompts", tuple(rows)
        )
    ]
