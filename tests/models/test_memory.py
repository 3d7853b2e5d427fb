"""Memory that is not used any more goes back to the machine."""

from __future__ import annotations

import platform

import psutil
import pytest

from wavalign.models.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere the C library decides by itself")
def test_freed_pieces_between_used_ones_are_given_back() -> None:
    pieces = [bytes(4000) for _ in range(50_000)]  # 200 MB, too small to be taken from the system one by one
    used = pieces[::100]
    del pieces
    before = psutil.Process().memory_info().rss
    give_back()
    assert before - psutil.Process().memory_info().rss > 100e6
    assert len(used) == 500
