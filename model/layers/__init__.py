"""A recurrent layer: its cell, its forms over time, its dropout; and the dense head."""
