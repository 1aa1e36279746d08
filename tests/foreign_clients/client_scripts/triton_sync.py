"""`tritonclient.http`: URL without scheme, model, file of arrays."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

url, model, path = sys.argv[1:]
arrays = dict(np.load(path))
client = triton.InferenceServerClient(url)
state_names = [o["name"] for o in client.get_model_metadata(model)["outputs"]][1:]


def infer(tensors, binary=True, wanted=None, **options):
    inputs = []
    for name, array in tensors.items():
        made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(made.set_data_from_numpy(array, binary_data=binary))
    outputs = wanted and [triton.InferRequestedOutput(name, binary_data=binary) for name in wanted]
    return client.infer(model, inputs, outputs=outputs, **options)


def numbers(result):
    found = {
        output["name"]: result.as_numpy(output["name"])
        for output in result.get_response()["outputs"]
    }
    return {name: array.tolist() for name, array in found.items()}


def error(call):
    try:
        call()
    except InferenceServerException as caught:
        return [caught.status(), caught.message()]
    return None


batch = {"sequences": arrays["sequences"], "lengths": arrays["lengths"]}
plain = {"sequences": np.nan_to_num(arrays["sequences"]), "lengths": arrays["lengths"]}
everything = ["outputs", *state_names]
told = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(model),
    "version_ready": [client.is_model_ready(model, version) for version in ("1", "2")],
    "server": client.get_server_metadata(),
    "metadata": client.get_model_metadata(model, "1"),
    "config": client.get_model_config(model),
    "binary": numbers(infer(batch)),
    "plain_binary": numbers(infer(plain)),
    "plain_json": numbers(infer(plain, binary=False, wanted=everything)),
    "json_in_binary_out": numbers(infer(plain, binary=False)),
    "wanted": numbers(infer(batch, wanted=[state_names[-1]])),
    "id": infer(batch, request_id="my id").get_response()["id"],
}

one = arrays["sequences"][:1]
first, second = one[:, :7], one[:, 7:]
before = infer({"sequences": first})
states = {name: before.as_numpy(name) for name in state_names}
told["continued"] = numbers(infer({"sequences": second, **states}))

for key, name in (("number", 1001), ("string", "station")):
    pieces = [one[:, :5], one[:, 5:6], one[:, 6:]]
    told[f"sequence_{key}"] = [
        numbers(
            infer(
                {"sequences": piece},
                sequence_id=name,
                sequence_start=index == 0,
                sequence_end=index == 2,
            )
        )["outputs"]
        for index, piece in enumerate(pieces)
    ]
    told[f"ended_{key}"] = error(lambda: infer({"sequences": first}, sequence_id=name))  # noqa: B023

tensor = triton.InferInput("sequences", [1, 1, 4], "FP32")
tensor.set_data_from_numpy(one[:, :1])
shared = triton.InferInput("sequences", [1, 1, 4], "FP32").set_shared_memory("region", 16)
output = triton.InferRequestedOutput("outputs")
output.set_shared_memory("region", 8)
told["errors"] = {
    "model": error(lambda: client.infer("nobody", [tensor])),
    "version": error(lambda: client.infer(model, [tensor], model_version="7")),
    "features": error(lambda: infer({"sequences": one[:, :, :2]})),
    "missing": error(lambda: infer({"sequences": np.full((1, 1, 4), np.nan, np.float32)})),
    "json_nan": error(lambda: infer({"sequences": np.full((1, 1, 4), np.nan)}, binary=False)),
    "compressed": error(lambda: infer({"sequences": one}, request_compression_algorithm="gzip")),
    "statistics": error(lambda: client.get_inference_statistics(model)),
    "shared_input": error(lambda: client.infer(model, [shared])),
    "shared_output": error(lambda: client.infer(model, [tensor], outputs=[output])),
}
print(json.dumps(told))
