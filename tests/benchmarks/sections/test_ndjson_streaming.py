import asyncio
import http.client

import numpy as np
import orjson

from benchmarks.model_files import NUM_FEATURES
from benchmarks.sections.ndjson_streaming import LINES, ask
from tests.app.live import Live


def test_the_first_line_is_timed_before_the_last(live: Live, port: int) -> None:
    rows = np.ones((200, NUM_FEATURES))
    body = orjson.dumps({"sequences": [rows]}, option=orjson.OPT_SERIALIZE_NUMPY)

    async def run() -> None:
        first, last = await asyncio.to_thread(ask, caller, body, LINES)
        assert 0 < first < last
        first, last = await asyncio.to_thread(ask, caller, body, "application/json")
        assert first == last

    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    live.run(run())
    caller.close()
