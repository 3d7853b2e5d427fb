"""Are the ratings' claims true? Simulations with seeds, where the truth is known.

    python -m evaluation.rating_simulations                     all, as a table
    python -m evaluation.rating_simulations coverage looking    some
    python -m evaluation.rating_simulations --write docs/ratings-simulations.md

Minutes on one core; ``--repeats 100`` gives a rough answer in seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import norm, spearmanr

from evaluation.evidence import THRESHOLD, gather, in_general, these_raters
from evaluation.figures import Figure, Section, Target, figure, table, verdict
from evaluation.intervals import wilson
from evaluation.rating_intervals import rate
from evaluation.rating_votes import LEFT, RIGHT, TIE, Votes
from evaluation.rating_world import World
from evaluation.ratings import fit, logistic

REPEATS = 1000
_VOTES = 400
_COVERAGE = Target(0.90, 0.97)
_FALSE = Target(high=0.05)
_NOT_ASKED = "for comparison"


def coverage(repeats: int, seed: int) -> list[Section]:
    """How often the 95 % interval of a gap holds the gap that all raters there could be would give."""
    settings = (
        ("12 raters x 25 votes, equal, tastes of 1 logit", World((0, 0), taste=1), 12, 25, _COVERAGE),
        ("12 raters x 25 votes, ahead, tastes of 1 logit", World((0.8, 0), taste=1, position=0.3), 12, 25, _COVERAGE),
        ("30 raters x 10 votes, ahead, tastes of 1 logit", World((0.8, 0), taste=1, position=0.3), 30, 10, _COVERAGE),
        ("4 raters x 75 votes, equal, tastes of 1 logit", World((0, 0), taste=1), 4, 75, None),
        ("12 raters x 25 votes, ahead, all of one taste", World((0.8, 0), position=0.3), 12, 25, None),
        ("12 raters x 2 votes, ahead, all of one taste", World((0.8, 0)), 12, 2, None),
    )
    figures = []
    for index, (label, world, raters, each, target) in enumerate(settings):
        rng = np.random.default_rng((seed, index))
        truth = world.population_gap()
        held = naive = 0
        for _ in range(repeats):
            rated = rate(world.votes(rng, raters, each), draws=500, seed=int(rng.integers(2**31)))
            gap = rated.gap(*world.checkpoints)
            held += gap.low <= truth <= gap.high
            spread = _independent_spread(rated.ratings.covariance)
            naive += abs(gap.value - truth) <= norm.ppf(0.975) * spread
        id = f"coverage/{raters}x{each}/{index}"
        note = f"if votes counted as independent: {100 * naive / repeats:.0f} %"
        figures.append(figure(id, label, wilson(held, repeats), "%", target, note))
    return [Section("How often the 95 % interval of a gap holds the truth", tuple(figures))]


def looking(repeats: int, seed: int) -> list[Section]:
    """How often a winner is declared between equals when somebody looks after every vote up to 400."""
    settings = (
        ("equal", World((0, 0), ties=-9), True),
        ("equal, raters lean to the left by 1 logit", World((0, 0), position=1, ties=-9), True),
        ("equal on average, tastes of 1 logit", World((0, 0), taste=1, ties=-9), False),
    )
    figures = []
    for index, (label, world, same_for_each) in enumerate(settings):
        rng = np.random.default_rng((seed, 100 + index))
        rows = {"these raters": 0, "raters in general": 0, "z-test looked at every 10 votes": 0}
        for _ in range(repeats):
            won, rater = _decided(world.votes(rng, 12, math.ceil(_VOTES / 12)))
            rows["these raters"] += _declared(these_raters(won))
            rows["raters in general"] += _declared(in_general(won, rater))
            rows["z-test looked at every 10 votes"] += _z_test(won)
        for name, count in rows.items():
            judged = name == "raters in general" or (name == "these raters" and same_for_each)
            note = "" if judged else "these raters do differ" if name == "these raters" else _NOT_ASKED
            id = f"looking/{index}/{name.replace(' ', '-')}"
            figures.append(
                figure(id, f"{label}: {name}", wilson(count, repeats), "%", _FALSE if judged else None, note)
            )
    return [Section("False winners among equals, looking after every vote up to 400 (12 raters)", tuple(figures))]


def needed(repeats: int, seed: int) -> list[Section]:
    """How many decided votes it takes until there is enough evidence: half of the time it takes fewer."""
    figures = []
    repeats = max(20, repeats // 5)
    for index, (share, raters) in enumerate([(0.6, 12), (0.6, 40), (0.75, 12), (0.75, 40)]):
        rng = np.random.default_rng((seed, 200 + index))
        world = World((float(np.log(share / (1 - share))), 0), ties=-9)
        took: dict[str, list[float]] = {"these raters": [], "raters in general": []}
        for _ in range(repeats):
            won, rater = _decided(world.votes(rng, raters, 2400 // raters))
            took["these raters"].append(_when(these_raters(won)))
            took["raters in general"].append(_when(in_general(won, rater)))
        for name, votes in took.items():
            low, middle, high = np.percentile(votes, [2.5, 50, 97.5], method="nearest")
            label = f"preferred {100 * share:.0f} % of the time, {raters} raters: {name}"
            id = f"needed/{100 * share:.0f}/{raters}/{name.replace(' ', '-')}"
            figures.append(Figure(id, label, _shown(middle), "votes", _shown(low), _shown(high), repeats))
    return [Section("Decided votes until enough evidence (median, and where 95 % of the runs lie)", tuple(figures))]


def oracle(repeats: int, seed: int) -> list[Section]:
    """The order and the distances against evalica's, on 20 checkpoints and 20,000 votes."""
    try:
        import evalica
    except ImportError as error:
        raise RuntimeError("evalica is not installed: pip install -r requirements-dev.txt.") from error
    rng = np.random.default_rng((seed, 300))
    world = World(tuple(rng.normal(0, 1, 20)), position=0.2)
    votes = world.votes(rng, 200, 100)
    ours = fit(votes).rating
    words = {LEFT: evalica.Winner.X, RIGHT: evalica.Winner.Y, TIE: evalica.Winner.Draw}
    arguments = (votes.left, votes.right, [words[each] for each in votes.outcome.tolist()])
    figures = []
    for method in (evalica.newman, evalica.bradley_terry):
        scores = method(*arguments, limit=1000).scores
        theirs = np.log(scores.reindex(range(20)).to_numpy())
        for name, value in (
            ("Spearman", spearmanr(ours, theirs).statistic),
            ("Pearson, of logits", np.corrcoef(ours, theirs)[0, 1]),
        ):
            target = Target(0.999) if name == "Spearman" else None
            id = f"oracle/{method.__name__}/{name.split(',')[0].lower()}"
            figures.append(Figure(id, f"{name} with evalica's {method.__name__}", float(value), target=target))
    figures.append(
        Figure("oracle/truth", "Pearson with the truth, ours", float(np.corrcoef(ours, world.ratings)[0, 1]))
    )
    return [Section("20 checkpoints, 20,000 votes", tuple(_precise(each) for each in figures))]


def six_nil(repeats: int, seed: int) -> list[Section]:
    """Six votes, all for the same checkpoint: a finite lead, and an interval that admits how little six votes are."""
    n = 6
    sides = np.arange(n) % 2  # left and right in turn, the same checkpoint preferred every time
    votes = Votes(("ahead", "behind"), sides, 1 - sides, sides, 3 - 6 * sides, np.arange(n), "simulated")
    rated = rate(votes, seed=seed)
    gap = rated.gap("ahead", "behind")
    evidence = gather("ahead", "behind", np.ones(n, dtype=int), np.arange(n))
    share = Figure(
        "six-nil/share",
        "preferred",
        float(logistic(gap.value)),
        "%",
        float(logistic(gap.low)),
        float(logistic(gap.high)),
        n,
    )
    e_value = "evidence, of 40 that would be enough"
    return [
        Section(
            "Six votes of six raters, all for the same checkpoint",
            (
                figure("six-nil/gap", "lead", gap, "logits", Target(0.0, 8.0, strict=True)),
                Figure("six-nil/low", "lower end of its interval", gap.low, "logits", target=Target(high=0.25)),
                share,
                Figure("six-nil/these-raters", f"{e_value}: these raters", evidence.these_raters.for_it),
                Figure("six-nil/in-general", f"{e_value}: raters in general", evidence.in_general.for_it),
            ),
        )
    ]


SIMULATIONS: dict[str, Callable[[int, int], list[Section]]] = {
    "coverage": coverage,
    "looking": looking,
    "needed": needed,
    "oracle": oracle,
    "six-nil": six_nil,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.rating_simulations", description=__doc__.split("\n")[0])
    parser.add_argument("which", nargs="*", metavar="which", help=f"of {', '.join(SIMULATIONS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="simulated boards of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.which if name not in SIMULATIONS]
    if unknown:
        parser.error(f"unknown simulation {unknown[0]!r}; there are {', '.join(SIMULATIONS)}.")
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}.")
    sections: list[Section] = []
    try:
        for name in options.which or SIMULATIONS:
            sections += SIMULATIONS[name](options.repeats, options.seed)
            print(table(sections[-1:]), end="\n\n", flush=True)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(verdict(sections))
    if options.write:
        options.write.write_text(_markdown(sections, options), encoding="utf-8")
    return 0


def _independent_spread(covariance: np.ndarray) -> float:
    return math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def _decided(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """Of the first 400 or so votes: whether the first checkpoint won, and who said so."""
    decided = votes.outcome <= RIGHT
    won = (votes.left == 0) == (votes.outcome == LEFT)
    return won[decided], votes.rater[decided]


def _declared(paths: tuple[np.ndarray, np.ndarray]) -> bool:
    return bool(np.maximum(*paths)[:_VOTES].max() >= math.log(THRESHOLD))


def _when(paths: tuple[np.ndarray, np.ndarray]) -> float:
    reached = np.flatnonzero(paths[0] >= math.log(THRESHOLD))
    return float(reached[0] + 1) if len(reached) else math.inf


def _shown(votes: float) -> float | None:
    return None if math.isinf(votes) else votes


def _z_test(won: np.ndarray) -> bool:
    n = np.arange(1, len(won) + 1)
    z = (2 * np.cumsum(won) - n) / np.sqrt(n)
    return bool((np.abs(z[9:_VOTES:10]) > norm.ppf(0.975)).any())


def _precise(each: Figure) -> Figure:
    """The figure with its value in the note to four places: two would hide what matters."""
    return Figure(each.id, each.label, each.value, each.unit, target=each.target, note=f"{each.value:.5f}")


def _markdown(sections: Sequence[Section], options: argparse.Namespace) -> str:
    command = f"python -m evaluation.rating_simulations {' '.join(options.which)}".strip()
    lines = [
        "# Simulations of the ratings",
        "",
        f"Made by `{command} --repeats {options.repeats} --seed {options.seed} --write {options.write}`;",
        "[ratings.md](ratings.md) says what the numbers mean.",
        "",
        "```text",
        table(sections),
        "",
        verdict(sections),
        "```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
