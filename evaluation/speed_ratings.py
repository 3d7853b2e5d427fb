"""Ratings of a million votes against evalica: from arrays of votes to ratings, and intervals included."""

from __future__ import annotations

import statistics
import time

import numpy as np

from evaluation.figures import Figure, Section, Target
from evaluation.rating_intervals import DRAWS, ranks, rate
from evaluation.rating_votes import LEFT, RIGHT, TIE
from evaluation.rating_world import World
from evaluation.ratings import fit
from evaluation.speed_timing import SpeedOptions, in_turn, median_ratio

CHECKPOINTS, RATERS, EACH = 100, 2000, 500
RATIO = Target(low=3.0)
SECONDS = Target(high=10.0)


def ratings(options: SpeedOptions) -> Section:
    """``ratio``: evalica's time over ours; both start from numbered checkpoints, evalica's fastest input.

    Raises:
        RuntimeError: evalica is not installed, or the two disagree.
    """
    try:
        import evalica
    except ImportError as error:
        raise RuntimeError("evalica is not installed: pip install -r requirements-dev.txt.") from error
    rng = np.random.default_rng(0)
    votes = World(tuple(rng.normal(0, 1, CHECKPOINTS)), position=0.2).votes(rng, RATERS, EACH)
    words = {LEFT: evalica.Winner.X, RIGHT: evalica.Winner.Y, TIE: evalica.Winner.Draw}
    winners = [words[each] for each in votes.outcome.tolist()]

    sides = {
        "ours": lambda: fit(votes).rating,
        "bradley_terry": lambda: evalica.bradley_terry(votes.left, votes.right, winners),
        "newman": lambda: evalica.newman(votes.left, votes.right, winners),
    }
    theirs = np.log(sides["newman"]().scores.reindex(range(CHECKPOINTS)).to_numpy())
    agreement = float(np.corrcoef(sides["ours"](), theirs)[0, 1])
    if agreement < 0.999:
        raise RuntimeError(f"The two disagree: their ratings correlate only {agreement:.4f}.")
    seconds = in_turn(sides, options.turns)

    started, worked = time.perf_counter(), time.process_time()
    rated = rate(votes)
    for name in votes.checkpoints:
        rated.gap(name, votes.checkpoints[0])
    ranks(rated)
    intervals, work = time.perf_counter() - started, time.process_time() - worked
    label = f"fit, {DRAWS} resamples of {RATERS} raters, intervals and ranks"
    slower = "the slower of its two is not the one that counts"
    return Section(
        f"Ratings of {len(votes):,} votes on {CHECKPOINTS} checkpoints",
        (
            Figure(
                "ratio",
                "evalica's bradley_terry over ours",
                median_ratio(seconds["bradley_terry"], seconds["ours"]),
                n=options.turns,
                target=RATIO,
            ),
            Figure(
                "ratio_newman",
                "evalica's newman (models ties) over ours",
                median_ratio(seconds["newman"], seconds["ours"]),
                n=options.turns,
                note=slower,
            ),
            *(Figure(f"{name}_ms", name, 1000 * statistics.median(each), "ms") for name, each in seconds.items()),
            Figure("intervals_s", label, intervals, "s", target=SECONDS),
            Figure("intervals_cpu_s", "of that, this process at work", work, "s"),
            Figure("agreement", "correlation with newman's logits", agreement),
        ),
    )
