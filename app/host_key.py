"""The token that makes a browser the host's where there is no account to sign in with, and the cookie it is kept as."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

COOKIE = "wavalign-host"
LASTS_SECONDS = 30 * 24 * 3600
SHORTEST = 16
_COOKIE = re.compile(r"h1\.(\d{1,12})\.([0-9a-f]{64})")


class HostKey:
    """A cookie is signed with the secret and the token: another token, or another secret, and it opens nothing."""

    def __init__(self, token: str, secret: bytes) -> None:
        if len(token) < SHORTEST:
            raise ValueError(f"A host token must have at least {SHORTEST} characters.")
        self._digest = hashlib.sha256(token.encode()).digest()
        self._signer = hmac.new(secret, b"host:" + self._digest, hashlib.sha256).digest()

    @staticmethod
    def make() -> str:
        """A token that cannot be guessed."""
        return secrets.token_urlsafe(24)

    def matches(self, token: object) -> bool:
        """Whether that is the token, in a time that does not tell how much of it was right."""
        given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        return hmac.compare_digest(hashlib.sha256(given).digest(), self._digest)

    def cookie(self, now: float) -> str:
        """``now`` in seconds since the epoch."""
        until = str(int(now + LASTS_SECONDS))
        return f"h1.{until}.{self._sign(until)}"

    def admits(self, cookie: str | None, now: float) -> bool:
        found = _COOKIE.fullmatch(cookie or "")
        return found is not None and hmac.compare_digest(found[2], self._sign(found[1])) and now < int(found[1])

    def _sign(self, until: str) -> str:
        return hmac.new(self._signer, until.encode(), hashlib.sha256).hexdigest()
