"""Trains a reward model on votes.

    python -m app.export write votes/
    python -m wavalign.rewards.train_preference votes/ --out my-reward
    python -m wavalign.train wavalign/recipes/wavalign.yaml 'rewards.weights={preference: 1}' \\
        rewards.preference.path=my-reward

It says how often the model foretells a preference that it never saw, by a rater and on a prompt that it never saw, and
how often two trivial rules do: the longer reply, the left side. Unless the interval lies above chance the model is
saved with its figures, but refused as a training reward.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from wavalign.rewards.preference_features import BLOCKS, SOUND, Block, Met, Reader, as_heard
from wavalign.rewards.preference_fit import BOTH_BAD, LEFT, OUTCOMES, RIGHT, Prior, fit
from wavalign.rewards.preference_held_out import Accuracy, accuracy, best, foretell
from wavalign.rewards.preference_model import Calibration, PreferenceModel, Scaling, fingerprint
from wavalign.rewards.preference_votes import Votes
from wavalign.rewards.protocol import RewardError

LEAST_DECIDED = 20
"""Votes for a side below which nothing is fitted."""
ASSETS = Path(__file__).resolve().parents[2] / "assets"
BASE = "closedtalk-base"
_AT_ONCE = 64

Told = Callable[[str, float], None]


class StoppedError(RewardError):
    """Somebody asked to stop."""


@dataclass(frozen=True)
class Learned:
    """Votes as numbers: features (n, k) of both replies, what was said, whose and about what; longer (n,) is how much
    longer the left reply is, in seconds of speech or in words."""

    left: np.ndarray
    right: np.ndarray
    outcome: np.ndarray
    prompt: np.ndarray
    rater: np.ndarray
    longer: np.ndarray

    def __len__(self) -> int:
        return len(self.outcome)


def read(votes: Votes, reader: Reader, told: Told = lambda what, share: None) -> Learned:
    """Features of all votes.

    Raises:
        RewardError: when too few can be learned from.
    """
    parts: list[np.ndarray] = []
    outcome, prompt, rater, longer = [], [], [], []
    source = iter(votes)
    while batch := list(itertools.islice(source, _AT_ONCE)):
        usable = [vote for vote in batch if reader.readable(vote.left) and reader.readable(vote.right)]
        if len(usable) < len(batch):
            votes.left_out["a reply without words or sound"] += len(batch) - len(usable)
        if usable:
            features = reader.features([reply for vote in usable for reply in (vote.left, vote.right)])
            parts.append(features.reshape(len(usable), 2, -1))
        outcome += [vote.outcome for vote in usable]
        prompt += [vote.prompt for vote in usable]
        rater += [vote.rater for vote in usable]
        longer += [_length(vote.left) - _length(vote.right) for vote in usable]
        told("Reading the replies", min(1.0, (len(outcome) + votes.left_out.total()) / len(votes)))
    decided = sum(each in (LEFT, RIGHT) for each in outcome)
    if decided < LEAST_DECIDED:
        reasons = ", ".join(f"{count} {reason}" for reason, count in votes.left_out.items())
        raise RewardError(
            f"There are {decided} usable votes for a side; a reward model needs {LEAST_DECIDED} at least: collect "
            + (f"more (left out: {reasons})." if reasons else "more.")
        )
    both = np.concatenate(parts)
    arrays = (np.array(each) for each in (outcome, prompt, rater, longer))
    return Learned(both[:, 0], both[:, 1], *arrays)


def learn(
    votes: Learned, sizes: Mapping[str, int], told: Told = lambda what, share: None
) -> tuple[PreferenceModel, tuple[Block, ...]]:
    """The model with its held-out figures in ``facts``, and the blocks that it reads: those, among ``_choices``,
    which foretell held-out votes best.

    Raises:
        RewardError: when too few prompts were voted on to hold some out.
    """
    scaling = Scaling.of(votes.left, votes.right, sizes)
    left, right = scaling(votes.left), scaling(votes.right)
    choices = _choices(sizes)
    columns = [np.concatenate([_columns(scaling, block) for block in blocks]) for blocks in choices]
    # A rotation changes no fit: with fewer votes than features, the directions that no reply takes are dropped.
    axes = [np.linalg.svd(np.concatenate([left, right])[:, at], full_matrices=False)[2] for at in columns]
    readings = [(left[:, at] @ turn.T, right[:, at] @ turn.T) for at, turn in zip(columns, axes, strict=True)]
    try:
        foretold = foretell(
            readings, votes.outcome, votes.prompt, votes.rater, lambda share: told("Holding out", share)
        )
    except ValueError as error:
        raise RewardError(str(error)) from error
    pairs = votes.outcome != BOTH_BAD
    voted = [(left[pairs], right[pairs]) for left, right in readings]
    outcome, rater = votes.outcome[pairs], np.unique(votes.rater[pairs], return_inverse=True)[1]
    which, width = best(voted, outcome, votes.prompt[pairs], rater)
    found = fit(*voted[which], outcome, rater, Prior(weight=width))
    # The scale is read off held-out scores: fitted ones are too sure of what they saw.
    calibration = Calibration.of(foretold.left, foretold.right, votes.outcome)
    figures = _figures(votes, foretold.gaps, width, found)
    weights = axes[which].T @ found.weights
    return PreferenceModel(weights, scaling.only(choices[which]), calibration, figures), choices[which]


def _choices(sizes: Mapping[str, int]) -> list[tuple[Block, ...]]:
    """What may be read, the least first: the words, the acoustic measures, all of the sound, the words and either.

    Hidden states are many and measures few: where the measures say it all, states only drown them.
    """
    present = {block for block in BLOCKS if any(part.split()[0] == block for part in sizes)}
    words = present.difference(SOUND)
    wanted = [words, present & {"measures"}, present & {*SOUND}, words | (present & {"measures"}), present]
    choices = [tuple(block for block in BLOCKS if block in each) for each in wanted]
    return [each for each in dict.fromkeys(choices) if each]


def _columns(scaling: Scaling, block: Block) -> np.ndarray:
    places = [at for part, at in scaling.coordinates.items() if part.split()[0] == block]
    return np.concatenate([np.arange(at.start, at.stop) for at in places])


def _figures(votes: Learned, gaps: np.ndarray, width: float, found: Any) -> dict[str, Any]:
    def of(guess: np.ndarray) -> Accuracy:
        result = accuracy(guess, votes.outcome, votes.prompt, votes.rater)
        assert result is not None  # ``read`` refuses votes without a decided one
        return result

    return {
        "votes": {
            "used": len(votes),
            **{name: int((votes.outcome == code).sum()) for code, name in enumerate(OUTCOMES)},
            "raters": len(np.unique(votes.rater)),
            "prompts": len(np.unique(votes.prompt)),
        },
        "held_out": {
            "how": "a vote's prompt and its rater are both unknown to the model that foretells it"
            if len(np.unique(votes.rater)) > 1
            else "a vote's prompt is unknown to the model that foretells it; there is one rater",
            "accuracy": of(gaps).as_json(),
            "baselines": {
                "longer reply": of(votes.longer).as_json(),
                "left side": of(np.ones(len(votes))).as_json(),
            },
        },
        "fit": {
            "prior_width": width,
            "left_side": found.side,
            "ties": found.ties,
            "rater_left_side_sd": float(found.own_side.std()),
            "rater_ties_sd": float(found.own_ties.std()),
        },
    }


def train(
    export: Path,
    assets: Path = ASSETS,
    home: Path | None = None,
    base: str = BASE,
    blocks: Sequence[Block] = BLOCKS,
    layers: Sequence[int] | None = None,
    told: Told = lambda what, share: None,
    stop: threading.Event | None = None,
) -> PreferenceModel:
    """A reward model from an export, on the hidden states of ``base``.

    Raises:
        RewardError: when the export cannot be used or holds too little, or ``stop`` was set.
        CheckpointError: when the base cannot be used.
    """
    from wavalign.models.loading import load_base
    from wavalign.models.registry import Registry

    votes = Votes.of(export)
    checkpoint = Registry(assets, home).checkpoint(base)
    folder = Path(checkpoint.base)
    reader = Reader(load_base(checkpoint.base_name, folder), blocks, layers)

    def heard(what: str, share: float) -> None:
        if stop is not None and stop.is_set():
            raise StoppedError("Stopped before the reward model was trained.")
        told(what, share)

    model, used = learn(read(votes, reader, heard), reader.sizes, heard)
    facts = {
        "base": {
            "name": checkpoint.base_name,
            "fingerprint": fingerprint(folder),
        },
        "blocks": list(used),
        "layers": list(reader.layers),
        "source": votes.source,
        "left_out": dict(votes.left_out),
        "made_from": {"export": votes.path.name, "view": votes.view, "rows": len(votes)},
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return PreferenceModel(model.weights, model.scaling, model.calibration, {**facts, **model.facts})


def report(model: PreferenceModel) -> str:
    """What a person should know of it, a few lines."""
    votes, held = model.facts["votes"], model.facts["held_out"]
    lines = [
        f"{votes['used']} {model.facts['source']} votes of {votes['raters']} raters on {votes['prompts']} prompts: "
        + ", ".join(f"{votes[name]} {name.replace('_', ' ')}" for name in OUTCOMES)
    ]
    if model.facts["left_out"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in model.facts["left_out"].items())
        lines.append(f"left out: {reasons}")
    lines.append(f"it reads: {', '.join(model.facts['blocks'])}")
    lines.append(f"held-out pairs foretold ({held['how']}):")
    for name, figures in (("reward model", held["accuracy"]), *held["baselines"].items()):
        lines.append(f"  {name:14} {told_share(figures)} of {figures['pairs']}")
    lines.append("It can be used as a training reward." if model.above_chance else refusal(model))
    return "\n".join(lines)


def told_share(figures: dict[str, Any]) -> str:
    """A share with its interval, in per cent."""
    return f"{100 * figures['value']:.0f} % ({100 * figures['low']:.0f}-{100 * figures['high']:.0f} %)"


def refusal(model: PreferenceModel) -> str:
    """Why it is no training reward; one sentence."""
    figures = model.facts["held_out"]["accuracy"]
    return (
        f"This reward model foretells {told_share(figures)} of {figures['pairs']} held-out preferences, which is not "
        "above chance, so it cannot be a training reward: collect more votes."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    from wavalign.codecs.loading import CodecError
    from wavalign.models.protocol import CheckpointError

    parser = argparse.ArgumentParser(
        prog="python -m wavalign.rewards.train_preference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("export", type=Path, help="a folder that python -m app.export wrote, or one parquet file of it")
    parser.add_argument("--out", type=Path, required=True, help="the reward model's new folder")
    parser.add_argument("--base", default=BASE, help="the checkpoint whose frozen base reads the replies")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of checkpoints")
    parser.add_argument("--home", type=Path, help="the folder with further checkpoints/")
    parser.add_argument(
        "--blocks",
        nargs="+",
        choices=BLOCKS,
        default=BLOCKS,
        help="what may be read of a reply; text and likelihood need no sound",
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", help="hidden states after these layers (default: halfway and the last)"
    )
    options = parser.parse_args(arguments)
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        print(f"{options.out} is not empty; choose a new folder for the reward model.", file=sys.stderr)
        return 1
    try:
        model = train(
            options.export, options.assets, options.home, options.base, options.blocks, options.layers, _shown
        )
        model.save(options.out)
    except (RewardError, CheckpointError, CodecError, ValueError) as error:
        print(f"Cannot train a reward model: {error}", file=sys.stderr)
        return 1
    print(report(model))
    print(f"Written to {options.out}")
    return 0


def _shown(what: str, share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {100 * share:3.0f} %", end="\n" if share >= 1 else "", file=sys.stderr)


def _length(reply: Met) -> float:
    return float(len(reply.text.split())) if reply.waveform is None else as_heard(reply.waveform).seconds


if __name__ == "__main__":
    sys.exit(main())
