"""The Talk page: one question, one or two checkpoints, replies that stream side by side."""

from __future__ import annotations

import gradio as gr

from app.components.stage import examples_strip, make_stage
from app.conversation import SIDES
from app.examples import load_examples
from app.pages.talk_handlers import NO_SECOND, SLIDERS, Handlers, Widgets, fresh, slider_values
from app.services import Services


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    limits = services.settings.limits
    examples = load_examples(services.settings.assets)
    pair = services.first_pair()
    first = pair[0] if pair else None
    shown = slider_values(services.default_sampling(first), limits.reply_seconds)
    second = pair[1] if len(pair) > 1 else first
    start = fresh(tuple(name for name in (first, second) if name))

    state = gr.State(start, delete_callback=lambda session: services.recordings.drop(session.conversation.files()))
    with gr.Row(elem_id="pickers"):
        left = gr.Dropdown(
            services.labels(), value=first, label="A", elem_classes="side-a", min_width=120, filterable=False
        )
        right = gr.Dropdown(
            [*services.labels(), NO_SECOND],
            value=second,
            label="B",
            elem_classes="side-b",
            min_width=120,
            filterable=False,
        )
    stage = make_stage(start)
    strip = examples_strip(examples)
    with gr.Row(elem_id="composer", equal_height=False):
        recording = gr.Audio(
            sources=["microphone", "upload"],
            type="filepath",
            label="Speak, or drop a file",
            show_label=False,
            editable=False,
            buttons=[],
            elem_id="recording",
            min_width=260,
            scale=2,
            waveform_options=gr.WaveformOptions(waveform_color="#94a3ab", waveform_progress_color="#0f766e"),
        )
        with gr.Column(scale=3, min_width=280):
            text = gr.Textbox(
                placeholder="Type a question, Enter sends it",
                show_label=False,
                label="Question",
                container=False,
                lines=1,
                max_lines=4,
                autofocus=True,
                elem_id="question",
                submit_btn=False,
            )
            with gr.Row(elem_id="actions"):
                send = gr.Button("Send", variant="primary", elem_id="send", min_width=88)
                stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=88, visible=False)
                again = gr.Button("Again", elem_id="again", min_width=72, interactive=False)
                new = gr.Button("New", elem_id="new", min_width=72, interactive=False)
                download = gr.DownloadButton("Download", elem_id="download", min_width=96, interactive=False)
    with gr.Accordion("Waveform and pitch of the last replies", open=True, visible=False, elem_id="pitch") as pitch:  # noqa: SIM117
        with gr.Row():
            plots = [
                gr.Plot(show_label=False, container=False, min_width=300, elem_id=f"plot-{side}") for side in SIDES
            ]
    with gr.Accordion("Sampling", open=False, elem_id="sampling"):
        as_recommended = gr.Checkbox(
            True,
            label="As each checkpoint recommends",
            info="The sliders show what A's recommends. Moving one turns this off: then they hold for both sides.",
            elem_id="as-recommended",
        )
        with gr.Row():
            sliders = [
                gr.Slider(
                    SLIDERS[name][0],
                    min(SLIDERS[name][1], limits.reply_seconds) if name == "max_seconds" else SLIDERS[name][1],
                    shown[name],
                    step=step,
                    label=label,
                    info=info,
                    buttons=[],  # the box above sets them back
                )
                for name, step, label, info in (
                    ("temperature", 0.05, "Temperature", "Of the text; 0 is greedy"),
                    ("speech_temperature", 0.05, "Speech temperature", "Of the sound; 0 is greedy"),
                    ("top_p", 0.05, "Top-p", "1 keeps every token"),
                    ("top_k", 1, "Top-k", "0 keeps every token"),
                    ("max_seconds", 1, "Longest reply (s)", "Speech beyond is not made"),
                )
            ]
        with gr.Row(elem_id="switches"):
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, elem_id="seed")
            keep_seed = gr.Checkbox(False, label="Keep this seed", info="Otherwise every turn draws a new one")
            autoplay = gr.Checkbox(True, label="Play replies", info="A first, then B")
            send_recordings = gr.Checkbox(True, label="Send recordings at once", info="When the recording stops")

    widgets = Widgets(state, stage, recording, text, send, stop, again, new, download, pitch, tuple(plots), seed)
    handlers = Handlers(services, widgets, examples)
    choice = [state, left, right]
    sampling = [as_recommended, *sliders, seed, keep_seed, autoplay]
    answering = {
        "outputs": widgets.all(),
        "concurrency_limit": None,  # the line in front of the models is ours
        "trigger_mode": "once",
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    events = [
        send.click(handlers.send, [*choice, recording, text, *sampling], **answering),
        text.submit(handlers.send_text, [*choice, text, *sampling], **answering),
        recording.stop_recording(handlers.recorded, [*choice, recording, send_recordings, *sampling], **answering),
        strip.example(handlers.example, [*choice, *sampling], **answering),
        again.click(handlers.again, [*choice, *sampling], **answering),
    ]
    shown_later = {"show_progress": "hidden", "api_visibility": "private"}
    events += [event.then(handlers.afterwards, state, [download, pitch, *plots], **shown_later) for event in events]
    stop.click(handlers.stop, None, None, **quick)
    new.click(handlers.new, choice, widgets.all(), cancels=events, **quick)
    for trigger in (left.change, right.change):
        trigger(handlers.chosen, choice, widgets.all(), cancels=events, **quick)

    def keep() -> bool:
        """Who types a seed wants it kept."""
        return True

    seed.input(keep, None, keep_seed, **quick)

    def moved() -> bool:
        """Who moves a slider wants it to hold."""
        return False

    for slider in sliders:
        slider.input(moved, None, as_recommended, **quick)
    for trigger in (left.change, as_recommended.input):
        trigger(handlers.recommended, [left, as_recommended], sliders, **quick)

    gr.context.Context.root_block.unload(handlers.left)

    def offered() -> tuple[gr.Dropdown, gr.Dropdown]:
        """Checkpoints that came while the app runs are there when a page is opened."""
        now = services.labels()
        return gr.Dropdown(choices=now), gr.Dropdown(choices=[*now, NO_SECOND])

    gr.context.Context.root_block.load(offered, None, [left, right], **quick)
