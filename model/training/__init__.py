"""The loss, the optimizer and the training loop."""
