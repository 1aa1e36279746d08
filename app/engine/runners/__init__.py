"""One file a kernel. Nothing else in `app` imports the kernels' libraries."""
