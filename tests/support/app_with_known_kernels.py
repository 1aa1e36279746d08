"""`python -m app`, but a model's kernels that were compared before in this run are not again.

`serve(compare=False)` starts it. The comparison, which imports TensorFlow, is more than half of a
start, and what it finds for the same weights is the same. Workers are spawned: they run this file
too, before anything else, so what it replaces is replaced in them.
"""

import fcntl
import os
import sys
from pathlib import Path

from app.__main__ import main
from app.kernels.loader import KernelLoader
from app.kernels.selected_kernel import Choice

# Beside the models, which tests export once a run or for themselves.
KNOWN = Path(os.environ["UNROLL_MODELS_DIR"]).parent / "known_kernels"

compare = KernelLoader._choose


def compare_once(loader: KernelLoader, folder: Path, checksum: str, place: Path) -> str:
    """Stands for `KernelLoader._choose`: the choice is at `place`, and how it came there."""
    known = KNOWN / f"{loader._wanted}-{checksum}"
    KNOWN.mkdir(exist_ok=True)
    # Services that start at the same time wait for the first of them.
    with known.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (choice := Choice.read(known)) is not None:
            choice.write(place)
            return "was known"
        how = compare(loader, folder, checksum, place)
        if (choice := Choice.read(place)) is not None and choice.lasting:
            choice.write(known)
        return how


KernelLoader._choose = compare_once  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
