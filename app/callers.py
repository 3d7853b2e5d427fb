"""Who sends a request: their role, their account, their network address."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import cookie_parser

from app.access import Role, role_of_profile
from app.host_key import COOKIE, HostKey
from app.place import Network, Place

SCOPE = "wavalign.caller"
"""Where the gate leaves the caller in a request's scope."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_INTERNAL = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)


@dataclass(frozen=True)
class Caller:
    """``address`` is the network address as it came: hash it before it is kept anywhere."""

    role: Role = Role.VISITOR
    account: str | None = None
    address: str = ""
    foreign: bool = False
    """Another site's page sends this, with the cookies of whoever looks at that page."""


@dataclass(frozen=True)
class Callers:
    """``clock`` gives seconds since the epoch."""

    place: Place
    key: HostKey | None = None
    clock: Callable[[], float] = time.time

    @property
    def alone(self) -> bool:
        """Whether everybody who can reach the app without a proxy is its host."""
        return not self.place.beyond_loopback

    def of(self, headers: Mapping[str, str], session: Mapping[str, Any], client: str) -> Caller:
        """``headers`` by lower-case name; ``session`` what the login signed; ``client`` the peer's address."""
        address = address_of(headers, client, self.place.is_space, self.place.proxies)
        if is_foreign(headers, self.place.hosts):
            return Caller(address=address, foreign=True)
        profile = self._profile(session) if self.place.has_login else None
        account = profile.get("preferred_username") if profile else None
        if (self.alone and _is_local(headers)) or (
            self.key is not None and self.key.admits(_cookie(headers), self.clock())
        ):
            role = Role.HOST
        elif profile is not None:
            role = role_of_profile(profile, self.place.owners)
        else:
            role = Role.VISITOR
        return Caller(role, account, address)

    def _profile(self, session: Mapping[str, Any]) -> Mapping[str, Any] | None:
        info = session.get("oauth_info")
        until = info.get("expires_at") if isinstance(info, Mapping) else None
        if not isinstance(until, int | float) or until < self.clock():
            return None
        profile = info.get("userinfo")
        named = isinstance(profile, Mapping) and isinstance(profile.get("preferred_username"), str)
        return profile if named and profile["preferred_username"] else None


def caller_of(request: Any) -> Caller:
    """Who the gate found; a visitor where there was no gate."""
    scope = getattr(getattr(request, "request", None) or request, "scope", None)
    found = scope.get(SCOPE) if isinstance(scope, Mapping) else None
    return found if isinstance(found, Caller) else Caller()


def address_of(headers: Mapping[str, str], client: str, behind_proxy: bool, proxies: Sequence[Network] = ()) -> str:
    """The visitor's network address. A proxy adds the address it sees to the right of what the visitor claims.

    ``behind_proxy``: every request comes by the proxies of a Space. Else only ``proxies`` are believed:
    the rightmost address that is not one of them.
    """
    if not behind_proxy and not _is_in(_parsed(client), proxies):
        return client
    passing = (*_INTERNAL, *proxies) if behind_proxy else proxies
    for each in reversed(headers.get("x-forwarded-for", "").split(",")):
        address = _parsed(each)
        if address is None:
            if behind_proxy:
                continue
            break  # whoever stands left of what no proxy wrote is only claimed
        if not _is_in(address, passing):
            return str(address)
    return client


def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # ::ffff:10.0.0.5, where a socket takes both kinds


def _is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def is_foreign(headers: Mapping[str, str], hosts: tuple[str, ...] = ()) -> bool:
    """Whether a page of another site sends this; a person who follows a link from there does not count."""
    if headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") != "empty":
        return headers.get("origin") is not None and _is_other_origin(headers, hosts)  # a form of another site
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    return headers.get("origin") is not None and _is_other_origin(headers, hosts)


def _is_other_origin(headers: Mapping[str, str], hosts: tuple[str, ...]) -> bool:
    origin = urlsplit(headers["origin"]).netloc.lower()
    return origin not in {headers.get("host", "").lower(), *(each.lower() for each in hosts)}


def _is_local(headers: Mapping[str, str]) -> bool:
    """Whether a browser on this machine asks for this machine, with no proxy between that lets others in."""
    if any(name in headers for name in _FORWARDED):
        return False
    name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _cookie(headers: Mapping[str, str]) -> str | None:
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)
