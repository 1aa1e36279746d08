from benchmarks.training.sequential_layers import AfterEachOther, layer_after_layer
from model.layers.cells import CELLS
from model.layers.recurrence import Recurrence
from model.network.pipeline import Pipeline
from model.network_config import LayerConfig


def test_layers_after_each_other_wrap_every_form_of_a_layer() -> None:
    """What the pipeline is compared with has to be what the pipeline makes of the layers."""
    config = LayerConfig(cell="lstm", units=2)
    cell = CELLS["lstm"](config)
    with layer_after_layer():
        (layer,) = Pipeline([cell], [None], "plain", training=False)._layers
    assert isinstance(layer, AfterEachOther)
    (layer,) = Pipeline([cell], [None], "plain", training=False)._layers
    assert isinstance(layer, Recurrence)
