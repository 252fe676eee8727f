"""The live page: one document that carries all it needs, so its policy can forbid everything else.

It is written in several files, which ``browser/page.html`` names as any page names its styles and scripts; they are put
in their places when the node starts, so there is no build step.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from timeproto.web.routes import Ask, Body

_NAMED = re.compile(r'<link rel="stylesheet" href="(\w+\.css)">|<script src="(\w+\.js)"></script>')
_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


class Page:
    """The document, its policy, and its tag."""

    def __init__(self) -> None:
        text = assembled()
        self.document = text.encode("utf-8")
        self.policy = policy_of(text)
        self.tag = f'"{sha256(self.document).hexdigest()[:32]}"'

    def answer(self, ask: Ask) -> Body:
        headers = {"Content-Security-Policy": self.policy, "Cache-Control": "no-cache", "ETag": self.tag,
                   "Cross-Origin-Opener-Policy": "same-origin"}
        if ask.request.header("if-none-match") == self.tag:
            return Body(b"", "text/html; charset=utf-8", 304, headers)
        return Body(self.document, "text/html; charset=utf-8", headers=headers)


def assembled() -> str:
    """The whole document, with every style and script that it names in it."""
    folder = files("timeproto.web") / "browser"

    def inline(named: re.Match[str]) -> str:
        style, script = named.groups()
        text = (folder / (style or script)).read_text("utf-8")
        return f"<style>\n{text}</style>" if style else f"<script>\n{text}</script>"

    return _NAMED.sub(inline, (folder / "page.html").read_text("utf-8"))


def policy_of(text: str) -> str:
    """A Content-Security-Policy that allows the document's own scripts and styles, by hash, and data of its origin."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, body in _INLINE.findall(text):
        digest = b64encode(sha256(body.encode("utf-8")).digest()).decode("ascii")
        hashes[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
