"""What a load balancer asks: ``/healthz`` whether the process answers, ``/readyz`` whether it can do its work.

Neither says more than is needed to decide: no names, no paths, no messages of exceptions.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.services import Services
from app.store import StoreError


def routes(services: Services, waiting: Callable[[], int]) -> list[Route]:
    """``waiting`` says how many requests wait in line."""

    async def alive(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    def ready(request: Request) -> JSONResponse:  # not async: the database may take a moment
        database, models = _database(services), services.loading_state
        is_ready = database == "ok" and models != "failed" and models != "loading" and not services.under_way.is_closed
        told = {
            "status": "ready" if is_ready else "closing" if services.under_way.is_closed else "not ready",
            "database": database,
            "models": models,
            "answering": services.under_way.count,
            "waiting": waiting(),
        }
        return JSONResponse(told, status_code=200 if is_ready else 503)

    return [Route("/healthz", alive, methods=["GET"]), Route("/readyz", ready, methods=["GET"])]


def _database(services: Services) -> str:
    try:
        with services.voting.store.reading() as session:
            session.execute(text("select 1"))
    except (StoreError, SQLAlchemyError):
        return "unreachable"
    return "ok"
