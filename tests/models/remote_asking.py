"""A remote checkpoint on the chat service of these tests, asked once."""

from __future__ import annotations

from tests.models.chat_service import Service, tone
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import Sampling
from wavalign.models.remote import RemoteModel
from wavalign.models.remote_description import RemoteDescription

ASKED = Dialogue((Turn("user", text="what is two plus two"),))
KEY = "sk-test-0123456789abcdef"
SOUND = tone()


def described(service: Service, **how: object) -> RemoteDescription:
    quick = {"model": "some-omni", "backoff_s": 0.001, "longest_wait_s": 0.01}
    return RemoteDescription(**{"url": service.url, **quick, **how})


def ask(service: Service, dialogue: Dialogue = ASKED, sampling: Sampling | None = None, **how: object):
    """The reply, whole, and its chunks."""
    model = RemoteModel("far", described(service, **how))
    chunks, stream_ = [], model.reply(dialogue, sampling)
    while True:
        try:
            chunks.append(next(stream_))
        except StopIteration as end:
            return end.value, chunks
