"""`/v1`: TensorFlow Serving's REST API, so that its clients can come as they are.

It is the first version of KServe's protocol too, whose client looks at `GET /` and at `ready`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request, Response
from starlette.types import Scope

from app.api.endpoint import Endpoint, Printing, print_object
from app.api.model_metadata import describe_features, describe_outputs
from app.api.model_paths import served, version_of
from app.api.openapi import document_of, error_texts, reads_body
from app.api.protocols.tensorflow_serving.requests import (
    SIGNATURE,
    Parts,
    RowsRequest,
    answer,
    read,
    rows_request,
)
from app.api.protocols.tensorflow_serving.schemas import (
    Columns,
    Dimension,
    LoadStatus,
    Metadata,
    ModelMetadata,
    ModelSpec,
    ModelStatus,
    Predictions,
    RowsOrColumns,
    SignatureDef,
    SignatureDefs,
    State,
    TensorInfo,
    TensorShape,
    VersionStatus,
)
from app.api.schemas import Status
from app.api.server_context import context_of
from app.codec.signature import LENGTHS, SEQUENCES, Signature
from app.errors import Fault, UnknownModel, quoted
from app.registry.registry import Registry
from app.registry.versions import ModelState, ModelVersion
from app.service.inference import InferenceService
from app.service.large_bodies import Decoder

# Both mean the version that is served.
LABELS = ("stable", "latest")
STATES: dict[ModelState, State] = {
    "found": "START",
    "loading": "LOADING",
    "ready": "AVAILABLE",
    "refused": "END",
}

ERRORS = error_texts(404, 503)
PREDICT_ERRORS = error_texts(400, 404, 408, 413, 415, 429, 500, 503, 504)
VERB = ":predict"


@dataclass(frozen=True)
class Target:
    """A model as a path names it; `served` is the version that is served, whichever it is."""

    name: str
    version: int | None = None
    served: bool = False


Find = Callable[..., Awaitable[Target]]


async def _of_model(name: str) -> Target:
    return Target(name)


async def _of_version(name: str, version: str) -> Target:
    return Target(name, version_of(version))


async def _of_label(
    name: str, label: Annotated[str, Path(description=f"one of {', '.join(LABELS)}")]
) -> Target:
    if label not in LABELS:
        known = " and ".join(LABELS)
        raise UnknownModel(Fault("", f"there is no label {quoted(label)}; there are {known}"))
    return Target(name, served=True)


# Each thing that can be asked has all of these paths.
TARGETS: dict[str, Find] = {
    "/v1/models/{name}": _of_model,
    "/v1/models/{name}/versions/{version}": _of_version,
    "/v1/models/{name}/labels/{label}": _of_label,
}


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the routes."""
    router = APIRouter(tags=["TensorFlow Serving"])
    document, endpoint = document_of(app), RowsEndpoint(inference)
    document.schemas.append(RowsOrColumns)
    for path, find in TARGETS.items():
        # First, so that what is wrong with a verb is not taken for what is wrong with a name.
        _add_verbs(router, path, find, endpoint)
        _add_information(router, path, find, inference.registry)
        document.examples[f"{path}{VERB}"] = lambda model: {
            "instances": [{SEQUENCES: model.example_inputs}]
        }

    @router.get("/", summary="Whether the process answers at all, as KServe's client asks")
    async def alive() -> Status:
        return Status(status="alive")

    app.include_router(router)
    whole = ("POST", f"/v1/models/{inference.registry.name}{VERB}")
    context_of(app).endpoints[whole] = endpoint


class RowsEndpoint(Endpoint[RowsRequest]):
    """Rows or columns in, rows or columns out."""

    def decoder(self, scope: Scope) -> Decoder[Parts, RowsRequest]:
        """See `Endpoint`."""
        registry = self.inference.registry
        # The fast path is for the model that is served.
        names = scope.get("path_params") or {"name": registry.name}
        version = names.get("version")
        ready = served(registry, names["name"], None if version is None else version_of(version))
        return Decoder(partial(read, ready.codec), partial(rows_request, self.inference, ready))

    def encode(self, scope: Scope, request: RowsRequest) -> Printing[Any]:
        """See `Endpoint`."""
        return Printing(print_object, answer(request))


def _add_information(router: APIRouter, path: str, find: Find, registry: Registry) -> None:
    """Adds what can be asked of a model."""

    async def no_verb(request: Request) -> None:
        last = request.scope["path"].rpartition("/")[2]
        # Names may end like this too.
        if last.endswith(VERB) and last not in {model.name for model in registry.models}:
            raise HTTPException(405, headers={"Allow": "POST"})

    @router.get(
        path, summary="Which versions answer", responses=ERRORS, dependencies=[Depends(no_verb)]
    )
    async def status(target: Annotated[Target, Depends(find)]) -> ModelStatus:
        version = target.version
        if target.served:
            version = served(registry, target.name).manifest.version
        found = [
            model
            for model in registry.models
            if model.name == target.name and version in (None, model.version)
        ]
        if not found:
            which = "model" if version is None else f"version {version} of model"
            raise UnknownModel(Fault("", f"there is no {which} {quoted(target.name)}"))
        return ModelStatus(
            model_version_status=[_status(model) for model in found],
            ready=registry.ready and any(model.state == "ready" for model in found),
        )

    @router.get(
        f"{path}/metadata",
        summary="What goes in and what comes out",
        response_model_exclude_none=True,
        responses=ERRORS,
    )
    async def metadata(target: Annotated[Target, Depends(find)]) -> ModelMetadata:
        ready = served(registry, target.name, target.version)
        signature = SignatureDefs(signature_def={SIGNATURE: _signature(ready.codec.signature)})
        manifest, columns = ready.manifest, None
        if not ready.codec.is_plain:
            columns = Columns(
                sequences=describe_features(manifest), outputs=describe_outputs(manifest)
            )
        return ModelMetadata(
            model_spec=ModelSpec(name=manifest.name, version=str(manifest.version)),
            metadata=Metadata(signature_def=signature, columns=columns),
        )


def _add_verbs(router: APIRouter, path: str, find: Find, endpoint: RowsEndpoint) -> None:
    """Adds what computes, and what is told to who wants something else computed."""

    @router.post(
        f"{path}{VERB}",
        summary="Outputs of every time step and the final state of every layer",
        response_model=Predictions,
        responses=PREDICT_ERRORS,
        openapi_extra=reads_body(RowsOrColumns),
        dependencies=[Depends(find)],
    )
    async def predict(request: Request) -> Response:
        return await endpoint.answer(request)

    @router.post(f"{path}:{{verb}}", include_in_schema=False)
    async def unknown(verb: str) -> None:
        raise HTTPException(404, f"there is no verb ':{verb:.80}'; there is '{VERB}'")


def _status(model: ModelVersion) -> VersionStatus:
    return VersionStatus(
        version=str(model.version),
        state=STATES[model.state],
        status=LoadStatus(
            error_code="UNKNOWN" if model.state == "refused" else "OK", error_message=model.reason
        ),
    )


def _signature(signature: Signature) -> SignatureDef:
    """`serving_default` of the SavedModel."""

    def tensor(name: str, *shape: int, dtype: Any = "DT_FLOAT") -> TensorInfo:
        dims = [Dimension(size=str(size)) for size in shape]
        return TensorInfo(dtype=dtype, tensor_shape=TensorShape(dim=dims), name=f"{name}:0")

    return SignatureDef(
        inputs={
            SEQUENCES: tensor(SEQUENCES, -1, -1, signature.features),
            LENGTHS: tensor(LENGTHS, -1, dtype="DT_INT32"),
        },
        outputs={form.name: tensor(form.name, *form.shape) for form in signature.outputs_form()},
    )
