"""What prometheus_client (0.26) takes from urllib when it is imported, for push gateways, which are not used here."""


class HTTPError(OSError):
    pass
