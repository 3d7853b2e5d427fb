"""Who somebody is, what their role opens, how often they may ask: decided from plain facts, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from app import access
from app.access import Role, UndeclaredError
from app.callers import Caller, Callers, address_of, is_foreign
from app.discretion import discreet
from app.host_key import LASTS_SECONDS, HostKey
from app.limits import Limiter, LimitError, Rate
from app.place import Place

SECRET = b"0123456789abcdef0123456789abcdef"
SPACE = Place(kind="space", space="ann/arena", owner="ann", owners=frozenset({"ann"}), has_login=True, listen="0.0.0.0")
AT_HOME = {"host": "127.0.0.1:7860"}


def session(name: str = "ann", until: Any = 2000.0, **more: Any) -> dict[str, Any]:
    return {"oauth_info": {"expires_at": until, "userinfo": {"preferred_username": name, **more}}}


def at(
    place: Place, headers: dict[str, str], session: dict[str, Any] | None = None, key: HostKey | None = None
) -> Caller:
    return Callers(place, key, clock=lambda: 1000.0).of(headers, session or {}, "192.168.1.5")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LOCALHOST:80", "[::1]:7860"])
def test_whoever_is_on_this_machine_is_its_host(host: str) -> None:
    assert at(Place(), {"host": host}).role is Role.HOST


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},  # a name that somebody points at this machine
        AT_HOME | {"x-forwarded-for": "203.0.113.9"},  # a proxy on this machine lets others in
        AT_HOME | {"forwarded": "for=203.0.113.9"},
        AT_HOME | {"origin": "https://evil.example"},
        AT_HOME | {"sec-fetch-site": "cross-site"},
        {},
    ],
    ids=str,
)
def test_what_comes_from_elsewhere_to_a_local_app_is_a_visitor(headers: dict[str, str]) -> None:
    assert at(Place(), headers).role is Role.VISITOR


def test_beyond_loopback_it_takes_the_token() -> None:
    place, key = Place(listen="0.0.0.0"), HostKey("a token that was chosen", SECRET)
    assert at(place, AT_HOME, key=key).role is Role.VISITOR
    cookie = f"other=1; wavalign-host={key.cookie(1000.0)}"
    assert at(place, AT_HOME | {"cookie": cookie}, key=key).role is Role.HOST
    assert at(place, AT_HOME | {"cookie": cookie, "origin": "http://other"}, key=key).role is Role.VISITOR
    assert at(place, AT_HOME, session(), key).role is Role.VISITOR  # no login here: whatever a session says is forged


def test_a_cookie_of_another_token_or_secret_or_time_opens_nothing() -> None:
    key = HostKey("a token that was chosen", SECRET)
    cookie = key.cookie(1000.0)
    assert key.admits(cookie, 1000.0 + LASTS_SECONDS - 1)
    assert not key.admits(cookie, 1000.0 + LASTS_SECONDS)
    assert not HostKey("another token, chosen", SECRET).admits(cookie, 1000.0)
    assert not HostKey("a token that was chosen", SECRET[::-1]).admits(cookie, 1000.0)
    later = cookie.replace(cookie.split(".")[1], "9999999999")
    for forged in (later, "", None, "h1..", cookie + "0", cookie[:-1]):
        assert not key.admits(forged, 1000.0)


@pytest.mark.parametrize("given", ["", "a token that was chose", "a token that was chosen ", None, 3, ["a"]])
def test_only_the_token_is_the_token(given: object) -> None:
    assert not HostKey("a token that was chosen", SECRET).matches(given)


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16"):
        HostKey("short", SECRET)
    assert HostKey.make() != HostKey.make()


def test_on_a_space_the_login_tells_the_role() -> None:
    assert at(SPACE, AT_HOME).role is Role.VISITOR
    assert at(SPACE, AT_HOME, session()) == Caller(Role.HOST, "ann", "192.168.1.5")
    assert at(SPACE, AT_HOME, session("bob")) == Caller(Role.RATER, "bob", "192.168.1.5")
    for expired in (1000.0 - 1, None, "2000"):
        assert at(SPACE, AT_HOME, session(until=expired)).role is Role.VISITOR
    for odd in ({"oauth_info": 3}, {"oauth_info": {"expires_at": 2000.0, "userinfo": {"preferred_username": ["ann"]}}}):
        assert at(SPACE, AT_HOME, odd) == Caller(address="192.168.1.5")


@pytest.mark.parametrize(
    ("role", "found"),
    [("admin", Role.HOST), ("write", Role.HOST), ("contributor", Role.RATER), ("read", Role.RATER), (None, Role.RATER)],
)
def test_who_writes_in_the_organisation_of_a_space_is_its_host(role: str | None, found: Role) -> None:
    profile = {"preferred_username": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": role}]}
    assert access.role_of_profile(profile, {"team"}) is found
    assert access.role_of_profile(profile, {"others"}) is Role.RATER
    for odd in ("team", [3], [{"preferred_username": "team"}], None):
        assert access.role_of_profile({"preferred_username": "cat", "orgs": odd}, {"team"}) is Role.RATER


def test_the_address_is_the_one_that_the_nearest_proxy_saw() -> None:
    def behind(forwarded: str) -> str:
        return address_of({"x-forwarded-for": forwarded}, "10.0.0.7", True)

    assert behind("203.0.113.9, 10.1.1.1") == "203.0.113.9"
    assert behind("1.2.3.4, 203.0.113.9, 10.1.1.1") == "203.0.113.9"  # the first is only what the visitor claims
    assert behind("2001:db8::1") == "2001:db8::1"
    assert behind("nonsense") == behind("") == "10.0.0.7"
    assert address_of({"x-forwarded-for": "203.0.113.9"}, "10.0.0.7", False) == "10.0.0.7"


def test_a_proxy_that_is_named_says_whom_it_speaks_for_and_nobody_else_does() -> None:
    proxies = Place.from_environment({"WAVALIGN_PROXIES": "10.0.0.5, 10.1.0.0/16"}).proxies

    def behind(forwarded: str, client: str = "10.0.0.5") -> str:
        return address_of({"x-forwarded-for": forwarded} if forwarded else {}, client, False, proxies)

    assert behind("203.0.113.9") == behind("203.0.113.9, 10.1.2.3") == "203.0.113.9"
    assert behind("1.2.3.4, 203.0.113.9") == "203.0.113.9"  # the first is only what the visitor claims
    assert behind("192.168.7.7") == "192.168.7.7"  # raters of one's own network
    assert behind("203.0.113.9", "::ffff:10.0.0.5") == "203.0.113.9"
    assert behind("") == behind("1.2.3.4, nonsense") == behind("10.1.2.3") == "10.0.0.5"
    assert behind("203.0.113.9", "10.0.0.6") == "10.0.0.6"
    assert behind("203.0.113.9", "") == ""
    place = Place(listen="0.0.0.0", proxies=proxies)
    two = [Callers(place).of({"x-forwarded-for": each}, {}, "10.1.0.1").address for each in ("192.0.2.1", "192.0.2.2")]
    assert two == ["192.0.2.1", "192.0.2.2"]


def test_a_link_from_another_site_may_be_followed_and_its_scripts_may_not_call() -> None:
    assert not is_foreign({"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "cross-site"})
    assert not is_foreign(
        {"sec-fetch-mode": "cors", "sec-fetch-site": "same-origin", "origin": "http://a", "host": "b"}
    )
    assert is_foreign({"sec-fetch-mode": "cors", "sec-fetch-site": "same-site"})
    form = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "origin": "http://evil", "host": "here"}
    assert is_foreign(form)
    assert not is_foreign({"origin": "https://ann-arena.hf.space", "host": "10.0.0.1"}, ("ann-arena.hf.space",))


def test_a_host_page_is_the_hosts_whatever_its_handler_says(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = {**access.HANDLERS, "train": {"train": access.Act(Role.VISITOR)}}
    monkeypatch.setattr(access, "HANDLERS", loose)
    assert access.act_of("train", "train").role is Role.HOST
    with pytest.raises(UndeclaredError):
        access.act_of("train", "another")
    with pytest.raises(UndeclaredError):
        access.act_of("another", "train")


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", Role.VISITOR),
        ("GET", "/train", Role.HOST),
        ("GET", "/train/", Role.HOST),
        ("POST", "/train", None),
        ("GET", "//train", None),
        ("GET", "/Train", None),
        ("GET", "/monitoring", None),
        ("GET", "/gradio_api/proxy=https://x", None),
        ("DELETE", "/gradio_api/upload", None),
        ("POST", "/gradio_api/upload\n", None),
    ],
)
def test_what_is_not_declared_is_nobodys(method: str, path: str, role: Role | None) -> None:
    assert access.role_of_route(method, path) is role


def test_so_many_a_minute_each_and_so_many_of_one_address() -> None:
    now = [0.0]
    limiter = Limiter(lambda address: f"#{address}", {"talk": Rate("questions", 2, 3)}, clock=lambda: now[0])
    limiter.take("talk", "a", "ada")
    now[0] = 20.0
    limiter.take("talk", "a", "ada")
    with pytest.raises(
        LimitError, match="That is 2 questions within a minute, as many as fit: come back in 40 seconds"
    ):
        limiter.take("talk", "a", "ada")
    limiter.take("talk", "a", "ben")  # the refused one was not counted: this is the address's third
    with pytest.raises(LimitError, match="from your network"):
        limiter.take("talk", "a", "cat")
    limiter.take("talk", "b", "cat")
    now[0] = 60.0
    limiter.take("talk", "a", "ada")
    with pytest.raises(LimitError, match="come back in 20 seconds"):
        limiter.take("talk", "a", "ada")


def test_a_limiter_keeps_no_address_and_no_more_than_its_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.limits._KEPT", 10)
    limiter = Limiter(lambda address: "hashed", {"talk": Rate("questions", 2, 10**6)})
    for number in range(100):
        limiter.take("talk", "203.0.113.9", f"visitor {number}")
    assert len(limiter._times) <= 10
    assert "203.0.113.9" not in str(limiter._times)


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("/home/ann/.cache/x/base/config.json is missing.", "…/config.json is missing."),
        (
            'Checkpoint "far" at http://10.0.0.5:8000/v1 does not answer.',
            'Checkpoint "far" at its address does not answer.',
        ),
        ("The database sqlite:////home/ann/arena.sqlite3 cannot be used", "The database its address cannot be used"),
        ("No server at 192.168.1.7:5432.", "No server at its address."),
        (r"C:\Users\ann\base is empty.", "…/base is empty."),
        ('Adapter "tuned" is for "base", and/or \'other\'.', 'Adapter "tuned" is for "base", and/or \'other\'.'),
        ("Use 8 to 48 kHz; 1/2 of it is silent.", "Use 8 to 48 kHz; 1/2 of it is silent."),
    ],
)
def test_an_error_tells_others_nothing_of_the_machine(sentence: str, told: str) -> None:
    assert discreet(sentence) == told
