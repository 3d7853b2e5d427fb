"""The observations that the method rests on, made on our model: each writes figures, a picture and a table.

python -m evaluation.observations variance       how samples of one prompt differ in words and in sound
python -m evaluation.observations gradients      text against speech gradients of GRPO, SFT and DPO
python -m evaluation.observations shift          how far each recipe moved each channel (after evaluation.reproduce)
python -m evaluation.observations shift gradients variance --limit 16
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parent.parent / "assets"
ROOT = Path(__file__).resolve().parent
RESULTS, PAGE = ROOT / "results", ROOT.parent / "docs" / "comparison.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    import torch

    from evaluation.reproduce_variants import ReproduceError
    from wavalign.codecs.loading import CodecError
    from wavalign.models.protocol import CheckpointError, GenerationError
    from wavalign.rewards.protocol import RewardError
    from wavalign.training.config import ConfigError
    from wavalign.training.examples import DataError

    torch.set_num_threads(options.threads)
    try:
        for name in options.observations:
            began = time.process_time()
            found, table, pictures = _OBSERVE[name](options)
            _write(options, name, found, table, pictures)
            print(f"{name}\n{table}\n({time.process_time() - began:.0f} CPU s)\n", flush=True)
    except (ReproduceError, ConfigError, DataError, CheckpointError, CodecError, RewardError, GenerationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _shift(options: argparse.Namespace) -> tuple[dict[str, Any], str, dict[str, str]]:
    from evaluation.observations_shift import chart, shift, table
    from evaluation.reproduce_cells import Setting, order
    from evaluation.reproduce_variants import ReproduceError, variants

    setting = Setting(options.work, options.assets, options.base)
    cells = [cell for cell in order(variants(options.recipes), [options.seed], setting) if cell.trained]
    if not cells:
        raise ReproduceError(f"No recipe was trained in {options.work} yet; run python -m evaluation.reproduce first.")
    there = [cell for cell in cells if cell.has_weights]
    if len(there) < len(cells):
        lacking = [cell.variant.name for cell in cells if not cell.has_weights]
        skipped = (
            f"{len(lacking)} of {len(cells)} trained recipes in {options.work} come from records, without weights; "
            f"python -m evaluation.reproduce --weights --work {options.work} --seeds {options.seed} --recipes "
            f"{' '.join(lacking)} trains them again."
        )
        if not there:
            raise ReproduceError(skipped)
        print(skipped, file=sys.stderr)
    found = shift(there, options.limit or 40, options.split)
    return found, table(found), {"observation-shift.svg": chart(found)}


def _gradients(options: argparse.Namespace) -> tuple[dict[str, Any], str, dict[str, str]]:
    from evaluation.observations_gradients import charts, gradients, table

    found = gradients(options.assets, options.base, options.limit or 8, tuple(options.set))
    return found, table(found), charts(found)


def _variance(options: argparse.Namespace) -> tuple[dict[str, Any], str, dict[str, str]]:
    from evaluation.observations_variance import chart, table, variance

    found = variance(
        options.assets, options.base, options.limit or 40, options.samples, options.split, tuple(options.set)
    )
    return found, table(found), {"observation-variance.svg": chart(found)}


_OBSERVE = {"shift": _shift, "gradients": _gradients, "variance": _variance}


def _write(options: argparse.Namespace, name: str, found: dict[str, Any], table: str, pictures: dict[str, str]) -> None:
    from evaluation.reproduce_tables import write_page

    options.results.mkdir(parents=True, exist_ok=True)
    facts = {"base": options.base, "split": options.split, "found": found}
    (options.results / f"observation-{name}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    folder = options.page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for file, svg in pictures.items():
        (folder / file).write_text(svg, encoding="utf-8")
    write_page(options.page, {f"observation-{name}": table})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.observations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("observations", nargs="+", choices=list(_OBSERVE), metavar="shift|gradients|variance")
    parser.add_argument("--limit", type=int, help="prompts (40), or batches of gradients (8)")
    parser.add_argument("--samples", type=int, default=8, help="variance: replies to each prompt")
    parser.add_argument("--split", default="held_out", help="whose prompts are answered")
    parser.add_argument("--recipes", nargs="+", default=["main"], help="shift: which of the trained ones")
    parser.add_argument("--seed", type=int, default=0, help="shift: of which run")
    parser.add_argument("--set", nargs="+", default=[], metavar="field=value", help="changes of the config")
    parser.add_argument("--base", default="closedtalk-base", help="the checkpoint that is looked at, or moved from")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"), help="shift: where the cells are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are filled in")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
