"""What the network is: its layers, their limits, their dropout.

A configuration is frozen: it is passed in, stored in the manifest, and never changed.
"""

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.cell_spec import CELL_SPECS, Activation, CellKind, CellSpec

KeepProb = Annotated[float, Field(gt=0.0, le=1.0)]
# More than anybody means, and far from where float32 ends: infinity over infinity is no number.
LARGEST = 1e9
DEFAULT_ACTIVATION: Activation = "tanh"
# As `LayerConfig.parse` reads them.
LAYER_FORMS = [
    f"{kind}:UNITS" if activation == DEFAULT_ACTIVATION else f"{kind}:UNITS:{activation}"
    for kind, spec in CELL_SPECS.items()
    for activation in spec.activations
]


def canonical(device: str) -> str:
    """A device's name as it is used everywhere: `/device:gpu:0` and `gpu:0` as `GPU:0`.

    Raises:
        ValueError: the name has another form.
    """
    found = re.fullmatch(r"(?:/device:)?(cpu|gpu):(\d{1,4})", device.lower(), re.ASCII)
    if not found:
        raise ValueError(f"device {device!r} is not of the form gpu:0 or cpu:0")
    return f"{found[1].upper()}:{int(found[2])}"


class Frozen(BaseModel):
    """A configuration that cannot change and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def first_error(error: ValidationError) -> str:
    """The first thing wrong and where, in one line: `units: Input should be a valid integer`."""
    first = error.errors()[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


class LayerConfig(Frozen):
    """One recurrent layer and the dropout around it.

    The three keep probabilities are those of the classic dropout wrapper of recurrent cells
    (Zaremba et al. 2014, arXiv:1409.2329, for inputs and outputs): the chance that a number
    survives; 1 is no dropout. They act in training only. State dropout acts on `h`; the memory
    `c` of an LSTM is never dropped, since that would destroy what it holds.
    """

    cell: CellKind
    units: Annotated[int, Field(ge=1, le=65536)]
    activation: Activation = DEFAULT_ACTIVATION
    input_keep_prob: KeepProb = 1.0
    output_keep_prob: KeepProb = 1.0
    state_keep_prob: KeepProb = 1.0
    device: str | None = None

    @model_validator(mode="after")
    def _cell_has_activation(self) -> Self:
        if self.activation not in self.spec.activations:
            cells = [
                repr(kind)
                for kind, spec in CELL_SPECS.items()
                if self.activation in spec.activations
            ]
            raise ValueError(
                f"activation {self.activation!r} is for cell {' or '.join(cells)}, "
                f"not {self.cell!r}"
            )
        return self

    @property
    def spec(self) -> CellSpec:
        """What a cell of this kind is."""
        return CELL_SPECS[self.cell]

    @classmethod
    def parse(cls, text: str) -> "LayerConfig":
        """Reads `cell:units` or `rnn:units:activation`, as in `lstm:100` or `rnn:64:relu`.

        A layer may name its device behind an `@`: `lstm:100@gpu:1`.

        Raises:
            ValueError: the text has another form, or a value is out of its limits.
        """
        stack, at, device = text.partition("@")
        parts = stack.split(":")
        if len(parts) not in (2, 3) or not parts[1].isascii() or not parts[1].isdigit():
            raise ValueError(f"layer {text!r} is not of the form cell:units, such as lstm:100")
        fields = dict(zip(("cell", "units", "activation"), parts, strict=False))
        if at:
            fields["device"] = canonical(device)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ValueError(f"layer {text!r}: {first_error(error)}") from error


class RNNConfig(Frozen):
    """A stack of recurrent layers below a dense head."""

    layers: Annotated[tuple[LayerConfig, ...], Field(min_length=1, max_length=64)]
    num_inputs: Annotated[int, Field(ge=1)]
    num_outputs: Annotated[int, Field(ge=1)]
    variational_dropout: bool = False
    input_noise: Annotated[float, Field(ge=0.0, le=LARGEST)] = 0.0
