"""What the envelope of a request is checked for before anything else is."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.api.problems import faults_of
from app.api.protocols.tensorflow_serving.schemas import RowsOrColumns
from app.api.schemas import (
    MAX_FIELDS,
    ModelRef,
    PredictRequest,
    QueryOptions,
    SessionPart,
    StreamMessage,
)

PARTS = [ModelRef, PredictRequest, QueryOptions, RowsOrColumns, SessionPart, StreamMessage]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_many_fields_are_one_error(part: type[BaseModel]) -> None:
    """Else each of them becomes an error, before the first ten are kept."""
    with pytest.raises(ValidationError) as caught:
        part.model_validate({f"field_{number}": "" for number in range(MAX_FIELDS + 1)})
    (error,) = caught.value.errors()
    assert error["type"] == "fields"
    assert str(MAX_FIELDS) in error["msg"]


def test_no_more_faults_are_made_than_are_told() -> None:
    made = []

    def errors() -> Any:
        for number in range(100):
            made.append(number)
            yield {"type": "x", "loc": (number,), "msg": "wrong", "input": number}

    assert len(faults_of(errors())) == len(made) == 10


def test_the_schema_has_the_limits_of_a_name() -> None:
    schema = PredictRequest.model_json_schema()
    whole, short, none = schema["properties"]["session"]["anyOf"]
    assert whole == {"$ref": "#/$defs/SessionPart"}
    assert short.items() <= schema["$defs"]["SessionPart"]["properties"]["id"].items()
    assert (short["minLength"], none) == (1, {"type": "null"})


def test_options_of_a_query_are_text() -> None:
    options = QueryOptions.model_validate({"session": "a", "time_step": "7"})
    assert (options.session, options.time_step) == ("a", 7)
