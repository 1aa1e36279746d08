"""One file a protocol. Thin: decode, submit, encode."""
