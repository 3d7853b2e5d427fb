"""Writes a comparison: report.html (one file, sounds inside), report.json (for programs), card.md (for model cards)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.report_card import REPORT, section
from evaluation.report_html import document


@dataclass(frozen=True)
class Reports:
    html: Path
    json: Path
    card: Path


def write_reports(report: Mapping[str, Any], work: Path) -> Reports:
    """Each file appears whole; the JSON comes last, so that whoever finds it finds the others."""
    paths = Reports(work / "report.html", work / REPORT, work / "card.md")
    names = [each["name"] for each in report["checkpoints"]]
    _write(paths.html, document(report, work))
    _write(paths.card, "\n".join(section(report, name) for name in names[1:] or names))
    _write(paths.json, json.dumps(report, indent=1) + "\n")
    return paths


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
