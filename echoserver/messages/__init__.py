"""Bytes in, bytes out: what HTTP messages say, without sockets or an event loop."""
