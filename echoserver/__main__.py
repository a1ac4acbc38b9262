"""``python -m echoserver``."""

import sys

from echoserver.cli import main

sys.exit(main())
