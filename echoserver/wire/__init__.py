"""Bytes in, meaning out, and back: header sections, chunked content, WebSocket frames, PROXY preambles. No I/O.

May import config.
"""
