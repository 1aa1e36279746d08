"""FastAPI + Keras SavedModel without batching: what a tutorial gives.

A plain `def` route, which FastAPI runs in its pool of threads, with pydantic models both ways. One
process, or as many of uvicorn's workers as `BENCH_PROCESSES` says.
"""

import os

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from benchmarks.peers.common import (
    HEALTH_S,
    BadRequest,
    answer,
    make_kernel,
    parse_document,
    served_model,
    to_lists,
)


class LayerState(BaseModel):
    """The state of an LSTM layer."""

    h: list[float]
    c: list[float]


class PredictRequest(BaseModel):
    """The native request."""

    sequences: list[list[list[float]]]
    initial_states: list[list[LayerState] | None] | None = None


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: int


class PredictResponse(BaseModel):
    """The native answer."""

    model: ModelName
    outputs: list[list[list[float]]]
    states: list[list[LayerState]]


def create_app() -> FastAPI:
    """The application; the model is loaded here."""
    model = served_model()
    kernel = make_kernel(model)
    app = FastAPI()

    @app.post("/predict")
    def predict(request: PredictRequest) -> PredictResponse:
        try:
            items = parse_document(request.model_dump(), model.units)
        except BadRequest as error:
            raise HTTPException(422, str(error)) from error
        return PredictResponse.model_validate(to_lists(answer(kernel.run(items), model)))

    return app


def main() -> None:
    """Serves on `BENCH_PORT`."""
    uvicorn.run(
        "benchmarks.peers.fastapi_keras:create_app",
        factory=True,
        workers=int(os.environ.get("BENCH_PROCESSES", "1")),
        timeout_worker_healthcheck=HEALTH_S,
        port=int(os.environ["BENCH_PORT"]),
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
