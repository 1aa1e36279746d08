"""The fixture `caller`: each test that takes it runs with both clients."""

from tests.client.callers import caller

__all__ = ["caller"]
