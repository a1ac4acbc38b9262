"""What stands in front of a protocol and hands its connection over: a PROXY preamble, TLS.

May import transport and all below it; never a protocol.
"""
