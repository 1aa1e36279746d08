"""The OpenAPI document: generated, then completed with what FastAPI cannot see.

The body of an endpoint is read and checked by the codec, not by FastAPI; its schema comes from
the same pydantic models all the same. The example is the loaded model's own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problems import MEDIA_TYPE
from app.api.schemas import ErrorText, PredictRequest, Problem
from app.manifest import Manifest
from app.registry.registry import Registry

REFERENCE = "#/components/schemas/{model}"

# Of all protocols.
_TEXTS: dict[int | str, str] = {
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is compressed; send it plain",
    500: "The service failed on this request",
}
_PROBLEMS: dict[int | str, str] = {
    400: "The body is not JSON",
    404: "There is no such model or session",
    409: "The state is of another model, or the session is elsewhere",
    422: "The request is invalid; each mistake with a pointer to its place",
    431: "The head of the request is too large",
    503: "Not ready, overloaded, or out of time; try again after `Retry-After`",
}
_ERRORS: dict[int | str, str] = {
    400: "The request is invalid; each mistake with its place",
    404: "There is no such model, version or label",
    409: "The sequence is of another version of the model, or too many write to it",
    429: "The service is overloaded; try again after `Retry-After`",
    503: "The service cannot answer now; try again after `Retry-After`",
    504: "The request took too long; try again after `Retry-After`",
    "default": "Any other error",
}


def _responses(
    texts: dict[int | str, str], media_type: str, model: str
) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"$ref": REFERENCE.format(model=model)}}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}


PROBLEMS = _responses(_PROBLEMS | _TEXTS, MEDIA_TYPE, "Problem")


def error_texts(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors of a route, where they are as `problems.DIALECTS` has them."""
    texts = {
        status: text
        for status, text in (_ERRORS | _TEXTS).items()
        if status in statuses or status == "default"
    }
    return _responses(texts, "application/json", "ErrorText")


BINARY = {"schema": {"type": "string", "format": "binary"}}


def reads_body(
    schema: type[BaseModel], others: Iterable[str] = (), options: type[BaseModel] | None = None
) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself.

    Args:
        schema: of its JSON, one of the document's `schemas`.
        others: media types of bytes that it reads too.
        options: what the query has beside those.
    """
    content = dict.fromkeys(others, BINARY)
    content["application/json"] = {"schema": {"$ref": REFERENCE.format(model=schema.__name__)}}
    made: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if options is not None:
        fields = options.model_json_schema()["properties"]
        made["parameters"] = [
            {
                "name": name,
                "in": "query",
                "description": "Of a body that is not JSON; a JSON body has it in itself",
                "schema": field,
            }
            for name, field in fields.items()
        ]
    return made


def answers_in(media_types: Iterable[str], description: str) -> dict[int | str, dict[str, Any]]:
    """What a route answers that does so in other formats beside JSON, for its `responses`."""
    return {200: {"description": description, "content": dict.fromkeys(media_types, BINARY)}}


@dataclass
class Document:
    """What routes add to the document.

    Attributes:
        examples: by path, a function from the model's manifest, with its example, to the body of
            a request.
        schemas: those that routes refer to without FastAPI.
    """

    examples: dict[str, Callable[[Manifest], dict[str, Any]]]
    schemas: list[type[BaseModel]]


def document_of(app: FastAPI) -> Document:
    """The document of an application on which `install` was called."""
    document: Document = app.state.document
    return document


def install(app: FastAPI, registry: Registry) -> None:
    """Replaces the application's document by the completed one."""
    document = app.state.document = Document({}, [PredictRequest, Problem, ErrorText])

    # By the checksum of the model whose example it has; None before there is a model.
    latest: dict[str | None, dict[str, Any]] = {}

    def complete() -> dict[str, Any]:
        model = registry.current().manifest.checksum if registry.ready else None
        if model not in latest:
            latest.clear()
            latest[model] = make()
        return latest[model]

    def make() -> dict[str, Any]:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _, schemas = models_json_schema(
            [(schema, "validation") for schema in document.schemas],
            ref_template=REFERENCE,
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        if registry.answers:
            manifest = registry.current().manifest
            for path, body_of in document.examples.items():
                body = made["paths"][path]["post"]["requestBody"]
                body["content"]["application/json"]["example"] = body_of(manifest)
        return made

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI's documentation has it
