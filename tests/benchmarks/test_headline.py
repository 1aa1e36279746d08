import pytest

from benchmarks.headline import BEGIN, END, SIDES, headline, place
from benchmarks.places import ROOT
from tests.benchmarks.results import Results, cell, kernel, results


def full() -> Results:
    numbers = (3000.0, 1500.0, 2000.0, 2500.0, 600.0, 300.0, 250.0, 100.0)
    rates = dict(zip(SIDES, numbers, strict=True))
    large = {"unroll": 400.0, "unroll_bfloat16": 600.0}
    peers = {name: 200.0 for name in SIDES if name.startswith("fastapi_onnxruntime")}
    return results() | {
        "closed": [
            cell(name, workload, 64, rate)
            for workload in ("fixed", "mixed")
            for name, rate in rates.items()
        ],
        "large": [
            cell(name, "mixed", clients, rate * clients / 64)
            for clients in (1, 64)
            for name, rate in {**large, **peers, "fastapi_onnxruntime_buckets": 250.0}.items()
        ],
        "kernel": [kernel() | {"units": 512, "bfloat16_error": 0.031}],
    }


def test_every_peer_stands_beside_unroll() -> None:
    text = headline(full())
    assert "| **Unroll** | 3,000/s, 36 ms | 3,000/s, 36 ms |" in text
    assert "one process | 1,500/s, 73 ms: Unroll **2.00x** |" in text
    assert "cut by length | 2,000/s, 54 ms: Unroll **1.50x** |" in text
    assert "no batching | 100/s, 1088 ms: Unroll **30.00x** |" in text


def test_the_large_model_is_compared_with_its_best_peer() -> None:
    text = " ".join(headline(full()).split())
    assert "400/s, 1.60x the best" in text
    assert "up to 0.03 of their standard deviation, 600/s, 2.40x" in text
    assert "lone client gets 1.60x as many" in text


def test_only_what_is_between_the_comments_changes() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    placed = place(page, full())
    assert placed == f"before\n{BEGIN}\n{headline(full())}{END}\nafter\n"
    assert place(placed, full()) == placed


def test_a_page_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="0 places"):
        place("nothing", full())


def test_readme_has_a_place() -> None:
    assert place((ROOT / "README.md").read_text(), full())
