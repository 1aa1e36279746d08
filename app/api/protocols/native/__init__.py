"""The native API: `/predict`, `/stream`, `/sessions`."""
