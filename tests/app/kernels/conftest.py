"""A GPU, as far as the loader and cuDNN's kernel can tell."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def _a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Here, since they are large: some tests of this room do without TensorFlow.
    import tensorflow as tf

    from app.kernels import cudnn, loader, tensorflow_devices
    from tests.app.kernels.cudnn_without_gpu import HERE
    from tests.support.cudnn_in_numpy import fake_cudnn

    fake_cudnn(monkeypatch)
    monkeypatch.setattr(loader, "accelerator_present", lambda: True)
    for module in (cudnn, tensorflow_devices):
        monkeypatch.setattr(module, "gpus", lambda: list(HERE))
    yield
    tf.config.experimental.enable_tensor_float_32_execution(False)
