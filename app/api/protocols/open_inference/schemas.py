"""The Open Inference Protocol as pydantic models: they check the envelope of requests and make the
OpenAPI page.

Fields and parameters that they do not know are passed over: clients send more than we use. The
numbers are checked by `codec/named_tensor.py`.
"""

import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SkipValidation,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from app.api.schemas import MAX_ID, NO_CONTROLS, FeatureInfo, OutputInfo

MAX_TENSORS = 1024
MAX_DIMENSIONS = 8


class InferPart(BaseModel):
    """An object in a request."""

    model_config = ConfigDict(strict=True)


class AnyTensorParameters(InferPart):
    """What both tensors that go in and tensors that come out may ask for."""

    shared_memory_region: Any = Field(None, description="not offered")

    @field_validator("shared_memory_region")
    @classmethod
    def _no_shared_memory(cls, value: Any) -> Any:
        if value is not None:
            raise PydanticCustomError(
                "no_shared_memory",
                "Shared memory is not offered: tensors are sent as bytes or as JSON",
            )
        return value


class TensorParameters(AnyTensorParameters):
    """Where a tensor's numbers are."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = Field(
        None, description="bytes of the tensor, which follow the JSON; instead of `data`"
    )


class InferInput(InferPart):
    """A tensor that goes in."""

    name: str = Field(description="`sequences`, `lengths`, or a state's, as the metadata has them")
    shape: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=MAX_DIMENSIONS)
    ]
    datatype: str = Field(description="FP32 or FP64; of `lengths` INT32 or INT64")
    parameters: TensorParameters | None = None
    data: Annotated[list[Any] | None, SkipValidation] = Field(
        None,
        description="numbers row by row, nested or flat; null where a feature may be missing",
    )


class OutputParameters(AnyTensorParameters):
    """How a tensor comes out."""

    binary_data: bool | None = Field(None, description="as bytes that follow the JSON")
    classification: Any = Field(None, description="not offered")

    @field_validator("classification")
    @classmethod
    def _no_classification(cls, value: Any) -> Any:
        # The answer would not be what the caller takes it for; 0 is none of it.
        if value:
            raise PydanticCustomError(
                "no_classification", "Classification is not offered: outputs are numbers"
            )
        return value


class RequestedOutput(InferPart):
    """A tensor that is to come out."""

    name: str
    parameters: OutputParameters | None = None


def _is_id(value: object, info: ValidationInfo) -> object:
    # Not a union: that would put its branches into pointers.
    whole = type(value) is int and value >= 0
    text = isinstance(value, str) and len(value) <= MAX_ID and re.fullmatch(NO_CONTROLS, value)
    if not (whole or text):
        raise PydanticCustomError(
            "id",
            "Input should be a whole number from 0, or at most {limit} characters, none of them a "
            "control character",
            {"limit": MAX_ID},
        )
    if not value and (info.data.get("sequence_start") or info.data.get("sequence_end")):
        raise PydanticCustomError("no_id", "Whoever starts or ends a sequence must name it")
    return value


# 0 and the empty text are none.
SequenceId = (
    Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=MAX_ID, pattern=NO_CONTROLS)]
)


class InferParameters(InferPart):
    """What a request asks for besides its tensors."""

    sequence_start: bool = Field(False, description="it is the first one with its sequence_id")
    sequence_end: bool = Field(False, description="it is the last one with its sequence_id")
    # Behind the other two, which it is checked with.
    sequence_id: Annotated[int | str, PlainValidator(_is_id, json_schema_input_type=SequenceId)] = (
        Field(
            0,
            validate_default=True,
            description="the request goes on where the last one with this id stopped, and the "
            'service keeps the state for the next; 0 or empty for none. 42 and "42" are the same',
        )
    )
    timeout: Annotated[int, Field(ge=0)] = Field(
        0, description="microseconds that the caller waits; 0 for as long as the service does"
    )
    binary_data_output: bool = Field(
        False, description="all outputs come as bytes, unless they say otherwise"
    )


class InferRequest(InferPart):
    """Tensors in."""

    id: str | None = Field(None, description="comes back in the answer")
    parameters: InferParameters | None = None
    inputs: list[InferInput] = Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_TENSORS,
        description="`sequences` [B,T,F]; if their lengths differ, `lengths` [B] too; if they go "
        "on from states, those of all layers, [B,H] each, as an earlier answer had them",
    )
    outputs: list[RequestedOutput] = Field(
        [],
        fail_fast=True,
        max_length=MAX_TENSORS,
        description="which tensors come out; all if there are none",
    )


class OutputTensor(BaseModel):
    """A tensor that comes out."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | None = Field(
        None, description="`binary_data_size`, where bytes follow the JSON"
    )
    data: list[float] | None = Field(None, description="row by row, flat")


class InferResponse(BaseModel):
    """Tensors out."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, int | str | bool] | None = None
    outputs: list[OutputTensor]


class ColumnsParameter(BaseModel):
    """What the last axis of a tensor is, of a model with columns that are no plain numbers."""

    columns: list[FeatureInfo] | list[OutputInfo] = Field(
        description="numbers are less their `base`, flags 1 or 0; of a category the first of its "
        "`values` is 1, the next 2, and any other value 0"
    )


class TensorMetadata(BaseModel):
    """A tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]
    parameters: ColumnsParameter | None = None


class ModelMetadata(BaseModel):
    """A model: what goes in and what comes out."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(description="all but the first may be left out")
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """The service, and what it speaks besides the protocol."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Whether a model answers."""

    ready: bool = True


class ModelReady(ServerReady):
    """Whether this model answers."""

    name: str


class ConfigTensor(BaseModel):
    """A tensor as model configurations name it."""

    name: str
    data_type: str
    dims: list[int]
    optional: bool | None = None


class ModelConfig(BaseModel):
    """A model's configuration, as far as it is true here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(0, description="0: the batch is a dimension of the tensors")
    input: list[ConfigTensor]
    output: list[ConfigTensor]
