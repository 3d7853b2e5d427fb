"""What an error tells whom: the host reads where something is, others what happened and nothing of the machine."""

from __future__ import annotations

import re

from gradio.context import LocalContext

from app.access import Role
from app.callers import caller_of
from app.store import StoreError

NO_STORE = "The votes cannot be reached right now. Nothing is lost: come back in a few minutes."
_PLACE = re.compile(r"(?<![\w.:/])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"`,;:()]+[/\\])*(?=[^\s/\\'\"`,;:()])")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"`,;()]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", re.IGNORECASE)


def told(error: Exception) -> str:
    """The sentence for whoever called the handler that is running; all of it where no request is being answered."""
    request = LocalContext.request.get(None)
    if request is None or caller_of(request).role is Role.HOST:
        return str(error)
    return NO_STORE if isinstance(error, StoreError) else discreet(str(error))


def discreet(sentence: str) -> str:
    """Without folders, addresses and machines; names of files stay."""
    return _PLACE.sub("…/", _ADDRESS.sub("its address", sentence))
