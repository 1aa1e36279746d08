"""`Callers`: who sends a request, so that callers take turns whatever each of them sends."""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import Scope

from app.settings import Network

FORWARDED = b"x-forwarded-for"
# Bytes of an IPv6 address that are one caller's network: the rest it chooses as it likes.
NETWORK_BYTES = 8
# An address of IPv4 as a socket for both kinds has it (RFC 4291, section 2.5.5.2).
MAPPED = bytes(10) + b"\xff\xff"
MAPPED_BITS = 8 * len(MAPPED)


class Callers:
    """Names callers by their address: of IPv6 by their network.

    Args:
        proxies: whose word is taken for the address of those behind them.
    """

    def __init__(self, proxies: Iterable[Network] = ()) -> None:
        self._proxies = list(map(_unmapped, proxies))

    def name_of(self, scope: Scope) -> str:
        """The name of who sent a request (ASGI); empty if nothing tells, as on a Unix socket."""
        client = scope.get("client")
        address: str = client[0] if client else ""
        if not self._proxies:
            return name_of_address(address)
        # Each proxy adds at the end where its request came from, so the last that is none of ours
        # was seen by one of ours. What stands before it is anybody's word.
        hops = [value for name, value in scope["headers"] if name == FORWARDED]
        seen = [part.strip() for part in b",".join(hops).decode("latin-1").split(",")]
        while self._is_proxy(address) and seen and seen[-1]:
            address = seen.pop()
        return name_of_address(address)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        # Of IPv4 it is whatever the socket is for.
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._proxies)


def name_of_address(address: str) -> str:
    """The name of a caller with an address, as text: of IPv6 its network."""
    try:
        # `ipaddress` takes five times as long.
        if ":" not in address:
            socket.inet_pton(socket.AF_INET, address)
            return address
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        # What a proxy wrote is no address. All such callers are one.
        return ""
    if packed.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(MAPPED) :])
    network = packed[:NETWORK_BYTES] + bytes(len(packed) - NETWORK_BYTES)
    return f"{socket.inet_ntop(socket.AF_INET6, network)}/{8 * NETWORK_BYTES}"


def _unmapped(network: Network) -> Network:
    """A network of IPv4 that is written as one of IPv6, as what it is."""
    if isinstance(network, IPv6Network) and network.prefixlen >= MAPPED_BITS:
        address = network.network_address.ipv4_mapped
        if address is not None:
            return IPv4Network((address, network.prefixlen - MAPPED_BITS))
    return network
