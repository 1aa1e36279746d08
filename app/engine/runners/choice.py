"""`Choice`: which kernel runs a model, as it is handed from process to process."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

KIND, GRAPH = "choice.json", "model.onnx"


@dataclass(frozen=True)
class Choice:
    """A kernel.

    Attributes:
        kernel: its name, or that the model was refused.
        graph: what ONNX Runtime is to run.
        reason: why it was refused.
    """

    kernel: Literal["tensorflow", "onnxruntime", "refused"]
    graph: bytes = b""
    reason: str = ""

    def write(self, folder: Path) -> None:
        """Writes it, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPH).write_bytes(self.graph)
        unfinished = folder / f"{KIND}.new"
        unfinished.write_text(json.dumps({"kernel": self.kernel, "reason": self.reason}))
        os.replace(unfinished, folder / KIND)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The choice that stands there; None if there is none."""
        try:
            found = json.loads((folder / KIND).read_text())
        except FileNotFoundError:
            return None
        return cls(found["kernel"], (folder / GRAPH).read_bytes(), found["reason"])
