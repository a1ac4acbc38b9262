"""The page at /.echo, from which a person with a browser sends requests and WebSocket messages and sees the bytes.

One answer with all in it. Whatever comes from outside gets into the page as text (textContent) and never as markup.
It is written in index.html, style.css and script.js; what is served is built.py, which __main__.py makes of them.
"""

from echoserver.answers.page import built

PAGE = built.PAGE
"""HTML in UTF-8."""


def page(prefix: str) -> bytes:
    """The same for controls whose names begin so."""
    if not prefix:
        return PAGE
    begun = PAGE.replace(b"<body ", b'<body data-prefix="%b" ' % prefix.encode(), 1)
    return begun.replace(
        b"/?delay=1s, /?status=503", b"/?%bdelay=1s, /?%bstatus=503" % (prefix.encode(), prefix.encode())
    )


# ws: and wss: because not every browser takes a WebSocket of the page's origin for 'self'
FIELDS = (
    b"Content-Security-Policy: default-src 'none'; script-src %b; style-src %b; img-src data:; "
    b"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
) % (built.SCRIPT_DIGEST, built.STYLE_DIGEST)
"""Field lines that go with it: nothing but what is in it runs, and no other page may frame it."""
