"""Serves an exported model over HTTP. Never imports `model`."""

# Of Unroll: the newest entry of CHANGELOG.md and the package in client/ have the same.
__version__ = "0.1.0"
