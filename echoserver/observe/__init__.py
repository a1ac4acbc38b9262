"""What is told of the server's work: counters, the page of metrics, the access log, its own log.

May import wire and config.
"""
