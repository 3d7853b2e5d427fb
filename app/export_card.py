"""The card of an exported dataset: what is in it, who allowed what, how it came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import yaml

from app.export_rows import Selection, View
from app.store.queries import VoteRecord

#: Terms for what raters allowed to be published; what they allowed for research stays where it was recorded.
LICENCES = {"publish": "cc-by-4.0", "research": "other"}
_KIND = {"human": "human-feedback", "simulated": "simulated-feedback"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(
    name: str,
    selection: Selection,
    votes: list[VoteRecord],
    counts: Mapping[View, int],
    licence: str | None = None,
    same_words: int = 0,
) -> str:
    """README.md of the dataset; ``counts`` are rows by view, ``same_words`` the preferences that words do not tell."""
    title = name if selection.source == "human" else f"{name} (simulated raters)"
    front = {
        "pretty_name": title,
        "license": licence or LICENCES[selection.least_consent],
        "task_categories": ["audio-to-audio", "text-to-speech", "reinforcement-learning"],
        "tags": ["audio", "speech", "dialogue", "preference", _KIND[selection.source], "trl"],
        "language": sorted({vote.language for vote in votes}) or ["en"],
        "size_categories": [next((label for limit, label in _SIZES if len(votes) < limit), "n>1M")],
        "configs": [
            {
                "config_name": view,
                "data_files": f"{view}/*.parquet",
                **({"default": True} if view == "preference" else {}),
            }
            for view in counts
        ],
    }
    pieces = [f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---", f"# {title}"]
    pieces.append(_source(selection))
    said = dict(_VIEWS)
    said["preference_text"] += f"; chosen and rejected have the same words in {same_words} of them"
    pieces.append(_table("Rows", ("View", "Rows", "What it is"), [(f"`{v}`", n, said[v]) for v, n in counts.items()]))
    pieces.append(_table("Votes", ("", "Votes"), _votes(votes)))
    pieces.append(_table("Pairs", ("Pair", "Votes"), _pairs(votes)))
    heard = _HEARD if selection.source == "human" else ""
    pieces += [_HOW.format(heard=heard), _CONSENT[selection.least_consent], _FIELDS]
    return "\n\n".join(pieces) + "\n"


def _source(selection: Selection) -> str:
    if selection.source == "simulated":
        return "**Simulated raters**: programs voted, to show and test the pipeline. Nobody listened."
    return (
        "Blind comparisons by people: two checkpoints of one spoken dialogue model answer the same speech; a rater "
        "listens to both without knowing who is who, votes, and only then sees the names."
    )


def _votes(votes: list[VoteRecord]) -> list[tuple[str, int]]:
    lines = [("All", len(votes)), ("by this many raters", len({vote.rater for vote in votes}))]
    lines += [(f"consent: {level}", n) for level, n in sorted(Counter(vote.consent for vote in votes).items())]
    lines += [(f"outcome: {outcome}", n) for outcome, n in sorted(Counter(vote.outcome for vote in votes).items())]
    reasons = Counter(vote.excluded for vote in votes if vote.excluded)
    lines += [(f"in `battles` only: {reason}", n) for reason, n in sorted(reasons.items())]
    if votes:
        first, last = (datetime.fromtimestamp(at, UTC).date().isoformat() for at in (votes[0].at, votes[-1].at))
        lines.append((f"cast from {first} to {last}", len(votes)))
    return lines


def _pairs(votes: list[VoteRecord]) -> list[tuple[str, int]]:
    pairs = Counter(" / ".join(sorted((vote.left, vote.right))) for vote in votes)
    return sorted(((name.replace("|", "\\|"), n) for name, n in pairs.items()), key=lambda pair: (-pair[1], pair[0]))


def _table(title: str, head: tuple[str, ...], lines: list[tuple[object, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


_VIEWS: dict[View, str] = {
    "battles": "every vote with both sides as presented; `excluded` says why one does not count",
    "preference": "votes that prefer a side: prompt, chosen, rejected, margin, audio of all three",
    "unpaired": "one reply a row with a good/bad label (KTO); both bad gives two bad ones",
    "preference_text": "the words of `preference` alone, as TRL's RewardTrainer and DPOTrainer take them",
    "unpaired_text": "the words of `unpaired` alone, as TRL's KTOTrainer takes them",
}
_HOW = """## How it came about

The pair of each battle was chosen by the server: the pair whose interval another vote would shrink most, with an even
draw over all pairs in a share of battles; `propensity` is the probability with which the pair was chosen. Sides were
drawn afterwards by a fair coin. Both replies were generated in one batch, brought to one loudness (ITU-R
BS.1770) with one limiter decision, one sample rate, one length and the same short silence in front, and released at
the same instant. {heard}`gold` battles had one side spoilt on purpose and `repeat` battles had
been heard before with the sides swapped; both are in `battles` only."""
_HEARD = """A vote was taken only after both replies had been heard, by the server's clock, and could be undone
for eight seconds before the names were shown. """
_CONSENT: dict[str, str] = {
    "publish": """## Consent

Every rater of these rows allowed publication of votes, recordings and words. Raters are pseudonyms made with a secret
key. A rater can erase everything at any time: the next version of this dataset is without it, and a tombstone keeps
copies from bringing it back. If you hold a copy, take the new version.""",
    "research": """## Consent

Every rater of these rows allowed research use where they were recorded, not publication: **do not redistribute**.
Raters are pseudonyms made with a secret key, and can erase everything at any time.""",
}
_FIELDS = """## Fields

`strength` -3..3 and `helpfulness`, `naturalness` -1..1 are positive when the left side is better. `margin` is the
absolute strength, 1..3; `helpfulness_margin` and `naturalness_margin` are positive when the chosen side was better in
that too. Audio is 16-bit wav; several turns of one side follow each other with half a second between them, and
`prompt_audio` is empty where the rater typed. `*_difference` and `log_duration_ratio` are left minus right."""
