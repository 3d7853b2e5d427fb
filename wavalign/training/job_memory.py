"""How much memory a job takes, told from its config and the headers of its base's weights before anything is loaded.

    python -m wavalign.training.job_memory wavalign/recipes/wavalign.yaml base=closedtalk-base

What a job holds throughout (weights, adapter, gradients, the optimiser's averages, the reference) is counted. What a
forward keeps for its backward pass is 7 H + 3 K + 4 I numbers for a token and layer (H the width, K that of keys, I the
inner width: the inputs and outputs of two norms, three projections and their rotation, attention, and the gated inner
layer), with 10 H bytes more for the norms where the products are in bfloat16. Replies are taken as long as
``rollouts.max_tokens`` allows, so this is what a job needs at most.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavalign.models.memory import total_bytes
from wavalign.models.memory_estimate import (
    DTYPE_BYTES,
    config_of,
    decoders,
    estimate_folder,
    in_words,
    shapes_in,
    weight_files,
)
from wavalign.models.protocol import Checkpoint
from wavalign.training.config import ConfigError, HybridMethod, LoraTuning, TrainConfig

PROMPT_TOKENS = 512
"""Of a spoken question with what came before it; nobody knows before the data are read."""
_ADAM_BYTES = {"float32": 8.0, "8bit": 2 + 2 * 4 / 256}
"""Of a parameter: two averages of 4 bytes, or of 1 byte with a scale of 4 bytes for each 256."""
_LAYER = re.compile(r"(?:^|\.)\w*layers\.\d+\.")
_NEVER_TRAINED = re.compile(
    r"tower|visual|vision|(?<!^transformer\.)encoder|adaptor|token2wav|code2wav|vocoder|codec|quantizer|whisper"
)
_NOT_ADAPTED = re.compile(r"expert|router|\.gate$|norm|embed")


@dataclass(frozen=True)
class JobMemory:
    """Bytes on one device. The forward's part and the rollouts' are never held at the same time."""

    weights: int
    adapter: int
    gradients: int
    optimiser: int
    reference: int
    forward: int
    rollouts: int

    @property
    def held(self) -> int:
        """Throughout the job, whatever its batches are."""
        return self.weights + self.adapter + self.gradients + self.optimiser + self.reference

    @property
    def total(self) -> int:
        return self.held + max(self.forward, self.rollouts)

    def words(self) -> str:
        """``1.2 GB at most: weights 0.4 GB, ...``, the parts that are something."""
        names = {"gradients": "gradients", "optimiser": "optimiser", "reference": "reference model"}
        parts = {"weights": "weights", "adapter": "adapter", **names, "forward": "forward pass", "rollouts": "rollouts"}
        told = [f"{words} {in_words(getattr(self, name))}" for name, words in parts.items() if getattr(self, name)]
        both = ", of the last two the larger" if self.forward and self.rollouts else ""
        return f"{in_words(self.total)} at most: {', '.join(told)}{both}"


@dataclass(frozen=True)
class _Decoder:
    """Widths of one autoregressive transformer, in numbers a token."""

    layers: int
    width: int
    keys: int
    inner: int
    vocabulary: int

    @classmethod
    def of_all(cls, config: Mapping[str, Any]) -> list[_Decoder]:
        """Those that ``config.json`` tells the widths of; others count nothing beyond their weights."""
        found = []
        for each in decoders(config):
            with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
                found.append(cls.of(each))
        return found

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Decoder:
        heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        keys = int(config.get("num_key_value_heads") or heads) * int(config.get("head_dim") or width // heads)
        if chosen := config.get("num_experts_per_tok"):
            inner = int(chosen) * int(config["moe_intermediate_size"])
            inner += int(config.get("shared_expert_intermediate_size") or 0)
        else:
            told = config.get("intermediate_size") or config.get("ffn_hidden_size")
            inner = int(told or int(config.get("ffn_dim") or 8 * width) // 2)
        vocabulary = config.get("vocab_size") or config["padded_vocab_size"]
        return cls(int(config["num_hidden_layers"]), width, keys, inner, int(vocabulary))

    def kept(self, item: int) -> int:
        """Bytes that a forward keeps of one token in one layer."""
        return item * (7 * self.width + 3 * self.keys + 4 * self.inner) + (10 * self.width if item == 2 else 0)

    def cache(self, item: int) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * self.layers * self.keys * item


def job_memory(
    config: TrainConfig, checkpoint: Checkpoint, device: str, dtype: str | None = None, shards: int = 1
) -> JobMemory:
    """Of each process of a job.

    Args:
        device: "cpu" or "cuda".
        dtype: of the weights; None: the checkpoint's own.
        shards: processes that share weights, gradients and optimiser states out among themselves (FSDP).

    Raises:
        CheckpointError: when the base's weights cannot be read.
    """
    folder = Path(checkpoint.base)
    dtype = dtype or checkpoint.dtype
    stored = estimate_folder(folder, dtype, device)
    own = [file for file in weight_files(folder) if file.parent == folder]  # below are encoders and vocoders
    shapes = {name: shape for file in own for name, shape in shapes_in(file).items()}
    if config_of(folder).get("model_type") == "chatglm":
        from wavalign.models.backbones import shapes_as_opened  # torch takes seconds to import

        shapes = shapes_as_opened(config_of(folder), shapes)
    item = DTYPE_BYTES.get(dtype) or (4 if device == "cpu" else 2)
    products = 2 if config.precision == "bfloat16" or (config.precision == "auto" and device != "cpu") else 4
    weights, adapter, reference = stored.weights, 0, 0
    if isinstance(config.tuning, LoraTuning):
        both = 2 if config.tuning.per_channel else 1
        trained = both * config.tuning.rank * sum(_sides(shapes, config.tuning.targets))
        adapter = 4 * trained
    else:
        trained = _trained(shapes)
        weights += (4 - item) * trained
        reference = weights if _needs_reference(config) else 0
        item = 4
    if products < item:  # autocast keeps a copy of the weights that it multiplies
        weights += products * _trained(shapes)
    found = _Decoder.of_all(config_of(folder))
    states = round(trained * _ADAM_BYTES[config.optimiser.states])
    shared = [-(-each // shards) for each in (weights, adapter, 4 * trained, states, reference)]
    return JobMemory(*shared, _forward(config, found, products), _rollouts(config, found, item))


def refuse_if_too_large(config: TrainConfig, checkpoint: Checkpoint, device: str, shards: int = 1) -> None:
    """Raises:
    ConfigError: when what the job holds throughout does not fit ``device``, whatever its batches are.
    """
    memory, whole = job_memory(config, checkpoint, device.partition(":")[0], shards=shards), total_bytes(device)
    if memory.held > whole:
        raise ConfigError(too_large(memory, whole, config))


def too_large(memory: JobMemory, whole: int, config: TrainConfig) -> str:
    """What to do about a job whose standing part is larger than the device."""
    ways = []
    if not isinstance(config.tuning, LoraTuning):
        ways.append("tuning.kind lora")
    if config.optimiser.states != "8bit":
        ways.append("optimiser.states 8bit")
    ways.append("a smaller base")
    return (
        f"This job needs {in_words(memory.held)} for weights, gradients and optimiser alone, and the device has "
        f"{in_words(whole)}. Choose {' or '.join(ways)}."
    )


def _forward(config: TrainConfig, found: Sequence[_Decoder], item: int) -> int:
    """Of one micro-batch: activations, and the logits of every completion's tokens with their gradient."""
    method, rollouts = config.method, config.rollouts
    completions = 3  # of a preference pair: chosen, rejected, and the demonstration
    if isinstance(method, HybridMethod):
        completions = (rollouts.group_size if method.samples else 0) + (1 if method.demonstrates else 0)
    learnt = config.micro_batch * completions * rollouts.max_tokens
    # Where rows are not packed, every completion is read with its prompt.
    prompts = config.micro_batch * (completions if config.packing == "off" else 1) * PROMPT_TOKENS
    tokens, total = learnt + prompts, 0
    for each in found:
        if config.gradient_checkpointing:
            total += tokens * (each.layers * item * each.width + each.kept(item))
        else:
            total += tokens * each.layers * each.kept(item)
        total += 2 * item * learnt * each.vocabulary
    return total


def _rollouts(config: TrainConfig, found: Sequence[_Decoder], item: int) -> int:
    """Caches and logits of one batch of replies."""
    if not config.method.samples:
        return 0
    rows = min(config.rollouts.rows_at_once, config.batch * config.rollouts.group_size)
    length = PROMPT_TOKENS + config.rollouts.max_tokens
    return sum(rows * (length * each.cache(item) + 3 * 4 * each.vocabulary) for each in found)


def _needs_reference(config: TrainConfig) -> bool:
    """Whether full fine-tuning holds the untrained model beside the trained one."""
    method = config.method
    if not isinstance(method, HybridMethod):
        return True
    return method.preference.kl_text > 0 or method.preference.kl_speech > 0


def _sides(shapes: Mapping[str, Sequence[int]], targets: Sequence[str]) -> Iterator[int]:
    """Inputs plus outputs of every linear module that an adapter reaches."""
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        if path == name or len(shape) not in (2, 3) or not _LAYER.search(path):
            continue
        if _NEVER_TRAINED.search(path) or (_NOT_ADAPTED.search(path) and not targets):
            continue
        if not targets or any(f".{target}." in f".{path}." for target in targets):
            books = shape[0] if len(shape) == 3 else 1  # one matrix for each code book
            inputs = 3 if "query_key_value" in path else 1  # stored as one, adapted as three
            yield books * (inputs * shape[-1] + shape[-2])


def _trained(shapes: Mapping[str, Sequence[int]]) -> int:
    """Parameters that full fine-tuning changes."""
    total = 0
    for name, shape in shapes.items():
        if not _NEVER_TRAINED.search(name):
            count = 1
            for side in shape:
                count *= side
            total += count
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    from wavalign.models.protocol import CheckpointError
    from wavalign.models.registry import Registry
    from wavalign.training.config_files import load_config

    parser = argparse.ArgumentParser(prog="python -m wavalign.training.job_memory", description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("changes", nargs="*", metavar="field=value")
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, options.changes)
        checkpoint = Registry(config.assets or options.assets, options.home).checkpoint(config.base)
        print(job_memory(config, checkpoint, options.device).words())
    except (ConfigError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
