"""A task's table: read, split, cut into windows."""
