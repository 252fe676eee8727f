"""Who may come in at the web port, whose pages may ask, and who pays for it (faults T-05, T-07, T-08)."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import PAYMENT
from tests.test_web.harness import Web, encode
from timeproto import limits
from timeproto.errors import ErrorCode, StorageError
from timeproto.web import bounds
from timeproto.web.refusals import STATUS


def _raise(error: Exception, *_: object) -> NoReturn:
    raise error


class Answers(SynchronousTestCase):
    def test_safe_headers_on_everything(self) -> None:
        """No answer names the server, lets itself be framed or guessed at, or may be kept."""
        web = Web()
        for path, status in (("/live", 200), ("/nope", 404), ("/v1/blocks/0", 400)):
            answer = web.get(path)
            self.assertEqual(answer.status, status)
            self.assertNotIn("server", answer.headers)
            self.assertNotIn("access-control-allow-origin", answer.headers)
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
            self.assertEqual(answer.headers["x-frame-options"], "DENY")
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertEqual(answer.headers["content-type"], "application/json")

    def test_every_code_has_a_status(self) -> None:
        """The codes are the wire's; none is answered with success."""
        self.assertEqual(set(STATUS), set(ErrorCode))
        self.assertTrue(all(400 <= status < 600 for status in STATUS.values()))

    def test_methods(self) -> None:
        """A path with another method says which one it has (T-07)."""
        web = Web()
        for method in ("DELETE", "PUT", "OPTIONS", "TRACE", "FOO"):
            answer = web.connect().ask(method, "/live")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        answer = web.get("/v1/transactions")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "POST"))

    def test_no_path_leads_out(self) -> None:
        """There are no files behind the paths, whatever they contain (T-07)."""
        web = Web()
        for path in ("/..%2f..%2fetc/passwd", "/../etc/passwd", "//live", "/live/", "/%00", "/v1", "*", "/live%00"):
            self.assertEqual(web.get(path).status, 404, path)
        self.assertEqual(web.get("/v1/coins/%ff").code, "bad_encoding")

    def test_a_failure_of_our_own(self) -> None:
        """It is logged, and told without a word of the code (T-07)."""
        web = Web()
        web.node.info = None  # type: ignore[assignment,method-assign]
        answer = web.get("/v1/node")
        self.assertEqual((answer.status, answer.json), (500, {
            "type": "Error", "code": "internal", "message": "the node failed to answer"}))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_a_failure_that_goes_on_fills_no_log(self) -> None:
        """Each kind is written down once in a while, however often strangers ask for what is damaged."""
        web = Web()
        for error in (StorageError("block checksum mismatch"), ValueError("another one")):
            self.patch(web.node, "transaction", partial(_raise, error))
            for _ in range(5):
                self.assertEqual(web.get("/v1/transactions/" + "ab" * 32).status, 500)
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)
        web.clock.advance(bounds.WEB_COMPLAINT)
        self.assertEqual(web.get("/v1/transactions/" + "ab" * 32).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_who_leaves_is_not_answered(self) -> None:
        """An answer for somebody who has gone is dropped without a complaint."""
        web = Web()
        web.node.held = []
        connection = web.connect().request("GET", "/v1/node")
        connection.lose()
        web.node.let_read()
        self.assertEqual(connection.take(), b"")

    def test_bodies_only_where_they_belong(self) -> None:
        """A payment is JSON and says so; a question has no body."""
        web = Web()
        body = encode(PAYMENT)
        self.assertEqual(web.post("/v1/transactions", body).status, 202)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            self.assertEqual(web.post("/v1/transactions", body, Content_Type=kind).status, 415, kind)
        self.assertEqual(web.post("/v1/transactions", body, Content_Type="Application/JSON; charset=utf-8").status, 202)
        self.assertEqual(web.post("/v1/transactions", body, Content_Encoding="gzip").status, 415)
        self.assertEqual(web.connect().ask("GET", "/live", b"{}").status, 400)


class Names(SynchronousTestCase):
    """DNS rebinding: another site's name made to point here."""

    def test_only_our_names(self) -> None:
        """The Host header is one of ours, in any spelling, with any port."""
        web = Web(hosts=("localhost", "127.0.0.1", "[::1]", "node.example"))
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:24180", "node.example"):
            self.assertEqual(web.get("/live", Host=host).status, 200, host)
        for host in ("evil.example", "localhost.evil.example", "127.0.0.2", "[::2]"):
            answer = web.get("/live", Host=host)
            self.assertEqual((answer.status, answer.code), (421, "not_authorised"), host)
        for host in ("", "a b", "localhost:99999999", "localhost:x", "local/host", "user@localhost"):
            self.assertEqual(web.get("/live", Host=host).status, 400, host)

    def test_one_host_only(self) -> None:
        """None is wrong in HTTP/1.1, two always; HTTP/1.0 may have none."""
        web = Web()
        self.assertEqual(web.connect().send(b"GET /live HTTP/1.1\r\n\r\n").answers()[0].status, 400)
        twice = b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
        self.assertEqual(web.connect().send(twice).answers()[0].status, 400)


class Pages(SynchronousTestCase):
    """A page of another site in the operator's browser."""

    def test_no_foreign_page_sends_a_payment(self) -> None:
        """An Origin that is neither ours nor allowed is refused before the payment is looked at (T-08)."""
        web = Web(origins=("https://shop.example",))
        body = encode(PAYMENT)
        for origin in ("http://evil.example", "null", "https://localhost", "http://localhost:1", "http://localhost.evil"):
            answer = web.post("/v1/transactions", body, Origin=origin)
            self.assertEqual((answer.status, answer.code), (403, "not_authorised"), origin)
        for site in ("cross-site", "same-site"):
            self.assertEqual(web.post("/v1/transactions", body, Sec_Fetch_Site=site).status, 403)
        self.assertEqual(web.node.known, {})
        self.assertEqual(web.post("/v1/transactions", body, Origin="http://localhost").status, 202)
        self.assertEqual(web.post("/v1/transactions", body, Origin="https://shop.example").status, 202)
        own = {"Host": "localhost:24180", "Origin": "http://localhost:24180", "Sec_Fetch_Site": "same-origin"}
        self.assertEqual(web.post("/v1/transactions", body, **own).status, 202)

    def test_no_get_changes_anything(self) -> None:
        """Every route that is not a question is a POST, and after every question the node is as it was (T-08)."""
        web = Web()
        web.post("/v1/transactions", encode(PAYMENT))
        node, routes = web.node, web.service.site.router.routes
        posts = {route.path for route in routes if route.method == "POST"}
        self.assertEqual(posts, {"/v1/transactions", "/v1/webhooks", "/v1/webhooks/list"})
        parts = {"outpoint": str(PAYMENT.outpoints[0]), "address": PAYMENT.outputs[0].address, "txid": PAYMENT.txid,
                 "height": "1"}

        def all_of_it() -> str:
            return repr((node.coins, node.log, node.known, node.seen, node.blocks, node.pieces, web.sink.heard))

        before, asked = all_of_it(), 0
        for route in routes:
            if route.method == "GET":
                web.connect().request("GET", route.path.format(**parts))
                asked += 1
        self.assertEqual(all_of_it(), before)
        self.assertGreater(asked, 15)


class Crowds(SynchronousTestCase):
    def test_one_address_has_its_share(self) -> None:
        """Connections of one block of addresses are bounded; those of others, and of the loopback, are not hurt."""
        web = Web()
        connections = [web.connect("10.0.0.1") for _ in range(bounds.WEB_CONNECTIONS_PER_BLOCK)]
        self.assertIsNone(web.service.site.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1)))
        web.connect("10.0.0.2")
        for _ in range(bounds.WEB_CONNECTIONS_PER_BLOCK + 1):
            web.connect()
        connections[0].lose()
        web.connect("10.0.0.1")

    def test_a_full_house_says_so(self) -> None:
        """Past the bound a request is told to come later, and past the spare room the connection is dropped."""
        web = Web()
        for _ in range(bounds.WEB_CONNECTIONS):
            web.connect().request("GET", "/live")
        connection = web.connect().request("GET", "/live")
        (answer,) = connection.answers()
        self.assertEqual((answer.status, answer.code, answer.headers["retry-after"]), (503, "busy", "10"))
        self.assertTrue(connection.wire.disconnecting)
        for _ in range(bounds.WEB_CONNECTIONS_PER_BLOCK - 1):
            web.connect().request("GET", "/live")
        self.assertIsNone(web.service.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))
        numbers, _ = web.service.metrics.render(web.node.info(), web.node.figured)
        self.assertIn(b"timeproto_http_turned_away_total 1.0", numbers)

    def test_open_mouths_keep_nobody_out(self) -> None:
        """Whoever has asked nothing yet makes room in a full house, the first that came first (T-04)."""
        web = Web()
        silent = [web.connect() for _ in range(bounds.WEB_CONNECTIONS)]
        asked = [web.connect().request("GET", "/live") for _ in range(3)]
        self.assertEqual([each.answers()[0].status for each in asked], [200] * 3)
        self.assertEqual([each.wire.aborted for each in silent[:4]], [True, True, True, False])
        for each in silent:
            each.lose()  # what the transport says of all of them in the end
        self.assertEqual(web.service.site.connections, 3)

    def test_an_ipv6_neighbour_pays_with_its_block(self) -> None:
        """A thousand addresses of one /64 are one payer."""
        web = Web()
        site = web.service.site
        for at in range(bounds.WEB_CONNECTIONS_PER_BLOCK):
            self.assertIsNotNone(site.buildProtocol(IPv6Address("TCP", f"2001:db8::{at:x}", 1)))
        self.assertIsNone(site.buildProtocol(IPv6Address("TCP", "2001:db8::ffff", 1)))


class Costs(SynchronousTestCase):
    def test_a_burst_is_answered_later(self) -> None:
        """Who asks too much waits, over all its connections; another address does not."""
        web = Web()
        price = 10 * bounds.WEB_COST
        greedy = [web.connect("10.0.0.1").request("GET", "/v1/masternodes") for _ in range(60)]
        for each in greedy:
            each.request("GET", "/v1/masternodes")
        at_once = sum(len(each.answers()) for each in greedy)
        self.assertLessEqual(at_once, limits.COST_BLOCK_BURST // price + 1)
        self.assertGreater(at_once, 60)
        self.assertEqual(len(web.connect("10.0.0.2").request("GET", "/v1/masternodes").answers()), 1)
        web.clock.pump([0.01] * 200)
        self.assertEqual(at_once + sum(len(each.answers()) for each in greedy), 120)

    def test_a_debt_too_large_is_refused(self) -> None:
        """The refusal names the limit, its value and when to retry; past twice the debt nobody is let in."""
        web = Web()
        neighbour = web.connect("10.0.0.1").channel.account
        neighbour.spend(limits.COST_BLOCK_BURST + limits.COST_BLOCK_PER_SECOND * limits.DEBT)
        answer = web.connect("10.0.0.1").ask("GET", "/live")
        self.assertEqual((answer.status, answer.code), (429, "over_limit"))
        details = answer.json["details"]
        self.assertEqual((details["limit"], details["value"]), ("cost_block_per_second", limits.COST_BLOCK_PER_SECOND))
        self.assertGreater(details["retry_after_ms"], 0)
        self.assertEqual(answer.headers["retry-after"], "1")
        web.clock.advance(limits.DEBT + 1)
        self.assertEqual(web.connect("10.0.0.1").ask("GET", "/live").status, 200)
        neighbour.spend(limits.COST_BLOCK_BURST + 2 * limits.COST_BLOCK_PER_SECOND * limits.DEBT)
        self.assertIsNone(web.service.site.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1)))

    def test_what_cannot_be_answered_costs_too(self) -> None:
        """A path that is none, a method, a host, a key of nobody's: each has its price, and waits for it to be paid."""
        web = Web()
        account = (connection := web.connect()).channel.account
        for method, path, headers in (
            ("GET", "/nothing", {}),
            ("DELETE", "/live", {}),
            ("GET", "/live", {"Host": "elsewhere"}),
            ("GET", "/live", {"Authorization": "Bearer " + "ab" * 32}),
        ):
            before = account.spent
            answer = connection.ask(method, path, **headers)
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual(account.spent - before, bounds.WEB_COST)
            self.assertEqual(answer.headers["timeproto-cost"], str(bounds.WEB_COST))
        account.spend(limits.COST_BURST + limits.COST_PER_SECOND)
        connection.request("GET", "/nothing")
        self.assertEqual(connection.answers(), [])
        web.clock.advance(1.1)
        self.assertEqual([each.status for each in connection.answers()], [404])

    def test_who_waits_and_leaves_costs_nothing_more(self) -> None:
        """A request whose turn comes when its asker has gone is never asked."""
        web = Web()
        web.connect("10.0.0.1").channel.account.spend(limits.COST_BLOCK_BURST + limits.COST_BLOCK_PER_SECOND)
        late = web.connect("10.0.0.1").request("GET", "/v1/node")
        late.lose()
        web.clock.pump([0.05] * 40)
        self.assertEqual(late.take(), b"")
