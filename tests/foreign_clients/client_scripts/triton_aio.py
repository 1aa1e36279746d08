"""`tritonclient.http.aio`, many requests at once: URL without scheme, model, file of arrays."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http.aio as triton
from tritonclient.utils import InferenceServerException

url, model, path = sys.argv[1:]
arrays = dict(np.load(path))


def tensor(name, array, datatype, binary):
    made = triton.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


async def ask(client, array, binary, **options):
    outputs = [triton.InferRequestedOutput("outputs", binary_data=binary)]
    inputs = [tensor("sequences", array, "FP32", binary)]
    result = await client.infer(model, inputs, outputs=outputs, **options)
    return result.as_numpy("outputs").tolist()


async def main():
    sequences, lengths = np.nan_to_num(arrays["sequences"]), arrays["lengths"]
    rows = [sequences[i : i + 1, :length] for i, length in enumerate(lengths)]
    async with triton.InferenceServerClient(url) as client:
        told = {"ready": await client.is_server_ready() and await client.is_model_ready(model)}
        for key, binary in (("binary", True), ("json", False)):
            told[key] = await asyncio.gather(*(ask(client, row, binary) for row in rows))
        first, second = rows[0][:, :5], rows[0][:, 5:]
        told["sequence"] = [
            await ask(client, first, True, sequence_id=5, sequence_start=True),
            await ask(client, second, False, sequence_id=5, sequence_end=True),
        ]
        try:
            await ask(client, first, True, sequence_id=5)
        except InferenceServerException as error:
            told["error"] = [error.status(), error.message()]
    print(json.dumps(told))


asyncio.run(main())
