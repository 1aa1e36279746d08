"""Bytes <-> float32 arrays: the one place where numbers are parsed or printed."""
