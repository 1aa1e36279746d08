"""The native API as pydantic models: they check the envelope of requests and make the OpenAPI page.

The numbers themselves are skipped here and checked by `codec/`, all at once.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, model_validator
from pydantic_core import PydanticCustomError

from app.codec.states import StateForm
from app.manifest import CellKind

MAX_FIELDS = 32
# Characters of a name: of a session, a key, a message.
MAX_ID = 256
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"

SessionName = Annotated[str, Field(min_length=1, max_length=MAX_ID, pattern=NO_CONTROLS)]
SessionKey = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
# JSON's numbers are whole up to here wherever they are read.
MAX_WHOLE = 2**53
TimeStep = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
Version = Annotated[int, Field(ge=0, le=MAX_WHOLE)]
TimeoutSeconds = Annotated[float, Field(gt=0, le=86_400)]
# For the document; the codec checks them.
Value = float | bool | str | None
Rows = Annotated[list[list[Value]], Field(min_length=1)]
Columns = dict[str, Annotated[list[Value], Field(min_length=1)] | Value]


class RequestPart(BaseModel):
    """An object in a request: each field it does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        # Pydantic would make an error of every unknown one: 10 s and 1 GB for a body of the limit.
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("fields", f"Objects have at most {MAX_FIELDS} fields")
        return value


class ModelRef(RequestPart):
    """A model as answers name it."""

    name: str
    version: Version | None = None


def _as_object(model: object) -> object:
    """A bare name as the object it is short for: a union would put its branches into pointers."""
    return {"name": model} if isinstance(model, str) else model


class SessionPart(RequestPart):
    """A session, and where in it the request's time steps are."""

    id: SessionName = Field(description="any name that the caller chose")
    time_step: TimeStep | None = Field(
        None,
        description="time steps of the session before these, as the last answer has it, 0 for a "
        "first piece: the same piece sent again is answered again and counts once; without it, it "
        "goes on from wherever the session is",
    )
    key: SessionKey | None = Field(
        None, description="instead of time_step: of your choice, another one for each piece"
    )
    must_exist: bool | None = Field(
        None,
        description="true: refused with 404 if there is no such session; false: begins it then; "
        "null: true, unless time_step is 0 or there is an initial state",
    )


def _as_session(session: object) -> object:
    """A bare name as the object it is short for."""
    return {"id": session} if isinstance(session, str) else session


class LayerState(BaseModel):
    """The state of one layer: `h`, and `c` of an LSTM."""

    h: list[float]
    c: list[float] | None = None


class PredictRequest(RequestPart):
    """Sequences of time steps; lengths may differ."""

    sequences: Annotated[list[Rows | Columns], SkipValidation] = Field(
        json_schema_extra={"minItems": 1},
        description="one entry a sequence: one row a time step, one value a feature in the "
        "model's order, or an object with a column for each feature by its name; null where the "
        "feature may be missing. Text for a category, true or false for a flag, else a number",
    )
    initial_states: Annotated[
        list[list[LayerState] | list[float] | str | None] | None, SkipValidation
    ] = Field(
        None,
        description="one entry a sequence, as an earlier answer returned it in any form; "
        "null starts that sequence from zeros",
    )
    outputs: Literal["all", "last", "none"] = Field(
        "all", description="outputs of every time step, of each sequence's last one, or none"
    )
    states: StateForm = Field(
        "per_layer",
        description="final states layer by layer, as one row of all layers (h, then c) in order, "
        "as one opaque string, or none; with a session the default is none",
    )
    session: Annotated[
        SessionPart | None,
        BeforeValidator(_as_session, json_schema_input_type=SessionPart | SessionName | None),
    ] = Field(
        None,
        description="continue where this session stopped, and keep the state there for the next "
        "request; one sequence a request",
    )
    timeout_s: TimeoutSeconds | None = Field(
        None,
        description="seconds for the answer to be computed, waiting included; refused at once if "
        "that is not enough; the header `Prefer: wait=SECONDS` says the same",
    )
    model: Annotated[
        ModelRef | None, BeforeValidator(_as_object, json_schema_input_type=ModelRef | str | None)
    ] = Field(
        None, description="refuse to answer unless this model (and version) is the one served"
    )


class QueryOptions(RequestPart):
    """Options of a request that is no JSON: its query string."""

    # All values of a query are text.
    model_config = ConfigDict(strict=False)

    outputs: Literal["all", "last", "none"] = "all"
    states: StateForm | None = None
    model: str | None = None
    version: Version | None = None
    timeout_s: TimeoutSeconds | None = None
    session: SessionName | None = None
    time_step: TimeStep | None = None
    key: SessionKey | None = None
    must_exist: bool | None = None

    @model_validator(mode="after")
    def _have_what_they_are_about(self) -> Self:
        of_session = ("time_step", "key", "must_exist")
        for about, options in (("model", ("version",)), ("session", of_session)):
            for name in options:
                if getattr(self, about) is None and getattr(self, name) is not None:
                    raise PydanticCustomError("alone", f"{name} is given without {about}")
        return self


class StreamMessage(RequestPart):
    """A message of `WS /stream`: the next time steps of its sequence."""

    sequence: Annotated[list[list[Value]] | dict[str, list[Value] | Value], SkipValidation]
    outputs: Literal["all", "last", "none"] = "all"
    states: StateForm = "none"
    initial_state: Annotated[Any, SkipValidation] = None
    id: Annotated[str, Field(max_length=MAX_ID)] | int | None = None


class SessionPosition(BaseModel):
    """A session and its time steps so far."""

    id: str
    time_step: int


class SessionInfo(SessionPosition):
    """What is kept of a session."""

    state: str = Field(description="token of its state, for `initial_states`")
    expires_in_s: float = Field(description="seconds until it goes, if nothing comes for it")


class PredictResponse(BaseModel):
    """Results in the order of the request's sequences."""

    model: ModelRef
    outputs: list[list[list[float]]] | list[list[float]] | None = Field(
        None,
        description='`[T][O]` for each sequence, `[O]` for "last"; absent for "none"',
    )
    dtype: Literal["float64"] | None = Field(
        None,
        description="where an output has a base: what it takes to hold the outputs; else they are "
        "float32",
    )
    states: list[list[LayerState]] | list[list[float]] | list[str] | None = Field(
        None, description='final state of each sequence; absent for "none"'
    )
    session: SessionPosition | None = Field(
        None, description="where the session is now; send it with the next piece"
    )


class FeatureInfo(BaseModel):
    """One input column."""

    name: str
    unit: str
    description: str
    missing: bool
    kind: Literal["number", "cyclic", "flag", "category"]
    ahead: int | None = Field(None, description="time steps after the row from which its value is")
    static: bool | None = Field(
        None, description="whether it may be null after the first row, which it is the same as"
    )
    values: list[str] | None = Field(
        None,
        description="of a category, those that are known. As float32 (NPZ, `/v1`, `/v2`) the first "
        "is 1, the next 2; 0 is any other. A flag is 1 or 0 there",
    )
    base: float | None = Field(
        None, description="what `/v1`, `/v2` and the SavedModel take it less, as float32"
    )


class OutputInfo(BaseModel):
    """One output."""

    name: str
    unit: str
    horizon: int
    base: float | None = Field(
        None, description="what `/v1`, `/v2` and the SavedModel give it less, as float32"
    )


class LayerInfo(BaseModel):
    """One layer."""

    cell: CellKind
    units: int
    device: str | None = Field(None, description="where it is, once the model is ready")


class ModelInfo(BaseModel):
    """A version of a model and whether it answers."""

    name: str
    version: int
    state: Literal["found", "loading", "ready", "refused"]
    reason: str | None = Field(None, description="why it was refused")
    description: str | None = None
    features: list[FeatureInfo] = []
    outputs: list[OutputInfo] = []
    layers: list[LayerInfo] = []


class ModelList(BaseModel):
    """All versions, newest first."""

    models: list[ModelInfo]


class Status(BaseModel):
    """A short word on how the service is."""

    status: str


class Readiness(Status):
    """How many workers of the service answer."""

    workers: int = Field(description="that the service has when it is whole")
    workers_ready: int = Field(description="that answer")
    workers_failing: int = Field(
        description="that do not answer and will not by themselves: they cannot load the model, or "
        "end again and again"
    )
    detail: str | None = Field(None, description="what is wrong with those that are failing")


class FaultInfo(BaseModel):
    """One mistake of a request."""

    pointer: str = Field(description="JSON pointer to the place")
    message: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultInfo] | None = Field(None, description="bad input: each mistake, at most 10")


class ErrorText(BaseModel):
    """An error, as the protocols of other servers have it."""

    error: str
