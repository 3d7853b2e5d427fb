"""Pseudonyms that cannot be forged and do not lead back."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from app.raters import Raters, read_or_make_secret


def test_token_names_its_rater_and_no_other_does(tmp_path: Path) -> None:
    raters = Raters.from_home(tmp_path)
    token = raters.issue()
    rater = raters.rater_of(token)
    assert rater.startswith("b-")
    assert Raters.from_home(tmp_path).rater_of(token) == rater
    assert Raters(b"another secret, long enough").rater_of(token) is None
    assert raters.issue() != token
    assert token.split(".")[1] not in rater


@pytest.mark.parametrize("change", [lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: t + "0", str.upper])
def test_changed_token_is_nobody(change) -> None:
    raters = Raters(b"sixteen bytes or more")
    assert raters.rater_of(change(raters.issue())) is None


@pytest.mark.parametrize(
    "forged", [None, "", 7, [], "r1..", "r1.abc.def", "b-" + "0" * 32, "r1." + "é" * 24 + "." + "0" * 64]
)
def test_forged_tokens_are_nobody(forged: object) -> None:
    assert Raters(b"sixteen bytes or more").rater_of(forged) is None


def test_accounts_and_addresses_are_kept_as_keyed_hashes() -> None:
    raters, other = Raters(b"sixteen bytes or more"), Raters(b"another secret, long enough")
    assert raters.account("someone") == raters.account("someone") != other.account("someone")
    assert raters.account("someone").startswith("a-")
    assert "1" * 3 not in raters.address("111.111.111.111")
    assert raters.address("::1") != raters.account("::1")
    with pytest.raises(ValueError, match="16 bytes"):
        Raters(b"short")


def test_secret_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read_or_make_secret(tmp_path / "k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["k"]


def test_a_token_of_another_secret_is_told_from_no_token() -> None:
    here, there = Raters(b"sixteen bytes or more"), Raters(b"another secret, long enough")
    assert here.is_foreign(there.issue())
    assert not here.is_foreign(here.issue())
    assert not any(here.is_foreign(token) for token in (None, "", 7, "r1..", "made up"))
