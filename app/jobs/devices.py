"""The devices of this machine that jobs run on, and the file lock that a runner holds while it uses one."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from types import TracebackType

DEVICES_VARIABLE = "WAVALIGN_DEVICES"
"""Overrides what is found: names with commas between, such as ``cpu`` or ``0,1`` (GPU numbers)."""


class DeviceBusy(RuntimeError):
    """Somebody else has the device; the message is one sentence."""


@cache
def host() -> str:
    return socket.gethostname()


@cache
def local_devices() -> tuple[str, ...]:
    """``host/gpu:UUID`` for each GPU, or the one ``host/cpu``; asks the driver's own tool, so torch stays out of it."""
    told = os.environ.get(DEVICES_VARIABLE)
    if told:
        names = [name.strip() for name in told.split(",") if name.strip()]
        return tuple(f"{host()}/{'gpu:' + name if name != 'cpu' else name}" for name in names)
    return tuple(f"{host()}/gpu:{uuid}" for uuid in _gpus()) or (f"{host()}/cpu",)


def visible(devices: list[str]) -> str | None:
    """CUDA_VISIBLE_DEVICES for these devices; None for a CPU, where "" would hide what is not there anyway."""
    gpus = [device.partition("/gpu:")[2] for device in devices]
    return ",".join(gpus) if all(gpus) and gpus else None


class DeviceLock:
    """``flock`` on a file: the kernel lets go of it however its holder dies."""

    def __init__(self, home: Path, device: str) -> None:
        self.path = home / "jobs" / "devices" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', device)}.lock"
        self.device = device
        self._file: int | None = None

    def take(self) -> None:
        """Raises:
        DeviceBusy: when another process has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DeviceBusy(f"{self.device} is in use by process {holder or 'unknown'}.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._file = descriptor

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> DeviceLock:
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()


def _gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run(
            [tool, "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listing.splitlines() if line.strip()]
