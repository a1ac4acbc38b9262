"""Makes built.py of index.html, style.css and script.js: python -m echoserver.answers.page, whenever one has changed.

The server imports what it serves, since the static executable has no files to read. Where built.py can't be imported,
as in the middle of a merge, this file is run by its path instead.
"""

import base64
import hashlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE, SCRIPT = b'<link rel="stylesheet" href="style.css">', b'<script src="script.js"></script>'


def built() -> str:
    """The text that built.py is to have. The same files make the same text, anywhere."""
    page, style, script = ((FOLDER / name).read_bytes() for name in ("index.html", "style.css", "script.js"))
    for mark in (STYLE, SCRIPT):
        if page.count(mark) != 1:
            sys.exit(f"index.html: {mark.decode()} is to be in it once")
    style, script = b"\n" + style, b"\n" + script
    page = page.replace(STYLE, b"<style>%b</style>" % style).replace(SCRIPT, b"<script>%b</script>" % script)
    lines = "".join(f"    {line!r}\n" for line in page.splitlines(keepends=True))
    return (
        '"""What is served: made of index.html, style.css and script.js by __main__.py, and not to be edited."""\n\n'
        f'PAGE = (\n{lines})\n"""HTML in UTF-8, in one piece."""\n\n'
        f"STYLE_DIGEST, SCRIPT_DIGEST = (\n    {_digest(style)!r},\n    {_digest(script)!r},\n)\n"
        '"""What a policy calls them by."""\n'
    )


def _digest(inline: bytes) -> bytes:
    """What a policy calls an inline script or style by: its digest (CSP3 section 2.3.1)."""
    return b"'sha256-%b'" % base64.b64encode(hashlib.sha256(inline).digest())


if __name__ == "__main__":
    (FOLDER / "built.py").write_text(built(), encoding="ascii")
