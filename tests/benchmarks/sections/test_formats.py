from typing import Any

import httpx
import numpy as np

from benchmarks.load.workloads import make
from benchmarks.sections.formats import formats
from tests.app.live import Live


def test_all_formats_bring_the_same_numbers(live: Live, port: int) -> None:
    """Each is decoded by the service to the sequences of the workload."""
    work = make("many")
    outputs = []
    for given in formats("tiny"):
        body, head = given.body(work.bodies[0], work.requests[0])
        headers = {"Content-Type": given.media_type}
        if head:
            headers["Inference-Header-Content-Length"] = str(head)
            body = body.replace(b'"binary_data_output": true', b'"binary_data_output":false')

        async def ask(path: str = given.path, content: bytes = body, with_: Any = headers) -> Any:
            url = f"http://127.0.0.1:{port}{path}"
            async with httpx.AsyncClient(timeout=30) as client:
                answer = await client.post(url, content=content, headers=with_)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        answer = live.run(ask())
        if head:
            tensor = next(t for t in answer["outputs"] if t["name"] == "outputs")
            padded = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
            lengths = [len(rows) for rows in work.requests[0]]
            outputs.append([rows[:n].tolist() for rows, n in zip(padded, lengths, strict=True)])
        else:
            outputs.append(answer["outputs"])
    assert len(outputs[0]) == 16
    for other in outputs[1:]:
        for ours, theirs in zip(outputs[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
