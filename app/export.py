"""The reward dataset from the votes.

python -m app.export write FOLDER                     parquet files and a card, for ``datasets`` and TRL
python -m app.export push USER/NAME [--every 15]      what raters allow to be published, to the Hub
python -m app.export push USER/NAME --everything      a private backup of all that may be used
python -m app.export rebuild FOLDER-OR-USER/NAME      fills the database from shards
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from app import export_parquet
from app.battles import Rules
from app.export_card import card
from app.export_rows import VIEWS, SameWords, Selection, View, rows, selected
from app.settings import Settings, SettingsError
from app.store import Store, StoreError, open_store
from wavalign.arguments import number


class ExportError(ValueError):
    """An export that cannot be made; the message is one sentence."""


def export(
    store: Store,
    folder: Path,
    selection: Selection,
    views: Sequence[View] = VIEWS,
    name: str = "spoken-preferences",
    licence: str | None = None,
) -> dict[View, int]:
    """Writes ``folder/VIEW/*.parquet`` and ``folder/README.md``, all of it or nothing; returns rows by view.

    Raises:
        ExportError: when the folder holds something already, or nothing is selected.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty; choose a new folder.")
    votes = selected(store, selection)
    if not votes:
        raise ExportError("There is no vote to export with this consent, source and filter.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(6)}.part"
    try:
        counts: dict[View, int] = {}
        same = 0
        for view in views:
            (draft / view).mkdir(parents=True)
            path = draft / view / f"{view}-{secrets.token_hex(8)}.parquet"
            told = SameWords(rows(store, view, votes))
            counts[view] = export_parquet.write(path, view, told)
            same = max(same, told.count)
        (draft / "README.md").write_text(card(name, selection, votes, counts, licence, same), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment()
        store = open_store(settings.home, settings.database)
        try:
            return options.run(options, settings, store)
        finally:
            store.close()
    except (SettingsError, StoreError, ExportError, ValueError) as error:
        return _failed(error)
    except RuntimeError as error:
        from app.export_hub import PushError
        from app.export_shards import ShardError

        if isinstance(error, PushError | ShardError):
            return _failed(error)
        raise


def _write(options: argparse.Namespace, settings: Settings, store: Store) -> int:
    settled = time.time() - Rules().undo - 1  # whoever may still undo has not decided yet
    selection = Selection(
        least_consent=options.consent,
        source=options.source,
        since=options.since,
        until=settled if options.until is None else min(options.until, settled),
        pair=frozenset(options.pair) if options.pair else None,
        least_reliability=options.reliability,
    )
    counts = export(store, options.folder, selection, options.view or VIEWS, options.name, options.licence)
    for view, count in counts.items():
        print(f"{view:16} {count:8,} rows")
    print(f"Written to {options.folder}")
    return 0


def _push(options: argparse.Namespace, settings: Settings, store: Store) -> int:
    from app.export_hub import Hub, Pusher

    notes = settings.home / "arena" / "pushed"
    hub = Hub(store, options.repo, notes, "everything" if options.everything else "publish")
    if options.every is None:
        pushed = hub.push()
        print(f"{pushed.entries} entries in {len(pushed.shards)} shards, {len(pushed.withdrawn)} withdrawn")
        return 0
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    pusher = Pusher(hub, options.every).start()
    ended.wait()
    pusher.stop()
    return 0


def _rebuild(options: argparse.Namespace, settings: Settings, store: Store) -> int:
    from app.export_hub import Hub
    from app.export_shards import rebuild

    folder = Path(options.source)
    if folder.is_dir():
        shards = sorted(folder.rglob("log-*.parquet"))
        if not shards:
            raise ExportError(f"{folder} holds no shards (log-*.parquet).")
        made = rebuild(store, shards)
    else:
        made = Hub(store, options.source, settings.home / "arena" / "pushed").rebuild()
    print(f"{made.rows} rows added, {made.known} known, {made.recordings} recordings, {made.erased} battles kept blank")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.export", description="The reward dataset from the votes.")
    commands = parser.add_subparsers(required=True)
    write = commands.add_parser("write", help="parquet files and a card into a new folder")
    write.add_argument("folder", type=Path)
    write.add_argument("--view", action="append", choices=VIEWS, help="only this one (may be repeated)")
    write.add_argument("--consent", choices=("research", "publish"), default="research", help="the least allowed use")
    write.add_argument("--source", choices=("human", "simulated"), default="human")
    write.add_argument("--since", type=_day, metavar="YYYY-MM-DD")
    write.add_argument("--until", type=_day, metavar="YYYY-MM-DD", help="this day not included")
    write.add_argument("--pair", nargs=2, metavar="CHECKPOINT")
    write.add_argument("--reliability", type=number(0, 1), metavar="0..1", help="the least reliability of a rater")
    write.add_argument("--name", default="spoken-preferences")
    write.add_argument("--licence", help="of the card; by default cc-by-4.0 for what may be published")
    write.set_defaults(run=_write)
    push = commands.add_parser("push", help="new shards to a dataset repository on the Hub")
    push.add_argument("repo", metavar="USER/NAME")
    push.add_argument("--everything", action="store_true", help="a backup, to a private repository")
    push.add_argument("--every", type=number(0.1), metavar="MINUTES", help="again and again, and once more at the end")
    push.set_defaults(run=_push)
    rebuild = commands.add_parser("rebuild", help="fills the database from shards")
    rebuild.add_argument("source", metavar="FOLDER-OR-USER/NAME")
    rebuild.set_defaults(run=_rebuild)
    return parser


def _day(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2026-11-22") from None


def _failed(error: Exception) -> int:
    print(f"Cannot export: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
