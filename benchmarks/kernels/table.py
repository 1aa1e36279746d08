"""The table of the kernels."""

from typing import Any

from benchmarks.kernels.work import ANCHOR, STEPS
from benchmarks.report.markdown import table

# The sequences that the error of bfloat16 is the largest of.
ERROR_ROWS = 32
ERROR_SAMPLE = f"{ERROR_ROWS} sequences of {STEPS} time steps"


def kernel_table(results: dict[str, Any]) -> str:
    """A row a form and batch size, the fastest first.

    Args:
        results: as `python -m benchmarks.kernels --json` prints them.
    """
    anchor = {row["rows"]: row["ms"] for row in results["rows"] if row["form"] == ANCHOR}
    rows = [
        [
            row["form"],
            str(row["rows"]),
            f"{row['ms']:.2f}",
            f"{row['gflops']:.1f}",
            f"{anchor[row['rows']] / row['ms']:.2f}",
            f"{row['gflops'] / results['peak_gflops']:.0%}",
        ]
        for row in sorted(results["rows"], key=lambda row: (row["rows"], row["ms"]))
    ]
    head = ["B", "ms", "GFLOP/s", f"times as fast as {ANCHOR}", "of the peak"]
    return table([f"3 x LSTM {results['units']}", *head], rows)
