"""Checkpoints on the Hugging Face Hub: looked at without downloading them, downloaded at one pinned commit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from wavalign.models.memory_estimate import Stored, added, of_parameters
from wavalign.models.protocol import CheckpointError

# What other programs read, and copies of the same weights.
_NOT_NEEDED = ["*.gguf", "onnx/*", "*.h5", "*.msgpack", "*.ot", "*.tflite", "original/*", "consolidated*", "runs/*"]
_PICKLED = ["pytorch_model*.bin"]
_INDEX = "model.safetensors.index.json"
_SMALL = ("config.json", "adapter_config.json", "interleaved.json", _INDEX)
_MOST_PARTS = 999
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{4,}")


@dataclass(frozen=True)
class Found:
    """A repository at one commit. ``files`` are names and sizes in bytes; ``small`` the JSON files that tell what it
    is, by name."""

    repo: str
    revision: str
    files: Mapping[str, int]
    small: Mapping[str, dict[str, Any]]
    stored: Stored

    @property
    def download(self) -> int:
        """Bytes of what would be downloaded."""
        ignored = _ignored(self.files, self.small.get(_INDEX))
        return sum(size for name, size in self.files.items() if not any(Path(name).match(each) for each in ignored))


def look(repo: str, revision: str | None) -> Found:
    """What a repository holds at ``revision`` (a branch, tag or commit; None: the newest), pinned to its commit.

    Raises:
        CheckpointError: one sentence: not there, not allowed, or no connection.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        files = {each.rfilename: each.size or 0 for each in info.siblings or ()}
        small = {}
        for name in _SMALL:
            if name in files:
                path = hf_hub_download(repo, name, revision=info.sha)
                small[name] = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{repo} holds a config that is not JSON. Choose another revision.") from error
    except Exception as error:  # the hub's client raises many kinds; each is about this repository
        raise CheckpointError(_sentence(repo, revision, error)) from error
    parameters = info.safetensors.parameters if info.safetensors else None
    if parameters:
        stored = added([of_parameters(parameters), Stored({}, _below(files, small.get(_INDEX)))])
    else:
        weights = [size for name, size in files.items() if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]
        stored = Stored({}, sum(weights))
    return Found(repo, str(info.sha), files, small, stored)


def cached(repo: str, revision: str) -> Path | None:
    """The folder of a commit that is here whole; None otherwise. Asks no network."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    index = try_to_load_from_cache(repo, _INDEX, revision=revision)
    told = json.loads(Path(index).read_text(encoding="utf-8")) if isinstance(index, str) else None
    ignored = [*_NOT_NEEDED, *_older_parts(told)]
    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, ignore_patterns=ignored))
    except Exception:  # not here, or here in part
        return _cached_without_pickles(repo, revision, ignored)


def download(repo: str, revision: str, told: Callable[[str, float | None], None]) -> Path:
    """The folder of a commit, downloaded if need be; ``told`` gets words and the fraction that is here.

    Raises:
        CheckpointError: one sentence.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from tqdm.auto import tqdm

    here = cached(repo, revision)
    if here is not None:
        return here

    class Told(tqdm):
        """Counts bytes, and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            done = super().update(n)
            if self.unit == "B" and self.total:
                told(f"Downloading {repo}", min(1.0, self.n / self.total))
            return done

    told(f"Downloading {repo}", 0.0)
    try:
        names = [each.rfilename for each in HfApi().model_info(repo, revision=revision).siblings or ()]
        index = hf_hub_download(repo, _INDEX, revision=revision) if _INDEX in names else None
        ignored = _ignored(names, json.loads(Path(index).read_text(encoding="utf-8")) if index else None)
        return Path(snapshot_download(repo, revision=revision, ignore_patterns=ignored, tqdm_class=Told))
    except Exception as error:  # the hub's client raises many kinds; each is about this repository
        raise CheckpointError(_sentence(repo, revision, error)) from error


def _below(files: Mapping[str, int], index: Any) -> int:
    """Bytes of the weight files in folders of the repository (an encoder, a decoder of speech), which the hub does not
    count as parameters. As in a folder that is here, pickles count only where no safetensors file is beside them."""
    ignored = _ignored(files, index)
    paths = {PurePosixPath(name): size for name, size in files.items()}
    below = {
        path: size
        for path, size in paths.items()
        if len(path.parts) > 1
        and path.suffix in (".safetensors", ".bin", ".pt", ".pth")
        and not any(fnmatch(str(path), each) for each in ignored)
    }
    safe = {path.parent for path in below if path.suffix == ".safetensors"}
    return sum(size for path, size in below.items() if path.suffix == ".safetensors" or path.parent not in safe)


def _ignored(names: Any, index: Any) -> list[str]:
    safe = any(str(name).endswith(".safetensors") for name in names)
    return [*_NOT_NEEDED, *_older_parts(index), *(_PICKLED if safe else ())]


def _older_parts(index: Any) -> list[str]:
    """Patterns of the parts of earlier uploads that were left beside those that ``index`` names."""
    named = index.get("weight_map") if isinstance(index, Mapping) else None
    counts = {str(name).partition("-of-")[2] for name in named.values()} if isinstance(named, Mapping) else set()
    if len(counts) != 1 or not re.fullmatch(r"\d{5}\.safetensors", min(counts)):
        return []
    return [f"model-*-of-{n:05d}.safetensors" for n in range(1, _MOST_PARTS) if f"{n:05d}.safetensors" not in counts]


def _cached_without_pickles(repo: str, revision: str, ignored: list[str]) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        patterns = [*ignored, *_PICKLED]
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, ignore_patterns=patterns))
    except Exception:  # not here, or here in part
        return None
    return folder if any(folder.glob("*.safetensors")) else None


def _sentence(repo: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: accept its terms on the Hub, and set HF_TOKEN in the environment of the app."
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"There is no model {repo} on the Hub, or it is private and HF_TOKEN does not open it."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {str(revision)[:60]!r}. Leave it empty for the newest."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo} cannot be fetched: HF_HUB_OFFLINE is set. Unset it, or give a folder."
    if isinstance(error, OSError) and error.errno == 28:
        return f"{repo} does not fit on the disk. Make room in the cache of huggingface_hub (HF_HOME)."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = _TOKEN.sub("(token)", lines[0])[:200]
    return f"{repo} cannot be fetched from the Hub: {said}"


class _Nowhere:
    def write(self, words: str) -> int:
        return len(words)

    def flush(self) -> None:
        pass
