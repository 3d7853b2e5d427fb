"""What stands before the host's pages: what they are, and how the host gets in. Plain HTML, no script needed."""

from __future__ import annotations

import html
from collections.abc import Callable
from string import Template

from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.access import PAGES, Role
from app.callers import Caller, Callers
from app.host_key import COOKIE, LASTS_SECONDS
from app.settings import NAME, PAGE_FILES, root_path

_ABOUT = {
    "preferences": ("Preferences", "The votes as a dataset, with the recordings that raters left for research."),
    "train": ("Train", "Post-training runs, watched live."),
    "evaluate": ("Evaluate", "Checkpoints measured against each other."),
    "checkpoints": ("Checkpoints", "What is loaded, and what can be added."),
}
LOGIN_AWAY = "Nobody can sign in with Hugging Face right now, because it does not answer: try again in a minute."
LOGIN_REFUSED = "Nobody was signed in: Hugging Face was not asked from here, or it was told no. Try again."
WRONG = "That is not this workbench's token. It is in the link that was printed when the app started."


class Door:
    """``header`` draws the frame's header of a page for a caller."""

    def __init__(self, callers: Callers, header: Callable[[str, Caller], str]) -> None:
        self._callers = callers
        self._header = header
        self._template = Template((PAGE_FILES / "door" / "door.html").read_text(encoding="utf-8"))

    def closed(self, page: str, caller: Caller) -> Response:
        """Instead of a page of the host's."""
        title, about = _ABOUT.get(page, (page.title(), ""))
        words = f"<p>{html.escape(about)} This page is the host's.</p>"
        return self._drawn(title, words + self._ways(caller, page), page, caller, 403)

    def page(self, caller: Caller, to: str | None, trouble: str | None = None, status: int = 200) -> Response:
        """The host's own entrance, or the way out."""
        if caller.role is Role.HOST:
            who = f"You are the host, signed in as {html.escape(caller.account)}." if caller.account else ""
            words = f"<p>{who or 'You are the host.'}</p>{self._way_out(caller)}"
        else:
            words = "<p>Training, evaluation, checkpoints and all votes are the host's.</p>" + self._ways(caller, to)
        return self._drawn("Host", words, "host", caller, status, trouble)

    def enter(self, caller: Caller, token: str | None, to: str | None, is_secure: bool) -> Response:
        """The token was given: a cookie, or a sentence."""
        key = self._callers.key
        if key is None or not key.matches(token):
            return self.page(caller, to, WRONG, 403)
        answer = RedirectResponse(to if to in PAGES and to else "./", 303)
        embedded = self._callers.place.is_space and is_secure  # a Space is shown inside another site's page
        answer.set_cookie(
            COOKIE,
            key.cookie(self._callers.clock()),
            max_age=LASTS_SECONDS,
            secure=is_secure,
            httponly=True,
            samesite="none" if embedded else "lax",
        )
        return answer

    def login_away(self, caller: Caller) -> Response:
        """Instead of the login service's page, when that cannot be reached."""
        return self._drawn("Sign in", f"<p>{LOGIN_AWAY}</p>", "host", caller, 503)

    def login_refused(self, caller: Caller) -> Response:
        """Instead of the page after a login that none came of."""
        return self._drawn("Sign in", f"<p>{LOGIN_REFUSED}</p>{self._ways(caller, None)}", "host", caller, 400)

    @staticmethod
    def leave() -> Response:
        answer = RedirectResponse("../", 303)
        answer.delete_cookie(COOKIE, httponly=True)
        return answer

    def _ways(self, caller: Caller, to: str | None) -> str:
        to = to if to in PAGES else ""
        ways = []
        if self._callers.place.has_login:
            if caller.account:
                ways.append(
                    f"<p>You are signed in as {html.escape(caller.account)}, who is no owner here.</p>"
                    f'<p><a class="door-button" href="{root_path()}/logout">Sign out</a></p>'
                )
            else:
                ways.append(
                    f'<p><a class="door-button" href="{root_path()}/login/huggingface?_target_url=/{to}">'
                    "Sign in with Hugging Face</a></p>"
                )
        if self._callers.key is not None:
            ways.append(
                f'<form method="post" action="{root_path()}/host">'
                f'<input type="hidden" name="to" value="{html.escape(to)}"><label for="token">Host token</label>'
                '<div class="door-row"><input id="token" name="token" type="password" required maxlength="400"'
                ' autocomplete="current-password"><button>Enter</button></div></form>'
            )
        if not ways:
            ways.append(
                "<p>No way in is set up: whoever runs this starts it with <code>WAVALIGN_HOST_TOKEN</code>.</p>"
            )
        return "".join(ways)

    def _way_out(self, caller: Caller) -> str:
        if caller.account:
            return f'<p><a class="door-button" href="{root_path()}/logout">Sign out</a></p>'
        if self._callers.key is None or self._callers.alone:
            return ""
        return f'<form method="post" action="{root_path()}/host/leave"><button>Sign out</button></form>'

    def _drawn(
        self, title: str, words: str, page: str, caller: Caller, status: int, trouble: str | None = None
    ) -> HTMLResponse:
        alert = f'<p class="door-alert" role="alert">{html.escape(trouble)}</p>' if trouble else ""
        drawn = self._template.substitute(
            title=html.escape(title),
            name=html.escape(NAME),
            header=self._header(page, caller),
            alert=alert,
            words=words,
            script=(PAGE_FILES / "frame.js").read_text(encoding="utf-8"),
            style=(PAGE_FILES / "frame.css").read_text(encoding="utf-8"),
        )
        return HTMLResponse(drawn, status, {"Cache-Control": "no-store", "Referrer-Policy": "same-origin"})
