"""Every setting of training, its default and its limits. The only place of defaults.

`RNNConfig` says what the network is, `TrainConfig` how it is trained. Both are frozen: they are
passed in, stored in the manifest, and never changed.
"""

import re
from pathlib import Path
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


class TrainConfig(Frozen):
    """How to train. Each field is an option of `python -m model.train`."""

    task: Path = Field(
        Path("model/tasks/weather.toml"),
        description="the task: table, features and outputs (see docs/tasks.md)",
    )
    models_dir: Path = Field(Path("models"), description="where models are exported to")
    name: str | None = Field(
        None,
        description="name of the exported model; default: the task's name",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
    )
    layers: tuple[str, ...] = Field(
        ("lstm:100", "lstm:100", "lstm:100"),
        description=f"the stack, first layer first, each of {', '.join(LAYER_FORMS)}; "
        "with @DEVICE, as in lstm:100@gpu:1, on a device of its own",
        min_length=1,
        max_length=64,
    )
    input_keep_prob: tuple[KeepProb, ...] = Field(
        (1.0,), description="chance to keep each input of a layer; one for all or one a layer"
    )
    output_keep_prob: tuple[KeepProb, ...] = Field(
        (0.6,), description="chance to keep each output of a layer; one for all or one a layer"
    )
    state_keep_prob: tuple[KeepProb, ...] = Field(
        (1.0,), description="chance to keep each h between time steps; one for all or one a layer"
    )
    variational_dropout: bool = Field(
        True, description="drop the same units at every time step (Gal and Ghahramani 2016)"
    )
    input_noise: float = Field(
        0.3,
        description="Gaussian noise added to the network's inputs in training, in their standard "
        "deviations",
        ge=0,
        le=LARGEST,
    )
    window_steps: int = Field(72, description="time steps of a training window", ge=2)
    stride_steps: int = Field(6, description="time steps between the starts of two windows", ge=1)
    batch_size: int = Field(128, description="windows in a batch", ge=1)
    epochs: int = Field(12, description="passes over the training windows, at most", ge=1)
    patience: int = Field(
        3, description="stop after so many epochs without a better validation error", ge=1
    )
    learning_rate: float = Field(3e-3, description="peak learning rate of AdamW", gt=0, le=LARGEST)
    warmup_fraction: float = Field(
        0.05, description="part of the batches over which the learning rate rises", ge=0, lt=1
    )
    weight_decay: float = Field(
        1e-2, description="decoupled weight decay of AdamW", ge=0, le=LARGEST
    )
    clip_norm: float = Field(
        1.0,
        description="largest global norm of the gradient; 1e9 clips nothing",
        gt=0,
        le=LARGEST,
    )
    average_momentum: float = Field(
        0.98,
        description="momentum of the running average of weights that is validated and exported; "
        "0 for the weights themselves",
        ge=0,
        lt=1,
    )
    devices: tuple[str, ...] = Field(
        ("auto",),
        description="devices for the layers, in order, such as gpu:0 gpu:1; auto: every GPU, or "
        "else the CPU",
        min_length=1,
        max_length=64,
    )
    logical_devices: int = Field(
        1,
        description="devices that each GPU, or without one the CPU, is split into, to try several",
        ge=1,
        le=64,
    )
    tensor_float_32: bool = Field(
        False,
        description="multiply with 10 bits of mantissa where a GPU can: faster, less exact",
    )
    replicas: int = Field(
        1, description="copies of the layers, each on its own devices and part of a batch", ge=1
    )
    chunk_steps: int | None = Field(
        None,
        description="time steps that pass from layer to layer at once; default: chosen",
        ge=1,
    )
    seed: int = Field(0, description="seed of weights, dropout and shuffling", ge=0, lt=2**31)

    def layer_configs(self) -> tuple[LayerConfig, ...]:
        """The stack with the dropout of each layer.

        Raises:
            ValueError: a layer cannot be read, or a keep probability has neither one value nor
                one value a layer.
        """
        count = len(self.layers)
        keep = {
            name: _per_layer(name, getattr(self, name), count)
            for name in ("input_keep_prob", "output_keep_prob", "state_keep_prob")
        }
        return tuple(
            LayerConfig.parse(text).model_copy(update={name: keep[name][i] for name in keep})
            for i, text in enumerate(self.layers)
        )


def _per_layer(name: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise ValueError(
            f"{name} has {len(values)} values; give one, or one for each of {count} layers"
        )
    return values
