"""`/v2`: the Open Inference Protocol, with Triton's binary tensors and sequences.

KServe's and Triton's clients speak it. Errors are `{"error": text}`.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.types import Scope

from app.api.endpoint import Endpoint, Printing, header_of
from app.api.model_metadata import describe_features, describe_outputs
from app.api.model_paths import served, version_of
from app.api.openapi import answers_in, document_of, error_texts, reads_body
from app.api.protocols.open_inference.binary_tensors import HEADER, MEDIA_TYPE, print_tensors
from app.api.protocols.open_inference.requests import (
    Inference,
    Parts,
    answer,
    inference_of,
    located,
    read,
)
from app.api.protocols.open_inference.schemas import (
    ColumnsParameter,
    ConfigTensor,
    InferRequest,
    InferResponse,
    Live,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from app.api.server_context import context_of
from app.codec.signature import SEQUENCES, TensorForm
from app.errors import Expired, Fault, InvalidRequest, NotReady, UnknownSession, UnrollError
from app.registry.registry import LoadedModel, Registry
from app.service.inference import InferenceService
from app.service.large_bodies import Decoder

PLATFORM = "tensorflow_savedmodel"
EXTENSIONS = ["binary_tensor_data", "model_configuration", "sequence", "sequence(string_id)"]

ERRORS = error_texts(404, 503)
INFER_ERRORS = error_texts(400, 404, 408, 409, 413, 415, 500, 503)

LENGTH = HEADER.lower().encode()

INFERRED = "The tensors that come out, as JSON, or as JSON followed by those that are bytes"

Find = Callable[..., Awaitable[LoadedModel]]


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the routes."""
    registry = inference.registry
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])

    async def newest(name: str) -> LoadedModel:
        return served(registry, name)

    async def of_version(name: str, version: str) -> LoadedModel:
        return served(registry, name, version_of(version))

    _add_server(router, app.version, registry)
    document, endpoint = document_of(app), InferEndpoint(inference)
    document.schemas.append(InferRequest)
    finds: dict[str, Find] = {
        "/models/{name}": newest,
        "/models/{name}/versions/{version}": of_version,
    }
    for path, find in finds.items():
        _add_information(router, path, find, registry)
        _add_infer(router, path, find, endpoint)
        document.examples[f"/v2{path}/infer"] = lambda model: {
            "inputs": [_as_tensor(model.example_inputs)]
        }
    app.include_router(router)
    context_of(app).endpoints["POST", f"/v2/models/{registry.name}/infer"] = endpoint


def _as_tensor(rows: list[list[float | None]]) -> dict[str, Any]:
    """A sequence as a tensor in JSON."""
    shape = [1, len(rows), len(rows[0]) if rows else 0]
    return {"name": SEQUENCES, "datatype": "FP32", "shape": shape, "data": [rows]}


def _check_ready(registry: Registry) -> None:
    """Whether the service answers; raises `NotReady`."""
    if not registry.ready:
        raise NotReady(registry.status)


def _add_server(router: APIRouter, version: str, registry: Registry) -> None:
    """Adds what can be asked of the service."""

    @router.get("", summary="What this service is")
    async def server() -> ServerMetadata:
        return ServerMetadata(name="unroll", version=version, extensions=EXTENSIONS)

    @router.get("/health/live", summary="Whether the process answers at all")
    async def live() -> Live:
        return Live()

    @router.get(
        "/health/ready", summary="Whether a model is loaded and warm", responses=error_texts(503)
    )
    async def ready() -> ServerReady:
        _check_ready(registry)
        return ServerReady()


def _add_information(router: APIRouter, path: str, find: Find, registry: Registry) -> None:
    """Adds what can be asked of a model, which `find` finds by what is in the path."""

    @router.get(
        path,
        summary="What goes into a model and what comes out",
        response_model_exclude_none=True,
        responses=ERRORS,
    )
    async def metadata(ready: Annotated[LoadedModel, Depends(find)]) -> ModelMetadata:
        manifest, signature = ready.manifest, ready.codec.signature
        inputs = [_metadata(form) for form in signature.inputs_form()]
        outputs = [_metadata(form) for form in signature.outputs_form()]
        if not ready.codec.is_plain:
            inputs[0].parameters = ColumnsParameter(columns=describe_features(manifest))
            outputs[0].parameters = ColumnsParameter(columns=describe_outputs(manifest))
        return ModelMetadata(
            name=manifest.name,
            versions=[str(manifest.version)],
            platform=PLATFORM,
            inputs=inputs,
            outputs=outputs,
        )

    @router.get(f"{path}/ready", summary="Whether a model answers", responses=ERRORS)
    async def is_ready(ready: Annotated[LoadedModel, Depends(find)]) -> ModelReady:
        _check_ready(registry)
        return ModelReady(name=ready.manifest.name)

    @router.get(
        f"{path}/config",
        summary="The same as a configuration of Triton",
        response_model_exclude_none=True,
        responses=ERRORS,
    )
    async def config(ready: Annotated[LoadedModel, Depends(find)]) -> ModelConfig:
        first, *others = ready.codec.signature.inputs_form()
        return ModelConfig(
            name=ready.manifest.name,
            platform=PLATFORM,
            backend="tensorflow",
            input=[_config(first), *(_config(form, optional=True) for form in others)],
            output=[_config(form) for form in ready.codec.signature.outputs_form()],
        )


class InferEndpoint(Endpoint[Inference]):
    """Tensors in, tensors out."""

    def decoder(self, scope: Scope) -> Decoder[Parts, Inference]:
        """See `Endpoint`."""
        ready = _named(self.inference.registry, scope)
        understand = partial(read, ready.codec, header_of(scope, LENGTH))
        return Decoder(understand, partial(inference_of, self.inference, ready))

    def encode(self, scope: Scope, request: Inference) -> Printing[Any]:
        """See `Endpoint`."""
        return Printing(print_tensors, answer(request))

    def explain(self, error: UnrollError, request: Inference) -> UnrollError:
        """See `Endpoint`."""
        if isinstance(error, UnknownSession):
            # Triton's words, by which clients know it.
            return InvalidRequest(
                Fault(
                    "",
                    f"inference request for sequence {request.parameters.sequence_id} to model "
                    f"'{request.ready.manifest.name}' must specify the START flag on the first "
                    "request of the sequence: it was never begun, was idle for too long, or has "
                    "been ended",
                )
            )
        return located(error, request.places) if isinstance(error, InvalidRequest) else error

    def late(self, request: Inference) -> Expired:
        """See `Endpoint`."""
        if request.parameters.timeout:
            return Expired(f"its timeout of {request.parameters.timeout} microseconds is over")
        return super().late(request)


def _named(registry: Registry, scope: Scope) -> LoadedModel:
    """The model in a request's path; the fast path is for the newest version only."""
    names = scope.get("path_params") or {"name": registry.name}
    version = names.get("version")
    return served(registry, names["name"], None if version is None else version_of(version))


def _add_infer(router: APIRouter, path: str, find: Find, endpoint: InferEndpoint) -> None:
    """Adds what computes."""

    @router.post(
        f"{path}/infer",
        summary="Outputs and final states of sequences, as tensors",
        description=f"With the header `{HEADER}` that many bytes of the body are JSON, and the "
        "tensors with a `binary_data_size` follow in their order; answers do the same.",
        response_model=InferResponse,
        responses={**answers_in([MEDIA_TYPE], INFERRED), **INFER_ERRORS},
        openapi_extra=reads_body(InferRequest, [MEDIA_TYPE]),
        dependencies=[Depends(find)],
    )
    async def infer(request: Request) -> Response:
        return await endpoint.answer(request)


def _metadata(form: TensorForm) -> TensorMetadata:
    return TensorMetadata(name=form.name, datatype=form.datatype, shape=list(form.shape))


def _config(form: TensorForm, optional: bool | None = None) -> ConfigTensor:
    return ConfigTensor(
        name=form.name,
        data_type=f"TYPE_{form.datatype}",
        dims=list(form.shape),
        optional=optional,
    )
