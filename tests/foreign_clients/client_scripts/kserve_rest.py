"""KServe's `InferenceRESTClient`: URL, model, file of arrays."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

url, model, path = sys.argv[1:]
arrays = dict(np.load(path))


def request(tensors, binary, **options):
    inputs = []
    for name, (array, datatype) in tensors.items():
        made = InferInput(name, list(array.shape), datatype)
        made.set_data_from_numpy(array, binary_data=binary)
        inputs.append(made)
    return InferRequest(model, inputs, request_id="mine", **options)


def numbers(response):
    return {output.name: output.as_numpy().tolist() for output in response.outputs}


async def main():
    sequences = np.nan_to_num(arrays["sequences"])
    batch = {"sequences": (sequences, "FP32"), "lengths": (arrays["lengths"], "INT64")}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def ask(data):
            return await client.infer(url, data, model_name=model)

        answer = await ask(request(batch, True))
        told = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model_ready": await client.is_model_ready(url, model),
            "other_ready": await client.is_model_ready(url, "nobody"),
            "answer": [answer.id, answer.model_name],
            "binary": numbers(answer),
            "json": numbers(await ask(request(batch, False))),
            "fp64": numbers(
                await ask(request({"sequences": (sequences.astype(np.float64), "FP64")}, False))
            ),
            "binary_out": numbers(
                await ask(request(batch, False, parameters={"binary_data_output": True}))
            ),
            "wanted": numbers(
                await ask(request(batch, True, request_outputs=[RequestedOutput("outputs")]))
            ),
        }
        pieces = []
        for start, part in ((True, sequences[:1, :5]), (False, sequences[:1, 5:])):
            parameters = {
                "sequence_id": "kserve",
                "sequence_start": start,
                "sequence_end": not start,
            }
            piece = request({"sequences": (part, "FP32")}, True, parameters=parameters)
            pieces.append(numbers(await ask(piece))["outputs"])
        told["sequence"] = pieces
        try:
            await ask(request({"sequences": (sequences[:, :, :1], "FP32")}, True))
        except httpx.HTTPStatusError as error:
            told["error"] = str(error)
    print(json.dumps(told))


asyncio.run(main())
