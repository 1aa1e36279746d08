"""Every option of training, its default and its limits. The only place of defaults."""

from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from model.network_config import LARGEST, LAYER_FORMS, KeepProb, LayerConfig
from model.table_options import TableOptions

# What a training that goes on may have otherwise: where it computes and writes.
FREE_TO_CHANGE = frozenset(
    {
        *("models_dir", "name", "log_dir", "checkpoint_minutes"),
        *("devices", "logical_devices", "replicas", "chunk_steps", "tensor_float_32"),
    }
)


AUTO = ("auto",)
# How often a training validates, at most.
ROUNDS = 25


class TrainConfig(TableOptions):
    """How to train. Each field is an option of `python -m model.train`.

    A field whose option has another name, as no field may be called `from`, has it as its alias.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

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
    from_version: Path | None = Field(
        None,
        alias="from",
        description="an exported version, such as models/weather/3, whose layers, transforms and "
        "weights to begin with: new data, the same columns",
    )
    layers: tuple[str, ...] = Field(
        ("lstm:100", "lstm:100", "lstm:100"),
        description=f"the stack, first layer first, each of {', '.join(LAYER_FORMS)}; "
        "with @DEVICE, as in lstm:100@gpu:1, on a device of its own; auto: several are tried, and "
        "the one with the smallest validation error is exported; default: auto, or lstm:100 "
        "lstm:100 lstm:100 for the default task",
        min_length=1,
        max_length=64,
    )
    linear_start: bool = Field(
        False,
        description="begin as the linear autoregression; for one layer rnn:UNITS:relu, with UNITS "
        "twice the network's inputs at a time step, and a multiple of twice those that are not "
        "static and no hour of day or day of year",
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
        0.5,
        description="Gaussian noise added to the network's inputs in training, in their standard "
        "deviations",
        ge=0,
        le=LARGEST,
    )
    window_steps: int | None = Field(
        None,
        description="time steps of a training window, and of the past that errors are measured "
        "with; default: three seasons, or what the splits have",
        ge=2,
    )
    burn_in_steps: int = Field(
        0, description="time steps at the start of each window of which no error counts", ge=0
    )
    batch_size: int | None = Field(
        None, description="windows in a batch; default: 128, or fewer of few windows", ge=1
    )
    updates: int | None = Field(
        None,
        description="batches to learn from, at most; default: 600, or more of many windows",
        ge=1,
    )
    patience: int = Field(
        6,
        description="stop after so many rounds, a 25th of the updates each, without a better "
        "validation error",
        ge=1,
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
    average_momentum: float | None = Field(
        None,
        description="momentum of the running average of weights that is validated and exported; "
        "0 for the weights themselves; default: an average over two rounds",
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
    checkpoint_minutes: float = Field(
        5,
        description="time between two checkpoints, at most; there is one after each round too",
        gt=0,
        le=LARGEST,
    )
    log_dir: Path | None = Field(None, description="where to write files for TensorBoard")

    @model_validator(mode="before")
    @classmethod
    def _several_for_other_tables(cls, given: Any) -> Any:
        """The default stack was found for the default task: other tables choose theirs."""
        if not isinstance(given, dict) or {"layers", "linear_start", "from", "from_version"} & set(
            given
        ):
            return given
        others = given.get("data") is not None or _is_other_task(given.get("task"))
        return {**given, "layers": AUTO} if others else given

    @model_validator(mode="after")
    def _one_task(self) -> Self:
        if self.data is not None and self.task != TrainConfig.model_fields["task"].default:
            raise ValueError("--data drafts a task of its own: leave --task out")
        return self

    def gone_on_with(self, given: "TrainConfig") -> Self:
        """These options, with what may change as it is given now.

        Args:
            given: the options of the command that goes on; what it does not set stays as it was.

        Raises:
            ValueError: it sets an option that would give other weights.
        """
        for name in sorted(given.model_fields_set - FREE_TO_CHANGE):
            ours, theirs = getattr(self, name), getattr(given, name)
            if ours != theirs:
                raise ValueError(
                    f"--resume goes on with the options that the training began with: "
                    f"{flag_of(name)} was {shown(ours)}, not {shown(theirs)}"
                )
        changed = given.model_fields_set & FREE_TO_CHANGE
        return self.model_copy(update={name: getattr(given, name) for name in changed})

    def layer_configs(self) -> tuple[LayerConfig, ...]:
        """The stack with the dropout of each layer.

        Raises:
            ValueError: a layer cannot be read, or a keep probability has neither one value nor
                one value a layer.
        """
        several = self.layers == AUTO
        count = 1 if several else len(self.layers)
        keep = {
            name: _per_layer(name, getattr(self, name), count)
            for name in ("input_keep_prob", "output_keep_prob", "state_keep_prob")
        }
        if several:
            return ()
        return tuple(
            LayerConfig.parse(text).model_copy(update={name: keep[name][i] for name in keep})
            for i, text in enumerate(self.layers)
        )


class Recipe(TrainConfig):
    """All options, each with its value: what a training is made by, and what makes it again."""

    window_steps: int = Field(ge=2)
    batch_size: int = Field(ge=1)
    updates: int = Field(ge=1)
    average_momentum: float = Field(ge=0, lt=1)

    @property
    def round_updates(self) -> int:
        """Updates after which a training validates."""
        return -(-self.updates // ROUNDS)


def _is_other_task(task: object) -> bool:
    default: Path = TrainConfig.model_fields["task"].default
    return task is not None and Path(str(task)) != default


def _per_layer(name: str, values: tuple[float, ...], count: int) -> tuple[float, ...]:
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise ValueError(
            f"{name} has {len(values)} values; give one, or one for each of {count} layers"
        )
    return values


def option_of(name: str) -> str:
    """What a field is called in a file of options: its name or its alias."""
    field = TrainConfig.model_fields.get(name)
    return (field.alias if field else None) or name


def flag_of(name: str) -> str:
    """The option of a field or switch on the command line."""
    return f"--{option_of(name).replace('_', '-')}"


def shown(value: object) -> str:
    """An option's value as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
