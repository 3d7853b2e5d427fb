"""The checkpoint: are its answers right, does its speech say its text, and is the delivery the fitting one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_codec import word_error_estimate
from evaluation.closedtalk_prompts import Prompt, SpokenReply, prompt_of, sampled_replies
from evaluation.figures import Figure, Section, Target, figure
from evaluation.intervals import Estimate, bootstrap_mean, wilson
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.families import FAMILIES
from wavalign.metrics.measures import measure

COUNT = 300
SAMPLES = 2
ACCURACY = Target(low=0.40, high=0.70)


def sections(bench: Bench) -> list[Section]:
    """Held-out dialogues: unseen voices, half of them in unseen phrasings, of items that were trained on."""
    prompts = [prompt_of(dialogue) for dialogue in bench.dialogues("held_out", COUNT)]
    default = replace(bench.model.default_sampling, seed=1000 * bench.seed)
    greedy = [g[0] for g in sampled_replies(bench, prompts, 1, replace(default, temperature=0.0), False, "greedy")]
    groups = list(sampled_replies(bench, prompts, SAMPLES, default, True, f"temperature {default.temperature:g}"))
    sampled = [reply for group in groups for reply in group]
    return [
        Section(f"{bench.checkpoint}, answers on held-out dialogues", _answers(greedy, sampled, bench.seed)),
        Section(f"{bench.checkpoint}, by question family, at the default sampling", _families(sampled, bench.seed)),
        Section(f"{bench.checkpoint}, speech at the default sampling", _speech(bench, sampled)),
    ]


def share(replies: Sequence[SpokenReply], seed: int) -> Estimate | None:
    """Share of right replies; the prompts are resampled."""
    return bootstrap_mean([float(r.correct) for r in replies], [r.prompt.id for r in replies], seed)


def _answers(greedy: Sequence[SpokenReply], sampled: Sequence[SpokenReply], seed: int) -> tuple[Figure, ...]:
    right = sum(r.correct for r in greedy)
    rows = [
        figure("base/accuracy_greedy", "right answers, greedy", wilson(right, len(greedy)), "%", ACCURACY),
        figure("base/accuracy_sampled", "right answers, default sampling", share(sampled, seed), "%", ACCURACY),
    ]
    for id_, label, replies in (("greedy", "greedy", greedy), ("sampled", "default sampling", sampled)):
        grades = bootstrap_mean([r.grade for r in replies], [r.prompt.id for r in replies], seed)
        rows.append(figure(f"base/grade_{id_}", f"mean grade 1-5, {label}", grades))
    for id_, label, chosen in (
        ("spoken", "spoken questions", lambda p: not p.dialogue.typed),
        ("typed", "typed questions", lambda p: p.dialogue.typed),
        ("seen_phrasing", "seen phrasings", lambda p: p.dialogue.phrasing == "seen"),
        ("unseen_phrasing", "unseen phrasings", lambda p: p.dialogue.phrasing == "unseen"),
        ("later_turns", "turns that need the history", lambda p: p.turn.kind != "question"),
    ):
        own = [r for r in sampled if chosen(r.prompt)]
        rows.append(figure(f"base/accuracy_{id_}", f"right, default sampling: {label}", share(own, seed), "%"))
    return tuple(rows)


def _families(sampled: Sequence[SpokenReply], seed: int) -> tuple[Figure, ...]:
    rows = []
    for name, family in FAMILIES.items():
        own = [r for r in sampled if r.prompt.item.family == name]
        rows.append(
            figure(
                f"base/accuracy_{name}",
                family.title.lower(),
                share(own, seed),
                "%",
                Target(low=0.0, high=1.0, strict=True),
            )
        )
    return tuple(rows)


def _speech(bench: Bench, sampled: Sequence[SpokenReply]) -> tuple[Figure, ...]:
    ids = [r.prompt.id for r in sampled]
    spoken = [r for r in sampled if r.text.strip()]
    errors = bench.heard([r.waveform for r in spoken], [r.text for r in spoken])
    rows = [
        figure(
            "base/wer_speech",
            "WER of its speech against its own text",
            word_error_estimate(errors, bench.seed, [r.prompt.id for r in spoken]),
            "%",
            Target(high=0.12),
        )
    ]
    judged = [
        (r, bench.references.adherence_of(measure(r.waveform, r.text), r.prompt.delivery))
        for r in bench.progress(sampled, "measuring")
    ]

    def right(chosen: Sequence[tuple]) -> Estimate | None:
        return bootstrap_mean([float(a.right) for _, a in chosen], [r.prompt.id for r, _ in chosen], bench.seed)

    rows.append(figure("base/delivery", "delivery right", right(judged), "%", Target(low=0.85)))
    for asking in ("in words", "by the user's tone", "not at all"):
        own = [(r, a) for r, a in judged if r.prompt.asking == asking]
        label = f"delivery right, asked for {asking}"
        rows.append(figure(f"base/delivery_{asking.replace(' ', '_')}", label, right(own), "%"))
    for delivery in Delivery:
        own = [(r, a) for r, a in judged if r.prompt.delivery is delivery]
        rows.append(figure(f"base/delivery_{delivery.value}", f"delivery right, {delivery.value}", right(own), "%"))
    rows += _of_demonstrations(bench, list({r.prompt.id: r.prompt for r in sampled}.values()))
    finished = bootstrap_mean([float(r.finished) for r in sampled], ids, bench.seed)
    seconds = bootstrap_mean([r.waveform.seconds for r in sampled], ids, bench.seed)
    unspoken = 1.0 - len(spoken) / len(sampled) if sampled else None
    rows += [
        figure("base/finished", "replies that end by themselves", finished, "%"),
        figure("base/seconds", "seconds of speech in a reply", seconds, "s"),
        Figure("base/without_text", "replies without words", unspoken, "%", n=len(np.unique(ids))),
    ]
    return tuple(rows)


def _of_demonstrations(bench: Bench, prompts: Sequence[Prompt]) -> list[Figure]:
    """The same two measures of the demonstrations' own tokens, decoded: what a perfect imitator would reach."""
    texts = [prompt.turn.demonstration for prompt in prompts]
    waveforms = [bench.codec.decode(list(prompt.turn.reply_codes)) for prompt in prompts]
    right = [
        float(bench.references.adherence_of(measure(waveform, text), prompt.delivery).right)
        for waveform, text, prompt in zip(waveforms, texts, prompts, strict=True)
    ]
    errors = word_error_estimate(bench.heard(waveforms, texts), bench.seed)
    note = "the floor that codec and recogniser leave"
    return [
        figure("base/wer_demonstrations", "WER of the demonstrations' tokens", errors, "%", note=note),
        figure(
            "base/delivery_demonstrations",
            "delivery right, of the demonstrations' tokens",
            bootstrap_mean(right, seed=bench.seed),
            "%",
        ),
    ]
