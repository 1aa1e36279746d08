"""One file a kernel, and how one is taken and checked. Only here are kernels' libraries
imported."""
