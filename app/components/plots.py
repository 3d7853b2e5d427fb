"""Plots of a reply: waveform and pitch contour over one time axis, in one look for light and dark."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.theme import SIDE_COLOURS
from wavalign.audio import Waveform
from wavalign.metrics.pitch import pitch_contour

# Greys that read on white and on near-black; the page's css sharpens them to each theme's own.
_INK, _GRID = "#7b8992", "rgba(128,144,152,0.22)"
_POINTS = 900

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif", "size": 12, "color": _INK},
        "margin": {"l": 52, "r": 10, "t": 10, "b": 40},
        "showlegend": False,
        "hovermode": "x unified",
        "xaxis": {"gridcolor": _GRID, "zeroline": False, "ticks": "", "linecolor": _GRID},
        "yaxis": {"gridcolor": _GRID, "zeroline": False, "ticks": "", "linecolor": _GRID},
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#1b2226"}},
    }
)


def speech_plot(waveform: Waveform, side: str) -> go.Figure:
    """The envelope of a waveform above its F0 in Hz, both in the side's colour; unvoiced frames are gaps."""
    colour = SIDE_COLOURS[side]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.36, 0.64], vertical_spacing=0.06)
    times, low, high = envelope(waveform)
    figure.add_scatter(
        x=np.concatenate([times, times[::-1]]).round(3),
        y=np.concatenate([high, low[::-1]]).round(3),
        fill="toself",
        line={"width": 0},
        fillcolor=colour,
        mode="lines",
        hoverinfo="skip",
        row=1,
        col=1,
    )
    contour = pitch_contour(waveform)
    figure.add_scatter(
        x=contour.times.round(3),
        y=[None if np.isnan(hertz) else round(float(hertz), 1) for hertz in contour.f0],
        mode="lines",
        line={"color": colour, "width": 2.5},
        connectgaps=False,
        hovertemplate="%{y:.0f} Hz<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_layout(template=TEMPLATE, height=250)
    figure.update_yaxes(visible=False, fixedrange=True, row=1, col=1)
    figure.update_yaxes(title="Pitch (Hz)", fixedrange=True, nticks=5, row=2, col=1)
    figure.update_xaxes(range=[0, max(waveform.seconds, 0.1)], fixedrange=True)
    figure.update_xaxes(title="Time (s)", hoverformat=".2f", row=2, col=1)
    return figure


def envelope(waveform: Waveform) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times in seconds and the least and greatest sample around them, each of shape (m,), m at most 900."""
    samples = waveform.samples
    if not len(samples):
        return np.zeros(1), np.zeros(1), np.zeros(1)
    starts = np.unique(np.linspace(0, len(samples), min(_POINTS, len(samples)), endpoint=False).astype(int))
    return starts / waveform.sample_rate, np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
