"""The live page: one file that carries all it needs, so its policy can forbid everything else."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from timeproto.web.routes import Ask, Body

_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL)


class Page:
    """The document, its policy, and its tag."""

    def __init__(self) -> None:
        text = (files("timeproto.web") / "page.html").read_text("utf-8")
        self.document = text.encode("utf-8")
        self.policy = policy_of(text)
        self.tag = f'"{sha256(self.document).hexdigest()[:32]}"'

    def answer(self, ask: Ask) -> Body:
        headers = {"Content-Security-Policy": self.policy, "Cache-Control": "no-cache", "ETag": self.tag,
                   "Cross-Origin-Opener-Policy": "same-origin"}
        if ask.request.header("if-none-match") == self.tag:
            return Body(b"", "text/html; charset=utf-8", 304, headers)
        return Body(self.document, "text/html; charset=utf-8", headers=headers)


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
