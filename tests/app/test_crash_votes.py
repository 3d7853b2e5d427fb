"""Votes while the process is killed. Two hundred of them: ``python -m tests.app.crash_votes --votes 200``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_acknowledged_votes_outlive_kills() -> None:
    printed = run("tests.app.crash_votes", "--votes", "18", "--kills", "3")
    found = dict(each.split(" ") for each in printed.strip().split(", "))
    assert int(found["kills"]) >= 3
    assert int(found["acknowledged"]) >= 18
    assert [found[each] for each in ("lost", "twice", "without_audio", "integrity")] == ["0", "0", "0", "ok"]


@pytest.mark.slow
def test_benchmark_of_votes_loses_none() -> None:
    result = json.loads(run("app.bench_votes", "--clients", "16", "--votes", "3", "--json"))
    assert (result["votes"], result["lost"], result["refused"]) == (48, 0, 0)
    assert result["p50_ms"] <= result["p95_ms"] <= result["max_ms"]
