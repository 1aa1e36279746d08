"""Requests and answers of the Open Inference Protocol: tensors in, tensors out.

A mistake within a tensor is found at `/tensor/row/...`, whichever form its numbers came in, and
told by where the tensor is in its request: `/inputs/0: sequences[1, 4, 2]: ...`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.api.endpoint import checked, parse_object
from app.api.protocols.open_inference.binary_tensors import split
from app.api.protocols.open_inference.schemas import InferInput, InferParameters, InferRequest
from app.codec.json_numbers import Faults, echo, invalid
from app.codec.model_codec import Codec
from app.codec.named_tensor import Tensor
from app.codec.signature import LENGTHS, OUTPUTS, SEQUENCES, Signature, padded
from app.errors import Fault, InvalidRequest
from app.registry.registry import LoadedModel
from app.service.inference import InferenceRequest, InferenceService, new_sequences
from app.sessions.continuation import SessionRef

MICROSECONDS = 1e-6
SEQUENCE_ID = "/parameters/sequence_id"


@dataclass(eq=False, kw_only=True)
class Inference(InferenceRequest):
    """A request of the Open Inference Protocol.

    Attributes:
        id: of the request; comes back.
        parameters: of the request.
        time_steps: T, up to which outputs are padded with zeros.
        wanted: names of the tensors that come out, and whether as bytes.
        places: JSON pointers to the tensors that came in, by their names.
    """

    id: str | None
    parameters: InferParameters
    time_steps: int
    wanted: dict[str, bool]
    places: dict[str, str]


class Parts(NamedTuple):
    """What a body is read as: float32 `[T, F]` and initial states, and as `Inference` has it."""

    arrays: list[np.ndarray]
    states: list[np.ndarray | None]
    id: str | None
    parameters: InferParameters
    time_steps: int
    wanted: dict[str, bool]
    places: dict[str, str]
    session: SessionRef | None


def read(codec: Codec, header: str | None, body: bytes) -> Parts:
    """Understands a body, of which a header says how much is JSON; raises `InvalidRequest`."""
    text, raw = split(body, header)
    document = parse_object(text, codec.bounds)
    request = checked(lambda: InferRequest.model_validate(document))
    parameters = request.parameters or InferParameters()
    signature = codec.signature
    wanted = _wanted(request, signature, parameters.binary_data_output)
    tensors = _tensors(request.inputs, raw, signature)
    places = {name: tensor.pointer for name, tensor in tensors.items()}
    try:
        arrays = _arrays(tensors, codec)
        states = _initial_states(tensors, signature, len(arrays))
    except InvalidRequest as error:
        raise located(error, places) from None
    return Parts(
        arrays,
        states,
        request.id,
        parameters,
        tensors[SEQUENCES].shape[1],
        wanted,
        places,
        _reference(parameters, tensors, signature) if parameters.sequence_id else None,
    )


def inference_of(inference: InferenceService, ready: LoadedModel, parts: Parts) -> Inference:
    """The request that a body's parts are; raises `InvalidRequest`."""
    work = Inference(
        ready=ready,
        sequences=new_sequences(parts.arrays, parts.states, f"/{SEQUENCES}"),
        id=parts.id,
        parameters=parts.parameters,
        timeout_s=parts.parameters.timeout * MICROSECONDS or math.inf,
        time_steps=parts.time_steps,
        wanted=parts.wanted,
        places=parts.places,
    )
    if parts.session is not None:
        work.piece = inference.piece(parts.session, work.sequences)
    return work


def located(error: InvalidRequest, places: Mapping[str, str]) -> InvalidRequest:
    """An error with the places that its mistakes have in a request of this protocol.

    Args:
        error: whose faults are at `/tensor/row/...`, or anywhere else.
        places: JSON pointers to the tensors of the request, by their names.
    """
    return type(error)(*(_located(fault, places) for fault in error.faults))


def _located(fault: Fault, places: Mapping[str, str]) -> Fault:
    name, *indices = fault.pointer[1:].split("/")
    if name not in places:
        return fault
    return Fault(places[name], f"{name}[{', '.join(indices)}]: {fault.message}")


def _reference(
    parameters: InferParameters, tensors: dict[str, Tensor], signature: Signature
) -> SessionRef:
    """The session that a sequence is; raises `InvalidRequest`."""
    sequences = tensors[SEQUENCES]
    if sequences.shape[0] > 1:
        raise invalid(
            f"{sequences.pointer}/shape",
            f"{SEQUENCES}: one sequence a request has a sequence_id, got {sequences.shape[0]}",
        )
    if not parameters.sequence_start and signature.has_state(tensors):
        raise invalid(
            SEQUENCE_ID,
            "this sequence goes on from the state that is kept; an initial state is for its first "
            "request, with sequence_start",
        )
    return SessionRef(
        str(parameters.sequence_id),
        start=parameters.sequence_start,
        must_exist=not parameters.sequence_start,
        end=parameters.sequence_end,
        pointer=SEQUENCE_ID,
    )


def answer(work: Inference) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The whole answer, for `print_tensors`."""
    manifest, parameters = work.ready.manifest, work.parameters
    document: dict[str, Any] = {
        "model_name": manifest.name,
        "model_version": str(manifest.version),
    }
    if work.id is not None:
        document["id"] = work.id
    if parameters.sequence_id:
        fields = {"sequence_id", "sequence_start", "sequence_end"}
        document["parameters"] = parameters.model_dump(include=fields)
    tensors = work.ready.codec.signature.parts(np.stack(work.final_states))
    if OUTPUTS in work.wanted:
        tensors[OUTPUTS] = np.stack([padded(s.outputs, work.time_steps) for s in work.sequences])
    outputs, parts = [], []
    for name, as_bytes in work.wanted.items():
        array = tensors[name]
        described = {"name": name, "datatype": "FP32", "shape": array.shape}
        if as_bytes:
            parts.append(array)
            outputs.append({**described, "parameters": {"binary_data_size": array.nbytes}})
        else:
            outputs.append({**described, "data": array.ravel()})
    document["outputs"] = outputs
    return document, parts


def _wanted(request: InferRequest, signature: Signature, as_bytes: bool) -> dict[str, bool]:
    """Names of the tensors that come out, and whether as bytes."""
    known = [form.name for form in signature.outputs_form()]
    if not request.outputs:
        return dict.fromkeys(known, as_bytes)
    wanted: dict[str, bool] = {}
    for index, output in enumerate(request.outputs):
        _check_name(output.name, known, wanted, f"/outputs/{index}/name")
        own = output.parameters.binary_data if output.parameters else None
        wanted[output.name] = as_bytes if own is None else own
    return wanted


def _tensors(inputs: list[InferInput], raw: memoryview, signature: Signature) -> dict[str, Tensor]:
    """The tensors that go in, by their names, each with its part of the bytes."""
    known = [form.name for form in signature.inputs_form()]
    found: dict[str, Tensor] = {}
    end = 0
    for index, item in enumerate(inputs):
        pointer = f"/inputs/{index}"
        _check_name(item.name, known, found, f"{pointer}/name")
        size = item.parameters.binary_data_size if item.parameters else None
        content: object = item.data
        if (size is None) == (item.data is None):
            raise invalid(
                pointer, f"{item.name} must have either data or the parameter binary_data_size"
            )
        if size is not None:
            content = raw[end : end + size]
            end += size
        shape = tuple(item.shape)
        found[item.name] = Tensor(item.name, item.datatype, shape, content, pointer)
    if end != len(raw):
        raise invalid(
            "", f"{len(raw)} bytes follow the JSON, but binary_data_size adds up to {end}"
        )
    if SEQUENCES not in found:
        raise invalid("/inputs", f"{SEQUENCES} is missing")
    return found


def _check_name(name: str, known: list[str], taken: Iterable[str], pointer: str) -> None:
    if name not in known:
        raise invalid(pointer, f"there is no {echo(name)}; there are {', '.join(known)}")
    if name in taken:
        raise invalid(pointer, f"{name} is there twice")


def _arrays(tensors: dict[str, Tensor], model: Codec) -> list[np.ndarray]:
    """float32 `[T, F]` each; without padding, whose numbers nobody looks at."""
    tensor, codec = tensors[SEQUENCES], model.tensors
    features = model.signature.features
    tensor.check_shape("B", "T", features)
    count, steps, _ = tensor.shape
    codec.check_count(count, f"{tensor.pointer}/shape")
    limit = codec.limits.max_sequence_steps
    if steps > limit:
        # Of padding too: the answer has as much of it.
        raise invalid(
            f"{tensor.pointer}/shape",
            f"{SEQUENCES}: has {steps} time steps, the limit is {limit}; send them in pieces and "
            "continue from the states",
        )
    array = tensor.floats(nullable=True)
    lengths = [steps] * count
    if LENGTHS in tensors:
        lengths = _lengths(tensors[LENGTHS], count, steps)
        array = array[np.arange(steps) < np.array(lengths)[:, None]]
    return codec.cut(array.reshape(-1, features), lengths, f"/{SEQUENCES}")


def _lengths(tensor: Tensor, count: int, steps: int) -> list[int]:
    tensor.check_shape(count)
    lengths = tensor.integers()
    faults = Faults()
    for index, length in enumerate(lengths):
        if not 1 <= length <= steps:
            faults.add(f"/{LENGTHS}/{index}", f"must be from 1 to {steps}, got {length}")
    faults.raise_any()
    return lengths


def _initial_states(
    tensors: dict[str, Tensor], signature: Signature, count: int
) -> list[np.ndarray | None]:
    """float32 `[sum of H]` each, or None for zeros."""
    faults = Faults()
    faults.extend(signature.state_faults(tensors, "/inputs"))
    faults.raise_any()
    if not signature.has_state(tensors):
        return [None] * count
    parts = []
    for state in signature.states:
        tensor = tensors[state.name]
        tensor.check_shape(count, state.units)
        parts.append(tensor.floats())
        wrong = np.argwhere(~np.isfinite(parts[-1]))
        faults.extend(
            Fault(f"/{state.name}/{row}/{column}", "must be a finite number")
            for row, column in wrong
        )
    faults.raise_any()
    return list(np.concatenate(parts, axis=1))
