"""The Python client and a real server on a real port; and what `docs/client.md` says of them."""

import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from tests.client.callers import Caller, caller
from tests.support.exported_models import raw_sequence
from tests.support.real_server import Server, serve
from tests.support.reference_model import Reference, assert_close
from unroll_client import Client, Conflict, InvalidRequest, NotFound

__all__ = ["caller"]

MAX_BODY = 500_000
DOCUMENT = Path("docs/client.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serve(
        models_dir,
        "mixed",
        log,
        max_chunk_steps=16,
        workers=1,
        max_body_bytes=MAX_BODY,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def reference(models_dir: Path) -> Reference:
    return Reference(models_dir / "mixed" / "1")


@pytest.fixture
def sequences() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [raw_sequence(random, length) for length in (40, 1, 17)]


class Losing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Loses the answers to pieces after the service has computed them, each the first time.

    Attributes:
        lost: bodies of those requests.
    """

    def __init__(self) -> None:
        self.lost: list[bytes] = []
        self._sync, self._async = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._sync.handle_request(request)
        answer.read()
        self._lose(request)
        return answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._async.handle_async_request(request)
        await answer.aread()
        self._lose(request)
        return answer

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()

    def _lose(self, request: httpx.Request) -> None:
        if request.method != "GET" and request.content not in self.lost:
            self.lost.append(request.content)
            raise httpx.ReadError("lost")


async def result(made: Any) -> Any:
    """The same, awaited where it has to be, so that a test is written once for both clients."""
    return await made if inspect.isawaitable(made) else made


def test_predictions_are_those_of_the_reference(
    caller: Caller, server: Server, reference: Reference, sequences: list[np.ndarray]
) -> None:
    made = caller(lambda client: client.predict(sequences, states="per_layer"), url=server.url)
    assert (made.model.name, made.model.version) == ("mixed", 1)
    for sequence, outputs, state in zip(sequences, made.outputs, made.states, strict=True):
        assert outputs.dtype == np.float32
        expected, final_state = reference(sequence)
        assert_close(outputs, expected)
        for layer, part in zip(state, final_state, strict=True):
            assert layer.keys() == part.keys()
            for name in part:
                assert_close(layer[name], part[name])


@pytest.mark.parametrize("states", ["token", "per_layer", "concatenated"])
def test_a_sequence_goes_on_from_a_state_of_any_form(
    caller: Caller, server: Server, reference: Reference, sequences: list[np.ndarray], states: str
) -> None:
    whole = sequences[0]
    first = caller(lambda c: c.predict_one(whole[:25], states=states), url=server.url)
    rest = caller(
        lambda c: c.predict_one(whole[25:], initial_state=first.state, outputs="last"),
        url=server.url,
    )
    assert_close(rest.outputs, reference(whole)[0][-1])


def test_columns_of_a_frame_go_by_name(
    caller: Caller, server: Server, reference: Reference, sequences: list[np.ndarray]
) -> None:
    info = caller(lambda client: client.model(), url=server.url)
    names = [feature.name for feature in info.features]
    assert names == ["temp", "pressure", "wind_dir", "hour"]
    frame = pd.DataFrame(sequences[0], columns=names, index=pd.RangeIndex(100, 140))
    made = caller(lambda client: client.predict_one(frame[names[::-1]]), url=server.url)
    table = info.to_frame(made.outputs, frame.index)
    assert list(table.columns) == ["temp_1h", "humid"]
    assert table.index.equals(frame.index)
    assert_close(table.to_numpy(), reference(sequences[0])[0])


def test_chunks_are_the_whole_and_end_with_the_states(
    caller: Caller, server: Server, sequences: list[np.ndarray]
) -> None:
    kept: list[Any] = []

    def read(client: Any) -> Any:
        kept.append(client.predict_in_chunks(sequences, states="token"))
        return kept[0]

    chunks = caller(read, url=server.url)
    whole = caller(lambda client: client.predict(sequences), url=server.url)
    for row, outputs in enumerate(whole.outputs):
        parts = [chunk for chunk in chunks if chunk.sequence == row]
        assert [p.time_step for p in parts] == list(range(0, len(outputs), 16))
        assert_close(np.concatenate([p.outputs for p in parts]), outputs)
    assert len(kept[0].states) == len(sequences)
    assert kept[0].model == whole.model


def test_a_piece_whose_answer_is_lost_counts_once(
    caller: Caller, server: Server, reference: Reference, sequences: list[np.ndarray]
) -> None:
    """Each answer, of the end too, is lost once after the service has computed it."""
    name, losing, whole = f"lost-{caller.sync}", Losing(), sequences[0]

    async def pieces(client: Any) -> list[np.ndarray]:
        session = client.session(name)
        made = [await result(session.send(whole[i : i + 10])) for i in range(0, 40, 10)]
        assert session.time_step == 40
        assert (await result(session.info())).time_step == 40
        await result(session.end())
        with pytest.raises(NotFound):
            await result(session.info())
        return made

    work = (lambda client: asyncio.run(pieces(client))) if caller.sync else pieces
    made = caller(work, losing, server.url)
    assert_close(np.concatenate(made), reference(whole)[0])
    assert len(losing.lost) == 5


def test_two_clients_of_a_session_meet_in_a_conflict(
    server: Server, reference: Reference, sequences: list[np.ndarray]
) -> None:
    whole = sequences[0]
    with Client(server.url) as client:
        ours, theirs = client.session("a/../b c"), client.session("a/../b c")
        ours.send(whole[:10])
        theirs.send(whole[10:20])
        with pytest.raises(Conflict, match="already"):
            ours.send(whole[30:])
        last = client.session("a/../b c").send(whole[20:], outputs="last")
    assert_close(last, reference(whole)[0][-1])


def test_mistakes_are_told_with_their_place(caller: Caller, server: Server) -> None:
    with pytest.raises(InvalidRequest, match="4 features") as raised:
        caller(lambda client: client.predict([[[1.0, 2.0, 3.0]]]), url=server.url)
    assert raised.value.faults[0].pointer == "/sequences/0/0"


def test_a_stream_is_the_sequence_time_step_by_time_step(
    caller: Caller, server: Server, reference: Reference, sequences: list[np.ndarray]
) -> None:
    whole = sequences[2]

    def sync(client: Client) -> list[np.ndarray]:
        with client.stream() as stream:
            made = [stream.send(row, save=True) for row in whole[:9]]
            with pytest.raises(InvalidRequest, match="4 features"):
                stream.send([1.0])
            made.append(stream.send(whole[9]))
        with client.stream(initial_state=stream.saved) as other:
            made += list(other.send(whole[9:]))
            other.restart()
            made.append(other.send(whole[0]))
        return made

    async def asynchronous(client: Any) -> list[np.ndarray]:
        async with client.stream() as stream:
            made = [await stream.send(row, save=True) for row in whole[:9]]
            with pytest.raises(InvalidRequest, match="4 features"):
                await stream.send([1.0])
            made.append(await stream.send(whole[9]))
        async with client.stream(initial_state=stream.saved) as other:
            made += list(await other.send(whole[9:]))
            other.restart()
            made.append(await other.send(whole[0]))
        return made

    made = caller(sync if caller.sync else asynchronous, url=server.url)
    expected = reference(whole)[0]
    assert_close(made, np.stack([*expected[:10], *expected[9:], expected[0]]))


def examples() -> dict[str, str]:
    """The code of each section of the page; what the first one has, all go on from."""
    found = {}
    for section in DOCUMENT.split("\n## ")[1:]:
        code = re.findall(r"```python\n(.*?)```", section, re.S)
        if code:
            found[section.splitlines()[0]] = "\n".join(code)
    return found


@pytest.mark.parametrize("section", examples())
def test_examples_of_the_documentation_run(server: Server, section: str) -> None:
    first, *_ = examples().values()
    code = first if examples()[section] == first else first + "\n" + examples()[section]
    assert "http://localhost:8000" in code
    names: dict[str, Any] = {}
    try:
        exec(compile(code.replace("http://localhost:8000", server.url), section, "exec"), names)
    finally:
        names["client"].close()


def test_the_example_of_the_package_runs(server: Server) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", Path("client/README.md").read_text(), re.S)
    exec(compile(code.replace("http://localhost:8000", server.url), "README.md", "exec"), {})


def test_a_message_too_large_for_the_service_is_refused_as_such(server: Server) -> None:
    """It closes the stream for it, without a word but the code."""
    rows = raw_sequence(np.random.default_rng(7), 20_000)
    with Client(server.url) as client, client.stream() as stream:
        stream.send(rows[0], save=True)
        with pytest.raises(InvalidRequest, match="UNROLL_MAX_BODY_BYTES"):
            stream.send(rows)
