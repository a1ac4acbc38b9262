"""What the program's exit code says."""

OK, FAILED, USAGE, NOT_STARTED = 0, 1, 2, 3
"""Ended by a signal, all served; failed, or connections were cut; wrong usage; could not start."""
