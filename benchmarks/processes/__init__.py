"""Processes that are started, asked, measured and ended with all that they have started."""
