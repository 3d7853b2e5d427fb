"""Lets a model say the targets of a data set itself, for models whose speech encoder was not published.

    python -m wavalign.training.spoken_targets qwen-omni-3b data/train.jsonl data/train.spoken.jsonl

Each row gets ``sft_target_codes``: its ``sft_target_text``, answered to its own prompt, in the codes that the model's
talker draws for those words. As an anchor they hold the voice where the model had it: what is said is the data's, how
it sounds is the model's. Rows that have codes already, or no target, are copied. Given again, the command goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wavalign.models.protocol import CheckpointError, GenerationError
from wavalign.training.data import ASSETS
from wavalign.training.examples import DataError, Example
from wavalign.training.sources.jsonl import lines
from wavalign.training.sources.rows import RowError, entry_of


def spoken(
    model: Any, rows: Sequence[tuple[int, dict]], folder: Path, seed: int, at_once: int = 8
) -> Iterator[list[dict]]:
    """``rows`` (number in the file, fields) with codes, a few at a time; the numbers decide the draws.

    Raises:
        DataError: when a row cannot be read, or its words were not said to their end within the model's limits.
    """
    sampling = replace(model.default_sampling, seed=seed)
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        wanted = [(n, fields) for n, fields in batch if fields.get("sft_target_text") and not _has_codes(fields)]
        prompts = [model.encode_prompt(_example(number, fields, folder).prompt) for number, fields in wanted]
        texts = [fields["sft_target_text"] for _, fields in wanted]
        said = model.say(prompts, texts, sampling, numbers=[number for number, _ in wanted])
        for (number, fields), completion in zip(wanted, said, strict=True):
            if not completion.finished:
                raise DataError(
                    f"Line {number}: the words were not said to their end within {sampling.max_seconds:.0f} s. Shorten "
                    "them, or leave the row out."
                )
            fields["sft_target_codes"] = model.tokens.codes_of(completion.tokens)
        yield [fields for _, fields in batch]


def _example(number: int, fields: dict, folder: Path) -> Example:
    try:
        return entry_of(fields, f"line {number}", folder, False).load()
    except RowError as error:
        raise DataError(f"Line {number}: {error}") from error


def _has_codes(fields: dict) -> bool:
    return bool(fields.get("sft_target_codes"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wavalign.training.spoken_targets", description=__doc__.split("\n")[0]
    )
    parser.add_argument("checkpoint", help="the model that speaks, by its name among the checkpoints")
    parser.add_argument("rows", type=Path, help="a JSONL file of the published schema")
    parser.add_argument("out", type=Path, help="the file to write, in the same folder: audio paths start there")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of checkpoints")
    parser.add_argument("--home", type=Path, help="a WAVALIGN_HOME with checkpoints of its own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.out.resolve().parent != options.rows.resolve().parent or options.out.resolve() == options.rows.resolve():
        parser.error("the file to write must be another one in the same folder.")
    try:
        _run(options)
    except (DataError, CheckpointError, GenerationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    from wavalign.models.registry import Registry

    numbered = []
    for number, line in lines(options.rows):
        try:
            numbered.append((number, dict(json.loads(line))))
        except (ValueError, TypeError) as error:
            raise DataError(f"{options.rows}:{number} is not a JSON object.") from error
    draft = options.out.with_name(f"{options.out.name}.part")
    done = draft.read_bytes().count(b"\n") if draft.is_file() else 0
    if draft.is_file():  # a last line that was cut by a kill is written again
        draft.write_bytes(b"".join(draft.read_bytes().splitlines(keepends=True)[:done]))
    model = Registry(options.assets, options.home).load([options.checkpoint])
    if not hasattr(model, "say"):
        raise CheckpointError(f'"{options.checkpoint}" encodes recordings itself: its targets need no codes.')
    with draft.open("a", encoding="utf-8") as file, tqdm(total=len(numbered), initial=done, desc="targets") as bar:
        for rows in spoken(model, numbered[done:], options.rows.parent, options.seed):
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            file.flush()
            bar.update(len(rows))
    draft.replace(options.out)


if __name__ == "__main__":
    raise SystemExit(main())
