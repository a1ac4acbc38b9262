"""What a worker and its supervisor tell each other, and the signals that both take."""

import signal

READY, LEAVING, RETIRE, DRAIN, END = b"R", b"L", b"T", b"D", b"E"
"""The worker serves; it accepts nothing any more. It is to accept nothing; to drain; to end at once."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What is blocked until there is somebody to handle it."""

DRAINED = "drained: all connections have ended"
"""The last line of a server that has cut nothing."""
