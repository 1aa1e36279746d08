"""The processes of the service: a parent, and workers that answer."""
