"""One replica of the app without its pages: ``python -m tests.app.replica HOME DATABASE``.

It prints its port, then answers the Arena's messages over HTTP as the page's handler does, with checkpoints that hum,
and what the test asks of the queue of jobs.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app.battles import BattleError, Rules
from app.jobs.jobs import Jobs
from app.pages.arena_desk import Desk
from app.services import Services
from app.settings import Settings
from app.store import open_store
from tests.app.arena import FakeSpeakers, make_arena, spoken

RULES = Rules(listen_least=0.0, listen_share=0.0)


class Replica:
    def __init__(self, home: Path, database: str) -> None:
        self.store = open_store(home, database)
        settings = Settings(home, home / "assets", preload=False, database=database)
        services = Services(settings)
        arena = make_arena(self.store, FakeSpeakers(seconds=0.3), rules=RULES)
        arena.voting.staging.clock = arena.voting._now = time.time
        self.voting = services._voting = arena.voting
        self.desk = Desk(services)
        self.queue = Jobs(self.store, home, home / "assets").queue

    def answer(self, message: dict[str, Any]) -> Any:
        match message["do"]:
            case "open":
                opened = self.voting.open(self.desk.rater(message["token"]), spoken())
                return {"battle": opened.battle}
            case "queue":
                return {"job": self.queue.add("job", Path(message["folder"])).id}
            case "claim":
                job = self.queue.claim("machine", ["machine/cpu"])
                return {"job": job.id if job else None}
            case "ask to stop":
                return {"moved": self.queue.move(message["job"], ["starting", "running"], "stopping", asked=1)}
            case "job":
                job = self.queue.get(message["job"])
                return {"state": job.state, "asked": job.asked, "attempt": job.attempt}
        return self.desk.answer(message)


def main() -> None:
    replica = Replica(Path(sys.argv[1]), sys.argv[2])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                found = replica.answer(message)
            except BattleError as error:
                found = {"error": {"code": error.code, "message": str(error)}}
            data = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
