import pytest

from benchmarks.paths import ROOT
from benchmarks.serving.headline import BEGIN, END, SIDES, headline, place
from tests.benchmarks.serving.results import Results, cell, kernel, results


def full() -> Results:
    numbers = (3000.0, 1200.0, 1500.0, 2000.0, 2500.0, 2750.0, 600.0, 300.0, 250.0, 100.0, 150.0)
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
    assert "| **Unroll**, a process per core | 3,000/s, 36 ms | 3,000/s, 36 ms |" in text
    assert "TensorFlow's kernel, a process per core | 1,200/s, 91 ms: Unroll **2.50x** |" in text
    assert "one process | 1,500/s, 73 ms: Unroll **2.00x** |" in text
    assert "cut by length | 2,000/s, 54 ms: Unroll **1.50x** |" in text
    assert (
        "granian (RSGI) + ONNX Runtime, batches of like lengths, a process per core | 2,750/s"
        in text
    )
    assert "no batching, one process | 100/s, 1088 ms: Unroll **30.00x** |" in text
    assert "| the same with a process per core | 150/s, 725 ms: Unroll **20.00x** |" in text


def test_a_server_that_was_not_measured_has_no_row() -> None:
    found = full()
    found["closed"] = [c for c in found["closed"] if c["server"] != "fastapi_keras_processes"]
    assert "the same with a process per core" not in headline(found)


def test_rows_with_fewer_rounds_say_so() -> None:
    found = full()
    assert "which wrk shares; medians of 3 interleaved rounds:\n" in headline(found)
    assert "1 round" not in headline(found)
    for each in found["closed"]:
        if each["server"] == "bentoml":
            each["rounds"] = each["rounds"][:1]
    text = headline(found)
    assert (
        "3 interleaved rounds, or as few as a row says, as long as those of another together:"
    ) in text
    assert text.count("1 round") == 1
    assert "| BentoML (Keras SavedModel), 2 workers, 1 round | 250/s" in text


def test_the_large_model_is_compared_with_its_best_peer() -> None:
    text = " ".join(headline(full()).split())
    assert "400/s, 1.60x the best" in text
    assert "`UNROLL_RUNNER=bfloat16`, 600/s, 2.40x: its outputs are off by up to 0.04 of" in text
    assert "(32 sequences of 50 time steps), while peers compute in float32" in text
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
