"""Which program this is, for rows that have to be understood years later."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parent.parent
_COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def revision(repository: Path = _REPOSITORY) -> str | None:
    """The commit of a checkout or of a Space, without asking git; None where there is neither."""
    folder = repository / ".git"
    try:
        head = (folder / "HEAD").read_text(encoding="ascii").strip()
        if head.startswith("ref: "):
            name = head.removeprefix("ref: ")
            loose = folder / name
            if loose.is_file():
                head = loose.read_text(encoding="ascii").strip()
            else:
                packed = (folder / "packed-refs").read_text(encoding="utf-8").splitlines()
                head = next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
        if _COMMIT.fullmatch(head):
            return head
    except OSError:
        pass
    return os.environ.get("SPACE_COMMIT_SHA") or None
