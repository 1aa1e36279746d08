"""The servers Unroll is measured against, one file each. They import nothing of `app` or `model`."""
