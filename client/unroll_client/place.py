"""`Place`: where the service is and how it is to be reached."""

from collections.abc import Mapping
from typing import Any

import httpx

from unroll_client.errors import MAX_TEXT, InvalidInput
from unroll_client.plans import Call

MAX_PORT = 65535


class Place:
    """Makes requests to a service.

    Args:
        url: of the service; it may have a path.
        timeout_s: seconds to wait for a connection and for each part of an answer.
        headers: sent with everything.

    Attributes:
        timeout_s: as given.

    Raises:
        InvalidInput: nothing can be sent to the URL, or with the headers.
    """

    def __init__(self, url: str, timeout_s: float, headers: Mapping[str, str]) -> None:
        self.timeout_s = timeout_s
        self._url = url.rstrip("/")
        self._headers = headers
        if not self._url.startswith(("http://", "https://")):
            raise InvalidInput(f"the URL must begin with http:// or https://, got {url!r}")
        _check_url(url)
        _check_headers(headers)

    def request(self, http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
        """The request of a call; raises `InvalidInput` if its path is too long."""
        try:
            return http.build_request(
                call.method,
                self._url + call.path,
                content=call.content,
                headers={**self._headers, **call.headers},
                timeout=self.timeout_s,
            )
        except httpx.InvalidURL as error:
            raise InvalidInput(f"{call.path[:MAX_TEXT]!r} cannot be sent: {error}") from None

    def of_stream(self) -> dict[str, Any]:
        """What `connect` of websockets takes, sync or async."""
        return {
            "uri": "ws" + self._url.removeprefix("http") + "/stream",
            "additional_headers": dict(self._headers),
            "open_timeout": self.timeout_s,
            # Messages are small and wanted at once; answers are as large as what was asked for.
            "compression": None,
            "max_size": None,
        }


def _check_url(url: str) -> None:
    try:
        made = httpx.URL(url)
        # As a name is looked up: no part of it is empty or too long.
        made.raw_host.decode().encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidInput(f"{url!r} is no URL: {error}") from None
    if not made.host:
        raise InvalidInput(f"the URL must name a host, got {url!r}")
    if made.port is not None and not 0 < made.port <= MAX_PORT:
        raise InvalidInput(f"the URL's port must be 1 to {MAX_PORT}, got {made.port}")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        try:
            httpx.Headers({name: value})
        except (TypeError, UnicodeError) as error:
            raise InvalidInput(f"the header {name!r} cannot be sent: {error}") from None
