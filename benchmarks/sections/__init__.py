"""What a run measures, one section a file: its figures, and its part of the page."""
