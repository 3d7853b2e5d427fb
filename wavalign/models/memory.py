"""How much memory a device has left, and what running out of it looks like."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_PLENTY = 2**60


def free_bytes(device: str) -> int:
    """What can still be taken on ``device`` ("cpu", "cuda", "cuda:1", "mps")."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(torch.device(device))
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserved  # what torch keeps for itself is free for torch
    return min(psutil.virtual_memory().available, _container_free())


def total_bytes(device: str) -> int:
    """What ``device`` has altogether."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(torch.device(device))[1]
    return min(psutil.virtual_memory().total, _container_limit())


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether this, or what caused it, is a lack of memory on any device."""
    import torch

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(
            words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory")
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def give_back() -> None:
    """Collects what nobody holds any more and returns it to the device and, on Linux, to the machine."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # glibc keeps freed pieces between those in use: gigabytes after an hour of models that come and go.
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other systems have no such call
        ctypes.CDLL(None).malloc_trim(0)


def _container_limit() -> int:
    return _number(_CGROUP / "memory.max") or _number(_CGROUP / "memory" / "memory.limit_in_bytes") or _PLENTY


def _container_free() -> int:
    """What the container's own limit leaves; file caches give way and do not count as used."""
    used = _number(_CGROUP / "memory.current") or _number(_CGROUP / "memory" / "memory.usage_in_bytes") or 0
    return max(0, _container_limit() - max(0, used - _inactive_files()))


def _inactive_files() -> int:
    for path in (_CGROUP / "memory.stat", _CGROUP / "memory" / "memory.stat"):
        try:
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(" ")
                if name in ("inactive_file", "total_inactive_file"):
                    return int(value)
        except (OSError, ValueError):
            continue
    return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
