"""The protocols that the service speaks, each a folder of its own.

A protocol's module `routes` has `install(app, inference)`, which adds its routes.
"""

from importlib import import_module

from fastapi import FastAPI

from app.service.inference import InferenceService

# In the order of the API's description.
PROTOCOLS = (
    "native",
    "open_inference",
    "tensorflow_serving",
)


def install(app: FastAPI, inference: InferenceService) -> None:
    """Adds the routes of all protocols."""
    for name in PROTOCOLS:
        import_module(f"{__name__}.{name}.routes").install(app, inference)
