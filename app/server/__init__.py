"""uvicorn's protocols, which HTTP and WebSocket messages come through. Nothing else uses them."""
