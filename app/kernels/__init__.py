"""One file a kernel, the graphs they run, and how one is chosen. Only here are kernels' libraries
imported."""
