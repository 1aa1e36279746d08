import re
from pathlib import Path

import pytest

from benchmarks.models.files import ROOT
from benchmarks.report import plots, tables
from benchmarks.report.page import NOT_COVERED, render
from benchmarks.servers.kinds import KINDS
from tests.benchmarks.report.results import cell, cells, origin, results


def rows_of(table: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if not line[0].startswith("---")}


def test_throughput_has_servers_clients_and_ratios() -> None:
    fixed = [c for c in cells() if c["workload"] == "fixed"]
    rows = rows_of(tables.throughput(fixed))
    assert rows["requests/s; clients:"] == ["1", "64"]
    assert rows["unroll"] == ["1,500", "2,954"]
    assert rows["fastapi_onnxruntime"] == ["750 (2.00x)", "1,477 (2.00x)"]
    assert rows["bentoml"][1] == "246 (12.00x)"


def test_errors_stand_beside_the_rate() -> None:
    table = tables.throughput([cell("bentoml", "fixed", 64, 250.0, errors=17)])
    assert "250 **17 errors**" in table


def test_a_server_without_a_number_of_clients_has_an_empty_place() -> None:
    table = tables.throughput([cell("unroll", "fixed", 1, 10.0), cell("bentoml", "fixed", 2, 5.0)])
    assert table.splitlines()[-1] == "| bentoml |  | 5 |"


def test_latency_has_both_percentiles() -> None:
    rows = rows_of(tables.latency([cell("unroll", "fixed", 64, 3200.0)]))
    assert rows["unroll"] == ["10 / 34"]


def test_kernels_are_compared_with_the_anchor_and_the_peak() -> None:
    lines = tables.kernel(results()["kernel"][0]).splitlines()
    assert lines[2:4] == [
        "| Unroll: bfloat16 | 1 | 0.40 | 50.0 | 2.50 | 62% |",
        "| Unroll: ONNX Runtime | 1 | 0.90 | 22.2 | 1.11 | 28% |",
    ]
    assert lines[5] == "| PyTorch | 1 | 2.00 | 10.0 | 0.50 | 12% |"


def test_formats_are_compared_with_json() -> None:
    rows = rows_of(tables.formats(results()["formats"]))
    assert rows["JSON"][:2] == ["200", "1.00x"]
    assert rows["Arrow IPC"][:2] == ["250", "1.25x"]
    assert rows["Arrow IPC"][-2:] == ["1,000", "1.25x"]


def test_errors_of_formats_are_told() -> None:
    found = results()["formats"]
    found[1]["errors"] = 17
    rows = rows_of(tables.formats(found))
    assert (rows["JSON"][0], rows["Arrow IPC"][0]) == ("200", "250 **17 errors**")


def test_what_the_long_one_gets_stands_beside_the_short_ones() -> None:
    rows = rows_of(tables.fairness(results()["fairness"]))
    short = ["10", "12", "1.20", "20", "30", "1.50", "0"]
    assert rows["unroll"] == [*short, "12", "80", "0"]
    assert rows["bentoml"] == ["10", "-", "-", "20", "-", "-", "3", "0", "-", "7"]


def test_the_first_line_is_told_beside_the_last() -> None:
    rows = rows_of(tables.lines(results()["lines"]))
    assert rows["5,000"] == ["20", "400", "5%", "380"]


def test_a_row_of_streams_tells_what_a_message_costs() -> None:
    rows = rows_of(tables.streams(results()["streams"]))
    assert rows["1,000"] == ["10,000", "5", "50", "60", "0", "1.50 of 2, and 0.40", "150"]


def test_growth_is_after_the_first_part() -> None:
    assert tables.growth(results()["memory"]) == pytest.approx(0.02)


def test_the_page_has_every_section_and_picture(tmp_path: Path) -> None:
    page = render(results(), tmp_path)
    for title in (
        "## Closed loop",
        "### `fixed`",
        "### `mixed`",
        "## Open loop",
        "## The bound",
        "## The frameworks with ONNX Runtime",
        "## Three LSTM layers of 512",
        "## Formats",
        "## Line by line",
        "## Open streams",
        "## The kernels alone",
        "## A long sequence among short ones",
        "## Memory",
        "## How each server is configured",
        "## Not covered",
    ):
        assert title in page
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(pictures) == 5
    for picture in pictures:
        assert (tmp_path / picture).stat().st_size > 5_000
    assert page.rstrip().endswith(NOT_COVERED.rstrip())


def test_the_page_says_what_was_measured_on_what(tmp_path: Path) -> None:
    page = render(results(), tmp_path)
    for text in (
        "python -m benchmarks.serving --quick",
        "took 1.2% of the cores",
        "A Processor, 2 cores of a virtual machine",
        "| has | avx2 |",
        "| lacks | amx_bf16 |",
        "ray 2.60",
        "--quick` from commit `abcdef`, in 3 rounds (about 6 minutes in all);",
        "bound = 2 cores / 500.0 us = 4,000 requests/s",
        "2,954 requests/s (unroll, 64 clients): 74% of it",
        "changes by\n+2.0%",
        "938 requests a second, half the peak of fastapi_onnxruntime_processes:",
        "738 requests a second, half the peak of fastapi_onnxruntime:",
    ):
        assert text in page, text


def test_the_page_says_who_has_fewer_rounds(tmp_path: Path) -> None:
    found = results()
    assert "Rounds of the slow ones" not in render(found, tmp_path)
    for each in found["closed"]:
        if each["server"] == "bentoml":
            each["rounds"] = each["rounds"][:1]
    assert "Rounds of the slow ones (bentoml): 1, in the closed loop" in render(found, tmp_path)


def test_a_section_from_another_run_says_so(tmp_path: Path) -> None:
    found = results()
    assert "Measured apart" not in render(found, tmp_path)
    other = {"command": "python -m benchmarks.serving --only closed", "commit": "fedcba"}
    found["measured"]["closed"] = origin() | other | {"rounds": 1}
    page = render(found, tmp_path)
    assert page.count("Measured apart") == 1
    assert (
        "## Closed loop\n\nMeasured apart: by `python -m benchmarks.serving --only closed` "
        "from commit `fedcba`, in 1 round.\n\nSo many clients" in page
    )
    assert "Written by `python -m benchmarks.serving --quick` from commit `abcdef`" in page


def overloaded_row() -> dict[str, float | str]:
    latencies = {"p50_ms": 9.0e3, "p99_ms": 2.0e4, "max_ms": 2.5e4}
    return {"server": "bentoml", "requests": 4000, "errors": 41, "achieved": 700.0} | latencies


def test_an_overloaded_server_has_no_percentiles() -> None:
    row = overloaded_row()
    rows = rows_of(tables.open_loop([row, row | {"server": "litserve", "errors": 40}]))
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


def test_a_maximum_is_never_rounded_down(tmp_path: Path) -> None:
    assert tables.rounded_up(0.024, 2) == "0.03"
    assert tables.rounded_up(0.07, 2) == "0.07"
    found = results()
    found["kernel"][0]["bfloat16_error"] = 0.0231
    page = render(found, tmp_path)
    assert "off by up to 0.024 (100 units)" in page
    assert "in a sample (32 sequences of 50 time steps); all others compute in float32" in page


def test_the_sample_of_the_error_is_the_kernels() -> None:
    rows = re.search(r"^ERROR_ROWS = (\d+)$", (ROOT / "benchmarks/kernels/__main__.py").read_text(), re.M)
    assert rows
    assert tables.ERROR_SAMPLE.startswith(f"{rows[1]} sequences")


def test_every_server_of_a_table_is_described(tmp_path: Path) -> None:
    found = results()
    found["large"].append(cell("unroll_bfloat16", "mixed", 64, 60.0))
    found["fairness"].append(found["fairness"][0] | {"server": "ray_serve"})
    page = render(found, tmp_path)
    for name in ("unroll_bfloat16", "ray_serve"):
        assert f"| {name} | {KINDS[name].about} |" in page
    assert "All compute in float32 but `unroll_bfloat16`." in page
    assert "All compute in float32 but" not in render(results(), tmp_path)


def test_the_page_says_who_waits_to_fill_a_batch(tmp_path: Path) -> None:
    found = results()
    text = "Some wait for more requests to fill a batch: litserve (10 ms). With one client"
    assert "fill a batch" not in render(found, tmp_path)
    found["closed"].append(cell("litserve", "fixed", 1, 70.0))
    assert text in render(found, tmp_path)


def test_the_bound_is_told_for_what_it_is(tmp_path: Path) -> None:
    page = " ".join(render(results(), tmp_path).split())
    assert "nothing but Unroll's own HTTP, JSON and kernel. It is no law of nature" in page


def test_sections_with_rounds_of_their_own_say_how_many(tmp_path: Path) -> None:
    page = " ".join(render(results(), tmp_path).split())
    assert "Medians of 15 requests each." in page
    assert "One run of 10 s after a warm-up for each number of streams" in page


def test_a_page_of_some_sections(tmp_path: Path) -> None:
    page = render({"measured": {"bound": origin()}, "bound": results()["bound"]}, tmp_path)
    assert "## The bound" in page
    assert "## Closed loop" not in page
    assert not list(tmp_path.iterdir())
