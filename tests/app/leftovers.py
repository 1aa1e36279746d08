"""What finished requests leave behind, seen with the garbage collector off."""

import gc
import logging
import types
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from tests.app.engine.running import is_idle, until
from tests.app.live import Live

# SQLite's connection keeps weak references to its last statements, some hundred at most; abstract
# classes keep some, with a method each, to the classes that they were asked about.
BOUNDED = {weakref.ReferenceType, types.BuiltinMethodType}


async def settled(live: Live) -> None:
    """Waits until nothing of a request is at work any more."""
    context, state = live.app.state.context, live.server.server_state
    await until(lambda: is_idle(context.registry.engine))
    await until(lambda: not (context.deadlines._open or context.deadlines._ticking))
    await until(lambda: not (state.tasks or state.connections))


def leftovers(
    live: Live, make: Callable[[int], Coroutine[Any, Any, None]], count: int
) -> Counter[str]:
    """The kinds of objects of which each of `count` finished requests leaves one or more.

    Args:
        live: the service.
        make: makes so many requests, until all have ended.
        count: of the requests.

    Returns:
        How many objects of a kind are left in cycles, which only the collector would find, or are
        still referred to.
    """

    async def run(number: int) -> None:
        await make(number)
        await settled(live)

    gc.collect()
    gc.disable()
    # pytest keeps what is logged, and with it the frames of what failed.
    logging.disable(logging.CRITICAL)
    try:
        # What is made once, and kept, is made by these. Only then are objects counted: a collection
        # stops to track empty dictionaries, until they are used again.
        live.run(run(count))
        before = Counter(map(type, gc.get_objects()))
        live.run(run(count))
        after = Counter(map(type, gc.get_objects()))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        in_cycles = Counter(map(type, gc.garbage))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        logging.disable(logging.NOTSET)
    kept = {kind: n for kind, n in (after - before).items() if n >= count and kind not in BOUNDED}
    return Counter({kind.__name__: n for kind, n in (in_cycles | Counter(kept)).items()})
