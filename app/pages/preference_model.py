"""The part of the Preferences page that trains a reward model from the votes, with what it knows held out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import gradio as gr

from app.reward_models import RewardModelError, RewardModels
from app.services import Services

_WHAT = (
    "A reward model learns what raters prefer, from their votes, and can then be the reward of a training run. It is "
    "tried on votes it never saw: other raters, other questions. Where it knows no more than chance it is no reward. "
    "All votes that count are used, whatever the filters show."
)
_PEOPLE, _PROGRAMS = "People", "Simulated raters"
_SOURCES = {_PEOPLE: "human", _PROGRAMS: "simulated"}


def build(services: Services) -> None:
    """Draws the section into the Blocks that is open."""

    @cache
    def models() -> RewardModels:
        voting = services.voting
        return RewardModels(voting.store, services.settings.home, services.settings.assets, voting.rules)

    with gr.Accordion("Train a reward model from the votes", open=False, elem_id="reward-model"):
        gr.Markdown(_WHAT)
        with gr.Row():
            source = gr.Dropdown([_PEOPLE, _PROGRAMS], value=_PEOPLE, label="Votes of")
            base = gr.Dropdown(_bases(services), label="Replies are read by")
            name = gr.Textbox("my-raters", label="Name", max_length=64)
        with gr.Row():
            start = gr.Button("Train", variant="primary")
            stop = gr.Button("Stop", interactive=False)
        news = gr.Markdown(elem_id="reward-model-news")
        kept = gr.Markdown(elem_id="reward-models")

        def train(name: str, source: str, base: str) -> Iterator[tuple[Any, Any, Any]]:
            yield "Reading the votes ...", gr.update(interactive=False), gr.update(interactive=True)
            steps = models().train(name, _SOURCES.get(source, "human"), base)
            try:
                while True:
                    step = next(steps)
                    yield f"{step.what}: {100 * step.share:.0f} %", gr.skip(), gr.skip()
            except StopIteration as end:
                said = card(name, end.value)
            except RewardModelError as error:
                said = str(error)
            finally:
                steps.close()
            yield said, gr.update(interactive=True), gr.update(interactive=False)

        event = start.click(
            train,
            [name, source, base],
            [news, start, stop],
            concurrency_limit=1,
            show_progress="hidden",
            api_visibility="private",
        )

        def shelved() -> str:
            return shelf(models())

        def stopped() -> tuple[Any, Any, Any]:
            return "Stopped.", gr.update(interactive=True), gr.update(interactive=False)

        for looked in (event.then, gr.context.Context.root_block.load):
            looked(shelved, outputs=kept, show_progress="hidden", api_visibility="private")
        stop.click(
            stopped,
            outputs=[news, start, stop],
            cancels=event,
            api_visibility="private",
        )


def card(name: str, model: Any) -> str:
    """What a person should know of a model, as Markdown: its figures beside the trivial ones, and how to use it."""
    from wavalign.rewards.train_preference import refusal, told_share

    votes, held = model.facts["votes"], model.facts["held_out"]
    lines = [
        f"**{name}**: {votes['used']} votes of {votes['raters']} {_kind(model)} on {votes['prompts']} questions.",
        "",
        f"| Foretells held-out preferences | of {held['accuracy']['pairs']} |",
        "| --- | --- |",
        f"| this reward model | **{told_share(held['accuracy'])}** |",
    ]
    lines += [f"| the {rule} | {told_share(figures)} |" for rule, figures in held["baselines"].items()]
    if model.above_chance:
        use = f"'rewards.weights={{preference: 1}}' rewards.preference.path={name}"
        lines += ["", f"To train with it: `python -m wavalign.train wavalign/recipes/wavalign.yaml {use}`"]
    else:
        lines += ["", refusal(model)]
    return "\n".join(lines)


def shelf(models: RewardModels) -> str:
    """The reward models there are, as Markdown; empty where there is none."""
    from wavalign.rewards.protocol import RewardError
    from wavalign.rewards.train_preference import told_share

    lines = []
    for name in models.names():
        try:
            model = models.load(name)
        except RewardError as error:
            lines.append(f"- **{name}**: {error}")
            continue
        held = model.facts["held_out"]["accuracy"]
        lines.append(
            f"- **{name}**: foretells {told_share(held)} of {held['pairs']} held-out preferences, from "
            f"{model.facts['votes']['used']} votes of {_kind(model)}"
            + ("." if model.above_chance else ". Not above chance: refused as a reward.")
        )
    return "\n".join(["**Trained so far**", "", *lines]) if lines else ""


def _kind(model: Any) -> str:
    return "raters" if model.facts["source"] == "human" else "simulated raters"


def _bases(services: Services) -> list[str]:
    from wavalign.models.protocol import CheckpointError

    found: list[str] = []
    for name in services.names():
        try:
            found.append(services.registry.checkpoint(name).base_name)
        except CheckpointError:
            continue  # the Talk page says what is wrong with it
    return list(dict.fromkeys(found))
