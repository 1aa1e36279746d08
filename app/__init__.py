"""Serves an exported model over HTTP. Never imports `model`."""
