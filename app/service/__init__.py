"""What every protocol does with a request between decoding and encoding."""
