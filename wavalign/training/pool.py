"""Keeps the prompts that rollouts can teach something about: neither always right nor always wrong.

    python -m wavalign.training.pool kept.json --config wavalign/recipes/wavalign.yaml
    python -m wavalign.training.pool kept.json --samples 16 data.split=post_training rollouts.temperature=0.9

The model, prompts, rewards and sampling are those of a run's config. A sampled reply passes when its reward is at least
``--pass-score``; prompts whose share of passing replies lies between ``--low`` and ``--high`` are kept, and
``data.pool=kept.json`` trains on them alone. What is measured is written down at once, so that the command, given
again, goes on where it was stopped. Several processes (torchrun, accelerate launch) share the prompts; as many must
then go on with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wavalign.models.protocol import CheckpointError, GenerationError
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.protocol import Answer, RewardError
from wavalign.rewards.registry import RewardContext
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.config_files import load_config, make_config, overridden
from wavalign.training.data import ASSETS, load_examples
from wavalign.training.examples import DataError, Example, Examples
from wavalign.training.world import World, joined, launched

SCHEMA = "wavalign-pool/1"
Sampler = Callable[[int, Sequence[Example]], list[list[Answer]]]
"""(place of the first example, examples) to the replies of each; the place decides the seeds."""


class PoolError(ValueError):
    """A pool that cannot be made; the message is one sentence."""


@dataclass(frozen=True)
class Difficulty:
    """``passed`` of ``scored`` replies were good enough; replies whose reward failed are in neither."""

    id: str
    passed: int
    scored: int

    def keeps(self, low: float, high: float) -> bool:
        """Whether the share of passing replies lies in [low, high]; not, when nothing could be scored."""
        return self.scored > 0 and low <= self.passed / self.scored <= high


def measure(
    examples: Examples,
    sampler: Sampler,
    rewards: RewardMix,
    pass_score: float,
    done: Sequence[Difficulty] = (),
    at_once: int = 8,
) -> Iterator[list[Difficulty]]:
    """How hard the examples are, a few prompts at a time, from the first one that is not ``done``."""
    for start in range(len(done), len(examples), at_once):
        batch = examples[start : start + at_once]
        groups = sampler(start, list(batch))
        scores = iter(rewards.score([answer for group in groups for answer in group]).combined)
        measured = []
        for example, group in zip(batch, groups, strict=True):
            known = [score for score in (next(scores) for _ in group) if score is not None]
            measured.append(Difficulty(example.id, sum(score >= pass_score for score in known), len(known)))
        yield measured


class Journal:
    """What was measured so far, one line a prompt after a line of settings, in a file beside the result."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = dict(settings)

    def read(self, ids: Sequence[str]) -> list[Difficulty]:
        """The prompts that are done. A last line that was cut by a kill is dropped from the file.

        Raises:
            PoolError: when the file was begun with other settings or other prompts.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        if whole != lines:
            self.path.write_bytes(b"".join(whole))
        try:
            head, *rows = [json.loads(line) for line in whole] or [self.settings]
            done = [Difficulty(**row) for row in rows]
        except (ValueError, TypeError) as error:
            raise PoolError(f"{self.path} is not the journal of a pool; move it away.") from error
        if head != self.settings or [row.id for row in done] != list(ids[: len(done)]):
            raise PoolError(
                f"{self.path} was begun with other settings. Give those again to go on, or delete it to begin anew."
            )
        return done

    def add(self, measured: Sequence[Difficulty]) -> None:
        new = not self.path.is_file() or self.path.stat().st_size == 0
        lines = [json.dumps(self.settings)] if new else []
        lines += [json.dumps(asdict(difficulty)) for difficulty in measured]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def write_pool(
    path: Path, measured: Sequence[Difficulty], low: float, high: float, settings: Mapping[str, Any]
) -> list[str]:
    """Writes the kept ids (and every prompt's counts), whole or not at all; returns the ids.

    Raises:
        PoolError: when nothing would be kept.
    """
    kept = [difficulty.id for difficulty in measured if difficulty.keeps(low, high)]
    if not kept:
        raise PoolError(
            f"None of the {len(measured)} prompts passes between {low:.0%} and {high:.0%} of the time; "
            "widen --low and --high, raise --samples, or choose other prompts."
        )
    counts = {difficulty.id: [difficulty.passed, difficulty.scored] for difficulty in measured}
    result = {"schema": SCHEMA, "low": low, "high": high, **settings, "kept": kept, "passed_of_scored": counts}
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(path)
    return kept


def model_sampler(config: TrainConfig, samples: int, text_only: bool) -> Sampler:
    """Replies of the config's base, sampled as a run samples them.

    Raises:
        CheckpointError: when the base cannot be loaded.
    """
    from wavalign.models.registry import Registry

    model = Registry(config.assets or ASSETS).load([config.base])
    rollouts = config.rollouts
    sampling = replace(
        model.default_sampling,
        temperature=rollouts.temperature,
        speech_temperature=rollouts.speech_temperature,
        top_p=rollouts.top_p,
        max_tokens=rollouts.max_tokens,
        max_seconds=rollouts.max_seconds,
        seed=config.seed,
    )

    def sample(first: int, examples: Sequence[Example]) -> list[list[Answer]]:
        prompts = [model.encode_prompt(example.prompt) for example in examples]
        groups = model.sample_groups(prompts, samples, sampling, first=first, text_only=text_only)
        return [
            [
                Answer(
                    example,
                    model.tokenizer.decode(model.tokens.text_ids(rollout.tokens), clean_up_tokenization_spaces=False),
                    None if text_only else model.decode_speech(rollout.tokens),
                    rollout.finished,
                )
                for rollout in group
            ]
            for example, group in zip(examples, groups, strict=True)
        ]

    return sample


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wavalign.training.pool", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="the file of kept ids to write")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="changes of the config")
    parser.add_argument("--config", type=Path, help="a run's YAML: its base, data, rewards and rollouts are used")
    parser.add_argument("--samples", type=int, default=8, help="replies to each prompt")
    parser.add_argument("--low", type=float, default=0.1, help="the least share of passing replies")
    parser.add_argument("--high", type=float, default=0.9, help="the greatest share")
    parser.add_argument("--pass-score", type=float, default=4.0, help="the reward (1 to 5) of a reply that passes")
    options = parser.parse_intermixed_args(arguments)
    if options.samples < 2 or not 0 <= options.low <= options.high <= 1:
        parser.error("--samples must be at least 2, and --low and --high shares with --low not above --high.")
    try:
        return _run(options)
    except (PoolError, ConfigError, DataError, RewardError, CheckpointError, GenerationError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    config = (
        load_config(options.config, options.overrides)
        if options.config
        else make_config(overridden({}, options.overrides))
    )
    # A pool that the run's config names is what this command makes: it must not choose what is measured.
    examples = load_examples(config.data.model_copy(update={"pool": None}), config.assets or ASSETS)
    rewards = RewardMix.of(config.rewards, RewardContext(config.assets or ASSETS))
    settings = {
        "samples": options.samples,
        "pass_score": options.pass_score,
        "seed": config.seed,
        "base": config.base,
        "data": json.loads(config.data.model_dump_json()),
        "rewards": config.rewards.weights,
        "rollouts": json.loads(config.rollouts.model_dump_json()),
    }
    world = launched()
    first, own = _share(examples, world)
    whose = f"-{world.rank}-of-{world.size}" if world.size > 1 else ""
    journal = Journal(options.out.with_name(f"{options.out.name}.progress{whose}.jsonl"), settings)
    done = journal.read(own.ids)
    at_once = max(1, config.rollouts.rows_at_once // options.samples)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        shown = sys.stderr.isatty() and world.rank == 0
        with tqdm(total=len(own), initial=len(done), desc="prompts", disable=not shown) as bar:
            if len(done) < len(own):
                sample = model_sampler(config, options.samples, not rewards.needs_audio)
                sampler = partial(_from, first, sample)
                for measured in measure(own, sampler, rewards, options.pass_score, done, at_once):
                    journal.add(measured)
                    done += measured
                    bar.update(len(measured))
    except KeyboardInterrupt:
        print(f"Stopped after {len(done)} of {len(own)} prompts; the same command goes on.", file=sys.stderr)
        return 130
    done = joined(world.gather(done))
    if world.rank > 0:
        world.gather(None)
        journal.path.unlink(missing_ok=True)
        return 0
    kept = write_pool(options.out, done, options.low, options.high, settings)
    world.gather(None)  # the journals stay until the result is there
    journal.path.unlink(missing_ok=True)
    unscored = sum(difficulty.scored == 0 for difficulty in done)
    note = f" {unscored} could not be scored." if unscored else ""
    print(f"{len(kept)} of {len(done)} prompts kept in {options.out}.{note}")
    return 0


def _share(examples: Examples, world: World) -> tuple[int, Examples]:
    """The place of this process's first example, and its examples."""
    first, end = (len(examples) * rank // world.size for rank in (world.rank, world.rank + 1))
    return first, examples[first:end]


def _from(first: int, sampler: Sampler, start: int, examples: Sequence[Example]) -> list[list[Answer]]:
    """Samples as if all examples stood before these: the place of a prompt decides its seeds."""
    return sampler(first + start, examples)


if __name__ == "__main__":
    raise SystemExit(main())
