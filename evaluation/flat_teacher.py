"""ClosedTalk's post-training prompts with a teacher who is imperfect in sound too: many replies are spoken flat.

    python -m evaluation.flat_teacher runs/flat-teacher
    python -m evaluation.reproduce --set data.path=runs/flat-teacher --work runs/reproduce-flat \\
        --recipes wavalign alpo-anchored --seeds 0 1 2 3 4

The shipped demonstrations are clean in sound. Here a share of the last replies of dialogues that want a delivery are
spoken without one, as by a synthesiser that does not always follow; words and prompts stay as they are. Post-training
learns one reply of each dialogue, which is an earlier one where the demonstration there is wrong, so the share of flat
replies among those is lower; it is printed. The espeak-ng of requirements-dev.txt speaks them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wavalign.closedtalk.dataset import DataError, DialogueRow, TurnRow, read_dialogues, write_dialogues
from wavalign.closedtalk.deliveries import Delivery
from wavalign.codecs.fsq_world import FsqWorldCodec
from wavalign.training.sources.closedtalk import askable_turns

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SPLIT = "post_training.parquet"


def flattened(
    rows: Sequence[DialogueRow], codec: FsqWorldCodec, share: float, seed: int
) -> tuple[list[DialogueRow], int, int]:
    """The dialogues with the last reply of some spoken in ``Delivery.NEUTRAL``; how many, and how many could have been.

    Each row that wants another delivery is drawn by itself with probability ``share``.
    """
    from wavalign.closedtalk.synthesis import speak_assistant

    rng = np.random.default_rng(seed)
    spoken: dict[str, tuple[int, ...]] = {}
    result: list[DialogueRow] = []
    changed = wanted = 0
    for row in rows:
        last: TurnRow = row.turns[-1]
        drawn = rng.random() < share
        if last.delivery != Delivery.NEUTRAL.value:
            wanted += 1
            if drawn:
                changed += 1
                text = last.demonstration
                if text not in spoken:
                    spoken[text] = tuple(codec.encode_reply(speak_assistant(text, Delivery.NEUTRAL)))
                row = replace(row, turns=(*row.turns[:-1], replace(last, reply_codes=spoken[text])))
        result.append(row)
    return result, changed, wanted


def flat_share(before: Sequence[DialogueRow], after: Sequence[DialogueRow]) -> tuple[int, int]:
    """How many of the replies that training learns became flat, and how many of those want a delivery."""
    places = [askable_turns(row)[-1] for row in before]
    pairs = [(one.turns[at], two.turns[at]) for one, two, at in zip(before, after, places, strict=True)]
    lively = [(one, two) for one, two in pairs if one.delivery != Delivery.NEUTRAL.value]
    return sum(one != two for one, two in lively), len(lively)


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m evaluation.flat_teacher", description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="the folder to write; name it as data.path")
    parser.add_argument("--share", type=float, default=0.5, help="of the replies that want a delivery")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    options = parser.parse_args(arguments)
    if not 0 <= options.share <= 1:
        print(f"--share must lie between 0 and 1, got {options.share}.", file=sys.stderr)
        return 2
    from wavalign.closedtalk.synthesis import SynthesisError

    try:
        rows = read_dialogues(options.assets / "closedtalk-data" / SPLIT)
        codec = FsqWorldCodec.from_pretrained(str(options.assets / "closedtalk-codec")).eval()
        found, changed, wanted = flattened(rows, codec, options.share, options.seed)
    except (DataError, SynthesisError) as error:
        print(error, file=sys.stderr)
        return 1
    write_dialogues(options.out / SPLIT, found)
    flat, learnt = flat_share(rows, found)
    print(
        f"{changed} of {wanted} last replies that want a delivery are spoken flat, and so are {flat} of the {learnt} "
        f"such replies that training learns ({100 * flat / learnt:.1f} %): {options.out / SPLIT}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
