"""The requests and answers of TensorFlow Serving's REST API as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SkipValidation

from app.api.schemas import FeatureInfo, OutputInfo, RequestPart

Row = dict[str, Any]
State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


class RowsOrColumns(RequestPart):
    """Sequences for `:predict`: either `instances` or `inputs`."""

    signature_name: str = Field("", description="`serving_default`, or empty for the same")
    instances: Annotated[list[Row | list[Any]] | None, SkipValidation] = Field(
        None,
        description="by rows: one entry a sequence, an object with `sequences` (an array of time "
        "steps), where it is padded `lengths` (its time steps without the padding), and to go on "
        "from a state each of its tensors (`state_0_h`, ...); or the array of time steps by itself",
    )
    inputs: Annotated[Row | list[Any] | None, SkipValidation] = Field(
        None,
        description="by columns: the same tensors, each an array with one entry a sequence; or "
        "the array of sequences by itself. Their lengths may differ",
    )


class Predictions(BaseModel):
    """What was computed: as rows where rows were sent, else as columns."""

    predictions: list[Row] | None = Field(
        None,
        description="an object a sequence: `outputs` `[T][O]`, zeros where it was padded, and each "
        "tensor of the final state `[H]`",
    )
    outputs: Row | None = Field(
        None, description="the same tensors, each an array with one entry a sequence"
    )


class LoadStatus(BaseModel):
    """Why a version does not answer, if it does not."""

    error_code: Literal["OK", "UNKNOWN"]
    error_message: str


class VersionStatus(BaseModel):
    """A version and whether it answers."""

    version: str
    state: State
    status: LoadStatus


class ModelStatus(BaseModel):
    """Versions, newest first."""

    model_version_status: list[VersionStatus]
    ready: bool = Field(description="whether one of them answers, as KServe's client asks")


class Dimension(BaseModel):
    """One dimension of a tensor; a `size` of -1 is any."""

    size: str
    name: str = ""


class TensorShape(BaseModel):
    """The dimensions of a tensor."""

    dim: list[Dimension]
    unknown_rank: bool = False


class TensorInfo(BaseModel):
    """A tensor that goes in or comes out."""

    dtype: Literal["DT_FLOAT", "DT_INT32"]
    tensor_shape: TensorShape
    name: str


class SignatureDef(BaseModel):
    """What goes in and what comes out."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: str = "tensorflow/serving/predict"
    defaults: dict[str, Any] = {}


class SignatureDefs(BaseModel):
    """All signatures by name."""

    signature_def: dict[str, SignatureDef]


class Columns(BaseModel):
    """What the last axes of `sequences` and `outputs` are.

    Numbers are less their `base`, flags 1 or 0; of a category the first of its `values` is 1, the
    next 2, and any other value 0.
    """

    sequences: list[FeatureInfo]
    outputs: list[OutputInfo]


class Metadata(BaseModel):
    """What is told of a version."""

    # Twice the same name: so TensorFlow Serving has it.
    signature_def: SignatureDefs
    columns: Columns | None = Field(
        None, description="of a model with columns that are no plain numbers"
    )


class ModelSpec(BaseModel):
    """The version that is told of."""

    name: str
    signature_name: str = ""
    version: str


class ModelMetadata(BaseModel):
    """The signatures of a version."""

    model_spec: ModelSpec
    metadata: Metadata
