"""The comparison of recipes: the same base, prompts and updates for all, several seeds, held-out prompts and voices.

    python -m evaluation.reproduce                                  every recipe, seeds 0 1 2, 200 updates
    python -m evaluation.reproduce --recipes sft wavalign --seeds 0 --minutes 20
    python -m evaluation.reproduce --recipes ablations wavalign@mix.alpha=0.5,lr=3e-4
    python -m evaluation.reproduce --split validation --work runs/tuning --recipes rates
    python -m evaluation.reproduce --table                          trains nothing: tables and charts of what is there

What is finished is kept in the work folder and not done again, and with --keep also as a small record in the
repository, from which tables can be made when the folder is gone. A record has no weights: a cell that comes from one
is trained again when it is to be measured otherwise, or with --weights. What was interrupted goes on from its last
checkpoint, exactly. The first seed of every recipe comes first, so that --table has something to say early. One core
is enough.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavalign.arguments import number, whole

ASSETS = Path(__file__).resolve().parent.parent / "assets"
ROOT = Path(__file__).resolve().parent
RESULTS, PAGE = ROOT / "results" / "comparison.json", ROOT.parent / "docs" / "comparison.md"
RECORDS = ROOT / "results" / "cells"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    import torch

    from evaluation.reproduce_cells import Setting
    from evaluation.reproduce_measure import Sizes
    from evaluation.reproduce_variants import SETS, ReproduceError, tuned_values, variants
    from wavalign.codecs.loading import CodecError
    from wavalign.models.protocol import CheckpointError, GenerationError
    from wavalign.rewards.protocol import RewardError
    from wavalign.training.config import ConfigError
    from wavalign.training.examples import DataError
    from wavalign.training.run_lock import RunBusy

    torch.set_num_threads(options.threads)
    try:
        sizes = Sizes(
            split=options.split,
            prompts=options.prompts,
            samples=options.samples,
            spoken=options.spoken,
            warm=options.warm,
            likelihood=options.likelihood,
        )
        untimed = tuple(each for name in options.untimed for each in SETS.get(name, (name,)))
        setting = Setting(
            work=options.work,
            assets=options.assets,
            base=options.base,
            steps=options.steps,
            overrides=tuple(options.set),
            tuned=tuned_values(options.tuned) if options.tuned else {},
            untimed=untimed,
            pool=options.pool,
            curve=options.curve,
            sizes=sizes,
            quiet=not sys.stderr.isatty(),
        )
        chosen = variants(options.recipes)
        if unknown := set(untimed) - {variant.name for variant in chosen}:
            raise ReproduceError(f"--untimed names {', '.join(sorted(unknown))}, which --recipes does not.")
        if options.table:
            return _publish(chosen, options, setting)
        options.work.mkdir(parents=True, exist_ok=True)
        return _run(chosen, options, setting)
    except (
        ReproduceError,
        ConfigError,
        DataError,
        CheckpointError,
        CodecError,
        RewardError,
        GenerationError,
        RunBusy,
    ) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or options.work
        print(f"The comparison cannot read or write {where} ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on.", file=sys.stderr)
        return 130


def _run(chosen: Sequence[Any], options: argparse.Namespace, setting: Any) -> int:
    from evaluation.reproduce_cells import base_measures, measure_cell, order, train, write_json
    from evaluation.reproduce_records import keep
    from wavalign.rewards.protocol import RewardError
    from wavalign.training.learning import TrainingError

    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    cells = order(chosen, options.seeds, setting)
    _restore(cells, chosen, options, setting)
    _refuse(cells, chosen)
    _refuse_data(cells, chosen)
    base = base_measures(setting)
    _say(f"base {setting.base}: {_line(base)} ({base['cpu_s']:.0f} CPU s)")
    failed, interrupted = [], False
    for place, cell in enumerate(cells, start=1):
        if cell.trained and cell.measures is not None and (cell.has_weights or not options.weights):
            if options.keep:
                keep(cell, base, options.records)
            continue
        if deadline is not None and time.monotonic() > deadline:
            _say(f"The minutes are spent; {sum(c.measures is not None for c in cells)} of {len(cells)} cells are done.")
            break
        began = time.process_time()
        try:
            if cell.trained and not cell.has_weights:
                _say(f"{cell.name}: its weights are not here; it is trained again.")
            if not cell.has_weights and train(cell, _mean_lambda(cell, chosen), deadline) == "stopped":
                _say(f"{cell.name}: stopped before its end. The same command goes on.")
                interrupted = deadline is None or time.monotonic() < deadline
                break
        except (TrainingError, RewardError) as error:
            failed.append(cell)
            _say(f"{cell.name}: failed: {error}")
            continue
        trained = time.process_time()
        found = measure_cell(cell)
        spent = f"trained {trained - began:.0f} CPU s, measured {found['cpu_s']:.0f} CPU s"
        _say(f"[{place}/{len(cells)}] {cell.name}: {_line(found)} ({spent})")
        if options.keep:
            keep(cell, base, options.records)
        write_json(setting.work / "comparison.json", _summary(cells, setting))
    _report(cells, setting)
    return 130 if interrupted else 1 if failed else 0


def _publish(chosen: Sequence[Any], options: argparse.Namespace, setting: Any) -> int:
    """Writes what is finished to the results and the page."""
    from evaluation.reproduce_cells import order, write_json
    from evaluation.reproduce_charts import write_charts
    from evaluation.reproduce_tables import tables, write_page

    cells = order(chosen, options.seeds, setting)
    _restore(cells, chosen, options, setting)
    _refuse(cells, chosen)
    found = _summary(cells, setting)
    write_page(options.page, tables(found))
    write_json(options.results, found)
    paths = write_charts(found, options.page)
    _report(cells, setting)
    _say(f"Written: {', '.join(map(str, [options.results, options.page, *paths]))}")
    return 0


def _restore(cells: Sequence[Any], chosen: Sequence[Any], options: argparse.Namespace, setting: Any) -> None:
    from evaluation.reproduce_records import restore

    laid = restore(cells, lambda cell: _mean_lambda(cell, chosen), setting, options.records)
    if laid:
        _say(f"{len(laid)} finished cells were taken from {options.records}")


def _summary(cells: Sequence[Any], setting: Any) -> dict[str, Any]:
    from evaluation.reproduce_cells import base_measures
    from evaluation.reproduce_summary import summary
    from evaluation.reproduce_variants import ReproduceError

    base = base_measures(setting, only_read=True)
    if base is None:
        raise ReproduceError(f"Nothing was measured in {setting.work} with these sizes yet; run without --table first.")
    return summary(cells, base, setting)


def _report(cells: Sequence[Any], setting: Any) -> None:
    from evaluation.figures import table, verdict
    from evaluation.reproduce_claims import claims
    from evaluation.reproduce_tables import NOT_RUN, tables

    found = _summary(cells, setting)
    if not found["variants"]:
        return
    parts = tables(found)
    for name in ("words", "speech", "against-base", "against-sft", "against-wavalign", "equal-cpu", "cost"):
        print(f"\n{name}\n{parts[name]}")
    for name in ("ablations", "lora"):
        if parts[name] != NOT_RUN:
            print(f"\n{name}\n{parts[name]}")
    sections = claims(found)
    if sections:
        print(f"\n{table(sections)}\n{verdict(sections)}")


def _refuse(cells: Sequence[Any], chosen: Sequence[Any]) -> None:
    """What does not fit, or was begun otherwise, is refused before anything is trained."""
    from evaluation.reproduce_cells import refuse_other_settings

    for cell in cells:
        mean = _mean_lambda(cell, chosen)
        if cell.variant.mean_of is None or mean is not None:
            cell.config(mean)
            refuse_other_settings(cell, mean)


def _refuse_data(cells: Sequence[Any], chosen: Sequence[Any]) -> None:
    """What cannot be trained on is refused before the base is measured, and no cell is begun."""
    from wavalign.training.data import load_examples

    seen = set()
    for cell in cells:
        if cell.trained or (cell.variant.mean_of is not None and _mean_lambda(cell, chosen) is None):
            continue
        data = cell.config(_mean_lambda(cell, chosen)).data
        if (what := data.model_dump_json(exclude={"seed"})) not in seen:
            seen.add(what)
            load_examples(data, cell.setting.assets)


def _mean_lambda(cell: Any, chosen: Sequence[Any]) -> float | None:
    """The mean lambda of the run, with the same seed, that the cell's variant names; None where there is none yet."""
    named = [variant for variant in chosen if variant.name == cell.variant.mean_of]
    return replace(cell, variant=named[0]).mean_lambda if named else None


def _line(found: dict[str, Any]) -> str:
    def share(name: str) -> str:
        top, bottom = (sum(values) for values in found["measures"].get(name, [[], []]))
        return f"{100 * top / bottom:.1f} %" if bottom else "not measured"

    return (
        f"right {share('accuracy/sampled')}, greedy {share('accuracy/greedy')}, WER {share('wer/own')}, "
        f"at T 0.8 {share('wer/warm')}, delivery {share('delivery/own')}"
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    from evaluation.reproduce_variants import SETS

    parser = argparse.ArgumentParser(
        prog="python -m evaluation.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipes", nargs="+", default=["main"], help=f"recipes, recipe@field=value, {', '.join(SETS)}"
    )
    parser.add_argument("--seeds", nargs="+", type=whole(0), default=[0, 1, 2])
    parser.add_argument("--steps", type=whole(1), default=200, help="updates of every recipe")
    parser.add_argument("--minutes", type=number(0), help="stop, saved, after so many minutes on the clock")
    parser.add_argument("--set", nargs="+", default=[], metavar="field=value", help="changes of every recipe")
    parser.add_argument("--tuned", type=Path, help="YAML of recipe: [field=value, ...], as chosen on validation")
    parser.add_argument("--pool", type=Path, help="the prompts to train on (python -m wavalign.training.pool)")
    parser.add_argument("--curve", type=whole(0), default=100, help="steps between evaluations along a run; 0 for none")
    parser.add_argument("--split", default="held_out", help="what is measured on: held_out, or validation for tuning")
    parser.add_argument("--prompts", "--limit", type=whole(1), default=300, help="prompts answered in words")
    parser.add_argument("--samples", type=whole(1), default=8, help="replies to each, at temperature 0.9")
    parser.add_argument(
        "--spoken", type=whole(0), default=200, help="prompts answered aloud at the base's own sampling"
    )
    parser.add_argument("--warm", type=whole(0), default=200, help="prompts answered aloud at temperature 0.8")
    parser.add_argument("--likelihood", type=whole(0), default=150, help="demonstrations scored")
    parser.add_argument("--base", default="closedtalk-base", help="the checkpoint that every recipe starts from")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"), help="where cells are kept")
    parser.add_argument("--records", type=Path, default=RECORDS, help="what is left of cells whose folders are gone")
    parser.add_argument("--keep", action="store_true", help="write such a record of every cell that is finished")
    parser.add_argument("--weights", action="store_true", help="train finished cells again whose weights are not here")
    parser.add_argument("--table", action="store_true", help="train nothing; write results, page and charts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="with --table: where the results are written")
    parser.add_argument("--page", type=Path, default=PAGE, help="with --table: whose tables are filled in")
    parser.add_argument(
        "--untimed", nargs="+", default=[], metavar="RECIPE", help="whose seconds compare with no other's: left out"
    )
    parser.add_argument("--threads", type=whole(1), default=1, help="of torch; small models are fastest with one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
