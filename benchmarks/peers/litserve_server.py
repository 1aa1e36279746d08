"""LitServe: batches in a worker process behind FastAPI, as its documentation configures it.

`max_batch_size` and `batch_timeout` on the API, ZeroMQ between the processes (`fast_queue`), as it
recommends for throughput; answers are printed in the worker, where no slower encoder follows.
"""

import os
from collections.abc import Sequence

import litserve
from fastapi import HTTPException, Request, Response

from benchmarks.peers.common import (
    BadRequest,
    Item,
    Result,
    make_kernel,
    parse_document,
    print_answer,
    run_requests,
    served_model,
)


class LstmAPI(litserve.LitAPI):
    """Requests of one or more sequences; a batch holds all sequences of its requests."""

    def setup(self, device: str) -> None:
        """Loads the model, in the worker."""
        self.served = served_model()
        self.kernel = make_kernel(self.served)

    def decode_request(self, request: Request) -> list[Item]:
        """Reads the parsed JSON, which is what LitServe passes to the worker for a `Request`."""
        try:
            return parse_document(request, self.served.units)
        except BadRequest as error:
            raise HTTPException(422, str(error)) from error

    def batch(self, inputs: Sequence[list[Item]]) -> list[list[Item]]:
        """Nothing: the kernel pads."""
        return list(inputs)

    def predict(self, requests: list[list[Item]]) -> list[list[Result]]:
        """Computes all sequences of the batch together."""
        return run_requests(self.kernel, requests)

    def unbatch(self, output: list[list[Result]]) -> list[list[Result]]:
        """One answer a request."""
        return output

    def encode_response(self, output: list[Result]) -> Response:
        """Prints an answer, in the worker."""
        return Response(print_answer(output, self.served), media_type="application/json")


def main() -> None:
    """Serves on `BENCH_PORT`."""
    api = LstmAPI(
        max_batch_size=64,
        batch_timeout=float(os.environ.get("BENCH_WAIT_S", "0.001")),
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(os.environ.get("BENCH_WORKERS", "1")),
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
