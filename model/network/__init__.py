"""The layers together: the stack over time, and the model that is trained."""
