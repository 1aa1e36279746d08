"""Requests and answers of the Open Inference Protocol: tensors in, tensors out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.codec.envelope import join, split
from app.codec.numbers import Faults, echo, invalid
from app.codec.signature import LENGTHS, OUTPUTS, SEQUENCES, Signature
from app.codec.tensors import Tensor
from app.errors import Fault
from app.inference_schemas import InferInput, InferParameters, InferRequest
from app.intake import Intake, Work
from app.registry import Ready
from app.routes.native import checked, parse_object
from app.sessions.piece import SessionRef

MICROSECONDS = 1e-6


@dataclass(eq=False, kw_only=True)
class Inference(Work):
    """A request of the Open Inference Protocol.

    Attributes:
        id: of the request; comes back.
        parameters: of the request.
        signature: of the model.
        time_steps: T, up to which outputs are padded with zeros.
        wanted: names of the tensors that come out, and whether as bytes.
    """

    id: str | None
    parameters: InferParameters
    signature: Signature
    time_steps: int
    wanted: dict[str, bool]

    @property
    def timeout_s(self) -> float:
        """Seconds that the caller waits; 0 if it does not say."""
        return self.parameters.timeout * MICROSECONDS


def decode(intake: Intake, ready: Ready, body: bytes, header: str | None) -> Inference:
    """Understands a body.

    Args:
        intake: of the service.
        ready: the model.
        body: JSON, and perhaps bytes of tensors.
        header: says how much of it is JSON.

    Raises:
        InvalidRequest: it is not as it must be.
    """
    text, raw = split(body, header)
    document = parse_object(text)
    request = checked(lambda: InferRequest.model_validate(document))
    parameters = request.parameters or InferParameters()
    signature = Signature.of(ready.manifest)
    wanted = _wanted(request, signature, parameters.binary_data_output)
    tensors = _tensors(request.inputs, raw, signature)
    arrays = _sequences(tensors, ready, signature)
    states = _initial_states(tensors, signature, len(arrays))
    work = Inference(
        ready=ready,
        sequences=intake.sequences(ready, arrays, states),
        id=request.id,
        parameters=parameters,
        signature=signature,
        time_steps=tensors[SEQUENCES].shape[1],
        wanted=wanted,
    )
    if parameters.sequence_id:
        ref = SessionRef(
            str(parameters.sequence_id),
            start=parameters.sequence_start,
            must_exist=not parameters.sequence_start,
            end=parameters.sequence_end,
        )
        work.piece = intake.piece(ref, work.sequences)
    return work


def answer(work: Inference) -> tuple[bytes, dict[str, str]]:
    """The body of an answer, and its headers."""
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
    states = np.stack(work.final_states)
    tensors = {state.name: states[:, state.start : state.end] for state in work.signature.states}
    if OUTPUTS in work.wanted:
        tensors[OUTPUTS] = _outputs(work)
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
    return join(document, parts)


def _outputs(work: Inference) -> np.ndarray:
    """float32 `[B, T, O]`, zeros behind the end of a sequence."""
    found = [sequence.outputs for sequence in work.sequences]
    if all(len(outputs) == work.time_steps for outputs in found):
        return np.stack(found)
    made = np.zeros((len(found), work.time_steps, work.signature.outputs), np.float32)
    for row, outputs in enumerate(found):
        made[row, : len(outputs)] = outputs
    return made


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


def _sequences(tensors: dict[str, Tensor], ready: Ready, signature: Signature) -> list[np.ndarray]:
    """float32 `[T, F]` each; without padding, whose numbers nobody looks at."""
    tensor, codec = tensors[SEQUENCES], ready.codec.sequences
    tensor.check_shape("B", "T", signature.features)
    count, steps, _ = tensor.shape
    codec.check_count(count)
    limit = codec.limits.max_sequence_steps
    if steps > limit:
        # Of padding too: the answer has as much of it.
        raise invalid(
            f"/{SEQUENCES}",
            f"has {steps} time steps, the limit is {limit}; send them in pieces and continue from "
            "the states",
        )
    array = tensor.floats(nullable=True)
    lengths = [steps] * count
    if LENGTHS in tensors:
        lengths = _lengths(tensors[LENGTHS], count, steps)
        array = array[np.arange(steps) < np.array(lengths)[:, None]]
    return codec.cut(array.reshape(-1, signature.features), lengths)


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
    given = [state.name for state in signature.states if state.name in tensors]
    if not given:
        return [None] * count
    parts, faults = [], Faults()
    for state in signature.states:
        if state.name not in tensors:
            raise invalid("/inputs", f"{state.name} is missing: states are all there, or none")
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
