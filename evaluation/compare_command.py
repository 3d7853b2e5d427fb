"""Compares checkpoints on tasks: answers, scores, paired intervals, a report as HTML and JSON, a section for the card.

    python -m evaluation.run compare --checkpoints closedtalk-base closedtalk-wavalign --tasks closedtalk --limit 100 \\
        --out runs/compare
    python -m evaluation.run compare --out runs/compare              # goes on with it, or writes its report anew
    python -m evaluation.run compare --out runs/compare --retry      # tries again what failed
    python -m evaluation.run compare --out runs/compare --card my-adapter

Interrupted (Ctrl-C, a kill, a crash), the same command goes on where it was. Several processes share the prompts:

    torchrun --nproc-per-node 8 -m evaluation.run compare --checkpoints ... --out runs/compare
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.acoustics_hearing import HearingError
from evaluation.assess import Assessment, Place
from evaluation.assess_plan import Plan, PlanError, make_plan, read_plan
from evaluation.compare import read_comparison
from evaluation.report import write_reports
from evaluation.report_card import add_to_card
from evaluation.report_text import plain_text
from evaluation.tasks.protocol import TaskError
from evaluation.tasks.registry import TASKS
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry
from wavalign.rewards.config import JudgeConfig
from wavalign.training.journal import ATTEMPT_VARIABLE, Journal
from wavalign.training.world import launched

TROUBLE = (PlanError, TaskError, HearingError, CheckpointError)
_INTERRUPTED = 130


def main(arguments: Sequence[str], assets: Path, home: Path) -> int:
    """``assets`` and ``home`` are the defaults of the options of that name."""
    parser = _parser(assets, home)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    place = Place(options.out, options.assets, options.home)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        plan = _plan(options, parser)
        if options.card:
            print(f"Written into {_card(options.card, place)}.")
            return 0
        return _assess(plan, place, stop, options)
    except TROUBLE as error:
        if os.environ.get(ATTEMPT_VARIABLE):  # a supervisor reads how it ended; by hand, an earlier result stays
            Journal(options.out).result("failed", str(error), 0)
        print(error, file=sys.stderr)
        return 1


def _assess(plan: Plan, place: Place, stop: threading.Event, options: argparse.Namespace) -> int:
    assessment = Assessment(plan, place, stop, options.quiet, world=launched())
    status = assessment.run(options.retry)
    if assessment.journal is None:
        return _INTERRUPTED if status == "stopped" else 0
    answered = len(assessment.records.replies)
    if status == "stopped":
        assessment.journal.result("stopped", "interrupted", answered)
        print(f"Stopped after {answered} replies; the same command goes on from there.", file=sys.stderr)
        return _INTERRUPTED
    comparison = read_comparison(place.work, place.assets, place.home, assessment.acoustics.unavailable)
    reports = write_reports(comparison, place.work)
    assessment.journal.result("completed", "", answered)
    print(plain_text(comparison))
    print(f"\nReport: {reports.html} (with its sounds), {reports.json}, {reports.card}")
    return 0


def _card(name: str, place: Place) -> Path:
    adapter = Registry(place.assets, place.home).checkpoint(name).adapter
    if adapter is None:
        raise PlanError(f'"{name}" is a base: only an adapter\'s model card is written to.')
    if Path(place.assets).resolve() in Path(adapter).resolve().parents:
        raise PlanError(f'"{name}" ships with the app: only the card of an adapter of yours is written to.')
    return add_to_card(adapter / "README.md", place.work, name)


def _plan(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Plan:
    """What the options ask for, or what the folder was begun with."""
    given: dict[str, Any] = {
        name: value
        for name in Plan.model_fields
        if name not in ("data", "judge") and (value := getattr(options, name, None)) is not None
    }
    if options.no_dnsmos:
        given["dnsmos"] = False
    if options.data:
        given["data"] = dict(_pair(each, parser) for each in options.data)
    if options.judge_url or options.judge_model:
        if not (options.judge_url and options.judge_model):
            parser.error("--judge-url and --judge-model go together.")
        try:
            given["judge"] = JudgeConfig(url=options.judge_url, model=options.judge_model)
        except ValueError as error:
            raise PlanError(f"--judge-url is not an address: {options.judge_url}.") from error
    found = read_plan(options.out)
    if found is not None:
        return make_plan(**(found[0].model_dump() | given))
    if "checkpoints" not in given:
        raise PlanError(f"{options.out} holds no evaluation yet: name --checkpoints to begin one.")
    return make_plan(**given)


def _pair(text: str, parser: argparse.ArgumentParser) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not value or name not in TASKS:
        parser.error(f"--data takes TASK=FOLDER or TASK=HUB_ID with one of {', '.join(TASKS)}, got {text!r}.")
    return name, value


def _parser(assets: Path, home: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.run compare", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the work folder: records, sounds, reports")
    parser.add_argument("--checkpoints", nargs="+", help="the first is what the others are compared with")
    parser.add_argument(
        "--tasks", nargs="+", help=f"from {', '.join(TASKS)}; TASK/PART for a part (default closedtalk)"
    )
    parser.add_argument("--limit", type=int, help="prompts of each task (default: all)")
    parser.add_argument("--samples", type=int, help="replies to each prompt, each with a seed of its own (default 1)")
    parser.add_argument("--seed", type=int, help="of prompts, sampling and bootstrap (default 0)")
    parser.add_argument("--temperature", type=float, help="of words (default: what the base recommends)")
    parser.add_argument("--speech-temperature", type=float, help="of speech (default: what the base recommends)")
    parser.add_argument("--recogniser", help="embedded (default), none, or a Whisper checkpoint on this machine")
    parser.add_argument("--no-dnsmos", action="store_true", help="do not predict opinions (it takes most of the time)")
    parser.add_argument("--utmos", type=Path, help="a checkout of tarepan/SpeechMOS (default: torch.hub's)")
    parser.add_argument(
        "--data", nargs="+", metavar="TASK=PLACE", help="folders or hub ids of data that is not shipped"
    )
    parser.add_argument("--judge-url", help="an OpenAI-compatible endpoint; the key in WAVALIGN_JUDGE_API_KEY")
    parser.add_argument("--judge-model")
    parser.add_argument("--batch", type=int, help="replies decoded at once (default 32)")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument(
        "--card", metavar="CHECKPOINT", help="write this adapter's section into its model card, and end"
    )
    parser.add_argument("--assets", type=Path, default=assets)
    parser.add_argument("--home", type=Path, default=home)
    parser.add_argument("--threads", type=int, default=1, help="of torch; small models are fastest with one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
