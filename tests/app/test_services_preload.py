"""What is loaded at the start is what a new conversation is held with."""

from __future__ import annotations

from app.services import Services
from app.settings import Settings
from tests import tiny


def test_what_talk_opens_with_is_loaded_at_the_start(tmp_path) -> None:
    assets = tmp_path / "assets"
    tiny.make_tiny_checkpoint(assets / "closedtalk-base")
    for name in ("closedtalk-sft", "closedtalk-wavalign"):
        tiny.make_tiny_adapter(assets / name, assets / "closedtalk-base")
    services = Services(Settings(tmp_path / "home", assets))
    assert services.first_pair() == ("closedtalk-base", "closedtalk-wavalign")
    services.preload().join(120)
    (loaded,) = services.registry.bases.all()
    assert set(loaded.adapters) == {"closedtalk-wavalign"}


def test_without_the_showpiece_the_next_one_stands_beside(tmp_path) -> None:
    assets = tmp_path / "assets"
    tiny.make_tiny_checkpoint(assets / "closedtalk-base")
    services = Services(Settings(tmp_path / "home", assets))
    assert services.first_pair() == ("closedtalk-base",)
    tiny.make_tiny_adapter(assets / "mine", assets / "closedtalk-base")
    assert services.first_pair() == ("closedtalk-base", "mine")
