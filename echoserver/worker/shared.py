"""What all workers of a server have."""

import dataclasses
from typing import TYPE_CHECKING

from echoserver.observe import counters, metrics

if TYPE_CHECKING:
    import ssl


@dataclasses.dataclass(slots=True)
class Shared:
    """What all workers of a server have: their counters, TLS contexts by protocol, and what makes a page of metrics."""

    board: counters.SharedCounters
    contexts: "dict[str, ssl.SSLContext]" = dataclasses.field(default_factory=dict)
    exposition: metrics.Exposition | None = None
