"""A server whose routes answer as the tests of its protocols need."""

from collections.abc import Iterator

import pytest

from tests.app.live import Live
from tests.app.server.routes import Routes


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def live(routes: Routes) -> Iterator[Live]:
    with Live(routes.app, lifespan="off") as live:
        yield live
