"""Makes a Hugging Face Space of this program, or brings one up to date, with the dataset that keeps its votes.

python -m app.publish USER/SPACE                          free CPU; votes are copied to the private USER/SPACE-votes
python -m app.publish USER/SPACE --hardware zero-a10g     a GPU lent for each question (ZeroGPU)
python -m app.publish USER/SPACE --votes USER/DATASET     what raters allow to be published goes there, too
python -m app.publish USER/SPACE --secret WAVALIGN_DATABASE --variable WAVALIGN_OWNERS=ann,bob

Says first what it will do, and asks. Values of secrets come from the environment by their names and are never shown.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from huggingface_hub import HfApi, SpaceHardware
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from app.publish_plan import PublishError, Wish, planned
from app.publish_steps import carry_out

_UNREACHABLE = (*HfHubHTTPError.__bases__, LocalTokenNotFoundError)


def main(
    arguments: Sequence[str] | None = None,
    *,
    api: HfApi | None = None,
    environment: Mapping[str, str] = os.environ,
    asks: Callable[[str], str] = input,
) -> int:
    options = _parser().parse_args(arguments)
    api = api or HfApi()
    wish = Wish(
        space=options.space,
        hardware=options.hardware,
        sleep=options.sleep,
        private=options.private,
        backup=options.backup,
        no_backup=options.no_backup,
        votes=options.votes,
        bucket=options.bucket,
        secrets=tuple(options.secret),
        variables=tuple(options.variable),
    )
    try:
        plan = planned(wish, api, environment)
        print("\n".join(plan.lines()))
        if not options.yes and not _agreed(asks):
            print("Nothing was done.")
            return 1
        print(carry_out(plan, api))
        return 0
    except PublishError as error:
        print(f"Cannot publish: {error}", file=sys.stderr)
    except HfHubHTTPError as error:
        print(f"Cannot publish: the Hub refused ({error.server_message or error})", file=sys.stderr)
    except _UNREACHABLE as error:
        print(f"Cannot publish: the Hub cannot be reached ({error})", file=sys.stderr)
    return 1


def _agreed(asks: Callable[[str], str]) -> bool:
    try:
        return asks("Do this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to answer
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", metavar="USER/SPACE")
    parser.add_argument("--hardware", choices=[str(each.value) for each in SpaceHardware], help="default: as it is")
    parser.add_argument("--sleep", type=int, metavar="SECONDS", help="of no visits before paid hardware sleeps")
    parser.add_argument(
        "--private", action=argparse.BooleanOptionalAction, help="seen by its owners only (as it is; new: public)"
    )
    backup = parser.add_mutually_exclusive_group()
    backup.add_argument(
        "--backup", metavar="USER/DATASET", help="private, all that may be used (as it is; new: USER/SPACE-votes)"
    )
    backup.add_argument("--no-backup", action="store_true", help="what is said there is lost when it restarts")
    parser.add_argument("--votes", metavar="USER/DATASET", help="public, what raters allow to be published")
    parser.add_argument("--bucket", metavar="USER/BUCKET", help="a storage bucket mounted at /data")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME", help="of your environment")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="everybody may read it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    sys.exit(main())
