"""States that the service keeps for its callers, from one request to the next."""
