"""`end_with_parent`: makes a helper process end when its parent has died."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Asks Linux for SIGTERM when the process that started this one is gone.

    Args:
        parent: its number; if it is gone already, this one ends now.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
