"""The side of `training` that runs PyTorch's `nn.LSTM`: `python -m benchmarks.gpu.torch_side`.

Each batch is copied from pinned memory of the host, computed, and the weights are updated.
"""

import argparse

import numpy as np
import torch

from benchmarks.gpu.side_interface import Trainers
from benchmarks.processes.side import answer
from benchmarks.training.case import Case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Network(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not here to be looked at
    """Layers and head; dropout draws anew at each time step, as cuDNN's does."""

    def __init__(self, case: Case, keep: float) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(
            case.inputs, case.units, case.layers, batch_first=True, dropout=1 - keep
        )
        # cuDNN's acts between layers only.
        self.dropout = torch.nn.Dropout(1 - keep)
        self.head = torch.nn.Linear(case.units, case.outputs)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """float32 `[B, T, I]` to `[B, T, O]`."""
        tops, _ = self.lstm(sequences)
        outputs: torch.Tensor = self.head(self.dropout(tops))
        return outputs


class TorchTrainer:
    """A network, and its optimizer. See `Trainer`.

    Args:
        name: not looked at: there is one form.
        case: what is trained.
        keep: chance to keep an output of a layer.
    """

    def __init__(self, name: str, case: Case, keep: float) -> None:
        torch.manual_seed(0)
        random = np.random.default_rng(0)
        self._host = [
            _pinned(random.normal(size=(case.rows, case.steps, width)).astype(np.float32))
            for width in (case.inputs, case.outputs)
        ]
        self._network = Network(case, keep).to(DEVICE).train()
        # The fastest of its AdamWs.
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=3e-3, weight_decay=1e-2, fused=DEVICE == "cuda"
        )
        self.cudnn = torch.backends.cudnn.enabled and torch.backends.cudnn.is_available()

    def batch(self) -> None:
        """See `Trainer`."""
        sequences, targets = (part.to(DEVICE, non_blocking=True) for part in self._host)
        self._optimizer.zero_grad(set_to_none=True)
        loss = (self._network(sequences) - targets).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._loss = loss.detach()

    def synchronize(self) -> None:
        """See `Trainer`."""
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    def loss(self) -> float:
        """Of the last batch."""
        return float(self._loss)


def _pinned(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if DEVICE == "cuda" else tensor


def main() -> None:
    """Answers until there are no more questions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.torch_side")
    parser.add_argument("--tensor-float-32", action="store_true")
    allowed = parser.parse_args().tensor_float_32
    # cuDNN's is for its recurrent layers, too.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    about = {
        "torch": torch.__version__,
        "device": DEVICE,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
    }
    answer(about, Trainers(TorchTrainer).questions())


if __name__ == "__main__":
    main()
