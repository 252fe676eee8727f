"""What the HTTP API answers."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, FEE, GENESIS, MASTERNODES, PAYMENT, VOTERS, address, build, plain
from tests.test_web.harness import Web, encode
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import check_inclusion, transaction_leaf, verdict_leaf
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.web import bounds
from timeproto.web.refusals import STATUS
from timeproto.web.view import Figures
from timeproto.wire import messages

RIVAL = build([(Outpoint(GENESIS.hash, 0), ALICE)], [(1_000 * COIN - FEE, address(BOB))])


class Node(SynchronousTestCase):
    def test_node(self) -> None:
        """The node says of itself what it says over the wire."""
        web = Web()
        self.assertEqual(web.get("/v1/node").json, plain(web.node.info()))

    def test_genesis(self) -> None:
        """The document whose hash everything signed holds."""
        answer = web_answer = Web().get("/v1/genesis")
        self.assertEqual(web_answer.headers["cache-control"], "no-cache")
        found = msgspec.json.decode(answer.body, type=messages.GenesisDocument)
        self.assertEqual(found.genesis.hash, GENESIS.hash)

    def test_live_and_ready_are_two_questions(self) -> None:
        """A node that does not vote is alive, and not ready; it says why."""
        web = Web()
        self.assertEqual(web.get("/ready").json, {"ready": True, "reasons": []})
        web.node.voting = False
        answer = web.get("/ready")
        self.assertEqual((answer.status, answer.json["ready"]), (503, False))
        self.assertEqual(answer.json["reasons"], ["not voting: its storage failed"])
        self.assertEqual(web.get("/live").status, 200)

    def test_ready_names_every_reason(self) -> None:
        """Not caught up, and too few masternodes, are reasons too."""
        web = Web()
        info = msgspec.structs.replace(web.node.info(), synced=False, connected=4)
        web.node.info = lambda: info  # type: ignore[method-assign]
        reasons = web.get("/ready").json["reasons"]
        self.assertEqual(reasons, ["not caught up", "4 masternodes connected of the 5 needed"])

    def test_masternodes(self) -> None:
        """Each voter with its part in the newest proofs and blocks, and who is in which proof."""
        web = Web()
        web.node.pay(PAYMENT)
        web.node.decide()
        found = web.get("/v1/masternodes").json
        self.assertEqual((found["quorum"], found["faulty"], found["counted"], found["counted_blocks"]), (5, 2, 1, 1))
        parts = {line["node_key"]: (line["proofs"], line["blocks"]) for line in found["masternodes"]}
        self.assertEqual(parts, {voter.public_hex: (1, 1) if at < 5 else (0, 0) for at, voter in enumerate(VOTERS)})
        self.assertEqual(found["newest"], [{"txid": PAYMENT.txid, "voters": [0, 1, 2, 3, 4]}])

    def test_evidence_comes_in_pages(self) -> None:
        """As over the wire: a page, and where to go on."""
        web = Web()
        nothing = {"type": "EvidenceFound", "evidence": [], "next": 0, "more": False}
        self.assertEqual(web.get("/v1/evidence").json, nothing)
        self.assertEqual(web.get("/v1/evidence?since=7").json["next"], 7)
        self.assertEqual(web.get("/v1/evidence?since=-1").code, "bad_field")


class Coins(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.first = f"{GENESIS.hash}:0"

    def test_a_coin(self) -> None:
        """State and owner, and the cursor at which that was so."""
        self.web.node.lock(PAYMENT)
        found = self.web.get(f"/v1/coins/{self.first}").json
        self.assertEqual(found["state"]["Locked"]["txid"], PAYMENT.txid)
        self.assertEqual(found["output"], plain(GENESIS.allocations[0]))
        self.assertEqual(found["cursor"], {"node": self.web.node.node_key, "position": 1})

    def test_no_coin(self) -> None:
        """An unknown one is 404, a malformed one 400; both say what."""
        answer = self.web.get(f"/v1/coins/{'ab' * 32}:1")
        self.assertEqual((answer.status, answer.code), (404, "not_found"))
        self.assertEqual(answer.json["details"]["outpoint"], f"{'ab' * 32}:1")
        for bad in ("x", f"{'ab' * 32}:01", f"{'AB' * 32}:1", f"{'ab' * 32}:4294967296", f"{'ab' * 32}:-1", "%00"):
            answer = self.web.get(f"/v1/coins/{bad}")
            self.assertEqual((answer.status, answer.code), (400, "bad_field"), bad)

    def test_a_balance(self) -> None:
        """What is free, what waits for a lock, what for its proof; sums are text, since they may be large."""
        other = build([(Outpoint(GENESIS.hash, 1), ALICE)], [(500 * COIN - FEE, address(BOB))])
        self.web.node.lock(PAYMENT)
        self.web.node.lock(other)
        self.web.node.pend(other)
        found = self.web.get(f"/v1/addresses/{address(ALICE)}").json["balance"]
        self.assertEqual(found, {
            "available": "0", "locked": str(1_000 * COIN), "pending": str(500 * COIN), "total": str(1_500 * COIN),
            "coins": 2, "complete": True,
        })  # fmt: skip
        self.web.node.finalize(PAYMENT)
        found = self.web.get(f"/v1/addresses/{address(ALICE)}").json["balance"]
        self.assertEqual((found["available"], found["coins"]), (str(900 * COIN - FEE), 2))

    def test_an_incomplete_balance_says_so(self) -> None:
        """Of an address with more coins than one answer sums, the sums are of the first."""
        coin = self.web.node.coins[Outpoint(GENESIS.hash, 2)]
        for vout in range(bounds.WEB_BALANCE_COINS + 5):
            self.web.node.coins[Outpoint("cd" * 32, vout)] = coin
        found = self.web.get(f"/v1/addresses/{address(BOB)}").json["balance"]
        self.assertEqual((found["coins"], found["complete"]), (bounds.WEB_BALANCE_COINS, False))

    def test_pages_of_an_address(self) -> None:
        """The pages together are all coins, each once, those spent for ever at the end and only when asked for."""
        self.web.node.pay(PAYMENT)
        seen: list[str] = []
        after, more = "", True
        while more:
            page = self.web.get(f"/v1/addresses/{address(ALICE)}/coins?limit=1&spent=true{after}").json
            seen += [f"{coin['outpoint']['txid']}:{coin['outpoint']['vout']}" for coin in page["coins"]]
            after, more = f"&after={seen[-1]}", page["more"]
        self.assertEqual(len(seen), 3)
        self.assertEqual((len(set(seen)), seen[-1]), (3, self.first))
        unspent = self.web.get(f"/v1/addresses/{address(ALICE)}/coins").json["coins"]
        self.assertEqual(len(unspent), 2)

    def test_addresses_that_are_none(self) -> None:
        """Mistyped, or of another network: refused with the reason."""
        good = address(ALICE)
        for bad in (good[:-1] + ("1" if good[-1] != "1" else "2"), address(ALICE, "mainnet"), "TIME0x", "%3Cscript%3E"):
            answer = self.web.get(f"/v1/addresses/{bad}")
            self.assertEqual((answer.status, answer.code), (422, "bad_address"), bad)

    def test_parameters_are_strict(self) -> None:
        """Unknown, doubled, out of range or misspelled: each is refused and named."""
        path = f"/v1/addresses/{address(ALICE)}/coins"
        for query in ("limit=0", f"limit={bounds.WEB_COINS_PAGE + 1}", "limit=01", "limit=+1", "limit=1.0", "limit=",
                      "spent=1", "limit=1&limit=1", "x=1", "after=1", "%00=1", "limit=%31%00"):
            answer = self.web.get(f"{path}?{query}")
            self.assertEqual((answer.status, answer.code), (400, "bad_field"), query)
        self.assertEqual(self.web.get(f"{path}?" + "&".join(["limit=1"] * 200)).code, "over_limit")
        self.assertEqual(self.web.get(f"{path}?limit=%ff").code, "bad_encoding")


class Transactions(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()

    def find(self, txid: str = PAYMENT.txid) -> Any:
        return self.web.get(f"/v1/transactions/{txid}").json

    def trace(self, txid: str = PAYMENT.txid) -> Any:
        return self.web.get(f"/v1/transactions/{txid}/trace").json

    def test_the_way_of_a_payment(self) -> None:
        """Each stage with its time; votes while it is undecided; a proof that holds as soon as there is one."""
        node, clock = self.web.node, self.web.clock
        start = node.now()
        node.lock(PAYMENT)
        self.assertEqual(set(self.find()), {"type", "tx", "status"})
        trace = self.trace()
        self.assertEqual((trace["status"], trace["lock"], trace["waits_for"]),
                         ("locked", [VOTERS[0].public_hex], "lock"))
        clock.advance(0.04)
        node.pend(PAYMENT)
        self.assertEqual(len(self.trace()["lock"]), 5)
        clock.advance(0.03)
        node.finalize(PAYMENT)
        found = self.find()
        proof = msgspec.convert(found["proof"], FinalityProof)
        check_proof(proof, MASTERNODES, GENESIS.hash)
        self.assertNotIn("lock", self.trace())
        clock.advance(2)
        node.decide()
        trace = self.trace()
        self.assertEqual([(stage["name"], stage["at"] - start) for stage in trace["stages"]], [
            ("locked", 0), ("pending", 40), ("final", 70), ("confirmed", 2_070)])
        info = msgspec.convert(self.find(), messages.TransactionInfo)
        self.assertEqual((trace["proof"], trace["inclusion"]), (plain(info.proof), plain(info.inclusion)))
        assert info.inclusion is not None
        check_inclusion(info.inclusion, transaction_leaf(PAYMENT.txid), MASTERNODES, GENESIS.hash)
        self.assertEqual(info.height, 1)

    def test_an_aborted_one(self) -> None:
        """The verdict's place in its block proves the end of both rivals; the release is a stage."""
        self.web.node.lock(PAYMENT, RIVAL)
        contested = self.web.get("/v1/contested").json["transactions"]
        self.assertEqual({line["txid"] for line in contested}, {PAYMENT.txid, RIVAL.txid})
        self.assertEqual(contested[0]["votes"]["rivals"], [RIVAL.txid])
        self.assertEqual(self.trace()["rivals"][0]["txid"], RIVAL.txid)
        self.web.node.decide(PAYMENT, RIVAL)
        found = self.find()
        self.assertEqual(found["status"], "aborted")
        self.assertEqual([stage["name"] for stage in self.trace()["stages"]], ["locked", "aborted"])
        info = self.web.node.known[PAYMENT.txid]
        assert info.inclusion is not None
        check_inclusion(info.inclusion, verdict_leaf("abort", PAYMENT.txid), MASTERNODES, GENESIS.hash)
        self.assertEqual(self.web.get("/v1/contested").json, {"transactions": []})

    def test_unknown(self) -> None:
        """404, with the txid for programs; 400 for what is no txid."""
        for more in ("", "/trace"):
            answer = self.web.get(f"/v1/transactions/{PAYMENT.txid}{more}")
            self.assertEqual((answer.status, answer.json["details"]), (404, {"txid": PAYMENT.txid}))
            self.assertEqual(self.web.get(f"/v1/transactions/xyz{more}").status, 400)

    def test_the_proof_alone(self) -> None:
        """The finality proof as a document of its own; 404 while there is none."""
        path = f"/v1/transactions/{PAYMENT.txid}/proof"
        self.web.node.lock(PAYMENT)
        self.assertEqual(self.web.get(path).code, "not_found")
        proof = self.web.node.finalize(PAYMENT)
        self.assertEqual(self.web.get(path).json, plain(proof))

    def test_time_to_finality(self) -> None:
        """The newest final payments with the time from lock to proof, for the page's charts."""
        self.web.node.lock(PAYMENT)
        self.web.clock.advance(0.12)
        self.web.node.finalize(PAYMENT)
        (final,) = self.web.get("/v1/finality").json["finals"]
        self.assertEqual((final["txid"], final["took_ms"], final["at"]), (PAYMENT.txid, 120, self.web.node.now()))


class Payments(SynchronousTestCase):
    def test_accepted(self) -> None:
        """202 with the txid: locked here. The same again is no error."""
        web = Web()
        for _ in range(2):
            answer = web.post("/v1/transactions", encode(PAYMENT))
            self.assertEqual((answer.status, answer.json), (202, {"type": "TransactionAccepted", "txid": PAYMENT.txid}))

    def test_refused_with_the_wires_codes(self) -> None:
        """A rival is 409 and names what it conflicts with; a wrong txid 422; other refusals keep their code."""
        web = Web()
        web.post("/v1/transactions", encode(PAYMENT))
        answer = web.post("/v1/transactions", encode(RIVAL))
        self.assertEqual((answer.status, answer.code), (409, "double_spend"))
        self.assertEqual(answer.json["details"], {"conflicting_txid": PAYMENT.txid})
        wrong = msgspec.structs.replace(PAYMENT, txid="00" * 32)
        self.assertEqual(web.post("/v1/transactions", encode(wrong)).status, 422)
        for code in ErrorCode:
            web.node.submit = lambda tx, code=code: fail(Refusal(code, "no"))  # type: ignore[method-assign,misc]
            answer = web.post("/v1/transactions", encode(PAYMENT))
            self.assertEqual((answer.status, answer.code), (STATUS[code], code))

    def test_no_json_of_ours(self) -> None:
        """The body is held to the strictness of a frame."""
        web = Web()
        good = encode(PAYMENT)
        for body, code in (
            (b"{", "bad_json"), (b"NaN", "bad_json"), (b"1", "bad_field"), (b"[" * 40 + b"]" * 40, "too_deep"),
            (good.replace(b'"fee":10000', b'"fee":1e4'), "bad_number"),
            (good.replace(b'"fee":10000', b'"fee":-0'), "bad_number"),
            (good.replace(b'"fee":10000', b'"fee":36893488147419103232'), "bad_number"),
            (good.replace(b'"fee":10000', b'"fee":"10000"'), "bad_field"),
            (good.replace(b'"fee":10000', b'"fee":10000,"x":1'), "bad_field"),
            (b"\xef\xbb\xbf" + good, "bad_encoding"), (good[:-1] + b"\xff", "bad_encoding"),
        ):  # fmt: skip
            answer = web.post("/v1/transactions", body)
            self.assertEqual((answer.status, answer.code), (STATUS[code], code), body[:60])
        self.assertEqual(web.node.known, {})


class Blocks(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.web.node.pay(PAYMENT)
        self.decided = [self.web.node.decide() for _ in range(5)]

    def test_the_list(self) -> None:
        """From the newest down, in pages, with counts."""
        page = self.web.get("/v1/blocks?limit=2").json
        self.assertEqual((page["head"], [line["height"] for line in page["blocks"]], page["more"]), (5, [5, 4], True))
        page = self.web.get("/v1/blocks?limit=4&before=4").json
        self.assertEqual(([line["height"] for line in page["blocks"]], page["more"]), ([3, 2, 1], False))
        self.assertEqual(page["blocks"][-1]["transactions"], 1)
        self.assertEqual(page["blocks"][-1]["hash"], self.decided[0].commit.block)

    def test_lines_are_read_once(self) -> None:
        """A decided block never changes: the store is asked for it once."""
        asked: list[int] = []
        self.web.node.block = lambda height: asked.append(height) or self.decided[height - 1]  # type: ignore
        for _ in range(3):
            self.assertEqual(len(self.web.get("/v1/blocks").json["blocks"]), 5)
            self.web.get("/v1/masternodes")
        self.assertEqual(asked, [5, 4, 3, 2, 1])

    def test_one_block(self) -> None:
        """Header and commit, which prove it; txids and verdicts."""
        found = self.web.get("/v1/blocks/1").json
        self.assertEqual(found["header"], plain(self.decided[0].block.header))
        self.assertEqual(found["commit"], plain(self.decided[0].commit))
        self.assertEqual(found["transactions"], [PAYMENT.txid])
        self.assertEqual(self.web.get("/v1/blocks/1/document").json, plain(self.decided[0]))

    def test_no_block(self) -> None:
        """A height nobody decided is 404; 0 and other spellings are 400."""
        self.assertEqual(self.web.get("/v1/blocks/6").json["details"], {"height": 6})
        for bad in ("0", "-1", "01", "1.0", "x", "9" * 19 + "9"):
            self.assertEqual(self.web.get(f"/v1/blocks/{bad}").status, 400, bad)
        self.assertEqual(self.web.get(f"/v1/blocks/{2**63 - 1}").status, 404)


class Readings(SynchronousTestCase):
    def test_nothing_is_shown_between_commits(self) -> None:
        """Every answer about the node is made when it may be read, and at no other moment."""
        paths = [
            "/v1/node", f"/v1/coins/{GENESIS.hash}:0", f"/v1/addresses/{address(ALICE)}", "/v1/masternodes", "/ready",
            f"/v1/addresses/{address(ALICE)}/coins", f"/v1/transactions/{PAYMENT.txid}", "/v1/blocks", "/metrics",
            f"/v1/transactions/{PAYMENT.txid}/proof", "/v1/blocks/1", "/v1/blocks/1/document", "/v1/contested",
            "/v1/evidence",
        ]  # fmt: skip
        for path in paths:
            web = Web()
            web.node.pay(PAYMENT)
            web.node.decide()
            web.node.held = []
            connection = web.connect().request("GET", path)
            self.assertEqual(connection.take(), b"", path)
            web.node.figured = Figures(gauges={"inbox": 3})
            web.node.let_read()
            self.assertEqual(connection.answers()[0].status, 200, path)
