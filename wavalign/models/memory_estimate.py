"""How much memory a checkpoint takes, told from file headers and ``config.json`` before anything is loaded.

    python -m wavalign.models.memory_estimate assets/closedtalk-base          the estimate
    python -m wavalign.models.memory_estimate assets/closedtalk-base --load   and what loading it really takes

Weights are counted exactly. The cache is that of two replies side by side, each as long as ``TOKENS``. What works in
between (activations, the runtime) is a share of the weights, the only part that is a guess.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavalign.codecs.loading import codec_folders
from wavalign.models.description import InterleavedDescription
from wavalign.models.kimi_description import DESCRIPTION_FILE
from wavalign.models.protocol import CheckpointError

_PART = re.compile(r"model-\d+-of-\d+\.safetensors")
TOKENS = 4096
REPLIES = 2
_WORKING_SHARE, _WORKING_LEAST = 0.10, 64 * 2**20
_ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_ITEM_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Stored:
    """What the weight files hold. ``floats``: bytes of floating-point tensors by their number of bytes an item,
    ``others``: bytes of everything else (quantised weights keep their size in any dtype)."""

    floats: Mapping[int, int]
    others: int = 0

    def loaded(self, item: int | None) -> int:
        """Bytes in memory with ``item`` bytes a number; None: as stored."""
        if item is None:
            return sum(self.floats.values()) + self.others
        return sum(size // stored * item for stored, size in self.floats.items()) + self.others


@dataclass(frozen=True)
class Estimate:
    """Bytes. ``stored`` is the size of the weight files, for a download."""

    weights: int
    cache: int
    working: int
    stored: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.working

    def words(self) -> str:
        parts = f"weights {in_words(self.weights)}, two replies' caches {in_words(self.cache)}"
        return f"{in_words(self.total)}: {parts}, work {in_words(self.working)}"


def estimate_folder(folder: Path, dtype: str = "auto", device: str = "cpu") -> Estimate:
    """Of a checkpoint folder with everything below it (a vocoder) and the codec that it names beside it.

    Raises:
        CheckpointError: when its weights cannot be read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder}.")
    files = weight_files(folder)
    if not files:
        raise CheckpointError(f"{folder} holds no weights (*.safetensors or *.bin). Restore the folder.")
    stored = added(stored_in(file) for file in [*files, *_beside(folder)])
    return estimate(stored, config_of(folder), dtype, device)


def config_of(folder: Path) -> dict[str, Any]:
    """``config.json``; empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _beside(folder: Path) -> list[Path]:
    """The weights of what a description (codec, encoder) names outside of the checkpoint's own folder."""
    try:
        places = set(codec_folders(InterleavedDescription.read(folder).codec, folder))
    except CheckpointError:  # another layout, or loading says what is wrong
        places = set()
    try:
        told = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        places |= {(folder / told["whisper"]).resolve()} if isinstance(told.get("whisper"), str) else set()
        places |= {place.resolve() for place in codec_folders(told.get("codec"), folder)}
    except (OSError, ValueError, AttributeError):
        pass
    outside = (each for each in sorted(places) if folder.resolve() not in (each.resolve(), *each.resolve().parents))
    return [file for each in outside for file in weight_files(each)]


def estimate(stored: Stored, config: Mapping[str, Any], dtype: str = "auto", device: str = "cpu") -> Estimate:
    """``dtype`` auto is float32 on a CPU and as stored elsewhere."""
    item = DTYPE_BYTES.get(dtype) or (4 if device == "cpu" else None)
    weights = stored.loaded(item)
    cache = sum(cache_bytes(each, item or 2) for each in decoders(config))
    working = max(_WORKING_LEAST, math.ceil(weights * _WORKING_SHARE))
    return Estimate(weights, cache, working, stored.loaded(None))


def weight_files(folder: Path) -> list[Path]:
    """Weights in ``folder`` and below; pickles count only where there is no safetensors file beside them.

    Where an index names the parts of a model, other parts beside them (of an older upload) are not loaded.
    """
    found = []
    kinds = ("*.safetensors", "*.bin", "*.pt", "*.pth")
    for place in sorted({path.parent for kind in kinds for path in folder.rglob(kind)}):
        tensors = sorted(place.glob("*.safetensors"))
        whole = [path for path in tensors if not path.name.startswith("adapter_")]
        named = _indexed(place / "model.safetensors.index.json")
        whole = [path for path in whole if path.name in named or not _PART.fullmatch(path.name)] if named else whole
        found += whole or [path for kind in kinds[1:] for path in sorted(place.glob(kind))]
    return found


def _indexed(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def stored_in(file: Path) -> Stored:
    """Raises:
    CheckpointError: when a safetensors file has no header that can be read.
    """
    if file.suffix != ".safetensors":
        return _of_training(file) or Stored({}, file.stat().st_size)
    with _readable(file):
        return of_header(_header(file))


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file; none of another kind of file.

    Raises:
        CheckpointError: when it has no header that can be read.
    """
    if file.suffix != ".safetensors":
        return {}
    with _readable(file):
        return {name: tuple(each["shape"]) for name, each in _header(file).items() if name != "__metadata__"}


def _header(file: Path) -> Any:
    with file.open("rb") as opened:
        size = struct.unpack("<Q", opened.read(8))[0]
        return json.loads(opened.read(size)) if size < 100 * 2**20 else None


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file.name} is truncated or not a safetensors file. Restore it.") from error


def _of_training(file: Path) -> Stored | None:
    """The weights of a file that training left, beside which an optimiser's state may take most of the room; None where
    it is no such file. Only names and shapes are read."""
    import torch

    try:
        held = torch.load(file, map_location="meta", mmap=True, weights_only=True)["state_dict"]
        tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    except Exception:  # an older format, other contents, or objects that are not read
        return None
    floats: dict[int, int] = {}
    for tensor in tensors.values():
        floats[tensor.element_size()] = floats.get(tensor.element_size(), 0) + tensor.nbytes
    return Stored(floats) if tensors else None


def of_header(header: Mapping[str, Any]) -> Stored:
    """From a safetensors header: name -> {dtype, shape}."""
    floats: dict[int, int] = {}
    others = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        item = _ITEM_BYTES.get(tensor["dtype"], 4)
        size = item * math.prod(tensor["shape"])
        if tensor["dtype"] in _FLOATS:
            floats[item] = floats.get(item, 0) + size
        else:
            others += size
    return Stored(floats, others)


def of_parameters(counts: Mapping[str, int]) -> Stored:
    """From numbers of parameters by dtype, as the hub tells them."""
    return of_header({name: {"dtype": name, "shape": [count]} for name, count in counts.items()})


def added(parts: Iterator[Stored] | Sequence[Stored]) -> Stored:
    floats: dict[int, int] = {}
    others = 0
    for part in parts:
        others += part.others
        for item, size in part.floats.items():
            floats[item] = floats.get(item, 0) + size
    return Stored(floats, others)


def decoders(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The configs, nested or not, that describe an autoregressive decoder: each keeps keys and values."""
    if {"num_hidden_layers", "num_attention_heads", "vocab_size"} <= config.keys():
        yield config
    elif config.get("model_type") == "chatglm":
        names = {"num_hidden_layers": "num_layers", "num_key_value_heads": "multi_query_group_num"}
        names |= {"head_dim": "kv_channels", "max_position_embeddings": "seq_length"}
        names |= {"vocab_size": "padded_vocab_size", "intermediate_size": "ffn_hidden_size"}
        yield {**config, **{ours: config.get(theirs) for ours, theirs in names.items()}}
    for name, nested in config.items():
        if isinstance(nested, Mapping) and name not in ("audio_config", "vision_config", "quantization_config"):
            yield from decoders(nested)


def cache_bytes(config: Mapping[str, Any], item: int) -> int:
    """Keys and values: 2 x layers x key-value heads x head size x tokens x replies."""
    try:
        heads = int(config["num_attention_heads"])
        shared = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        tokens = min(TOKENS, int(config.get("max_position_embeddings") or TOKENS))
        layers = int(config["num_hidden_layers"]) + int(config.get("kimia_mimo_layers") or 0)
        return 2 * layers * shared * head * tokens * REPLIES * item
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0


def in_words(size: float) -> str:
    """Bytes for people, in powers of 1000: 3 MB, 1.4 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.{1 if size < 10 * scale else 0}f} {unit}"
    return f"{math.ceil(size / 1e3)} kB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPE_BYTES])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--load", action="store_true", help="load it on the CPU, and say what the process gained")
    options = parser.parse_args()
    folder = options.folder.resolve()
    try:
        _print(folder, options)
    except CheckpointError as error:
        raise SystemExit(str(error)) from None


def _print(folder: Path, options: argparse.Namespace) -> None:
    told = estimate_folder(folder, options.dtype, options.device)
    print(f"estimate {told.words()}")
    if options.load:
        import psutil

        from wavalign.models.registry import Registry
        from wavalign.models.registry_bases import footprint

        importlib.import_module("peft")  # libraries are no part of a checkpoint
        importlib.import_module("wavalign.models.loading")
        process = psutil.Process()
        registry = Registry(folder.parent)
        gc.collect()
        before = process.memory_info().rss
        model = registry.load([folder.name])
        gained = process.memory_info().rss - before
        print(f"loaded: tensors {in_words(footprint(model.base))}, the process gained {in_words(gained)}")


if __name__ == "__main__":
    main()
