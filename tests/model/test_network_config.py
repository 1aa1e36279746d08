"""Configuration: what is read, what is refused, and with which words."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.cell_spec import CellKind
from model.network_config import LayerConfig, RNNConfig
from model.train_config import TrainConfig

KEEP_PROBS = ("input_keep_prob", "output_keep_prob", "state_keep_prob")


@given(cell=st.sampled_from(get_args(CellKind)), units=st.integers(1, 65536))
def test_parse_reads_cell_and_units(cell: CellKind, units: int) -> None:
    assert LayerConfig.parse(f"{cell}:{units}") == LayerConfig(cell=cell, units=units)


def test_parse_reads_an_activation_of_rnn() -> None:
    assert LayerConfig.parse("rnn:64:relu") == LayerConfig(cell="rnn", units=64, activation="relu")
    assert LayerConfig.parse("rnn:64:tanh") == LayerConfig.parse("rnn:64")
    assert LayerConfig.parse("lstm:8:tanh") == LayerConfig.parse("lstm:8")


@pytest.mark.parametrize(
    "text",
    ["", "lstm", "lstm:", "lstm:x", "lstm:-1", "lstm: 8", "lstm:1.5", "rnn:8:relu:1", "gru:٣"],
)
def test_parse_refuses_another_form_and_shows_the_right_one(text: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the whole text is compared
        LayerConfig.parse(text)
    assert str(refusal.value) == f"layer {text!r} is not of the form cell:units, such as lstm:100"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cnn:8", "cell: Input should be 'rnn', 'lstm' or 'gru'"),
        ("LSTM:8", "cell: Input should be 'rnn', 'lstm' or 'gru'"),
        ("lstm:0", "units: Input should be greater than or equal to 1"),
        ("lstm:65537", "units: Input should be less than or equal to 65536"),
        ("rnn:8:sigmoid", "activation: Input should be 'tanh' or 'relu'"),
        ("rnn:8:", "activation: Input should be 'tanh' or 'relu'"),
        ("lstm:8:relu", "Value error, activation 'relu' is for cell 'rnn', not 'lstm'"),
        ("gru:8:relu", "Value error, activation 'relu' is for cell 'rnn', not 'gru'"),
    ],
)
def test_parse_refuses_a_value_in_one_line_that_names_the_layer(text: str, why: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the whole text is compared
        LayerConfig.parse(text)
    assert str(refusal.value) == f"layer {text!r}: {why}"


@pytest.mark.parametrize("field", KEEP_PROBS)
def test_one_keep_prob_is_for_all_layers(field: str) -> None:
    all_kept = dict.fromkeys(KEEP_PROBS, (1.0,))
    config = TrainConfig.model_validate(
        {"layers": ("lstm:4", "gru:3", "rnn:2"), **all_kept, field: (0.5,)}
    )
    layers = config.layer_configs()
    assert [getattr(layer, field) for layer in layers] == [0.5, 0.5, 0.5]
    others = set(KEEP_PROBS) - {field}
    assert {getattr(layer, other) for layer in layers for other in others} == {1.0}


@pytest.mark.parametrize("field", KEEP_PROBS)
def test_keep_probs_may_be_one_a_layer(field: str) -> None:
    config = TrainConfig.model_validate({"layers": ("lstm:4", "gru:3"), field: (0.5, 0.75)})
    layers = config.layer_configs()
    assert [getattr(layer, field) for layer in layers] == [0.5, 0.75]
    assert [(layer.cell, layer.units) for layer in layers] == [("lstm", 4), ("gru", 3)]


@pytest.mark.parametrize("values", [(0.5, 0.5), (0.5, 0.5, 0.5, 0.5), ()])
def test_another_number_of_keep_probs_is_refused(values: tuple[float, ...]) -> None:
    config = TrainConfig(layers=("lstm:4", "gru:3", "rnn:2"), state_keep_prob=values)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the whole text is compared
        config.layer_configs()
    assert str(refusal.value) == (
        f"state_keep_prob has {len(values)} values; give one, or one for each of 3 layers"
    )


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_keep_prob_out_of_its_limits_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="output_keep_prob"):
        TrainConfig(output_keep_prob=(value,))


@pytest.mark.parametrize("field", ["learning_rate", "clip_norm", "weight_decay", "input_noise"])
def test_a_number_that_float32_cannot_hold_is_refused(field: str) -> None:
    """An infinite norm over an infinite limit is no number, nor is an infinity JSON."""
    for value in (float("inf"), float("nan"), 1e39):
        with pytest.raises(ValidationError, match=field):
            TrainConfig.model_validate({field: value})
    TrainConfig.model_validate({field: 1e9})


@pytest.mark.parametrize(
    "config",
    [
        LayerConfig(cell="lstm", units=4),
        RNNConfig(layers=(LayerConfig(cell="gru", units=4),), num_inputs=1, num_outputs=1),
        TrainConfig(),
    ],
)
def test_a_configuration_cannot_change(config: LayerConfig | RNNConfig | TrainConfig) -> None:
    field = next(iter(type(config).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, field, getattr(config, field))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (LayerConfig, {"cell": "lstm", "units": 4}),
        (RNNConfig, {"layers": [{"cell": "gru", "units": 4}], "num_inputs": 1, "num_outputs": 1}),
        (TrainConfig, {}),
    ],
)
def test_an_unknown_field_is_refused(kind: type[LayerConfig], fields: dict[str, object]) -> None:
    kind.model_validate(fields)
    with pytest.raises(ValidationError, match="keep_probability"):
        kind.model_validate({**fields, "keep_probability": 0.5})


@pytest.mark.parametrize("kind", [RNNConfig, TrainConfig])
@pytest.mark.parametrize("count", [0, 65])
def test_a_stack_has_1_to_64_layers(kind: type[RNNConfig], count: int) -> None:
    layer = {"cell": "rnn", "units": 1} if kind is RNNConfig else "rnn:1"
    sizes = {"num_inputs": 1, "num_outputs": 1} if kind is RNNConfig else {}
    kind.model_validate({"layers": [layer] * 64, **sizes})
    with pytest.raises(ValidationError, match="layers"):
        kind.model_validate({"layers": [layer] * count, **sizes})


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a b", "x" * 65, "a\n"])
def test_a_model_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        TrainConfig(name=name)


def test_a_configuration_survives_json() -> None:
    """The manifest keeps it so."""
    config = TrainConfig(layers=("gru:4", "rnn:3:relu"), input_keep_prob=(0.9, 1.0), seed=7)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
