"""What prometheus_client (0.26) takes from urllib when it is imported, for push gateways, which are not used here."""

build_opener = None


class BaseHandler:
    pass


class Request(BaseHandler):
    pass


class HTTPHandler(BaseHandler):
    pass


class HTTPRedirectHandler(BaseHandler):
    pass


class HTTPSHandler(BaseHandler):
    pass
