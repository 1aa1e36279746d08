"""KServe's `InferenceRESTClient` as it is made, for `/v1`: URL, model, file of bodies."""

import asyncio
import json
import sys
from pathlib import Path

import httpx
from kserve import InferenceRESTClient
from kserve.inference_client import RESTConfig

url, model, path = sys.argv[1:]
asked = json.loads(Path(path).read_text())


async def refusal(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    return None


async def main():
    async with InferenceRESTClient(RESTConfig()) as client:
        told = {
            "live": await client.is_server_live(url),
            "model_ready": await client.is_model_ready(url, model),
            "answers": {
                name: await client.infer(url, body, model_name=model)
                for name, body in asked.items()
            },
            "errors": [
                await refusal(client.is_model_ready(url, "nobody")),
                await refusal(client.infer(url, {}, model_name=model)),
                await refusal(client.explain(url, model, {"instances": [[]]})),
            ],
        }
    print(json.dumps(told))


asyncio.run(main())
