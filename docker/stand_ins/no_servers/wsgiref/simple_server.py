"""What prometheus_client (0.26) takes from wsgiref when it is imported, for a server that is not used here."""

make_server = None


class WSGIRequestHandler:
    pass


class WSGIServer:
    pass
