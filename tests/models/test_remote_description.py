"""A service's description names the field that is wrong and never holds the key."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.models.remote_asking import KEY
from wavalign.models.protocol import CheckpointError
from wavalign.models.remote import RemoteModel
from wavalign.models.remote_description import RemoteDescription

WRONG: dict[str, tuple[dict[str, object], str]] = {
    "not an address": ({"url": "api.openai.com"}, "http"),
    "a file": ({"url": "file:///etc/passwd"}, "http"),
    "a key in the address": ({"url": "https://sk-1@host/v1"}, "key_env"),
    "a query": ({"url": "https://host/v1?key=1"}, "key_env"),
    "another secret": ({"key_env": "WAVALIGN_SECRET"}, "_API_KEY"),
    "the key itself": ({"key_env": KEY}, "_API_KEY"),
    "a dialect nobody speaks": ({"dialect": "grpc"}, "vllm-omni"),
    "a field of ours": ({"extra": {"messages": []}}, "messages"),
    "a rate": ({"sample_rate": 100}, "8000"),
    "no model": ({"model": ""}, "model"),
    "a misspelt field": ({"vioce": "x"}, "vioce"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_description_that_cannot_be_used_names_its_field(kind: str) -> None:
    how, words = WRONG[kind]
    with pytest.raises(ValidationError, match=words):
        RemoteDescription(**{"url": "http://host/v1", "model": "m", **how})


def test_an_address_may_be_the_whole_endpoint() -> None:
    assert RemoteDescription(url="http://host/v1/chat/completions", model="m").url == "http://host/v1"
    assert RemoteDescription(url="http://host/v1/", model="m").url == "http://host/v1"


def test_the_key_comes_from_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    description = RemoteDescription(url="http://localhost/v1", model="m", key_env="TEST_API_KEY")
    monkeypatch.delenv("TEST_API_KEY", raising=False)
    with pytest.raises(CheckpointError, match="set TEST_API_KEY"):
        RemoteModel("far", description)
    monkeypatch.setenv("TEST_API_KEY", "two words")
    with pytest.raises(CheckpointError, match="TEST_API_KEY") as error:
        RemoteModel("far", description)
    assert "two words" not in str(error.value)
    monkeypatch.setenv("TEST_API_KEY", KEY)
    model = RemoteModel("far", description)
    assert KEY not in repr(model.description) + description.model_dump_json()
