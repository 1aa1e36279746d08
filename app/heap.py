"""The heap of this process: large blocks are reused, and what is free goes back to the system."""

import ctypes
from collections.abc import Callable

# `mallopt`'s parameters (glibc, malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Bytes: the most that glibc takes for the second.
TRIM_BYTES, MMAP_BYTES = 64 << 20, 32 << 20

# Of glibc; musl has none, and macOS' allocator gives back by itself.
_libc = ctypes.CDLL(None)
_trim: Callable[[int], int] | None = getattr(_libc, "malloc_trim", None)
_set: Callable[[int, int], int] | None = getattr(_libc, "mallopt", None)


def reuse_large_blocks() -> None:
    """Keeps blocks of up to 32 MB on the heap, where the next one finds them.

    Else glibc maps each block above 128 KB anew and unmaps it: the kernel's library, which has
    several for each chunk, takes a fifth longer. `give_back` bounds what is kept.
    """
    if _set is not None:
        _set(M_MMAP_THRESHOLD, MMAP_BYTES)
        _set(M_TRIM_THRESHOLD, TRIM_BYTES)


def give_back() -> None:
    """Gives free pages of the heap back, in some 0.2 ms.

    glibc does so itself only at the end of its heap: what is small and lives long keeps all that
    lies before it.
    """
    if _trim is not None:
        _trim(0)
