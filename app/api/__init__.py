"""The HTTP API: one folder a protocol, and what they share."""
