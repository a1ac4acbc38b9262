"""What prometheus_client (0.26) takes from socketserver when it is imported, for a server that is not used here."""


class ThreadingMixIn:
    pass
