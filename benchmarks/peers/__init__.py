"""The servers Unroll is measured against, one file each; none imports `app` or `model`."""
