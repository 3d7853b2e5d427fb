"""Who may do what: every page, handler and address of the app with the role it takes. What is not named here is closed.

Pure: no request, no page. ``app.callers`` says who somebody is, ``app.guard`` and ``app.gate`` ask here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Role(IntEnum):
    """Each may do what those before it may."""

    VISITOR = 0
    """Anybody who has the link."""
    RATER = 1
    """Signed in with an account, so that votes do not depend on the browser."""
    HOST = 2
    """Whom the app belongs to."""


class UndeclaredError(LookupError):
    """A page or handler whose role nobody decided; the app does not start with one."""


@dataclass(frozen=True)
class Act:
    """What calling a handler takes: a role, and one of so many a minute (``app.limits``)."""

    role: Role
    limit: str | None = None


VISITOR, HOST = Role.VISITOR, Role.HOST
_FREE, _OWN = Act(VISITOR), Act(HOST)
_TALK, _BATTLE, _MESSAGE = Act(VISITOR, "talk"), Act(VISITOR, "battle"), Act(VISITOR, "message")

PAGES: Mapping[str, Role] = {
    "": VISITOR,
    "arena": VISITOR,
    "leaderboard": VISITOR,
    "preferences": HOST,
    "train": HOST,
    "evaluate": HOST,
    "checkpoints": HOST,
}
"""By address. Other people's recordings, machines and secrets are behind the host's."""

HANDLERS: Mapping[str, Mapping[str, Act]] = {
    "": {
        **dict.fromkeys(("send", "send_text", "recorded", "example", "again"), _TALK),
        "afterwards": _MESSAGE,
        **dict.fromkeys(("stop", "new", "chosen", "left", "offered", "keep", "moved", "recommended", "header"), _FREE),
    },
    "arena": {
        **dict.fromkeys(("send", "send_text", "recorded", "example"), _BATTLE),
        "arena": _MESSAGE,
        **dict.fromkeys(("header", "signed"), _FREE),
    },
    "leaderboard": {**dict.fromkeys(("pick", "draw", "refresh"), _MESSAGE), "header": _FREE},
    "preferences": dict.fromkeys(("arena", "preferences", "train", "shelved", "stopped", "header"), _OWN),
    "train": dict.fromkeys(("train", "header"), _OWN),
    "evaluate": dict.fromkeys(("evaluate", "header"), _OWN),
    "checkpoints": dict.fromkeys(("checkpoints", "header"), _OWN),
}
"""By page and by the function's name: events, and functions that a page's script calls."""


def act_of(page: str, handler: str) -> Act:
    """What calling that handler takes, at least what its page takes.

    Raises:
        UndeclaredError: when nobody decided.
    """
    if page not in PAGES or handler not in HANDLERS.get(page, {}):
        raise UndeclaredError(
            f"Who may call {handler} of the page {page or 'talk'}? Name it in app/access.py, with the role it takes."
        )
    act = HANDLERS[page][handler]
    return Act(max(act.role, PAGES[page]), act.limit)


_GET, _POST = frozenset({"GET", "HEAD"}), frozenset({"POST"})
_SESSION = r"[A-Za-z0-9_-]{1,64}"
RECORDING = r"/recordings/(?P<name>[A-Za-z0-9_-]{24}\.wav)"
RECORDING_FORM = re.compile(RECORDING)
UPLOAD = "/gradio_api/upload"
FILE = "/gradio_api/file="
JOIN, RUN, COMPONENT = "/gradio_api/queue/join", "/gradio_api/run/", "/gradio_api/component_server"

SIGNING_IN = ("/login/huggingface", "/login/callback")
_ROUTES: tuple[tuple[frozenset[str], str, Role], ...] = (
    # The program's own files, the same for everybody.
    (_GET, r"/(static|assets|svelte)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?", VISITOR),
    (_GET, r"(/gradio_api)?/theme\.css|/gradio_api/(startup-events|app_id)", VISITOR),
    (_GET, r"/healthz|/readyz", VISITOR),
    # What pages are made of; the gate cuts it to what the caller may see.
    (_GET, r"/config/?|/gradio_api/info/?", VISITOR),
    # Calls, answers to calls, and the files of the caller; the guard asks the handler's role.
    (
        _POST,
        rf"{JOIN}|{COMPONENT}/?|{RUN}[A-Za-z0-9_]{{1,80}}|{UPLOAD}|/gradio_api/(cancel|reset)",
        VISITOR,
    ),
    (_GET, r"/gradio_api/queue/data|/gradio_api/upload_progress", VISITOR),
    (_GET, rf"/gradio_api/heartbeat/{_SESSION}", VISITOR),
    (_GET, r"/gradio_api/file=.+", VISITOR),
    (_GET, RECORDING, VISITOR),
    # Signing in and out.
    (_GET, "|".join((*SIGNING_IN, "/logout")), VISITOR),
    (_GET | _POST, r"/host", VISITOR),
    (_POST, r"/host/leave", VISITOR),
)
_COMPILED = tuple((methods, re.compile(pattern), role) for methods, pattern, role in _ROUTES)


def role_of_route(method: str, path: str) -> Role | None:
    """What asking for that address takes; None for what nobody gets, whatever the framework offers there."""
    page = page_of(path)
    if page is not None:
        return PAGES[page] if method in _GET else None
    return next((role for methods, form, role in _COMPILED if method in methods and form.fullmatch(path)), None)


def page_of(path: str) -> str | None:
    """The page at that address, None where there is none."""
    name = path.removeprefix("/").removesuffix("/")
    return name if path in (f"/{name}", f"/{name}/") and name in PAGES else None


def role_of_profile(profile: Mapping[str, Any], owners: Collection[str]) -> Role:
    """The role of a signed-in account, from what the login service tells (OpenID Connect's user info, with ``orgs``).

    Hosts are the owners by name, and whoever may write in an organisation that is one of them.
    """
    if profile.get("preferred_username") in owners:
        return Role.HOST
    orgs = profile.get("orgs") if isinstance(profile.get("orgs"), list) else []
    return Role.HOST if any(_writes_in(each, owners) for each in orgs) else Role.RATER


def _writes_in(org: Any, owners: Collection[str]) -> bool:
    if not isinstance(org, Mapping) or org.get("preferred_username") not in owners:
        return False
    kept_out = org.get("pendingSSO") or org.get("missingMFA")
    return org.get("roleInOrg") in ("admin", "write") and not kept_out
