"""One process: its event loop, its listeners, its clock, and its end.

May import everything but the server and the command line.
"""
