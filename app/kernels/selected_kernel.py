"""`Choice`: which kernel runs a model, in files that selection leaves for the workers."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from app.settings import KernelName

KIND, GRAPH = "choice.json", "{}.onnx"


@dataclass(frozen=True)
class Choice:
    """A kernel.

    Attributes:
        kernel: its name, or that the model was refused.
        graphs: what it is to run, if it is not the SavedModel itself.
        reason: why it was refused.
        lasting: whether the same weights would give the same again.
    """

    kernel: KernelName | Literal["refused"]
    graphs: tuple[bytes, ...] = ()
    reason: str = ""
    lasting: bool = True

    def write(self, folder: Path) -> None:
        """Writes it, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, graph in enumerate(self.graphs):
            (folder / GRAPH.format(number)).write_bytes(graph)
        unfinished = folder / f"{KIND}.new"
        about = {
            "kernel": self.kernel,
            "graphs": len(self.graphs),
            "reason": self.reason,
            "lasting": self.lasting,
        }
        unfinished.write_text(json.dumps(about))
        os.replace(unfinished, folder / KIND)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The choice that stands there; None if there is none."""
        try:
            found = json.loads((folder / KIND).read_text())
        except FileNotFoundError:
            return None
        graphs = [(folder / GRAPH.format(n)).read_bytes() for n in range(found["graphs"])]
        return cls(found["kernel"], tuple(graphs), found["reason"], found["lasting"])

    @staticmethod
    def forget(folder: Path) -> None:
        """Takes away the choice that stands there."""
        (folder / KIND).unlink(missing_ok=True)
