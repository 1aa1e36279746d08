"""The plan: which layer goes where, what it costs, and plans that cannot be."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.network_config import LayerConfig, RNNConfig
from model.placement.plan import (
    PlacementError,
    balance,
    check_memory,
    costs,
    explain,
    plan,
    plan_replicas,
)

CPUS = tuple(f"CPU:{i}" for i in range(4))


def stack(*layers: str) -> RNNConfig:
    parsed = tuple(LayerConfig.parse(layer) for layer in layers)
    return RNNConfig(layers=parsed, num_inputs=8, num_outputs=3)


@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    num_blocks=st.integers(1, 10),
)
def test_blocks_are_contiguous_and_the_heaviest_is_as_light_as_any_cut_makes_it(
    weights: list[int], num_blocks: int
) -> None:
    blocks = balance(weights, num_blocks)
    used = min(num_blocks, len(weights))
    assert sorted(set(blocks)) == list(range(used)), "every block has something"
    assert blocks == sorted(blocks)
    heaviest = max(np.bincount(blocks, weights))
    cuts = combinations(range(1, len(weights)), used - 1)
    best = min(
        max(sum(part) for part in np.split(np.array(weights), list(places))) for places in cuts
    )
    assert heaviest == best


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (1, ["CPU:0"] * 4),
        (2, ["CPU:0", "CPU:0", "CPU:1", "CPU:1"]),
        (3, ["CPU:0", "CPU:1", "CPU:2", "CPU:2"]),
        (4, ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]),
    ],
)
def test_layers_of_one_size_are_spread_evenly(devices: int, expected: list[str]) -> None:
    """The first layer has the cheaper inputs, so among equal cuts the last block is the smaller."""
    placement = plan(stack(*["lstm:256"] * 4), CPUS[:devices])
    if devices == 3:
        assert sorted(map(placement.devices.count, set(placement.devices))) == [1, 1, 2]
    else:
        assert list(placement.devices) == expected
    assert placement.head.device == placement.devices[-1]
    assert len(set(placement.devices)) == devices


def test_a_dear_layer_has_a_device_to_itself() -> None:
    placement = plan(stack("rnn:10", "rnn:10", "lstm:500", "rnn:10"), CPUS[:3])
    assert placement.devices == ("CPU:0", "CPU:0", "CPU:1", "CPU:2")


def test_more_devices_than_layers_leave_devices_over() -> None:
    assert plan(stack("gru:4", "gru:4"), CPUS).devices == ("CPU:0", "CPU:1")


def test_a_layer_that_names_its_device_gets_it_and_the_others_share_the_rest() -> None:
    placement = plan(stack("lstm:4", "lstm:4@cpu:0", "lstm:4"), CPUS[:2])
    assert placement.devices == ("CPU:1", "CPU:0", "CPU:1")
    everything_named = plan(stack("lstm:4@cpu:1", "lstm:4@cpu:0", "lstm:4"), CPUS[:2])
    assert everything_named.devices[:2] == ("CPU:1", "CPU:0")


def test_a_layer_cannot_name_a_device_that_is_not_used() -> None:
    with pytest.raises(
        PlacementError, match="layer 1 is to be on GPU:3, but the devices are CPU:0"
    ):
        plan(stack("lstm:4", "lstm:4@gpu:3"), CPUS[:1])


def test_replicas_take_devices_in_turn() -> None:
    first, second = plan_replicas(stack("lstm:4", "lstm:4"), CPUS, 2)
    assert (first.devices, second.devices) == (("CPU:0", "CPU:1"), ("CPU:2", "CPU:3"))


def test_replicas_that_cannot_be() -> None:
    with pytest.raises(PlacementError, match="3 replicas need as many devices"):
        plan_replicas(stack("lstm:4"), CPUS[:2], 3)
    with pytest.raises(PlacementError, match="3 devices cannot be shared evenly by 2 replicas"):
        plan_replicas(stack("lstm:4"), CPUS[:3], 2)
    with pytest.raises(PlacementError, match="cannot name a device"):
        plan_replicas(stack("lstm:4@cpu:0"), CPUS[:2], 2)


def test_costs_by_hand() -> None:
    (lstm, gru, rnn), head = costs(stack("lstm:10", "gru:5", "rnn:2"))
    assert lstm.parameters == 8 * 40 + 10 * 40 + 40
    assert lstm.step_flops == 2 * (8 + 10) * 40
    assert gru.parameters == 10 * 15 + 5 * 15 + 2 * 15
    assert rnn.parameters == 5 * 2 + 2 * 2 + 2
    assert head.parameters == 2 * 3 + 3
    assert lstm.weight_bytes == 4 * lstm.parameters


def test_memory_of_cpu_devices_is_one_and_of_others_their_own() -> None:
    placements = (plan(stack("lstm:100", "lstm:100"), CPUS[:2]),)
    needed = sum(
        placed.cost.training_bytes(32, 10) for placed in (*placements[0].layers, placements[0].head)
    )
    check_memory(placements, {"CPU": needed}, 32, 10)
    with pytest.raises(PlacementError, match="CPU has .* GiB of memory free"):
        check_memory(placements, {"CPU": needed - 1}, 32, 10)
    gpus = (plan(stack("lstm:100", "lstm:100"), ("GPU:0", "GPU:1")),)
    with pytest.raises(PlacementError, match="GPU:1 has 0 GiB"):
        check_memory(gpus, {"GPU:0": needed, "GPU:1": 0}, 32, 10)


def test_replicas_share_a_batch_and_its_memory() -> None:
    one = plan_replicas(stack("lstm:100"), ("GPU:0",), 1)
    two = plan_replicas(stack("lstm:100"), ("GPU:0", "GPU:1"), 2)
    whole = sum(p.cost.training_bytes(64, 100) for p in (one[0].layers[0], one[0].head))
    first = sum(p.cost.training_bytes(32, 100) for p in (one[0].layers[0], one[0].head))
    with pytest.raises(PlacementError):
        check_memory(one, {"GPU:0": whole - 1}, 64, 100)
    assert first < whole
    # The second one has no moments.
    check_memory(two, {"GPU:0": first, "GPU:1": first - 1}, 64, 100)
    with pytest.raises(PlacementError):
        check_memory(two, {"GPU:0": first - 1, "GPU:1": first}, 64, 100)


def test_the_table_names_each_layer_and_its_numbers() -> None:
    lines = explain(plan_replicas(stack("lstm:10", "rnn:2:relu"), CPUS[:2], 1)).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[1].split() == ["0", "lstm:10", "CPU:0", "760", "3,040", "1,440"]
    assert lines[2].split()[:3] == ["1", "rnn:2:relu", "CPU:1"]
    assert lines[3].split()[:2] == ["head", "CPU:1"]
    assert len(lines) == 4
