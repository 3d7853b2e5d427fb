"""What the host of an arena sees and decides.

python -m app.host                                    votes, battles, raters; what failed, what is flagged
python -m app.host clear KIND --battle ID             a flag was wrong: the votes count again
python -m app.host raise KIND --rater ID              nothing of this rater counts until it is cleared
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from app import arena_host
from app.settings import Settings, SettingsError
from app.store import Store, StoreError, open_store
from app.store.schema import BattleRow, Rater

LISTED = 20


class HostError(ValueError):
    """A decision that cannot be made; the message is one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment()
        store = open_store(settings.home, settings.database)
        try:
            if options.command is None:
                print("\n".join(report(store, time.time(), options.all)))
            else:
                print(decide(store, options.command, options.kind, options.battle, options.rater))
            return 0
        finally:
            store.close()
    except (SettingsError, StoreError, HostError) as error:
        print(error, file=sys.stderr)
        return 1


def report(store: Store, now: float, everything: bool = False) -> list[str]:
    """Lines for the host: counts, then the newest failures and flags."""
    counts = arena_host.counts(store, now)
    failed = [each for each in arena_host.failures(store) if not each.was_stopped]
    flags = arena_host.flags(store)
    lines = [
        f"{counts['votes']} votes of {counts['raters']} raters in {counts['battles']} battles, {counts['today']} today",
        "",
        f"Failures: {len(failed)}; their battles count for and against nobody",
    ]
    for each in failed if everything else failed[:LISTED]:
        who = each.checkpoint or f"{each.detail['left']} or {each.detail['right']}"
        lines.append(f"  {_when(each.at)}  {each.battle}  {who}: {each.reason}")
    lines += ["", f"Flags: {len(flags)}; what is raised is not counted"]
    for flag in flags if everything else flags[:LISTED]:
        about = f"--battle {flag.battle}" if flag.battle else f"--rater {flag.rater}"
        lines.append(f"  {_when(flag.at)}  {flag.kind} {flag.state}  {about}  {flag.detail or ''}".rstrip())
    return lines


def decide(store: Store, command: str, kind: str, battle: str | None, rater: str | None) -> str:
    """Raises or clears a flag; returns what was done.

    Raises:
        HostError: when there is no such battle, rater or flag.
    """
    table, key = (BattleRow, battle) if battle else (Rater, rater)
    with store.reading() as session:
        if session.get(table, key) is None:
            raise HostError(f"There is no {'battle' if battle else 'rater'} {key}.")
    raised = any((each.kind, each.battle, each.rater) == (kind, battle, rater) for each in arena_host.flags(store))
    if command == "clear" and not raised:
        raise HostError(f"There is no flag {kind} raised about {key}.")
    state = {"raise": "raised", "clear": "cleared"}[command]
    arena_host.flag(store, kind, state, time.time(), battle=battle, rater=rater, detail={"by": "host"})
    return f"{kind} is {state} for {key}."


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).isoformat(" ", "minutes")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.host", description="What the host of an arena sees.")
    parser.add_argument("--all", action="store_true", help=f"not only the newest {LISTED}")
    commands = parser.add_subparsers(dest="command")
    for name in ("clear", "raise"):
        command = commands.add_parser(name, help=f"{name} a flag")
        command.add_argument("kind", help="playback, or a name of your own")
        about = command.add_mutually_exclusive_group(required=True)
        about.add_argument("--battle", metavar="ID")
        about.add_argument("--rater", metavar="ID")
    return parser


if __name__ == "__main__":
    sys.exit(main())
