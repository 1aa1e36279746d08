"""Paths of the protocols of other servers: whatever is asked for, clients can read the answer."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app.foreign_protocols import error
from tests.app.running_service import Service, make_service


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir) as service:
        yield service.wait_until_ready()


words = st.sampled_from(["models", "tiny", "versions", "1", "labels", "stable", "metadata"])
more = st.sampled_from(["infer", "ready", "config", "health", "live", ":predict", ":x", "", "."])
parts = st.lists(words | more | st.text(max_size=300), min_size=1, max_size=7)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "ODD"])


@given(methods, st.sampled_from(["v1", "v2"]), parts, st.sampled_from(["", ":predict", ":", "/"]))
def test_whatever_path_is_asked_for_is_answered(
    service: Service, method: str, protocol: str, parts: list[str], end: str
) -> None:
    path = "/".join(["", protocol, *(quote(part) for part in parts)]) + end
    response = service.request(method, path, content=b"{}")
    assert response.status_code in (200, 400, 404, 405)
    assert len(response.content) < 1500
    if response.status_code == 405:
        assert response.headers["allow"] in ("GET", "POST")
    if response.status_code != 200 and method != "HEAD":
        error(response, response.status_code)
