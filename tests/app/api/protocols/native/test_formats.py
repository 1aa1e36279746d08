"""Arrow and NPZ: what goes in and comes out, and every way in which a body can be wrong."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from app.codec import arrow, npz
from tests.app.formats import stream_of
from tests.app.running_service import Service, make_service

NAMES = ["temp", "pressure", "wind_dir", "hour"]
OUTPUTS = ["temp_1h", "humid"]
LIMIT = 60_000


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    limits = {"max_sequences": 4, "max_sequence_steps": 50, "max_body_bytes": LIMIT}
    with make_service(tiny_dir, **limits) as service:
        yield service.wait_until_ready()


def sequences(*lengths: int) -> list[np.ndarray]:
    """float32 `[T, 4]` each, of whole numbers, some missing where they may be."""
    random = np.random.default_rng(sum(lengths))
    made = []
    for length in lengths:
        rows = random.integers(-50, 50, (length, 4)).astype(np.float32)
        rows[random.random(length) < 0.2, 1] = np.nan
        made.append(rows)
    return made


def as_arrow(given: list[np.ndarray], kind: Any = None, **others: Any) -> dict[str, Any]:
    """Columns of a request."""
    kind = kind or pa.float32()
    columns = {
        name: pa.array(
            [[None if np.isnan(x) else x for x in rows[:, i].tolist()] for rows in given],
            pa.list_(kind),
        )
        for i, name in enumerate(NAMES)
    }
    return columns | others


def archive_of(save: Any = np.savez, **arrays: Any) -> bytes:
    sink = io.BytesIO()
    save(sink, **arrays)
    return sink.getvalue()


def post(service: Service, body: bytes, media_type: str, accept: str = "", **query: Any) -> Any:
    headers = {"Content-Type": media_type, **({"Accept": accept} if accept else {})}
    return service.post("/predict", content=body, headers=headers, params=query)


def expected(service: Service, given: list[np.ndarray], **options: Any) -> dict[str, Any]:
    """The same request as JSON."""
    rows = [[[None if np.isnan(x) else float(x) for x in row] for row in s] for s in given]
    answer = service.post("/predict", json={"sequences": rows, "states": "concatenated", **options})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def table_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == arrow.MEDIA_TYPE
    return pa.ipc.open_stream(answer.content).read_all()


def arrays_of(answer: Any) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == npz.MEDIA_TYPE
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as found:
        return dict(found)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int16()])
@pytest.mark.parametrize("cuts", [1, 3])
def test_arrow_in_and_out_is_what_json_is(service: Service, kind: Any, cuts: int) -> None:
    given = sequences(3, 50, 1)
    whole = expected(service, given)
    body = stream_of(as_arrow(given, kind), cuts)
    table = table_of(post(service, body, arrow.MEDIA_TYPE, arrow.MEDIA_TYPE))
    assert table.column_names == [*OUTPUTS, "state"]
    for row, outputs in enumerate(whole["outputs"]):
        for column, name in enumerate(OUTPUTS):
            assert table[name][row].as_py() == [step[column] for step in outputs]
    assert table["state"].to_pylist() == whole["states"]
    assert orjson.loads(table.schema.metadata[b"unroll"]) == {"model": whole["model"]}


def test_lists_of_a_column_may_be_wider_than_those_of_others(service: Service) -> None:
    given = sequences(3, 50, 1)
    columns = as_arrow(given)
    wide = columns[NAMES[1]].cast(pa.large_list(pa.float32()))
    body = stream_of(columns | {NAMES[1]: wide})
    answer = post(service, body, arrow.MEDIA_TYPE, "application/json")
    assert answer.json() == expected(service, given)
    short = pa.array([[1.0] * 3, [1.0] * 49, [1.0]], pa.large_list(pa.float32()))
    refused = post(service, stream_of(columns | {NAMES[1]: short}), arrow.MEDIA_TYPE)
    assert_says(refused, "holds 49 time steps")


def test_numbers_of_a_column_may_begin_elsewhere(service: Service) -> None:
    given = sequences(3, 50, 1)
    columns = as_arrow(given)
    lists = columns[NAMES[0]]
    more = pa.concat_arrays([pa.array([7.0, 8.0], pa.float32()), lists.values])
    offsets = pa.array(np.asarray(lists.offsets) + 2)
    # A stream written from elsewhere need not begin with the first number.
    columns[NAMES[0]] = pa.ListArray.from_arrays(offsets, more)
    answer = post(service, stream_of(columns), arrow.MEDIA_TYPE, "application/json")
    assert answer.json() == expected(service, given)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f4"])
def test_npz_in_and_out_is_what_json_is(service: Service, save: Any, kind: Any) -> None:
    given = sequences(3, 50, 1)
    whole = expected(service, given)
    rows = np.concatenate(given).astype(kind)
    body = archive_of(save, sequences=rows, lengths=[3, 50, 1])
    arrays = arrays_of(post(service, body, npz.MEDIA_TYPE, npz.MEDIA_TYPE))
    assert arrays["lengths"].tolist() == [3, 50, 1]
    assert arrays["outputs"].tolist() == [row for outputs in whole["outputs"] for row in outputs]
    assert arrays["state"].tolist() == whole["states"]
    assert orjson.loads(str(arrays["about"])) == {"model": whole["model"]}


def test_npz_takes_a_padded_batch_in_any_order_of_memory(service: Service) -> None:
    given = sequences(3, 5, 1)
    padded = np.full((3, 5, 4), np.inf, np.float32)
    for row, rows in enumerate(given):
        padded[row, : len(rows)] = rows
    whole = expected(service, given)
    for batch in (padded, np.asfortranarray(padded)):
        body = archive_of(sequences=batch, lengths=np.array([3, 5, 1], np.uint8))
        assert post(service, body, npz.MEDIA_TYPE).json()["outputs"] == whole["outputs"]
    full = np.stack(sequences(4, 4))
    answer = post(service, archive_of(sequences=full), npz.MEDIA_TYPE).json()
    assert answer["outputs"] == expected(service, list(full))["outputs"]


def test_states_are_carried_in_both(service: Service) -> None:
    first, second = sequences(2, 3), sequences(4, 1)
    states = expected(service, first)["states"]
    whole = expected(service, second, initial_states=[states[0], None])
    numbers = pa.array([states[0], None], pa.list_(pa.float32(), 1))
    body = stream_of(as_arrow(second, initial_state=numbers))
    assert post(service, body, arrow.MEDIA_TYPE).json() == whole
    both = expected(service, second, initial_states=states)
    body = archive_of(
        sequences=np.concatenate(second), lengths=[4, 1], initial_state=np.array(states)
    )
    assert post(service, body, npz.MEDIA_TYPE).json() == both


def test_tokens_are_carried_in_both(service: Service) -> None:
    given = sequences(2, 3)
    ask = {"states": "token"}
    table = table_of(
        post(service, stream_of(as_arrow(given)), arrow.MEDIA_TYPE, arrow.MEDIA_TYPE, **ask)
    )
    tokens = table["state"].to_pylist()
    assert tokens == expected(service, given, states="token")["states"]
    body = stream_of(as_arrow(given, initial_state=pa.array([tokens[0], None])))
    whole = expected(service, given, initial_states=[tokens[0], None])
    assert post(service, body, arrow.MEDIA_TYPE).json() == whole
    body = archive_of(sequences=np.concatenate(given), lengths=[2, 3], initial_state=tokens)
    arrays = arrays_of(post(service, body, npz.MEDIA_TYPE, npz.MEDIA_TYPE, **ask))
    assert (
        arrays["state"].tolist()
        == (expected(service, given, initial_states=tokens, states="token")["states"])
    )


def test_options_are_in_the_query(service: Service) -> None:
    given = sequences(3, 4)
    body = stream_of(as_arrow(given))
    last = table_of(
        post(service, body, arrow.MEDIA_TYPE, arrow.MEDIA_TYPE, outputs="last", states="none")
    )
    whole = expected(service, given, outputs="last")["outputs"]
    assert last.column_names == OUTPUTS
    assert last["humid"].to_pylist() == [[row[1]] for row in whole]
    none = post(service, body, arrow.MEDIA_TYPE, arrow.MEDIA_TYPE, outputs="none")
    assert table_of(none).column_names == ["state"]
    for query, status in (
        ({"outputs": "some"}, 422),
        ({"colour": "red"}, 422),
        ({"model": "other"}, 404),
        ({"model": "tiny", "version": "7"}, 404),
        ({"model": "tiny", "version": "x"}, 422),
        ({"model": "tiny", "version": "9" * 5000}, 422),
        ({"version": "1"}, 422),
        ({"time_step": "0"}, 422),
        ({"key": "k"}, 422),
        ({"session": "a", "time_step": "9" * 30}, 422),
        ({"session": "a"}, 422),  # two sequences
        ({"must_exist": "true"}, 422),
        ({"session": "a", "must_exist": "perhaps"}, 422),
    ):
        answer = post(service, body, arrow.MEDIA_TYPE, **query)
        assert answer.status_code == status, query
        assert len(answer.content) < 1000


def test_sessions_go_on_in_both(service: Service) -> None:
    (given,) = sequences(4)
    whole = expected(service, [given])["outputs"][0]
    body = stream_of(as_arrow([given[:3]]))
    first = post(service, body, arrow.MEDIA_TYPE, arrow.MEDIA_TYPE, session="f", time_step=0)
    about = orjson.loads(table_of(first).schema.metadata[b"unroll"])
    assert about["session"] == {"id": "f", "time_step": 3}
    body = archive_of(sequences=given[None, 3:])
    second = post(service, body, npz.MEDIA_TYPE, session="f", time_step=3, key="k").json()
    assert second["outputs"] == [whole[3:]]
    for begins, status in (
        ({}, 404),
        ({"must_exist": "true"}, 404),
        ({"must_exist": "false"}, 200),
    ):
        assert post(service, body, npz.MEDIA_TYPE, session="g", **begins).status_code == status


def test_an_archive_that_says_it_is_too_large_is_no_overload(service: Service) -> None:
    """Else its caller would send it again and again."""
    body = bytearray(archive_of(sequences=np.ones((1, 3, 4), np.float32)))
    entry = body.rindex(b"PK\x01\x02")
    body[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    answer = post(service, bytes(body), npz.MEDIA_TYPE)
    assert answer.status_code == 422
    assert "the archive unpacks to 4294967294 bytes" in answer.text


def test_json_can_be_answered_in_both(service: Service) -> None:
    body = orjson.dumps({"sequences": [[[1, None, None, 0]]]})
    table = table_of(post(service, body, "application/json", f"text/csv, {arrow.MEDIA_TYPE};q=1"))
    assert table["humid"].to_pylist() == [[1.0]]
    arrays = arrays_of(post(service, body, "application/json", npz.MEDIA_TYPE))
    assert arrays["outputs"].tolist() == [[1.0, 1.0]]


GOOD = sequences(2, 3)
COLUMNS = as_arrow(GOOD)
ROWS = np.concatenate(GOOD)


def changed(**columns: Any) -> bytes:
    return stream_of({k: v for k, v in (COLUMNS | columns).items() if v is not None})


def lists(kind: Any, *values: Any) -> Any:
    return pa.array(values, pa.list_(kind))


INFINITE = [[1.0, np.inf], [1.0, 2.0, 3.0]]
NUMBERS = [[1.0, 2.0], [1.0, 2.0, 3.0]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no Arrow IPC stream"),
        (b"ARROW1\0\0", "no Arrow IPC stream"),
        (changed()[:-200], "no Arrow IPC stream"),
        (stream_of(COLUMNS, options=pa.ipc.IpcWriteOptions(compression="zstd")), "is compressed"),
        (stream_of(COLUMNS, options=pa.ipc.IpcWriteOptions(compression="lz4")), "is compressed"),
        (changed(temp=None), 'column "temp" is missing'),
        (changed(colour=pa.array([1, 2])), 'no feature "colour"'),
        (changed(temp=pa.array([1.0, 2.0])), "/temp: must be lists of numbers, is double"),
        (changed(temp=pa.array([["a"], ["b"]])), "/temp: must be lists of numbers"),
        (changed(temp=lists(pa.bool_(), [True] * 2, [True] * 3)), "must be lists of numbers"),
        (changed(temp=lists(pa.float32(), None, [1.0] * 3)), "one is null"),
        (changed(hour=lists(pa.float32(), [1.0], [1.0] * 3)), '/hour/0: holds 1 time steps, "t'),
        (changed(temp=lists(pa.float32(), *INFINITE)), "/sequences/0/1/0: temp is inf"),
        (changed(temp=lists(pa.float32(), [None, 1.0], [1.0] * 3)), "temp is missing, which"),
        (changed(temp=lists(pa.float64(), [1e39, 1.0], [1.0] * 3)), "temp is inf, not finite"),
        (changed(initial_state=pa.array([1.0, 2.0])), "must be strings or fixed_size_list"),
        (
            changed(initial_state=pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2))),
            r"fixed_size_list<float>\[1\]",
        ),
        (
            changed(initial_state=pa.array([[1.0], [np.nan]], pa.list_(pa.float32(), 1))),
            "/initial_state/1/0: nan is not finite",
        ),
        (changed(initial_state=pa.array(["x", "y"])), "state token"),
        (stream_of(as_arrow([])), "at least one sequence"),
        (stream_of(as_arrow(sequences(*[1] * 5))), "holds 5 sequences, the limit is 4"),
        (stream_of(as_arrow(sequences(51))), "holds 51 time steps, the limit is 50"),
        (stream_of(as_arrow([np.zeros((0, 4), np.float32)])), "at least one time step"),
    ],
)
def test_what_is_no_arrow_for_this_model_is_told(
    service: Service, body: bytes, message: str
) -> None:
    answer = post(service, body, arrow.MEDIA_TYPE)
    assert answer.status_code == 422, answer.text
    assert_says(answer, message)


def assert_says(answer: Any, message: str) -> None:
    assert re.search(message, answer.json()["detail"]), answer.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no NPZ archive"),
        (archive_of(sequences=ROWS)[:-30], "no NPZ archive"),
        (archive_of(lengths=[2, 3]), "no array 'sequences'"),
        (archive_of(sequences=ROWS), "/lengths: is missing"),
        (archive_of(sequences=ROWS, lengths=[2, 2]), "must add up to the 5 rows"),
        (archive_of(sequences=ROWS, lengths=[-1, 6]), "must add up to the 5 rows"),
        (archive_of(sequences=ROWS, lengths=[2.0, 3.0]), "must be whole numbers"),
        (archive_of(sequences=ROWS, lengths=[[2, 3]]), "must be whole numbers"),
        (archive_of(sequences=ROWS[:, :3], lengths=[2, 3]), r"\[sum of lengths, 4\]"),
        (archive_of(sequences=np.float32(1)), r"\[sum of lengths, 4\]"),
        (archive_of(sequences=ROWS[None], lengths=[6]), "must be 1 numbers up to 5"),
        (archive_of(sequences=ROWS[None], lengths=[5, 1]), "must be 1 numbers up to 5"),
        (archive_of(sequences=ROWS[None], lengths=[0]), "at least one time step"),
        (archive_of(sequences=np.zeros((1, 51, 4))), "the limit is 50"),
        (archive_of(sequences=np.zeros((5, 1, 4))), "the limit is 4"),
        (archive_of(sequences=np.zeros((0, 1, 4))), "/sequences: is empty"),
        (archive_of(sequences=np.full((1, 2, 4), np.nan)), "temp is missing, which"),
        (archive_of(sequences=np.full((1, 2, 4), 1e39)), "temp is inf, not finite"),
        (archive_of(sequences=np.full((1, 2, 4), "x")), "must be numbers"),
        (archive_of(sequences=np.zeros((1, 2, 4), bool)), "must be an array of numbers"),
        (archive_of(sequences=np.zeros((1, 2, 4), complex)), "must be an array of numbers"),
        (archive_of(sequences=ROWS[None], colour=[1]), 'no array "colour"'),
        (archive_of(sequences=ROWS[None], initial_state=[[1.0, 2.0]]), r"must be \[1, 1\]"),
        (archive_of(sequences=ROWS[None], initial_state=[[np.inf]]), "not finite"),
        (archive_of(sequences=ROWS[None], initial_state=["x"]), "state token"),
        (archive_of(np.savez_compressed, sequences=np.zeros((9, 500, 4))), "unpacks to"),
    ],
)
def test_what_is_no_npz_for_this_model_is_told(service: Service, body: bytes, message: str) -> None:
    answer = post(service, body, npz.MEDIA_TYPE)
    assert answer.status_code == 422, answer.text
    assert_says(answer, message)


def test_columns_of_the_same_name_are_refused(service: Service) -> None:
    batch = pa.record_batch([*COLUMNS.values(), COLUMNS["temp"]], names=[*NAMES, "temp"])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    assert_says(post(service, sink.getvalue(), arrow.MEDIA_TYPE), "columns have the same name")
