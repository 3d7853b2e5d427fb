"""Ships the best adapter of a recipe that the comparison trained, measured as it is shipped.

    python -m evaluation.ship_adapter wavalign alpo-anchored --work runs/reproduce

Of the seeds in the work folder, the one with the highest mean score on *validation* prompts, as many and with as many
samples as the comparison takes of held-out ones, which choose nothing. Its adapter goes to
``<assets>/closedtalk-<recipe>``, rounded to half precision, with a model card whose figures are of the rounded adapter
on held-out prompts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from evaluation.reproduce_cells import Cell, Setting, base_measures, load_trained
from evaluation.reproduce_measure import measured
from evaluation.reproduce_summary import estimates, ratios
from evaluation.reproduce_variants import ReproduceError, variant
from wavalign.models.channel_adapters import CHANNELS_FILE
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry
from wavalign.training.config_files import load_config, recipes
from wavalign.training.journal import ADAPTER, CONFIG

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WEIGHTS, PEFT_CONFIG, PROVENANCE = "adapter_model.safetensors", "adapter_config.json", "provenance.json"
MEASURES = (
    ("right answers, {samples} samples at temperature {temperature:g}", "accuracy/sampled"),
    ("right answers, greedy", "accuracy/greedy"),
    ("word errors of its speech, own sampling", "wer/own"),
    ("word errors of its speech, T {warm_temperature:g}", "wer/warm"),
    ("delivery right, own sampling", "delivery/own"),
    ("delivery right, T {warm_temperature:g}", "delivery/warm"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.ship_adapter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"), help="the comparison's work folder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="those that may be shipped")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--threads", type=int, default=1, help="of torch; small models are fastest with one")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        for recipe in options.recipes:
            print(ship(recipe, options.seeds, Setting(options.work, options.assets)))
    except (ReproduceError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def ship(recipe: str, seeds: Sequence[int], setting: Setting) -> Path:
    """The folder that was written; one of that name is replaced once the new one is measured.

    Raises:
        ReproduceError: when the recipe is unknown, no seed of it has its adapter in the work folder, or the base is not
            measured there.
    """
    base = base_measures(setting, only_read=True)
    if base is None:
        raise ReproduceError(f"The base is not measured in {setting.work}; run python -m evaluation.reproduce there.")
    cell = best(recipe, seeds, setting)
    name = f"closedtalk-{recipe}"
    folder = setting.assets / name
    with tempfile.TemporaryDirectory(dir=setting.assets, prefix=".ship-") as place:
        draft = Path(place) / name
        write_half(cell.run / ADAPTER, draft, setting.base)
        found = measured(_load(draft, setting), name, setting.assets, setting.sizes)
        _describe(draft, cell, base, found)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return folder


def best(recipe: str, seeds: Sequence[int], setting: Setting) -> Cell:
    """The seed with the highest ``validation_score``; the first of equals.

    Raises:
        ReproduceError: see ``ship``.
    """
    cells = [Cell(variant(recipe), seed, setting) for seed in seeds]
    cells = [cell for cell in cells if cell.has_weights and (cell.run / ADAPTER / PEFT_CONFIG).is_file()]
    if not cells:
        raise ReproduceError(
            f"{setting.work} holds no trained adapter of {recipe} for the seeds {' '.join(map(str, seeds))}; run "
            f"python -m evaluation.reproduce --weights --recipes {recipe} --work {setting.work} first."
        )
    return max(cells, key=validation_score)


def validation_score(cell: Cell) -> float:
    """The mean score, from 1 to 5, of sampled replies to validation prompts."""
    sizes = replace(cell.setting.sizes, split="validation", spoken=0, warm=0, likelihood=0)
    found = measured(*load_trained(cell), cell.setting.assets, sizes)
    top, bottom = (sum(values) for values in found["measures"]["score/sampled"])
    print(f"{cell.name}: {top / bottom:.3f} on {len(found['ids'])} validation prompts", flush=True)
    return top / bottom


def write_half(source: Path, folder: Path, base: str) -> None:
    """A plain PEFT folder beside its base: ``source``'s matrices in float16, split by channel where they were."""
    folder.mkdir()
    with safe_open(str(source / WEIGHTS), framework="pt") as tensors:
        halves = {key: tensors.get_tensor(key).half() for key in tensors.keys()}  # noqa: SIM118 - no mapping
        save_file(halves, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    config = json.loads((source / PEFT_CONFIG).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": f"../{base}", "target_modules": sorted(config["target_modules"])}
    (folder / PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (source / CHANNELS_FILE).is_file():
        shutil.copyfile(source / CHANNELS_FILE, folder / CHANNELS_FILE)


def _load(draft: Path, setting: Setting) -> Any:
    """The draft's model, from a folder that has it in the place that it is to have in the assets."""
    with tempfile.TemporaryDirectory() as place:
        others = [each for each in setting.assets.iterdir() if each.name[0] != "." and each.name != draft.name]
        for each in (draft, *others):
            (Path(place) / each.name).symlink_to(each.resolve())
        return Registry(Path(place)).load([draft.name])


def _describe(draft: Path, cell: Cell, base: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    command = f"python -m evaluation.reproduce --recipes {cell.variant.recipe} --seeds {cell.seed}"
    provenance = json.loads((cell.run / ADAPTER / PROVENANCE).read_text(encoding="utf-8"))
    provenance |= {"run": command, "weights": "rounded to float16"}
    (draft / PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    (draft / "README.md").write_text(card(cell, base, found, command), encoding="utf-8")


def card(cell: Cell, base: Mapping[str, Any], found: Mapping[str, Any], command: str) -> str:
    """The model card: what the recipe says of itself, and what was measured beside the base."""
    recipe, config, sizes = cell.variant.recipe, load_config(cell.run / CONFIG), cell.setting.sizes
    own, theirs = ratios([found]), ratios([base])
    columns = (estimates(own), estimates(theirs), estimates(own, theirs))
    rows = []
    for label, key in MEASURES:
        if key not in columns[2]:
            continue
        mine, base_of = (100 * column[key]["value"] for column in columns[:2])
        difference, low, high = (100 * columns[2][key][part] for part in ("value", "low", "high"))
        rows.append(
            f"| {label.format(**asdict(sizes))}, % | {mine:.1f} | {base_of:.1f} "
            f"| {difference:+.1f} ({low:+.1f} to {high:+.1f}) |"
        )
    rank, channels = f"rank {config.tuning.rank}", ""
    if config.tuning.per_channel:
        rank += ", for words and for speech each"
        channels = f"""
Which ranks are whose stands in `{CHANNELS_FILE}`. PEFT alone loads this folder, too, but knows nothing of that file and
has both adapters active everywhere: another model than the one measured here.
"""
    return f"""---
license: apache-2.0
language: en
base_model: {cell.setting.base}
library_name: peft
tags: [spoken-dialogue, closedtalk, wavalign, grpo, lora]
---

# ClosedTalk, post-trained by the recipe `{recipe}`

{_says_of_itself(recipe)}

A LoRA adapter ({rank}; half precision) on `{cell.setting.base}`: {config.steps} updates of {config.batch} prompts
with {config.rollouts.group_size} rollouts each, on the post-training split. Of the seeds trained, the one
with the best score on validation prompts: seed {cell.seed}.
{channels}
As it is shipped, beside its base on {sizes.prompts} held-out prompts of unseen voices ({sizes.spoken} of them heard at
each sampling); 95 % intervals over prompts, for this one run. Differences in points:

| | this | base | difference |
|---|---|---|---|
{chr(10).join(rows)}

Made by:

    {command}
    python -m evaluation.ship_adapter {recipe}
"""


def _says_of_itself(recipe: str) -> str:
    """The comment that opens the recipe's file."""
    lines = recipes()[recipe].read_text(encoding="utf-8").splitlines()
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:count])


if __name__ == "__main__":
    sys.exit(main())
