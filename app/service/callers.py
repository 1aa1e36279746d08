"""`Callers`: who sends a request, so that callers take turns whatever each of them sends."""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

from app.settings import Network

FORWARDED = b"x-forwarded-for"
# Bits of an IPv6 address that are one caller's network: the rest it chooses as it likes.
IPV6_BITS = 64


class Callers:
    """Names callers by their address: of IPv6 by their network.

    Args:
        proxies: whose word is taken for the address of those behind them.
    """

    def __init__(self, proxies: Iterable[Network] = ()) -> None:
        self._proxies = list(proxies)

    def name_of(self, scope: Scope) -> str:
        """The name of who sent a request (ASGI); empty if nothing tells, as on a Unix socket."""
        client = scope.get("client")
        address: str = client[0] if client else ""
        if not self._proxies:
            return address if ":" not in address else _network_of(address)
        # Each proxy adds at the end where its request came from, so the last that is none of ours
        # was seen by one of ours. What stands before it is anybody's word.
        hops = [value for name, value in scope["headers"] if name == FORWARDED]
        seen = [part.strip() for part in b",".join(hops).decode("latin-1").split(",")]
        while self._is_proxy(address) and seen and seen[-1]:
            address = seen.pop()
        return _network_of(address)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


def _network_of(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        # What a proxy wrote is no address. All such callers are one.
        return ""
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ip_network((int(found) >> IPV6_BITS << IPV6_BITS, IPV6_BITS)))
