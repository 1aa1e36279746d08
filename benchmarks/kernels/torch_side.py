"""PyTorch's LSTM on the benchmark's weights: `python -m benchmarks.kernels.torch_side 100`.

A side, which runs in the peers' environment.
"""

import sys
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.kernels.work import inputs_of, median_seconds
from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS, bench_model
from benchmarks.processes.side import Answer, answer


class TorchForm(torch.nn.Module):
    """Three LSTM layers and a head.

    Args:
        units: of each layer.
        weights: as in `weights.npz`. PyTorch's gates stand as ours do: i, f, g, o.
    """

    def __init__(self, units: int, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(NUM_FEATURES, units, NUM_LAYERS, batch_first=True)
        self.head = torch.nn.Linear(units, 1)
        found = {
            "head.weight": weights["head/kernel"].T,
            "head.bias": weights["head/bias"],
        }
        for i in range(NUM_LAYERS):
            found[f"lstm.weight_ih_l{i}"] = weights[f"layer_{i}/kernel"].T
            found[f"lstm.weight_hh_l{i}"] = weights[f"layer_{i}/recurrent_kernel"].T
            found[f"lstm.bias_ih_l{i}"] = weights[f"layer_{i}/bias"]
            found[f"lstm.bias_hh_l{i}"] = np.zeros_like(weights[f"layer_{i}/bias"])
        self.load_state_dict({name: torch.tensor(value) for name, value in found.items()})

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """float32 `[B, T, F]` to `[B, T, 1]`."""
        tops, _ = self.lstm(sequences)
        outputs: torch.Tensor = self.head(tops)
        return outputs


class Questions:
    """What this side can be asked.

    Args:
        form: computes the answers.
    """

    def __init__(self, form: Any) -> None:
        self._form = form

    def measure(self, rows: int) -> Answer:
        """Seconds of a call, the median of a round."""
        call = partial(self._form, torch.from_numpy(inputs_of(rows)))
        return {"seconds": median_seconds(call)}

    def check(self) -> Answer:
        """The sum of the outputs of one sequence."""
        return {"total": float(self._form(torch.from_numpy(inputs_of(1))).sum())}


def main() -> None:
    """Answers until there are no more questions."""
    torch.set_num_threads(1)
    model = bench_model(int(sys.argv[1]))
    with np.load(model.weights) as weights:
        questions = Questions(TorchForm(model.units, dict(weights)).eval())
    with torch.inference_mode():
        answer({}, {"measure": questions.measure, "check": questions.check})


if __name__ == "__main__":
    main()
