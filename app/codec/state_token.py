"""A state as one opaque string: what a caller keeps between two pieces of a sequence.

    "u1." + base64url( head | name | float32 numbers, little-endian | checksum )

The head has the model's version, a digest of its layers, and the lengths of what follows. The
checksum finds damage; it is no signature, and a caller could make a state of its own as well as
send it as numbers.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence

import numpy as np

from app.errors import Fault, InvalidRequest, OtherModel, quoted

PREFIX = "u1."
# Version, digest of the layers, bytes of the name, numbers.
HEAD = struct.Struct("<Q8sHI")
DIGEST_BYTES = 8


class StateTokens:
    """Makes and reads the tokens of one version of a model.

    Args:
        name, version: of the model.
        layers: for each layer its cell, units and the names of its state's parts.
    """

    def __init__(
        self, name: str, version: int, layers: Sequence[tuple[str, int, tuple[str, ...]]]
    ) -> None:
        self._name = name
        self._version = version
        self._layout = _digest(repr([tuple(layer) for layer in layers]).encode())
        self._size = sum(units * len(parts) for _, units, parts in layers)
        encoded = name.encode()
        self._head = HEAD.pack(version, self._layout, len(encoded), self._size) + encoded

    def seal(self, state: np.ndarray) -> str:
        """The token of a state, float32 `[sum of H]`."""
        body = self._head + np.ascontiguousarray(state, "<f4").tobytes()
        return PREFIX + base64.urlsafe_b64encode(body + _digest(body)).decode().rstrip("=")

    def open(self, token: str, pointer: str) -> np.ndarray:
        """The state in a token, float32 `[sum of H]`.

        Args:
            token: as a caller sent it.
            pointer: to it in the request.

        Raises:
            InvalidRequest: it is no token, or a damaged one.
            OtherModel: it belongs to another model, or another version of it.
        """
        version, layout, name, numbers = _unpack(token, pointer)
        if (name, version) != (self._name, self._version):
            raise OtherModel(
                Fault(
                    pointer,
                    f"this state is of {quoted(name)} version {version}, but {self._name!r} "
                    f"version {self._version} is served",
                )
            )
        if layout != self._layout or len(numbers) != self._size:
            raise OtherModel(
                Fault(
                    pointer,
                    f"this state is of another {self._name!r} version {self._version}, whose "
                    "layers are not those of the one that is served",
                )
            )
        if not np.isfinite(numbers).all():
            raise InvalidRequest(Fault(pointer, "holds a number that is not finite"))
        return numbers


def _unpack(token: str, pointer: str) -> tuple[int, bytes, str, np.ndarray]:
    """Version, layout, name and numbers of a whole token."""
    if not token.startswith(PREFIX):
        raise InvalidRequest(
            Fault(pointer, f"is no state token: those begin with {PREFIX!r}, got {token[:12]!r}")
        )
    text = token[len(PREFIX) :]
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    body, checksum = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if len(body) < HEAD.size or _digest(body) != checksum:
        raise InvalidRequest(
            Fault(pointer, "is a damaged state token: its checksum is not that of its content")
        )
    version, layout, length, count = HEAD.unpack_from(body)
    name, numbers = body[HEAD.size : HEAD.size + length], body[HEAD.size + length :]
    if len(numbers) != 4 * count:
        raise InvalidRequest(Fault(pointer, "is a damaged state token: its lengths do not add up"))
    return version, layout, name.decode(errors="replace"), np.frombuffer(numbers, "<f4")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
