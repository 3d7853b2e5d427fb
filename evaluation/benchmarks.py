"""Every benchmark there is: a new one is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evaluation import (
    closedtalk_base,
    closedtalk_codec,
    closedtalk_mixed,
    closedtalk_recogniser,
    closedtalk_users,
    probe_human,
    probe_third_synthesiser,
    probe_unseen_combinations,
)
from evaluation.closedtalk_bench import Bench
from evaluation.figures import Section


@dataclass(frozen=True)
class Benchmark:
    """``suite``: what ``python -m evaluation.run`` is asked for; a ``probe`` runs only on request and has no target."""

    suite: str
    run: Callable[[Bench], list[Section]]
    probe: bool = False


BENCHMARKS: dict[str, Benchmark] = {
    "codec": Benchmark("closedtalk", closedtalk_codec.sections),
    "users": Benchmark("closedtalk", closedtalk_users.sections),
    "recogniser": Benchmark("closedtalk", closedtalk_recogniser.sections),
    "base": Benchmark("closedtalk", closedtalk_base.sections),
    "mixed": Benchmark("closedtalk", closedtalk_mixed.sections),
    "human": Benchmark("closedtalk", probe_human.sections, probe=True),
    "third-synthesiser": Benchmark("closedtalk", probe_third_synthesiser.sections, probe=True),
    "unseen-combinations": Benchmark("closedtalk", probe_unseen_combinations.sections, probe=True),
}


def suites() -> tuple[str, ...]:
    return tuple(dict.fromkeys(benchmark.suite for benchmark in BENCHMARKS.values()))


def of_suite(suite: str, probes: bool) -> dict[str, Benchmark]:
    """The benchmarks of a suite by name, its probes last and only when asked for."""
    own = {name: benchmark for name, benchmark in BENCHMARKS.items() if benchmark.suite == suite}
    return {name: benchmark for name, benchmark in own.items() if probes or not benchmark.probe}
