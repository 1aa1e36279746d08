"""The servers that are measured: how each is started, checked, and driven in turn with others."""
