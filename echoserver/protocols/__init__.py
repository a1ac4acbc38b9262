"""One file a protocol: what it does to the bytes."""
