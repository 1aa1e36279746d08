"""The page of the GPU's benchmark, from results that nobody measured."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.page import render
from benchmarks.report.markdown import number, ratio, table, times
from tests.benchmarks.gpu.results import results, service_cell


def test_a_ratio_is_the_median_over_rounds_of_pairs() -> None:
    assert times(ratio([1.0, 2.0, 3.0], [2.0, 4.0, 3.0])) == "0.50x"
    assert times(ratio([], [1.0])) == "-"


def test_a_number_has_three_digits() -> None:
    assert [number(value) for value in (1234.5, 12.345, 0.012345, None)] == [
        "1,234",
        "12.3",
        "0.0123",
        "-",
    ]


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["c", "1"]]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| c | 1 |",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "from commit `abcdef` in 1.9 minutes, on one\nA Card 80GB and 2 cores of A Processor",
        # Training: medians, and how many times as fast the first row of the group is.
        "| Unroll, cuDNN | 3 |  | 2 |",
        "| Unroll, loops | 12 | 4.00x | 2 |",
        "| Keras | 4.5 | 1.50x | 2 |",
        "| PyTorch | No module named 'torch' |  | 0 |",
        "| Unroll, cuDNN, TF32 | 1 |  | 2 |",
        "| PyTorch, TF32 | No module / named 'torch' |  | 0 |",
        "Keras in 3 x LSTM 100, 128 x 72 3 and 3",
        # Chunks: the split of a call.
        "| 3 x LSTM 512, 1 x 32 | 1 | 3 (3.00x) |",
        "| 3 x LSTM 512, 512 x 32 | 5 | TimeoutError: more than 2 s a call |",
        "| 3 x LSTM 512, 1 x 32 | 0.05 | 0.06 | 0.01 | 0.8 | 0.02 | 1.25 |",
        "| 3 x LSTM 512, 512 x 32 | 0.05 | 0.06 | - | - | - | 5.5 |",
        # The service.
        "| `mixed`, 256 clients: UNROLL_WORKERS=1 | 2,500 | 5.00x | 40 | 90 | 60% | 0.8, 80% |",
        "| `mixed`, 256 clients: a worker a core: 16 | 500 |  | 40 | 90 | - | 0.8, 5% |",
        "- UNROLL_WORKERS=4: not ready: see a log",
        # Devices.
        "layers on GPU:0, GPU:0, GPU:1, GPU:1.",
        "| pipelined | 5 |  | 4 | 3 | 50% |",
        "| layer after layer | 9 | 1.80x | 4 | 3 | 0% |",
        "| one device | 8 | 1.60x | - | - | - |",
        "from the streams of the card",
        # Versions.
        "| driver_version | 580.1 |",
        "| loaded cudnn | 91002 |",
        "| torch's side: error | No module named 'torch' |",
    ],
)
def test_the_page_has_every_figure(text: str) -> None:
    assert text in render(results())


def test_a_section_that_failed_is_told_and_what_it_had_is_kept() -> None:
    found = results()
    found["sections"]["service"]["error"] = "ended after 65 s, its limit"
    found["sections"]["devices"] = {"result": {}, "error": "SideFailed: no memory", "seconds": 3.0}
    page = render(found)
    service = page[page.index("## The service") : page.index("## One card")]
    assert "**Not finished: ended after 65 s, its limit**" in service
    assert "UNROLL_WORKERS=1 | 2,500 |" in service
    assert "## One card as two devices\n\n**Not finished: SideFailed: no memory**\n\n##" in page


def test_a_section_that_was_not_measured_is_left_out() -> None:
    found = results()
    del found["sections"]["chunks"]
    assert "## Chunks" not in render(found)


def test_errors_of_requests_stand_beside_the_rate() -> None:
    found = results()
    cells = [service_cell("gpu_cudnn_1", 3000.0, None) | {"errors": 7}]
    found["sections"]["service"]["result"]["cells"] = cells
    assert "| 3,000 **7 errors** |  |" in render(found)


def test_the_page_is_written_anew_from_the_raw_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(results()))
    given = ["gpu", "--results", str(file), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", given)
    assert command.main() == 0
    assert (tmp_path / "benchmarks-gpu.md").read_text() == render(results())
    assert "written: " in capsys.readouterr().out


def test_a_machine_without_a_gpu_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "out")])
    assert command.main() == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("no GPU: ")
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
