"""Which layer sits on which device: a plan made before anything is built.

Layers are spread over the devices in contiguous blocks, so that what passes from one device to the
next is one layer's outputs. The plan is a table that people can read
(`python -m model.train --explain-placement`), and `network/pipeline.py` carries it
out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.network_config import DEFAULT_ACTIVATION, LayerConfig, RNNConfig

FLOAT_BYTES = 4
# A weight, its gradient and AdamW's two moments; other replicas have but the first two.
TRAINING_COPIES, REPLICA_COPIES = 4, 2


class PlacementError(ValueError):
    """Layers cannot be placed as asked; the text says what there is."""


@dataclass(frozen=True)
class Cost:
    """What a layer costs.

    Attributes:
        parameters: numbers in its weights.
        step_flops: floating-point operations of one time step of one row, forward.
        kept: numbers that training keeps of one time step of one row.
    """

    parameters: int
    step_flops: int
    kept: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights, float32."""
        return self.parameters * FLOAT_BYTES

    def training_bytes(self, batch_size: int, num_steps: int, first: bool = True) -> int:
        """Bytes on its device while training on batches `[B, T]`, at least.

        Args:
            batch_size: B.
            num_steps: T.
            first: whether this is the replica that has the variables.
        """
        copies = TRAINING_COPIES if first else REPLICA_COPIES
        kept = self.kept * batch_size * num_steps
        return (self.parameters * copies + kept) * FLOAT_BYTES


@dataclass(frozen=True)
class Placed:
    """A layer, or the head, and where it sits."""

    name: str
    device: str
    cost: Cost


@dataclass(frozen=True)
class Placement:
    """Where every layer sits.

    Attributes:
        layers: first layer first.
        head: on the device of the last layer.
    """

    layers: tuple[Placed, ...]
    head: Placed

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each layer."""
        return tuple(layer.device for layer in self.layers)


def layer_cost(layer: LayerConfig, num_inputs: int) -> Cost:
    """What one recurrent layer costs, with inputs `[B, num_inputs]`."""
    spec = layer.spec
    width = spec.num_columns(layer.units)
    product = (num_inputs + layer.units) * width
    return Cost(
        parameters=product + spec.num_biases * width,
        step_flops=2 * product,
        kept=spec.num_kept * layer.units,
    )


def costs(config: RNNConfig) -> tuple[tuple[Cost, ...], Cost]:
    """What each layer and the head cost."""
    found, width = [], config.num_inputs
    for layer in config.layers:
        found.append(layer_cost(layer, width))
        width = layer.units
    product = width * config.num_outputs
    head = Cost(product + config.num_outputs, 2 * product, config.num_outputs)
    return tuple(found), head


def plan(config: RNNConfig, devices: Sequence[str]) -> Placement:
    """Spreads the layers over the devices.

    A layer that names its device gets it. The others share the devices that no layer names (all, if
    every device is named) in contiguous blocks whose dearest costs as little as possible: one each
    where there are enough.

    Args:
        config: the stack.
        devices: such as `GPU:0`, in the order that layers take them.

    Raises:
        PlacementError: a layer names a device that is not among them.
    """
    for index, layer in enumerate(config.layers):
        if layer.device is not None and layer.device not in devices:
            raise PlacementError(
                f"layer {index} is to be on {layer.device}, but the devices are "
                f"{', '.join(devices)}"
            )
    layer_costs, head = costs(config)
    named = {layer.device for layer in config.layers}
    free = [device for device in devices if device not in named] or list(devices)
    unnamed = [i for i, layer in enumerate(config.layers) if layer.device is None]
    blocks = balance([layer_costs[i].step_flops for i in unnamed], len(free))
    given = dict(zip(unnamed, (free[block] for block in blocks), strict=True))
    placed = tuple(
        Placed(describe(layer), layer.device or given[index], layer_costs[index])
        for index, layer in enumerate(config.layers)
    )
    return Placement(placed, Placed("head", placed[-1].device, head))


def plan_replicas(
    config: RNNConfig, devices: Sequence[str], replicas: int
) -> tuple[Placement, ...]:
    """A plan for each replica, on its own share of the devices.

    Raises:
        PlacementError: there are too few devices, or layers name theirs.
    """
    if replicas > len(devices):
        raise PlacementError(
            f"{replicas} replicas need as many devices; there are {', '.join(devices)}"
        )
    if len(devices) % replicas:
        raise PlacementError(
            f"{len(devices)} devices cannot be shared evenly by {replicas} replicas: "
            f"{', '.join(devices)}"
        )
    if replicas > 1 and any(layer.device for layer in config.layers):
        raise PlacementError("with replicas, layers cannot name a device: they are on several")
    share = len(devices) // replicas
    return tuple(plan(config, devices[r * share : (r + 1) * share]) for r in range(replicas))


def balance(weights: Sequence[int], num_blocks: int) -> list[int]:
    """Cuts a row of weights into contiguous blocks so that the heaviest is as light as can be.

    Where several cuts are as good, the sum of squares decides, so that what remains is even too.

    Returns:
        The block of each weight, ascending from 0.
    """
    count = len(weights)
    # best[n]: of the first n weights, the heaviest block, the sum of squares, and where blocks end.
    best: list[tuple[int, int, tuple[int, ...]] | None] = [(0, 0, ())] + [None] * count
    for _ in range(min(num_blocks, count)):
        step: list[tuple[int, int, tuple[int, ...]] | None] = [None] * (count + 1)
        for end in range(1, count + 1):
            weight = 0
            for start in range(end - 1, -1, -1):
                weight += weights[start]
                before = best[start]
                if before is not None:
                    heaviest, squares, ends = before
                    found = (max(heaviest, weight), squares + weight**2, (*ends, end))
                    step[end] = min(filter(None, (step[end], found)))
        best = step
    chosen = best[count]
    assert chosen is not None, "this is a bug: there is a cut for every number of blocks"
    ends = chosen[2]
    return [sum(end <= index for end in ends) for index in range(count)]


def describe(layer: LayerConfig) -> str:
    """A layer as the command line names it, without its device: `rnn:64:relu`."""
    activation = "" if layer.activation == DEFAULT_ACTIVATION else f":{layer.activation}"
    return f"{layer.cell}:{layer.units}{activation}"


def check_memory(
    placements: Sequence[Placement], free: Mapping[str, int], batch_size: int, num_steps: int
) -> None:
    """Refuses a plan that cannot fit, before anything is built.

    Args:
        placements: of every replica; each takes its part of a batch.
        free: bytes of each device. Devices that share a memory are told by one name for it, as
            `memory_of` gives it.
        batch_size: rows of a batch.
        num_steps: time steps of a batch.

    Raises:
        PlacementError: it needs more than a device has.
    """
    rows = -(-batch_size // len(placements))
    for memory, size in memory_needed(placements, batch_size, num_steps).items():
        if size > free[memory]:
            raise PlacementError(
                f"{memory} has {free[memory] / 2**30:.3g} GiB of memory free, but training its "
                f"layers on batches of {rows} x {num_steps} needs {size / 2**30:.3g} GiB or more: "
                "lower --batch-size or --window-steps, or give more devices"
            )


def memory_needed(
    placements: Sequence[Placement], batch_size: int, num_steps: int
) -> dict[str, int]:
    """Bytes that training takes of each memory, at least; see `check_memory`."""
    rows = -(-batch_size // len(placements))
    needed: dict[str, int] = {}
    for replica, placement in enumerate(placements):
        for placed in (*placement.layers, placement.head):
            memory = memory_of(placed.device)
            size = placed.cost.training_bytes(rows, num_steps, first=replica == 0)
            needed[memory] = needed.get(memory, 0) + size
    return needed


def memory_of(device: str) -> str:
    """The memory that a device uses: all of a machine's CPU devices have one."""
    return "CPU" if device.startswith("CPU:") else device


def explain(placements: Sequence[Placement]) -> str:
    """The table that `--explain-placement` prints."""
    rows: list[tuple[str, ...]] = [
        ("layer", "", "device", "parameters", "bytes", "FLOPs per time step")
    ]
    for replica, placement in enumerate(placements):
        for index, placed in enumerate((*placement.layers, placement.head)):
            number = str(index) if index < len(placement.layers) else ""
            where = placed.device if len(placements) == 1 else f"{placed.device} ({replica})"
            cost = placed.cost
            sizes = (cost.parameters, cost.weight_bytes, cost.step_flops)
            rows.append((number, placed.name, where, *(f"{size:,}" for size in sizes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
