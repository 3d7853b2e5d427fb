"""Two checkpoints answering together against one answering alone: time and memory.

Time: the same dialogues, whole replies with their audio. The two sides may say different things, so the pair is
compared with the longer of the two replies alone. Memory: the peak resident size of a process that loads and answers,
once with the base and once with both.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from evaluation.figures import Figure, Section, Target
from evaluation.speed_timing import SpeedOptions, in_turn, median_ratio
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import Request
from wavalign.models.registry import HOME_FOLDER

QUESTIONS = (
    "what is seven plus five",
    "what is the capital of france",
    "which is bigger two or six",
    "what is the opposite of hot",
)
MOST_TOKENS = 96


def sidebyside(options: SpeedOptions) -> Section:
    """``wall_ratio`` and ``memory_ratio``."""
    with _with_adapter(options) as (options, made_up):
        names = (options.checkpoint, options.adapter)
        model = options.registry().load(names)
        dialogues = [Dialogue((Turn("user", text=question),)) for question in QUESTIONS]
        sampling = replace(model.default_sampling, max_tokens=MOST_TOKENS)
        single = {name: [[Request(d, name, sampling)] for d in dialogues] for name in names}
        pair = [[Request(d, name, sampling) for name in names] for d in dialogues]
        over, under = [], []
        for index in range(len(dialogues)):
            sides = {name: (lambda r=single[name][index]: _answered(model, r)) for name in names}
            seconds = in_turn({**sides, "pair": lambda r=pair[index]: _answered(model, r)}, options.turns)
            over += seconds["pair"]
            under += [max(both) for both in zip(*(seconds[name] for name in names), strict=True)]
        memory = {count: _peak_memory(options, names[:count]) for count in (1, 2)}
    note = "with a random adapter: none is shipped" if made_up else f"{names[0]} and {names[1]}"
    return Section(
        "Two checkpoints side by side against one",
        (
            Figure("wall_ratio", "time of both over one", median_ratio(over, under), n=len(over),
                   target=Target(high=1.25), note=note),
            Figure("memory_ratio", "peak memory of both over the base", memory[2] / memory[1],
                   target=Target(high=1.05), note="resident size of a process that loads and answers"),
            Figure("memory_one", "peak memory with the base", memory[1] / 2**20, "MB"),
            Figure("memory_both", "peak memory with both", memory[2] / 2**20, "MB"),
        ),
    )  # fmt: skip


def _answered(model: InterleavedModel, requests: Sequence[Request]) -> None:
    for _ in model.stream_many(requests):
        pass


@contextmanager
def _with_adapter(options: SpeedOptions) -> Iterator[tuple[SpeedOptions, bool]]:
    """The options with an adapter's name; a random one in a temporary home where there is none."""
    registry = options.registry()
    if options.adapter is None:
        known = map(registry.checkpoint, registry.names())
        found = [each.name for each in known if each.adapter and each.base_name == options.checkpoint]
        if not found:
            with tempfile.TemporaryDirectory() as home:
                _random_adapter(options.model(), Path(home) / HOME_FOLDER / "random-adapter")
                yield replace(options, home=Path(home), adapter="random-adapter"), True
            return
        options = replace(options, adapter=found[0])
    yield options, False


def _random_adapter(model: InterleavedModel, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, lora_alpha=16, target_modules=model.lora_targets(), task_type="CAUSAL_LM")
    adapted = get_peft_model(model.base.network, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.01, generator=generator)
    adapted.peft_config["default"].base_model_name_or_path = model.base.name
    adapted.save_pretrained(str(folder))


def _peak_memory(options: SpeedOptions, names: Sequence[str]) -> int:
    """Bytes, in a fresh process."""
    told = {**{k: str(v) for k, v in asdict(options).items()}, "names": list(names)}
    command = [sys.executable, "-m", "evaluation.speed_sidebyside", json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"The process that measures memory failed: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout.split()[-1])


def _measured_here(told: dict) -> int:
    torch.set_num_threads(1)
    options = SpeedOptions(Path(told["assets"]), Path(told["home"]), told["checkpoint"], None, 1)
    model = options.registry().load(told["names"])
    for question in QUESTIONS:
        dialogue = Dialogue((Turn("user", text=question),))
        _answered(model, [Request(dialogue, name, model.default_sampling) for name in told["names"]])
    return _peak_of_this_process()


def _peak_of_this_process() -> int:
    """Bytes. Linux's ``ru_maxrss`` begins with what the parent had when it forked; ``VmHWM`` does not."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(_measured_here(json.loads(sys.argv[1])))
