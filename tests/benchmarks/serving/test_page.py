import re
from pathlib import Path

from benchmarks.report.markdown import rounded_up
from benchmarks.servers.kinds import KINDS
from benchmarks.serving.page import NOT_COVERED, render
from tests.benchmarks.serving.results import cell, origin, results


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


def test_a_maximum_is_never_rounded_down(tmp_path: Path) -> None:
    assert rounded_up(0.024, 2) == "0.03"
    assert rounded_up(0.07, 2) == "0.07"
    found = results()
    found["kernel"][0]["bfloat16_error"] = 0.0231
    page = render(found, tmp_path)
    assert "off by up to 0.024 (100 units)" in page
    assert "in a sample (32 sequences of 50 time steps); all others compute in float32" in page


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
