"""Results that nobody measured, for tests of the report."""

from typing import Any

Results = dict[str, Any]


def cell(server: str, workload: str, clients: int, per_second: float, errors: int = 0) -> Results:
    return {
        "server": server,
        "workload": workload,
        "clients": clients,
        "per_second": per_second,
        "p50_ms": 500 * clients / per_second,
        "p99_ms": 1700 * clients / per_second,
        "core_s": 1e-3,
        "load_core_s": 1e-4,
        "others": 0.012,
        "errors": errors,
        "rounds": [per_second] * 3,
    }


def cells() -> list[Results]:
    rates = {"unroll": 3000.0, "fastapi_onnxruntime": 1500.0, "bentoml": 250.0}
    return [
        cell(server, workload, clients, rate * clients / (clients + 1))
        for workload in ("fixed", "mixed")
        for clients in (1, 64)
        for server, rate in rates.items()
    ]


def kernel() -> Results:
    rows = [
        {"form": form, "rows": rows, "ms": ms * rows**0.8, "gflops": 20.0 * rows**0.2 / ms}
        for form, ms in (
            ("ONNX Runtime", 1.0),
            ("Unroll: ONNX Runtime", 0.9),
            ("Unroll: bfloat16", 0.4),
            ("PyTorch", 2.0),
        )
        for rows in (1, 128)
    ]
    return {"units": 100, "peak_gflops": 80.0, "bfloat16_error": 0.02, "rows": rows}


def origin() -> Results:
    return {
        "command": "python -m benchmarks.serving --quick",
        "commit": "abcdef",
        "rounds": 3,
        "machine": {
            "cpu": "A Processor",
            "cores": 2,
            "flags": {"avx2": True, "amx_bf16": False},
            "virtual": True,
            "memory_gb": 25.3,
            "system": "Linux",
        },
        "versions": {
            "python": "3.11",
            "unroll": {"numpy": "2.4"},
            "peers": {"ray": "2.60"},
            "wrk": "wrk 4.1.0",
        },
        "minutes": 0.5,
    }


def results() -> Results:
    sections = sections_of_results()
    return {**sections, "measured": {name: origin() for name in sections}}


def sections_of_results() -> Results:
    return {
        "closed": cells(),
        "large": [cell("unroll", "mixed", 64, 50.0), cell("fastapi_onnxruntime", "mixed", 64, 40)],
        "frameworks": [cell("unroll", "mixed", 64, 3000.0), cell("bentoml", "mixed", 64, 300.0)],
        "open": [
            {
                "rate": rate,
                "strongest": strongest,
                "rows": [
                    {
                        "server": server,
                        "requests": 4000,
                        "achieved": rate,
                        "p50_ms": p50,
                        "p99_ms": 3 * p50,
                        "max_ms": 9 * p50,
                        "errors": 0,
                    }
                    for server, p50 in (("unroll", 2.0), ("fastapi_onnxruntime", 5.0))
                ],
            }
            for rate, strongest in (
                (938.5, "fastapi_onnxruntime_processes"),
                (738.5, "fastapi_onnxruntime"),
            )
        ],
        "bound": {
            "cores": 2,
            "http_core_s": 2e-4,
            "kernel_core_s": 3e-4,
            "kernel": "Unroll: ONNX Runtime",
            "rows": 32,
            "per_second": 4000.0,
            "http_per_second": 7000.0,
        },
        "kernel": [kernel()],
        "fairness": [
            {
                "server": "unroll",
                **{"p50_ms": 10.0, "p50_ms_beside": 12.0, "p50_ms_ratio": 1.2},
                **{"p99_ms": 20.0, "p99_ms_beside": 30.0, "p99_ms_ratio": 1.5},
                **{"long_per_second": 12.0, "long_p50_ms": 80.0, "errors": 0, "long_errors": 0},
            },
            {
                "server": "bentoml",
                **{"p50_ms": 10.0, "p50_ms_beside": None, "p50_ms_ratio": None},
                **{"p99_ms": 20.0, "p99_ms_beside": None, "p99_ms_ratio": None},
                **{"long_per_second": 0.0, "long_p50_ms": None, "errors": 3, "long_errors": 7},
            },
        ],
        "formats": [
            {
                "format": name,
                "per_second": rate,
                **{"errors": 0, "p50_ms": 10.0, "p99_ms": 20.0},
                **{"bytes_in": 32_000, "bytes_out": 119_000, "alone_per_second": 4 * rate},
            }
            for name, rate in (("JSON", 200.0), ("Arrow IPC", 250.0))
        ],
        "lines": [
            {"time_steps": 5000, "first_ms": 20.0, "whole_ms": 400.0, "json_ms": 380.0},
        ],
        "streams": [
            {
                **{"streams": 1000, "rate": 10_000.0, "achieved": 10_000.0, "errors": 0},
                **{"p50_ms": 5.0, "p99_ms": 50.0, "max_ms": 60.0},
                **{"cores": 1.5, "of_cores": 2, "generator_cores": 0.4},
            }
        ],
        "memory": [
            {"requests": r, "memory_bytes": m, "errors": 0, "unroll_compilations_total": 7.0}
            for r, m in ((0, 400e6), (30_000, 500e6), (300_000, 510e6))
        ],
    }
