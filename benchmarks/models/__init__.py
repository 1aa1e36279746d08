"""The model that is measured: the same random weights in every form that a server needs."""
