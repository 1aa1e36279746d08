"""Serves an exported model over HTTP. Never imports `model`."""

# Of Unroll: the newest entry of CHANGELOG.md and the version of the package in client/ are the same.
__version__ = "0.1.0"
