"""Post-trains a spoken dialogue model.

    python -m wavalign.train wavalign/recipes/wavalign.yaml
    python -m wavalign.train wavalign/recipes/grpo-text.yaml steps=100 optimiser.lr=3e-4 tuning.rank=16
    python -m wavalign.train path/of/a/run                 goes on from its last checkpoint
    accelerate launch --multi_gpu --num_processes 2 -m wavalign.train wavalign/recipes/sft.yaml --run runs/two

Ctrl-C saves and says how to go on. The fields of a config: python -m wavalign.train --fields
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from wavalign.arguments import whole

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HOME = Path(os.environ.get("WAVALIGN_HOME") or Path.home() / ".cache" / "wavalign-workbench")
RUNS = "runs"
_LONGEST = 2000
"""Characters of the reason of a failure that are kept in the run's folder; the log has all of it."""
PATIENCE = 10.0
"""Seconds that a start waits for the process that trained the run before: one that was killed may not be gone yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wavalign.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", type=Path, help="a YAML file for a new run, or a run's folder to go on")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="fields of the config to change")
    parser.add_argument(
        "--run", "--folder", type=Path, help="the new run's folder (default: a new one in runs/ of --home)"
    )
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of the embedded checkpoints and data")
    parser.add_argument("--home", type=Path, default=HOME, help="the folder with runs/ and checkpoints/")
    parser.add_argument(
        "--threads", type=whole(1), default=1, help="of torch on a CPU; small models are fastest with one"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--fields", action="store_true", help="print every field with its default and meaning")
    options = parser.parse_intermixed_args(arguments)
    # Read when torch and numpy are imported: small products on several threads wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    from wavalign.training.config import ConfigError

    try:
        if options.fields:
            from wavalign.training.field_list import field_list

            print(field_list())
            return 0
        if options.config is None:
            parser.error("name a config or a run; the recipes are in wavalign/recipes.")
        folder = _prepared(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or options.run or options.home
        print(f"The run cannot be made or read at {str(where)[:200]} ({error.strerror}).", file=sys.stderr)
        return 2
    return _train(folder, options)


def _prepared(options: argparse.Namespace) -> Path:
    """The run's folder with its config.yaml; nothing is made when the config is wrong.

    Raises:
        ConfigError: when config, overrides and folder do not go together.
    """
    from wavalign.training.config import ConfigError
    from wavalign.training.config_files import load_config, save_config
    from wavalign.training.journal import CONFIG

    if options.config.is_dir():
        if options.run is not None or options.overrides:
            raise ConfigError(
                f"{options.config} is a run: it goes on as it was begun, without --folder or changed fields. "
                "To change it, start a new run from its config.yaml."
            )
        load_config(options.config / CONFIG)
        return options.config
    config = load_config(options.config, options.overrides)
    if int(os.environ.get("LOCAL_RANK", 0)) > 0 or int(os.environ.get("RANK", 0)) > 0:
        if options.run is None:
            raise ConfigError("With several processes, name the run's folder with --folder.")
        return options.run
    folder = options.run or _new_folder(options.home / RUNS, config.name)
    if (folder / CONFIG).exists():
        raise ConfigError(
            f"{folder} holds a run already. To go on with it: python -m wavalign.train {folder}. "
            "To start another, choose another --folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder / CONFIG)
    return folder


def _new_folder(runs: Path, name: str) -> Path:
    number = 1
    while (runs / f"{name}-{number:03d}").exists():
        number += 1
    return runs / f"{name}-{number:03d}"


def _train(folder: Path, options: argparse.Namespace) -> int:
    import torch
    from accelerate import PartialState

    from wavalign.codecs.loading import CodecError
    from wavalign.models.protocol import CheckpointError, GenerationError
    from wavalign.rewards.protocol import RewardError
    from wavalign.training.config import ConfigError
    from wavalign.training.config_files import load_config
    from wavalign.training.examples import DataError
    from wavalign.training.journal import ADAPTER, CONFIG, Journal
    from wavalign.training.learning import TrainingError
    from wavalign.training.loop import Trainer
    from wavalign.training.output_log import tee
    from wavalign.training.run_lock import RunBusy, alone
    from wavalign.training.served_rollouts import RolloutError

    torch.set_num_threads(options.threads)
    known = (
        ConfigError,
        DataError,
        CheckpointError,
        CodecError,
        GenerationError,
        RewardError,
        RolloutError,
        TrainingError,
        ValueError,
    )
    PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
    main_process = PartialState().is_main_process
    trainer = None
    with contextlib.ExitStack() as held:
        try:
            if main_process:
                held.enter_context(alone(folder, PATIENCE))
            journal = Journal(folder) if main_process else None
        except RunBusy as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        except OSError as error:
            print(f"The run's folder {folder} cannot be written to ({error.strerror}).", file=sys.stderr)
            return 1
        held.enter_context(tee(journal))
        try:
            trainer = Trainer(
                load_config(folder / CONFIG), folder, options.assets, options.home, options.quiet, journal
            )
            with trainer.stop.listening():
                status = trainer.run()
        except KeyboardInterrupt:
            _failed(journal, trainer, "interrupted before it could save")
            print(f"\nStopped at once. To go on from the last checkpoint: python -m wavalign.train {folder}")
            return 130
        except Exception as error:
            sentence = str(error) if isinstance(error, known) else f"{type(error).__name__}: {error}"
            if not isinstance(error, known):
                traceback.print_exc()
            _failed(journal, trainer, sentence[:_LONGEST])
            print(f"The run failed: {sentence}", file=sys.stderr)
            return 1
        if main_process and status == "stopped":
            print(f"Stopped after step {trainer.step}. To go on: python -m wavalign.train {folder}")
        elif main_process:
            print(f"Done: {folder / ADAPTER}")
    return 0


def _failed(journal: object, trainer: object, reason: str) -> None:
    if journal is not None:
        journal.event("failed", reason=reason)
        journal.result("failed", reason, getattr(trainer, "step", 0))


if __name__ == "__main__":
    sys.exit(main())
