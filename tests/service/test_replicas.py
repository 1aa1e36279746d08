"""Sessions over several services: two replicas and a real Redis server."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import Server, serve
from tests.support.redis_server import RedisServer, redis_server
from tests.support.reference_model import assert_close

names = itertools.count()


class Replicas(NamedTuple):
    """Two services, each with two workers, and the store of their sessions."""

    one: Server
    other: Server
    redis: RedisServer


@pytest.fixture(scope="module")
def replicas(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    options: dict[str, Any] = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 16}
    with redis_server(folder) as redis:
        options["sessions_url"] = redis.url
        with (
            serve(models_dir, "mixed", folder / "one.log", **options) as one,
            serve(models_dir, "mixed", folder / "other.log", **options) as other,
        ):
            yield Replicas(one, other, redis)


@pytest.fixture
def name() -> str:
    return f"session {next(names)}"


def send(server: Server, piece: np.ndarray, session: Any) -> httpx.Response:
    with server.client() as client:
        return client.post("/predict", json={"sequences": [to_json(piece)], "session": session})


def whole(server: Server, sequence: np.ndarray) -> np.ndarray:
    """Its outputs, `[T, O]`, without a session."""
    with server.client() as client:
        answer = client.post("/predict", json={"sequences": [to_json(sequence)]}).json()
    return np.array(answer["outputs"][0])


def sequence_of(steps: int) -> np.ndarray:
    return raw_sequence(np.random.default_rng(steps), steps)


def test_a_session_goes_on_through_another_replica(replicas: Replicas, name: str) -> None:
    sequence, outputs, session = sequence_of(40), [], {"id": name, "time_step": 0}
    for number, start in enumerate(range(0, 40, 8)):
        server = replicas.other if number % 2 else replicas.one
        answer = send(server, sequence[start : start + 8], session).json()
        outputs += answer["outputs"][0]
        session = answer["session"]
    assert session == {"id": name, "time_step": 40}
    assert_close(outputs, whole(replicas.one, sequence))


def test_a_piece_can_be_sent_again_to_another_replica(replicas: Replicas, name: str) -> None:
    sequence, session = sequence_of(20), {"id": name, "time_step": 0}
    session = send(replicas.one, sequence[:12], session).json()["session"]
    first = send(replicas.one, sequence[12:], session).json()
    again = send(replicas.other, sequence[12:], session).json()
    assert again["session"] == first["session"] == {"id": name, "time_step": 20}
    assert_close(again["outputs"][0], np.array(first["outputs"][0]))


def test_redis_that_stops_gives_503_and_loses_nothing_that_was_acknowledged(
    replicas: Replicas, name: str
) -> None:
    sequence, outputs, session = sequence_of(60), [], {"id": name, "time_step": 0}
    for start in range(0, 30, 10):
        answer = send(replicas.one, sequence[start : start + 10], session).json()
        outputs += answer["outputs"][0]
        session = answer["session"]
    replicas.redis.kill()
    for server in (replicas.one, replicas.other):
        refused = send(server, sequence[30:40], session)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["title"] == "The sessions are unavailable"
        with server.client() as client:
            assert client.get(f"/sessions/{name}").status_code == 503
            assert client.get("/readyz").status_code == 200
        # What needs no session is answered meanwhile.
        assert len(whole(server, sequence)) == 60
    replicas.redis.start()
    for start in range(30, 60, 10):
        answer = send(replicas.other, sequence[start : start + 10], session).json()
        outputs += answer["outputs"][0]
        session = answer["session"]
    assert session["time_step"] == 60
    assert_close(outputs, whole(replicas.one, sequence))


def test_redis_that_is_killed_under_load_loses_nothing_that_was_acknowledged(
    replicas: Replicas, name: str
) -> None:
    """Callers send their pieces in turn, again where one is refused, while Redis dies twice."""
    sequences = [sequence_of(40 + row) for row in range(8)]

    async def run() -> list[list[list[float]]]:
        async with (
            httpx.AsyncClient(base_url=replicas.one.url, timeout=60) as one,
            httpx.AsyncClient(base_url=replicas.other.url, timeout=60) as other,
        ):

            async def carry(row: int) -> list[list[float]]:
                outputs: list[list[float]] = []
                session: dict[str, Any] = {"id": f"{name}/{row}", "time_step": 0}
                for client in itertools.cycle((one, other)):
                    at = session["time_step"]
                    if at == len(sequences[row]):
                        return outputs
                    piece = to_json(sequences[row][at : at + 4])
                    body = {"sequences": [piece], "session": session}
                    answer = await client.post("/predict", json=body)
                    if answer.status_code == 503:
                        await asyncio.sleep(0.02)
                        continue
                    assert answer.status_code == 200, answer.text
                    outputs += answer.json()["outputs"][0]
                    session = answer.json()["session"]
                raise AssertionError("a cycle does not end")

            async def interrupt() -> None:
                for _ in range(2):
                    await asyncio.sleep(0.05)
                    replicas.redis.kill()
                    await asyncio.sleep(0.05)
                    await asyncio.to_thread(replicas.redis.start)

            carried = [carry(row) for row in range(len(sequences))]
            *outputs, _ = await asyncio.gather(*carried, interrupt())
            return outputs

    for sequence, outputs in zip(sequences, asyncio.run(run()), strict=True):
        assert_close(outputs, whole(replicas.one, sequence))


def test_replicas_that_race_on_one_session_never_mix_states(replicas: Replicas, name: str) -> None:
    """The answers, in the order that they tell, are those of their pieces one after the other."""
    count, steps = 24, 3
    pieces = [raw_sequence(np.random.default_rng(row), steps) for row in range(count)]

    async def run() -> list[dict[str, Any]]:
        async with (
            httpx.AsyncClient(base_url=replicas.one.url, timeout=60) as one,
            httpx.AsyncClient(base_url=replicas.other.url, timeout=60) as other,
        ):
            session = {"id": name, "must_exist": False}

            async def ask(row: int) -> dict[str, Any]:
                body = {"sequences": [to_json(pieces[row])], "session": session}
                answer = await (one, other)[row % 2].post("/predict", json=body)
                assert answer.status_code == 200, answer.text
                return dict(answer.json())

            return await asyncio.gather(*(ask(row) for row in range(count)))

    answers = asyncio.run(run())
    order = sorted(range(count), key=lambda row: answers[row]["session"]["time_step"])
    told = [answers[row]["session"]["time_step"] for row in order]
    assert told == list(range(steps, steps * count + 1, steps))
    outputs = [step for row in order for step in answers[row]["outputs"][0]]
    assert_close(outputs, whole(replicas.one, np.concatenate([pieces[row] for row in order])))
