"""What the protocols of other servers share: their paths name the model and its version."""

from app.errors import Fault, UnknownModel, quoted
from app.registry.registry import LoadedModel, Registry

# Longer ones are no versions, and Python refuses to read very long ones.
MAX_DIGITS = 19


def version_of(text: str) -> int:
    """A version as a path has it; raises `UnknownModel`."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise UnknownModel(
            Fault("", f"there is no version {quoted(text)}: versions are 1 to {MAX_DIGITS} digits")
        )
    return int(text)


def served(registry: Registry, name: str, version: int | None = None) -> LoadedModel:
    """The model that a path names; raises as `Registry.current`."""
    try:
        return registry.current(name, version)
    except UnknownModel as error:
        # Nothing of it is in a body, where a pointer would lead.
        raise UnknownModel(*(Fault("", fault.message) for fault in error.faults)) from None
