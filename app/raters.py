"""Who votes, without names: a signed random id kept by the browser, or a keyed hash of an account."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

SECRET_FILE = "secret.key"
_TOKEN = re.compile(r"r1\.([A-Za-z0-9_-]{24})\.([0-9a-f]{64})")


class Raters:
    """All ids depend on one secret: without it no token can be made, and no id leads back to an account or address."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError("The secret that signs rater ids must have at least 16 bytes.")
        self._secret = secret

    @classmethod
    def from_home(cls, home: Path, secret: str | None = None) -> Raters:
        """The secret from ``secret`` (WAVALIGN_SECRET), else of ``home/secret.key``, which is made once."""
        return cls(secret.encode() if secret else read_or_make_secret(home / SECRET_FILE))

    def issue(self) -> str:
        """A token for a browser that has none."""
        name = secrets.token_urlsafe(18)
        return f"r1.{name}.{self._sign('token', name)}"

    def rater_of(self, token: object) -> str | None:
        """The rater's id, or None when the token is not one that this secret signed."""
        found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if found is None or not hmac.compare_digest(found[2], self._sign("token", found[1])):
            return None
        return "b-" + self._sign("rater", found[1])[:32]

    def is_foreign(self, token: object) -> bool:
        """Whether it has the form of a token, and another secret signed it: another replica's, or made up."""
        return isinstance(token, str) and _TOKEN.fullmatch(token) is not None and self.rater_of(token) is None

    def account(self, name: str) -> str:
        """The rater's id of a signed-in account."""
        return "a-" + self._sign("account", name)[:32]

    def address(self, address: str) -> str:
        """A network address as a keyed hash, for rate limits only."""
        return self._sign("address", address)[:24]

    def key(self, purpose: str) -> bytes:
        """A secret of its own for another purpose."""
        return bytes.fromhex(self._sign("key", purpose))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def read_or_make_secret(path: Path) -> bytes:
    """32 random bytes in a file that only its owner reads; of two processes that make it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
