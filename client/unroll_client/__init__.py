"""Client of Unroll: NumPy and pandas in, NumPy out.

    from unroll_client import Client

    with Client("http://localhost:8000") as client:
        result = client.predict(sequences)

`docs/client.md` of Unroll tells the rest.
"""

from unroll_client.async_client import AsyncClient
from unroll_client.client import Client
from unroll_client.errors import (
    Conflict,
    Failed,
    Fault,
    InvalidInput,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotUnderstood,
    Problem,
    Unavailable,
    UnrollError,
)
from unroll_client.results import (
    Chunk,
    ModelInfo,
    ModelRef,
    Prediction,
    SequencePrediction,
    SessionInfo,
    State,
)
from unroll_client.retry import Retry

__all__ = [
    "AsyncClient",
    "Chunk",
    "Client",
    "Conflict",
    "Failed",
    "Fault",
    "InvalidInput",
    "InvalidRequest",
    "ModelInfo",
    "ModelRef",
    "NoAnswer",
    "NotFound",
    "NotUnderstood",
    "Prediction",
    "Problem",
    "Retry",
    "SequencePrediction",
    "SessionInfo",
    "State",
    "Unavailable",
    "UnrollError",
]
