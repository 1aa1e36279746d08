"""`python -m app` that keeps its requests for ever: what `soak --leak` must see grow.

Workers are spawned: they run this file too, before anything else, so what it replaces is replaced
in them.
"""

import sys

from app.__main__ import main
from app.engine.sequence import Done
from app.service.inference import InferenceRequest, InferenceService

begin = InferenceService.begin
kept: list[InferenceRequest] = []


def begin_and_keep(service: InferenceService, request: InferenceRequest, done: Done) -> None:
    """Stands for `InferenceService.begin`."""
    kept.append(request)
    begin(service, request, done)


InferenceService.begin = begin_and_keep  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
