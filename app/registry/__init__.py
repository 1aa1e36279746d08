"""The versions of the model: found, verified, loaded, pinned for all workers."""
