"""The model in plain float64 NumPy, from the manifest and the checkpoint of an exported folder.

Written from the equations, with no code of `model` or `app`, so that it can judge both.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# float32 keeps 24 bits: a relative error of 6e-8 an operation. A time step adds up a few hundred
# products, of random sign, in each of up to 4 layers, and gates keep errors from growing over time:
# a few 1e-7 is expected and about 1e-6 is seen. 1e-5 leaves room for another order of summation
# and another tanh, and is a hundred times below what a wrong gate, flag or mask gives.
# It is relative for numbers above 1 (a temperature of 90 has steps of 8e-6 in float32).
TOLERANCE = 1e-5

State = list[dict[str, np.ndarray]]


def assert_close(actual: Any, expected: Any, message: str = "") -> None:
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=message
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


class Reference:
    """Computes one sequence at a time, one time step at a time."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))

        def weight(name: str) -> np.ndarray:
            tensor = reader.get_tensor(f"weights/{name}/.ATTRIBUTES/VARIABLE_VALUE")
            return np.asarray(tensor, np.float64)

        self.layers = [
            (
                layer["cell"],
                layer["activation"],
                *(weight(f"layer_{i}/{part}") for part in ("kernel", "recurrent_kernel", "bias")),
            )
            for i, layer in enumerate(self.manifest["layers"])
        ]
        self.tables = {
            feature["name"]: weight(f"embedding_{i}/table")
            for i, feature in enumerate(self.manifest["features"])
            if feature["transform"]["kind"] == "embedding"
        }
        self.head = (weight("head/kernel"), weight("head/bias"))

    def zero_state(self) -> State:
        return [
            {part["name"]: np.zeros(layer["units"]) for part in layer["states"]}
            for layer in self.manifest["layers"]
        ]

    def __call__(self, raw: Any, state: State | None = None) -> tuple[np.ndarray, State]:
        """Raw rows `[T, F]` (None or NaN where missing) to outputs `[T, O]` and the final state."""
        rows = np.asarray(raw, dtype=np.float32).astype(np.float64)
        state = self.zero_state() if state is None else [dict(entry) for entry in state]
        outputs = []
        for row in rows:
            x = self._encode(row)
            for index, layer in enumerate(self.layers):
                x, state[index] = self._cell(x, state[index], *layer)
            outputs.append(self._decode(x @ self.head[0] + self.head[1], row))
        return np.array(outputs), state

    def _encode(self, row: np.ndarray) -> np.ndarray:
        columns: list[float] = []
        for value, feature in zip(row, self.manifest["features"], strict=True):
            transform = feature["transform"]
            absent = np.isnan(value)
            if transform["kind"] in ("standardize", "relative"):
                made = [(value - transform["mean"]) / transform["std"]]
            elif transform["kind"] == "flag":
                made = [value - transform["mean"]]
            elif transform["kind"] == "one_hot":
                known = enumerate(transform["shares"], 1)
                made = [(value == code) - share if value else 0.0 for code, share in known]
            elif transform["kind"] == "embedding":
                code = 0 if absent else int(value)
                size = [0.0] * transform["size"]
                made = [*self.tables[feature["name"]][code - 1]] if code else size
            else:
                angle = 2 * np.pi * value / transform["period"]
                made = [np.sin(angle), np.cos(angle)]
            columns += [0.0] * len(made) if absent else made
            if feature["missing"]:
                columns.append(float(absent))
        return np.array(columns)

    def _decode(self, y: np.ndarray, row: np.ndarray) -> np.ndarray:
        names = [feature["name"] for feature in self.manifest["features"]]
        made = []
        for value, output in zip(y, self.manifest["outputs"], strict=True):
            transform = output["transform"]
            value = value * transform["std"] + transform["mean"]
            if transform["kind"] == "change":
                value += row[names.index(transform["feature"])]
            made.append(value)
        return np.array(made)

    @staticmethod
    def _cell(
        x: np.ndarray,
        state: dict[str, np.ndarray],
        cell: str,
        activation: str,
        w: np.ndarray,
        u: np.ndarray,
        b: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        h = state["h"]
        if cell == "rnn":
            total = x @ w + h @ u + b
            h = np.maximum(total, 0.0) if activation == "relu" else np.tanh(total)
            return h, {"h": h}
        if cell == "lstm":
            i, f, g, o = np.split(x @ w + h @ u + b, 4)
            c = sigmoid(f) * state["c"] + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            return h, {"h": h, "c": c}
        assert cell == "gru"
        xz, xr, xn = np.split(x @ w + b[0], 3)
        hz, hr, hn = np.split(h @ u + b[1], 3)
        z = sigmoid(xz + hz)
        n = np.tanh(xn + sigmoid(xr + hr) * hn)
        h = z * h + (1.0 - z) * n
        return h, {"h": h}
