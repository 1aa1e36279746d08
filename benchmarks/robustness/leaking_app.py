"""`python -m app` that keeps some of its requests for ever: what `soak --leak` must see grow.

Workers are spawned: they run this file too, before anything else, so what it replaces is replaced
in them.
"""

import sys
from itertools import count

from app.__main__ import main
from app.engine.sequence import Done
from app.service.inference import InferenceRequest, InferenceService

# One of so many requests is kept.
KEPT = 10

begin = InferenceService.begin
kept: list[InferenceRequest] = []
numbers = count()


def begin_and_keep(service: InferenceService, request: InferenceRequest, done: Done) -> None:
    """Stands for `InferenceService.begin`."""
    if next(numbers) % KEPT == 0:
        kept.append(request)
    begin(service, request, done)


InferenceService.begin = begin_and_keep  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    sys.exit(main())
