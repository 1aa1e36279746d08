"""`/v1`: TensorFlow Serving's REST API, so that its clients can come as they are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request, Response

from app.codec.numbers import print_json
from app.errors import Fault, UnknownModel
from app.intake import Intake
from app.manifest import Manifest
from app.registry import Model, ModelState, Registry
from app.routes.tensorflow_serving_codec import (
    LENGTHS,
    OUTPUTS,
    SEQUENCES,
    SIGNATURE,
    answer,
    decode,
    state_sizes,
)
from app.routes.tensorflow_serving_schemas import (
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
from app.schemas import ErrorText

# Both mean the version that is served.
LABELS = ("stable", "latest")
STATES: dict[ModelState, State] = {
    "found": "START",
    "loading": "LOADING",
    "ready": "AVAILABLE",
    "refused": "END",
}


def _errors(texts: dict[int | str, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text, "model": ErrorText} for status, text in texts.items()}


ERRORS = _errors(
    {
        404: "There is no such model, version or label",
        503: "Not ready or stopping; try again after `Retry-After`",
        "default": "Anything else that goes wrong",
    }
)
PREDICT_ERRORS = ERRORS | _errors(
    {
        400: "The request is invalid, with the place of each mistake",
        429: "The service is overloaded; try again after `Retry-After`",
        504: "The request took too long",
    }
)


@dataclass(frozen=True)
class Target:
    """A model as a path names it; `served` is the version that is served, whichever it is."""

    name: str
    version: int | None = None
    served: bool = False


Version = Annotated[int, Path(ge=0, lt=2**63)]


def _of_model(name: str) -> Target:
    return Target(name)


def _of_version(name: str, version: Version) -> Target:
    return Target(name, version)


def _of_label(
    name: str, label: Annotated[str, Path(description=f"one of {', '.join(LABELS)}")]
) -> Target:
    if label not in LABELS:
        known = " and ".join(LABELS)
        raise UnknownModel(Fault("", f"there is no label {label!r:.82}; there are {known}"))
    return Target(name, served=True)


# Each thing that can be asked has all of these paths.
TARGETS: dict[str, Callable[..., Target]] = {
    "/v1/models/{name}": _of_model,
    "/v1/models/{name}/versions/{version}": _of_version,
    "/v1/models/{name}/labels/{label}": _of_label,
}


def install(app: FastAPI, intake: Intake) -> None:
    """Adds the routes."""
    router = APIRouter(tags=["TensorFlow Serving"])
    for path, find in TARGETS.items():
        _add_information(router, path, find, intake.registry)
        _add_predict(router, path, find, intake)

    @router.api_route("/v1/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
    async def unknown(request: Request) -> None:
        asked = f"{request.method} {request.url.path}"
        raise HTTPException(404, f"{asked:.200} is not known; of the verbs there is :predict")

    app.include_router(router)
    for path in TARGETS:
        app.state.examples[f"{path}:predict"] = lambda rows: {"instances": [{SEQUENCES: rows}]}


def _add_information(
    router: APIRouter, path: str, find: Callable[..., Target], registry: Registry
) -> None:
    """Adds what can be asked of a model."""

    @router.get(path, summary="Which versions answer", responses=ERRORS)
    async def status(target: Annotated[Target, Depends(find)]) -> ModelStatus:
        version = target.version
        if target.served:
            version = registry.current(target.name).manifest.version
        found = [
            _status(model)
            for model in registry.models
            if model.name == target.name and version in (None, model.version)
        ]
        if not found:
            which = "model" if version is None else f"version {version} of model"
            raise UnknownModel(Fault("", f"there is no {which} {target.name!r:.82}"))
        return ModelStatus(model_version_status=found)

    @router.get(f"{path}/metadata", summary="What goes in and what comes out", responses=ERRORS)
    async def metadata(target: Annotated[Target, Depends(find)]) -> ModelMetadata:
        manifest = registry.current(target.name, target.version).manifest
        return ModelMetadata(
            model_spec=ModelSpec(name=manifest.name, version=str(manifest.version)),
            metadata=Metadata(
                signature_def=SignatureDefs(signature_def={SIGNATURE: _signature(manifest)})
            ),
        )


def _add_predict(router: APIRouter, path: str, find: Callable[..., Target], intake: Intake) -> None:
    """Adds what computes."""

    @router.post(
        f"{path}:predict",
        summary="Outputs of every time step and the final state of every layer",
        response_model=Predictions,
        responses=PREDICT_ERRORS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": RowsOrColumns.model_json_schema()}},
            }
        },
    )
    async def predict(request: Request, target: Annotated[Target, Depends(find)]) -> Response:
        work = await intake.run(
            request.scope,
            request.receive,
            lambda body: decode(intake, target.name, target.version, body),
        )
        return Response(print_json(answer(work)), media_type="application/json")


def _status(model: Model) -> VersionStatus:
    return VersionStatus(
        version=str(model.version),
        state=STATES[model.state],
        status=LoadStatus(
            error_code="UNKNOWN" if model.state == "refused" else "OK", error_message=model.reason
        ),
    )


def _signature(manifest: Manifest) -> SignatureDef:
    """`serving_default` of the SavedModel."""

    def tensor(name: str, *shape: int, dtype: Any = "DT_FLOAT") -> TensorInfo:
        dims = [Dimension(size=str(size)) for size in shape]
        return TensorInfo(dtype=dtype, tensor_shape=TensorShape(dim=dims), name=f"{name}:0")

    made = [tensor(name, -1, units) for name, units in state_sizes(manifest).items()]
    outputs = tensor(OUTPUTS, -1, -1, len(manifest.outputs))
    return SignatureDef(
        inputs={
            SEQUENCES: tensor(SEQUENCES, -1, -1, len(manifest.features)),
            LENGTHS: tensor(LENGTHS, -1, dtype="DT_INT32"),
        },
        outputs={OUTPUTS: outputs, **dict(zip(state_sizes(manifest), made, strict=True))},
    )
