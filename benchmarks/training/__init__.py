"""Training beside Keras, and layers on two devices: `python -m benchmarks.training`."""
