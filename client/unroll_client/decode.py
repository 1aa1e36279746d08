"""The bytes of answers as results: the one place where numbers are read."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from unroll_client.errors import NotUnderstood, Problem, Unavailable, problem_in
from unroll_client.results import (
    Array,
    Chunk,
    Document,
    Feature,
    Layer,
    ModelInfo,
    ModelRef,
    Numbers,
    Output,
    Prediction,
    SequencePrediction,
    SessionInfo,
    State,
)

# Seconds after which the service asks to try again while it loads.
LOADING_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")


def _understood(read: Callable[P, T]) -> Callable[P, T]:
    """What is missing or of another type in an answer is not Unroll's."""

    @wraps(read)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise NotUnderstood(f"this is no answer of Unroll: {error!r}") from error

    return checked


@_understood
def document(body: bytes) -> Document:
    """An answer's JSON object; raises `Problem` if it is an error in an answer that had begun."""
    made = _object(body)
    if "error" in made:
        raise problem_in(made["error"])
    return made


@_understood
def prediction(answer: Document) -> Prediction:
    """The answer of `/predict`."""
    return Prediction(
        model=model_ref(answer["model"]),
        outputs=[outputs(answer, rows) for rows in answer.get("outputs", ())],
        states=states(answer),
    )


@_understood
def sequence_prediction(answer: Document) -> SequencePrediction:
    """The answer of `/predict` to one sequence."""
    many = prediction(answer)
    return SequencePrediction(
        model=many.model,
        outputs=many.outputs[0] if many.outputs else array([]),
        state=many.states[0] if many.states else None,
    )


@_understood
def session_piece(answer: Document) -> tuple[Numbers, int]:
    """The answer of `/predict` to a piece of a session: outputs, and where the session is now."""
    return sequence_prediction(answer).outputs, int(answer["session"]["time_step"])


@_understood
def stream_answer(text: bytes | str) -> tuple[Numbers | Problem, State | None]:
    """An answer of `/stream`: outputs or an error, and the state if it was asked for."""
    answer = _object(text)
    if "error" in answer:
        return problem_in(answer["error"]), None
    found = answer.get("state")
    made = outputs(answer, answer.get("outputs", ()))
    return made, None if found is None else state(found)


@_understood
def session_info(answer: Document) -> SessionInfo:
    """The answer of `GET /sessions/{id}`."""
    return SessionInfo(
        time_step=int(answer["time_step"]),
        state=str(answer["state"]),
        expires_in_s=float(answer["expires_in_s"]),
    )


@_understood
def head(line: Document) -> ModelRef:
    """The first line of `/predict`."""
    return model_ref(line["model"])


@_understood
def chunk(line: Document) -> Chunk:
    """A line of `/predict` with outputs."""
    made = outputs(line, line["outputs"])
    return Chunk(int(line["sequence"]), int(line["time_step"]), made)


@_understood
def ready_model(answer: Document) -> ModelInfo:
    """The model of `GET /models` that answers; raises `Unavailable` if none does yet."""
    models = answer["models"]
    for model in models:
        if model["state"] == "ready":
            return ModelInfo(
                ref=model_ref(model),
                description=model.get("description", ""),
                features=tuple(
                    Feature(
                        f["name"],
                        f["unit"],
                        f["description"],
                        f["missing"],
                        f.get("kind", "number"),
                        tuple(f.get("values", ())),
                        f.get("ahead", 0),
                        f.get("static", False),
                    )
                    for f in model["features"]
                ),
                outputs=tuple(Output(o["name"], o["unit"], o["horizon"]) for o in model["outputs"]),
                layers=tuple(Layer(x["cell"], x["units"]) for x in model["layers"]),
            )
    found = ", ".join(f"{m['name']} {m['version']} is {m['state']}" for m in models)
    # Asked for a prediction, the service would say the same, and when to try again.
    title, detail = "No model is ready", found or "none is found"
    raise Unavailable(503, title, detail, retry_after_s=LOADING_S)


@_understood
def model_ref(answer: Document) -> ModelRef:
    """A model as answers name it."""
    return ModelRef(answer["name"], answer["version"])


@_understood
def states(answer: Document) -> list[State]:
    """Final states, if the answer has them."""
    return [state(entry) for entry in answer.get("states", ())]


def state(entry: Any) -> State:
    """A state in the form that it has."""
    if isinstance(entry, str):
        return entry
    if entry and isinstance(entry[0], dict):
        return [{name: array(part) for name, part in layer.items()} for layer in entry]
    return array(entry)


def outputs(answer: Document, numbers: Any) -> Numbers:
    """Outputs of an answer, which says where float32 would not hold them."""
    return np.asarray(numbers, np.float64) if answer.get("dtype") == "float64" else array(numbers)


def array(numbers: Any) -> Array:
    """float32 of any shape."""
    return np.asarray(numbers, np.float32)


def _object(body: bytes | str) -> Document:
    made = json.loads(body)
    if not isinstance(made, dict):
        raise TypeError(f"a JSON object was expected, got {type(made).__name__}")
    return made
