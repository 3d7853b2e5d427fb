"""The role of every handler, asked for at every call: by whatever address a call comes, it ends here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from app.access import Act, Role, act_of
from app.callers import Caller, caller_of
from app.limits import Limiter, LimitError

HOSTS_ONLY = "This is the host's: sign in as the host, or run the workbench yourself."
_MARK = "_wavalign_act"


class RefusedError(Exception):
    """A call that is not answered; the message is one sentence."""


def guard(demo: gr.Blocks, limiter: Limiter) -> None:
    """Puts every event and every function that a page's script may call behind its declared role.

    Raises:
        UndeclaredError: there is a handler whose role nobody decided.
    """
    for event in demo.fns.values():
        if event.fn is not None:
            event.fn = _guarded(event.fn, act_of(event.page, event.name or ""), limiter, _raised)
    for block in demo.blocks.values():
        called = {name: getattr(block, name) for name in dir(block) if _is_called(block, name)}
        for name, function in called.items():
            told = _told_with_code if block.page == "preferences" or name == "arena" else _told
            setattr(block, name, _guarded(function, act_of(block.page, name), limiter, told))
        if called:  # a session that changes the block makes it anew from these
            block.constructor_args["server_functions"] = [getattr(block, name) for name in called]


def act_behind(function: Callable[..., Any]) -> Act | None:
    """The act that a guarded function takes; None for one that is not guarded."""
    return getattr(function, _MARK, None)


def _is_called(block: Any, name: str) -> bool:
    try:
        return bool(getattr(getattr(block, name), "_is_server_fn", False))
    except Exception:  # a property that cannot be read is not a function
        return False


def _guarded(
    function: Callable[..., Any], act: Act, limiter: Limiter, refused: Callable[[str], Any]
) -> Callable[..., Any]:
    def check() -> None:
        caller = caller_of(LocalContext.request.get(None))
        if caller.role < act.role:
            raise RefusedError(HOSTS_ONLY)
        if act.limit is not None and caller.role < Role.HOST:
            try:
                limiter.take(act.limit, caller.address, _name_of(caller))
            except LimitError as error:
                raise RefusedError(str(error)) from error

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def guarded(*values: Any, **named: Any) -> Any:
            try:
                check()
            except RefusedError as error:
                refused(str(error))
            yield from function(*values, **named)

    elif inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} is asynchronous: app/guard.py guards functions and generators.")
    else:

        @functools.wraps(function)
        def guarded(*values: Any, **named: Any) -> Any:
            try:
                check()
            except RefusedError as error:
                return refused(str(error))
            return function(*values, **named)

    setattr(guarded, _MARK, act)
    return guarded


def _name_of(caller: Caller) -> str | None:
    """What a visitor is known by: the account, else this tab."""
    request = LocalContext.request.get(None)
    return caller.account or getattr(request, "session_hash", None)


def _raised(sentence: str) -> None:
    raise gr.Error(sentence, title="Not now", print_exception=False)


def _told(sentence: str) -> dict[str, Any]:
    return {"error": sentence, "closed": True}


def _told_with_code(sentence: str) -> dict[str, Any]:
    return {"error": {"code": "access", "message": sentence}}
