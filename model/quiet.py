"""What libraries write to standard error while they are imported, which no setting stops."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what is written to standard error's file descriptor, and tells it only on a failure.

    TensorFlow's C++ writes there before it reads how much it shall tell.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        ours = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(ours, kept.read())
            raise
        finally:
            os.dup2(ours, 2)
            os.close(ours)
