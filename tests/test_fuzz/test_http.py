"""Requests to the web port that are nearly right: an answer in the words of the API, or an end, and never a failure."""

from __future__ import annotations

import random
import re
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from tests import FUZZ
from tests.examples import GENESIS, PAYMENT, plain
from tests.mutations import chances, mutate
from tests.test_web.harness import Connection, Web
from timeproto.errors import ErrorCode
from timeproto.web import bounds
from timeproto.web.refusals import STATUS

ROUTES = [(route.method, route.path) for route in Web().service.site.router.routes if route.path != "/v1/events"]
VALUES = (
    PAYMENT.txid, f"{PAYMENT.txid}:0", f"{GENESIS.hash}:0", GENESIS.allocations[0].address, "0", "1", "-1", "1.0",
    "1e9", str(2**53), str(2**64), "", " ", "a" * 65, "ab" * 32, "AB" * 32, "..", "../..", "%", "%00", "%2f", "%zz",
    "é", "\x00", "\n", "a" * 8_000, "true", "null", "[]", "x=y", "%c3%28",
)  # fmt: skip
NAMES = ("after", "limit", "spent", "since", "address", "outpoint", "txid", "x", "", "limit", "%", "é")
HEADERS = (
    "Host: localhost", "Host: evil.example", "Host:", "Host: localhost:1", "Content-Length: 3", "Content-Length: 0",
    "Content-Length: 99999999999", "Content-Length: -1", "Content-Length: 3, 3", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Connection: close", "Connection: keep-alive, Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Content-Type: application/json",
    "Content-Type: text/plain", "Content-Encoding: gzip", "Expect: 100-continue", "Origin: https://evil.example",
    "Origin: null", "Last-Event-ID: 1", "Range: bytes=0-1", "If-None-Match: *", "Cookie: a=b", "X: " + "y" * 9_000,
    " folded", "no colon", ": empty", "X y: z", "X: \x00", "X: \xff", "Accept-Encoding: gzip, br",
)  # fmt: skip
METHODS = ("GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT", "get", "G ET", "", "PRI")
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/11", "", "http/1.1")
ALLOWED = {200, 202, 101, 304, 404, 405, 408, 413, 414, 415, 421, 422, 426, 431, *STATUS.values()} - {500}


def request(chance: random.Random) -> bytes:
    """One request of the API with a few things wrong, or none."""
    method, path = chance.choice(ROUTES)

    def value(_: Any = None) -> str:
        found = chance.choice(VALUES)
        return found if chance.random() < 0.1 else quote(found)

    path = re.sub(r"\{\w+\}", value, path)
    if chance.random() < 0.3:
        path += "?" + "&".join(f"{chance.choice(NAMES)}={value()}" for _ in range(chance.randint(1, 4)))
    if chance.random() < 0.15:
        at = chance.randrange(len(path) + 1)
        path = path[:at] + chance.choice(VALUES) + path[at:]
    method = method if chance.random() < 0.8 else chance.choice(METHODS)
    version = "HTTP/1.1" if chance.random() < 0.9 else chance.choice(VERSIONS)
    body = b""
    headers = ["Host: localhost"]
    if method == "POST" or chance.random() < 0.1:
        body = mutate(chance, plain(PAYMENT))
        headers += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        if chance.random() < 0.3:
            headers[1] = "Transfer-Encoding: chunked"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        headers.insert(chance.randrange(len(headers) + 1), chance.choice(HEADERS))
    if chance.random() < 0.1:
        headers.pop(chance.randrange(len(headers)))
    end = "\r\n" if chance.random() < 0.95 else chance.choice(("\n", "\r", "\r\r\n"))
    head = end.join([f"{method} {path} {version}", *headers, "", ""])
    return head.encode("latin-1", "replace") + body


class Requests(SynchronousTestCase):
    @settings(max_examples=200 * FUZZ)
    @given(chances())
    def test_any_request(self, chance: random.Random) -> None:
        """However it is cut: whole answers with a status that is documented, errors with a code, and no failure."""
        web = Web()
        connection = web.connect()
        asked = [request(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        for each in asked:
            self.send(chance, connection, each)
        web.clock.pump([0.5] * 4)
        raw = connection.wire.value()
        self.assertLess(len(raw), 3 * (bounds.WEB_BODY + 4 * 2**20))
        for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", raw):
            self.assertIn(int(status), ALLOWED | {100})
        is_plain = not any(each.startswith((b"HEAD", b"Expect")) or b"\nExpect" in each for each in asked)
        for answer in connection.answers() if is_plain and b" 101 " not in raw else ():
            self.assertIn(answer.status, ALLOWED, answer)
            self.assertNotIn("server", answer.headers)
            if answer.status >= 400 and answer.body:
                self.assertIn(answer.code, list(ErrorCode))
                self.assertNotEqual(answer.code, ErrorCode.INTERNAL)
        if not connection.wire.is_ended:  # and in the end it is ended
            web.clock.pump([1] * int(bounds.WEB_BODY_TIME + bounds.WEB_IDLE + 20))
        connection.lose()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(web.get("/live").status, 200)

    def send(self, chance: random.Random, connection: Connection, data: bytes) -> None:
        piece = chance.choice((len(data), len(data), 1_000, 100, chance.randint(1, 60)))
        for at in range(0, len(data), piece):
            connection.send(data[at : at + piece])
