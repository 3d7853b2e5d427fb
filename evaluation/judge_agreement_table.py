"""Judges' agreement in the layout of tables 5 and 6 of arXiv 2604.14932: a row a judge, dimensions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.figures import Figure, Section

COLUMNS = {
    "pearson": "Pearson",
    "spearman": "intra-ID rho",
    "mae": "MAE",
    "within_one": "<=1",
    "bias": "bias",
}
_SHORT = {"semantic": "sem", "acoustic": "ac", "all": ""}


def side_by_side(sections: Sequence[Section], dimensions: Sequence[str], judges: Sequence[str]) -> str:
    """Each measure with a column for each dimension, values alone; "-" where one is not defined."""
    figures = {figure.id: figure for section in sections for figure in section.figures}
    header = ["judge", *(f"{label} {_SHORT.get(d, d)}".strip() for label in COLUMNS.values() for d in dimensions)]
    rows = [header]
    for judge in judges:
        cells = [_cell(figures, f"{dimension}/{judge}/{name}", name) for name in COLUMNS for dimension in dimensions]
        rows.append([judge, *cells])
    widths = [max(len(row[place]) for row in rows) for place in range(len(header))]
    return "\n".join(
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _cell(figures: Mapping[str, Figure], id_: str, name: str) -> str:
    found = figures.get(id_)
    if found is None or found.value is None:
        return "-"
    return f"{found.value:+.3f}" if name == "bias" else f"{found.value:.3f}"
