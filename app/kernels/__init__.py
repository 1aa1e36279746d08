"""One file a kernel, their graphs, and how one is chosen: all that imports kernels' libraries."""
