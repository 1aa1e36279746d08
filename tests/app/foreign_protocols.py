"""What the tests of `/v1` and `/v2`, the protocols of other servers, share."""

import httpx

# As they stand in paths.
NO_VERSIONS = [
    *("x", "-1", "+1", "1.0", "1.5", "1_0", "1e0", "0x1", "%201", "1%0A"),
    # Digits of other scripts.
    *("%D9%A1", "%C2%B2", "%EF%BC%91"),
    *("1" * 20, "9" * 4000),
]


def error(response: httpx.Response, status: int = 400) -> str:
    """The text of an answer that is an error and nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert isinstance(body["error"], str)
    return body["error"]
