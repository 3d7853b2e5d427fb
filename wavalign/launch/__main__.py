"""Prints the command that trains a run on several processes or machines, as the launchers run it.

python -m wavalign.launch runs/mine --processes 8
python -m wavalign.launch runs/mine --processes 16 --nodes 2 --meet node01:29500
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from wavalign.launch.commands import LaunchError, Meeting, train_command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wavalign.launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="the run's folder, with its config.yaml")
    parser.add_argument("--processes", type=int, default=1, help="of all machines together: one for each GPU")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--meet", metavar="HOST:PORT", help="the first machine and a free port on it")
    parser.add_argument("--id", default="wavalign", help="tells runs apart that meet at the same place")
    options = parser.parse_args(arguments)
    host, _, port = (options.meet or "").rpartition(":")
    if options.meet and not (host and port.isdecimal()):
        parser.error(f"--meet takes HOST:PORT, got {options.meet!r}.")
    meeting = Meeting(host, int(port), options.id) if options.meet else None
    try:
        command = train_command(options.run, None, None, options.processes, options.nodes, meeting, "python")
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 2
    print(shlex.join(command))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
