"""Who sent a request: by its address, or behind a trusted proxy by the one that the proxy saw."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.service.callers import Callers
from app.settings import Settings

PROXIES = Settings(
    trusted_proxies="10.0.0.0/8, 192.168.1.7,fd00::/8,::ffff:172.16.0.0/112"
).proxy_networks


def scope(address: str | None, *forwarded: str) -> dict[str, Any]:
    client = None if address is None else (address, 1234)
    return {"client": client, "headers": [(b"x-forwarded-for", f.encode()) for f in forwarded]}


@pytest.mark.parametrize(
    ("address", "forwarded", "name"),
    [
        ("1.2.3.4", [], "1.2.3.4"),
        # The word of anybody is not taken.
        ("1.2.3.4", ["5.6.7.8"], "1.2.3.4"),
        ("10.1.1.1", ["5.6.7.8"], "5.6.7.8"),
        ("10.1.1.1", ["9.9.9.9, 5.6.7.8"], "5.6.7.8"),
        ("10.1.1.1", ["9.9.9.9", "5.6.7.8, 192.168.1.7"], "5.6.7.8"),
        ("192.168.1.7", ["10.2.2.2,10.3.3.3"], "10.2.2.2"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", ["unknown"], ""),
        ("10.1.1.1", ["<script>, 2001:db8::1"], "2001:db8::/64"),
        ("fd00::1", ["2001:db8:0:1:2:3:4:5"], "2001:db8:0:1::/64"),
        # A socket for both kinds has addresses of IPv4 so.
        ("::ffff:10.1.1.1", ["5.6.7.8"], "5.6.7.8"),
        ("::ffff:10.1.1.1", ["::ffff:5.6.7.8"], "5.6.7.8"),
        ("::ffff:10.1.1.1", ["9.9.9.9, 5.6.7.8, ::ffff:192.168.1.7"], "5.6.7.8"),
        ("::ffff:10.1.1.1", [], "10.1.1.1"),
        ("::ffff:1.2.3.4", ["5.6.7.8"], "1.2.3.4"),
        ("172.16.0.9", ["5.6.7.8"], "5.6.7.8"),
        ("::ffff:172.16.0.9", ["5.6.7.8"], "5.6.7.8"),
        ("10.1.1.1", ["5.6.7.8:443"], ""),
        ("10.1.1.1", ["\u00e9"], ""),
        (None, [], ""),
    ],
)
def test_who_sent_it(address: str | None, forwarded: list[str], name: str) -> None:
    assert Callers(PROXIES).name_of(scope(address, *forwarded)) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::/64"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_of_ipv6_a_network_is_one_caller(address: str, name: str) -> None:
    assert Callers().name_of(scope(address)) == name
    assert Callers(PROXIES).name_of(scope(address)) == name


@pytest.mark.parametrize("text", ["proxy", "1.2.3.4/33", "10.0.0.1/8"])
def test_proxies_are_addresses_or_networks(text: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=text)
