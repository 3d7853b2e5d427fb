"""Why a run ended, in words a person can act on: from its own result, else from what the system and its log tell."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_NEARLY_NOTHING = 2**20
_TAIL = 64_000
_LAUNCHER = "/torch/distributed/elastic/multiprocessing/api.py"

_PLAIN: tuple[tuple[str, str], ...] = (
    (
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError",
        "The GPU ran out of memory. Lower micro_batch, rollouts.rows_at_once or rollouts.max_tokens, or turn on "
        "gradient_checkpointing.",
    ),
    (
        r"MemoryError|DefaultCPUAllocator: (can't|not enough)|Cannot allocate memory",
        "The machine ran out of memory. Lower micro_batch, rollouts.rows_at_once or rollouts.max_tokens.",
    ),
    (
        r"No space left on device|Errno 28|database or disk is full",
        "The disk is full. Free some space, then press Resume: the last complete checkpoint is whole.",
    ),
    (
        r"Read-only file system|Errno 30|readonly database",
        "The disk is read-only: nothing can be written in WAVALIGN_HOME. Make it writable, or choose another folder.",
    ),
    (r"Disk quota exceeded|Errno 122", "The disk quota is used up. Free some space, then press Resume."),
    (r"CUDA error|device-side assert|NCCL error|cudaErrorDevices", "The GPU reported an error."),
)


def plainly(reason: str) -> str:
    """A failure's own sentence, with what to do in front of it where it is one of the common ones."""
    for pattern, sentence in _PLAIN:
        if re.search(pattern, reason):
            return f"{sentence} ({_short(reason)})"
    return reason


def of_death(code: int | None, log: str, folder: Path, oom_kills: int) -> str:
    """The likely reason of an end without a result.

    ``code`` is the exit code, negative for a signal, None where nobody saw it; ``oom_kills`` is how many processes the
    kernel killed for memory meanwhile.
    """
    said = last_exception(log)
    if code == -signal.SIGKILL or code == 128 + signal.SIGKILL:
        if oom_kills > 0:
            return (
                "The system killed it because memory ran out. Lower micro_batch, rollouts.rows_at_once or "
                "rollouts.max_tokens, or give it more memory."
            )
        return "It was killed (signal 9), by somebody or by the system; nothing says that memory ran out."
    if said is not None:
        return plainly(said)
    if is_full(folder):
        return plainly(f"No space left on device: {folder}")
    if code is None:
        return "Its processes are gone; nobody saw how they ended (a restart of the machine, or a kill)."
    if code < 0:
        return f"It ended by {_signal_name(-code)}."
    last = [line for line in log.splitlines() if line.strip()][-3:]
    words = f" Its last words: {_short(' / '.join(last))}" if last else " It printed nothing."
    return f"It ended with code {code} and without a result.{words}"


def last_exception(log: str) -> str | None:
    """The last exception's own line in a log, with its message; None where there is no traceback.

    What torchrun says about its workers comes after what a worker said, and does not count.
    """
    log, launched, _ = log.partition(_LAUNCHER)
    log = log[: log.rfind("\n") + 1] if launched else log
    start = log.rfind("Traceback (most recent call last):")
    if start < 0:
        lines = [line for line in log.splitlines() if line.strip()] if launched else []
        return lines[-1].strip() if lines else None
    for line in log[start:].splitlines()[1:]:
        if line and not line[0].isspace() and re.match(r"[A-Za-z_][\w.]*(:|$)", line):
            return line.strip()
    return None


def tail(path: Path, size: int = _TAIL) -> str:
    """The end of a log, as far as it can be read; a redrawn line (a progress bar) as it was last."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, 2)
            stream.seek(max(0, end - size))
            data = stream.read(size)
    except OSError:
        return ""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, on this machine and in this container."""
    return sum(_count(path, key) for path, key in _counters().items())


def is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NEARLY_NOTHING
    except OSError:
        return False


def _counters() -> Mapping[Path, str]:
    found = {Path("/proc/vmstat"): "oom_kill"}
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            found |= {_CGROUPS / group.lstrip("/") / "memory.events": "oom_kill"}
            found |= {_CGROUPS / "unified" / group.lstrip("/") / "memory.events": "oom_kill"}
        elif "memory" in controllers.split(","):
            found[_CGROUPS / "memory" / group.lstrip("/") / "memory.oom_control"] = "oom_kill"
    return found


def _count(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


def _short(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
