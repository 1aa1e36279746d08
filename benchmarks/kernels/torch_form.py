"""`python -m benchmarks.kernels.torch_form 100`: PyTorch's LSTM on the benchmark's weights, in a process.

Runs in the peers' environment. For each line of input, a number of rows, it answers a line: the
seconds of a call, the median of a round. `check` answers the sum of all outputs instead.
"""

import sys
from functools import partial

import numpy as np
import torch

from benchmarks.kernels.work import inputs_of, median_seconds
from benchmarks.models.files import NUM_FEATURES, NUM_LAYERS, bench_model


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


def main() -> None:
    """Answers until its input ends."""
    torch.set_num_threads(1)
    model = bench_model(int(sys.argv[1]))
    with np.load(model.weights) as weights:
        form = TorchForm(model.units, dict(weights)).eval()
    with torch.inference_mode():
        for line in sys.stdin:
            if line.strip() == "check":
                print(float(form(torch.from_numpy(inputs_of(1))).sum()), flush=True)
                continue
            call = partial(form, torch.from_numpy(inputs_of(int(line))))
            print(median_seconds(call), flush=True)


if __name__ == "__main__":
    main()
