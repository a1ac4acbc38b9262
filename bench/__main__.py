"""``python -m bench``."""

import signal
import sys

from bench.cli import main

for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)  # ended so, it ends all that it has started too
sys.exit(main())
