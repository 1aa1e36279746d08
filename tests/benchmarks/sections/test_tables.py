"""The tables of the sections, from results that nobody measured."""

from pathlib import Path

import pytest

from benchmarks.kernels.table import kernel_table
from benchmarks.report import plots
from benchmarks.report import result_tables as report_cells
from benchmarks.sections.fairness import fairness_table
from benchmarks.sections.formats import formats_table
from benchmarks.sections.memory import growth
from benchmarks.sections.ndjson_streaming import lines_table
from benchmarks.sections.open_loop import open_table
from benchmarks.sections.streams import streams_table
from tests.benchmarks.serving.results import cell, cells, results


def rows_of(table: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if not line[0].startswith("---")}


def test_throughput_has_servers_clients_and_ratios() -> None:
    fixed = [c for c in cells() if c["workload"] == "fixed"]
    rows = rows_of(report_cells.throughput(fixed))
    assert rows["requests/s; clients:"] == ["1", "64"]
    assert rows["unroll"] == ["1,500", "2,954"]
    assert rows["fastapi_onnxruntime"] == ["750 (2.00x)", "1,477 (2.00x)"]
    assert rows["bentoml"][1] == "246 (12.00x)"


def test_errors_stand_beside_the_rate() -> None:
    table = report_cells.throughput([cell("bentoml", "fixed", 64, 250.0, errors=17)])
    assert "250 **17 errors**" in table


def test_a_server_without_a_number_of_clients_has_an_empty_place() -> None:
    found = [cell("unroll", "fixed", 1, 10.0), cell("bentoml", "fixed", 2, 5.0)]
    table = report_cells.throughput(found)
    assert table.splitlines()[-1] == "| bentoml |  | 5 |"


def test_latency_has_both_percentiles() -> None:
    rows = rows_of(report_cells.latency([cell("unroll", "fixed", 64, 3200.0)]))
    assert rows["unroll"] == ["10 / 34"]


def test_kernels_are_compared_with_the_anchor_and_the_peak() -> None:
    lines = kernel_table(results()["kernel"][0]).splitlines()
    assert lines[2:4] == [
        "| Unroll: bfloat16 | 1 | 0.40 | 50.0 | 2.50 | 62% |",
        "| Unroll: ONNX Runtime | 1 | 0.90 | 22.2 | 1.11 | 28% |",
    ]
    assert lines[5] == "| PyTorch | 1 | 2.00 | 10.0 | 0.50 | 12% |"


def test_formats_are_compared_with_json() -> None:
    rows = rows_of(formats_table(results()["formats"]))
    assert rows["JSON"][:2] == ["200", "1.00x"]
    assert rows["Arrow IPC"][:2] == ["250", "1.25x"]
    assert rows["Arrow IPC"][-2:] == ["1,000", "1.25x"]


def test_errors_of_formats_are_told() -> None:
    found = results()["formats"]
    found[1]["errors"] = 17
    rows = rows_of(formats_table(found))
    assert (rows["JSON"][0], rows["Arrow IPC"][0]) == ("200", "250 **17 errors**")


def test_what_the_long_one_gets_stands_beside_the_short_ones() -> None:
    rows = rows_of(fairness_table(results()["fairness"]))
    short = ["10", "12", "1.20", "20", "30", "1.50", "0"]
    assert rows["unroll"] == [*short, "12", "80", "0"]
    assert rows["bentoml"] == ["10", "-", "-", "20", "-", "-", "3", "0", "-", "7"]


def test_the_first_line_is_told_beside_the_last() -> None:
    rows = rows_of(lines_table(results()["lines"]))
    assert rows["5,000"] == ["20", "400", "5%", "380"]


def test_a_row_of_streams_tells_what_a_message_costs() -> None:
    rows = rows_of(streams_table(results()["streams"]))
    assert rows["1,000"] == ["10,000", "5", "50", "60", "0", "1.50 of 2, and 0.40", "150"]


def test_growth_is_after_the_first_part() -> None:
    assert growth(results()["memory"]) == pytest.approx(0.02)


def overloaded_row() -> dict[str, float | str]:
    latencies = {"p50_ms": 9.0e3, "p99_ms": 2.0e4, "max_ms": 2.5e4}
    return {"server": "bentoml", "requests": 4000, "errors": 41, "achieved": 700.0} | latencies


def test_an_overloaded_server_has_no_percentiles() -> None:
    row = overloaded_row()
    rows = rows_of(open_table([row, row | {"server": "litserve", "errors": 40}]))
    assert rows["bentoml"] == ["700", "overloaded", "", "", "41 of 4,000"]
    assert rows["litserve"] == ["700", "9,000", "20,000", "25,000", "40 of 4,000"]


def test_an_overloaded_server_has_a_word_for_its_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, *_: drawn.append(figure))
    (found, _) = results()["open"]
    plots.open_loop([found | {"rows": [*found["rows"], overloaded_row()]}], tmp_path)
    (axes,) = drawn[0].axes
    assert len(axes.patches) == 2 * len(found["rows"])
    (word,) = axes.texts
    assert (word.get_text(), word.get_position()[1]) == ("overloaded", 2)
    assert [label.get_text() for label in axes.get_yticklabels()][2] == "bentoml"
    plots.plt.close(drawn[0])
