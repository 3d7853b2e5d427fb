"""The quiet look: system fonts, one teal accent, neutral greys, radius 10. Colours of the sides live here only."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

from app.settings import PAGE_FILES

# Okabe and Ito's blue and orange, each in a shade that reads on white and on near-black.
SIDE_COLOURS = {"a": "#2b7fd4", "b": "#d9730d"}
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        font=_FONTS,
        font_mono=_MONO,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=gr.themes.Size("10px", "10px", "10px", "10px", "10px", "10px", "10px", name="radius_ten"),
    ).set(
        body_background_fill="#f7f8f9",
        body_background_fill_dark="#101416",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#181d20",
        background_fill_secondary="#f7f8f9",
        background_fill_secondary_dark="#14191b",
        block_background_fill="#ffffff",
        block_background_fill_dark="#181d20",
        block_border_width="1px",
        border_color_primary="#e3e7ea",
        border_color_primary_dark="#2a3236",
        block_border_color="#e3e7ea",
        block_border_color_dark="#2a3236",
        checkbox_border_radius="4px",
        block_shadow="none",
        block_shadow_dark="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="500",
        input_background_fill="#ffffff",
        input_background_fill_dark="#14191b",
        input_border_color="#d5dbdf",
        input_border_color_dark="#333d42",
        body_text_color="#1b2226",
        body_text_color_dark="#e6ebee",
        body_text_color_subdued="#5c6a72",
        body_text_color_subdued_dark="#9aa8b0",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#0b5f59",
        button_primary_background_fill_dark="#14867d",
        button_primary_background_fill_hover_dark="#1a9b90",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1e2528",
        button_secondary_border_color="#d5dbdf",
        button_secondary_border_color_dark="#333d42",
    )


def stylesheets() -> list[str]:
    return [str(path) for path in sorted(PAGE_FILES.glob("*.css"))]
