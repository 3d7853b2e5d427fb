"""One thread per process: tiny models on shared cores are many times slower with two."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read at import by huggingface_hub and gradio: tests reach for no network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

# They drive browsers, servers and processes against the clock: what a busy machine failed once is tried again, and
# the report counts it.
AGAINST_THE_CLOCK = ("tests/browser/", "tests/app/", "tests/training/test_command.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(AGAINST_THE_CLOCK):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))
