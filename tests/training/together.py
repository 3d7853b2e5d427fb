"""Several runs one after another in the same processes, as a launcher starts them: importing torch is most of the time.

accelerate launch ... -m tests.training.together ASSETS FOLDER      each FOLDER/NAME.yaml becomes FOLDER/NAME
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

import tests.training.letters  # noqa: F401  (makes the reward known)
from wavalign.training.config_files import load_config
from wavalign.training.loop import Trainer


def main(assets: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    PartialState(cpu=True)
    launched = os.environ["ACCELERATE_USE_FSDP"]
    for path in sorted(folder.glob("*.yaml")):
        config = load_config(path)
        os.environ["ACCELERATE_USE_FSDP"] = "false" if config.parallel == "ddp" else launched
        AcceleratorState._reset_state()
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU
        trainer = Trainer(config, path.with_suffix(""), assets, quiet=True)
        assert trainer.accelerator.is_fsdp2 == trainer.trainee.sharded == (config.parallel != "ddp")
        if path.stem == "interrupted" and trainer.world.rank == 0:
            _interrupt(trainer)
        trainer.run()


def _interrupt(trainer: Trainer) -> None:
    """A signal that reaches this process alone, in its first step."""
    step = trainer._one_step

    def interrupted() -> dict[str, float]:
        trainer.stop.ask("interrupted")
        return step()

    trainer._one_step = interrupted


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
