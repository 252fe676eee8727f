"""The live page: it carries all it needs, lets nothing in as markup (fault T-11), and checks as the model does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, GENESIS, PAYMENT, address, plain
from tests.node_js import NODE, PATIENCE
from tests.test_web.harness import Web
from tests.test_web.qr_reader import read
from tests.test_web.test_api import RIVAL
from timeproto.web.page import assembled, policy_of

SOURCES = Path(__file__).parent.parent.parent / "timeproto" / "web" / "browser"
LONGEST, WIDEST = 400, 170
"""Lines of one file of the page, and characters of one line: what a stranger can read."""
VECTORS = Path(__file__).parent.parent / "vectors"


def vectors(suite: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{suite}.json").read_text("utf-8"))["cases"]
    return cases


def run(words: dict[str, Any]) -> Any:
    script = str(Path(__file__).with_name("check_page.mjs"))
    done = subprocess.run(
        [NODE, script, *(str(SOURCES / name) for name in ("proofs.js", "qr.js", "words.js"))],
        input=json.dumps(words), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


class Served(SynchronousTestCase):
    def test_the_page(self) -> None:
        """It comes with the policy that allows its own scripts and styles, and nothing else."""
        answer = Web().get("/")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertEqual(answer.body.decode("utf-8"), assembled())
        policy = answer.headers["content-security-policy"]
        for rule in ("default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
            self.assertIn(rule, policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(policy.count("'sha256-"), sum(1 for each in SOURCES.iterdir() if each.suffix != ".html"))

    def test_it_is_not_sent_twice(self) -> None:
        """A browser that has it is told so."""
        web = Web()
        tag = web.get("/").headers["etag"]
        answer = web.get("/", If_None_Match=tag)
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(web.get("/", If_None_Match='"x"').status, 200)

    def test_the_policy_follows_the_text(self) -> None:
        """Another script has another hash."""
        first, second = (policy_of(f"<script>{each}</script><style></style>") for each in (1, 2))
        self.assertNotEqual(first, second)


class Text(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = assembled()

    def test_every_source_is_in_it(self) -> None:
        """No file is named that is not there, none is there that is not named, and a stranger can read each."""
        for path in SOURCES.iterdir():
            text = path.read_text("utf-8")
            lines = text.splitlines()
            self.assertLessEqual(len(lines), LONGEST, path.name)
            if path.suffix != ".html":
                self.assertIn(text, self.text, path.name)
                self.assertLessEqual(max(map(len, lines)), WIDEST, path.name)
        self.assertEqual(re.findall(r"<script src|<link rel=.stylesheet", self.text), [])

    def test_nothing_from_elsewhere(self) -> None:
        """No address of another host, but the two names that SVG is written with."""
        found = set(re.findall(r"https?://[^\s'\"`>]+", self.text))
        self.assertEqual(found, {"http://www.w3.org/2000/svg"})
        self.assertEqual(re.findall(r"<(?:link|script|img|iframe)[^>]*\b(?:src|href)=\"(?!data:)", self.text), [])

    def test_nothing_becomes_markup(self) -> None:
        """What comes from the node is text: none of the ways to make it more is used."""
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc",
                    "createContextualFragment", "DOMParser", "javascript:"):
            self.assertNotIn(way, self.text)
        self.assertEqual(re.findall(r"<[a-z][^>]*\s(?:on[a-z]+|style)=", self.text.partition("<script")[0]), [])

    def test_it_can_be_used_by_everybody(self) -> None:
        """Language, viewport, a way past the header, names on what is not text."""
        for part in ('lang="en"', 'name="viewport"', "Skip to the content", 'role="search"', "aria-label",
                     "prefers-reduced-motion", "prefers-color-scheme", ":focus-visible", "<noscript>"):
            self.assertIn(part, self.text)


class Checks(SynchronousTestCase):
    """The page's own scripts under Node.js, against our golden vectors."""

    def test_proofs(self) -> None:
        """Every proof that is to be accepted is, and every forgery refused."""
        cases = vectors("proof")
        words = [{"proof": case["input"]["proof"], "masternodes": case["input"]["masternodes"],
                  "genesis": case["input"]["genesis_hash"]} for case in cases]
        answers = run({"proofs": words})["proofs"]
        for case, answer in zip(cases, answers, strict=True):
            self.assertEqual(answer["holds"], case["expect"] == "accept", (case["id"], answer))
        self.assertGreater(sum(not answer["holds"] for answer in answers), 15)

    def test_txids(self) -> None:
        """The txid of what is shown is computed, for amounts past 2^53 and times before 1970 too."""
        cases = [case for case in vectors("transaction") if case["expect"] == "accept"]
        cases += [case for case in vectors("transaction") if case.get("value", {}).get("code") == "txid_mismatch"]
        answers = run({"txids": [case["input"]["tx"] for case in cases]})["txids"]
        for case, answer in zip(cases, answers, strict=True):
            same = answer["value"] == case["input"]["tx"]["txid"]
            self.assertEqual(same, case["expect"] == "accept", case["id"])

    def test_paths(self) -> None:
        """RFC 6962 paths lead to their root, and to no other."""
        cases = [*vectors("merkle-rfc6962"), *vectors("vote-merkle")]
        cases = [case for case in cases if "leaf" in case["input"]]
        answers = run({"paths": [case["input"] for case in cases]})["paths"]
        for case, answer in zip(cases, answers, strict=True):
            self.assertEqual(answer == case["input"]["root"], case["expect"] == "accept", case["id"])
        self.assertGreater(len(cases), 20)

    def test_blocks(self) -> None:
        """A place in a decided block is proved, a verdict's too; changed in any part it is not."""
        web = Web()
        web.node.pay(PAYMENT)
        web.node.lock(RIVAL)
        web.node.decide(RIVAL)
        info, ended = web.node.known[PAYMENT.txid], web.node.known[RIVAL.txid]
        good = [{"inclusion": plain(info.inclusion), "kind": "transaction", "txid": PAYMENT.txid},
                {"inclusion": plain(ended.inclusion), "kind": "abort", "txid": RIVAL.txid}]
        bad = [good[0] | {"txid": RIVAL.txid}, good[0] | {"kind": "abort"}, good[1] | {"kind": "commit"}]
        assert info.inclusion is not None
        header, commit = info.inclusion.header, info.inclusion.commit
        replace = msgspec.structs.replace
        for change in (
            {"header": replace(header, timestamp=header.timestamp + 1)}, {"header": replace(header, height=2)},
            {"header": replace(header, set="ab" * 32)}, {"commit": replace(commit, round=1)},
            {"commit": replace(commit, signatures=commit.signatures[:4])},
            {"commit": replace(commit, signatures=(*commit.signatures[:4], commit.signatures[0]))},
            {"index": 0}, {"path": ()}, {"path": ("ab" * 32,) * 13},
        ):  # fmt: skip
            bad.append(good[0] | {"inclusion": plain(replace(info.inclusion, **change))})
        answers = run({"genesis": plain(GENESIS), "inclusions": good + bad})
        self.assertEqual([each["holds"] for each in answers["inclusions"]], [True] * 2 + [False] * len(bad))
        self.assertEqual(answers["genesis"], GENESIS.hash)

    def test_addresses(self) -> None:
        """Whose coins a payment spends is computed from the keys that sign it."""
        cases = [case for case in vectors("address") if "public_key" in case["input"] and case["expect"] == "accept"]
        answers = run({"addresses": [case["input"] for case in cases]})["addresses"]
        self.assertEqual(answers, [case["value"]["address"] for case in cases])
        self.assertGreater(len(cases), 5)

    def test_amounts(self) -> None:
        """To the last unit, with no place that says nothing."""
        amounts = {0: "0", 1: "0.00000001", 150_000_000: "1.5", 2**64 - 1: "184\u202f467\u202f440\u202f737.09551615"}
        self.assertEqual(run({"amounts": list(amounts)})["amounts"], list(amounts.values()))

    def test_qr_codes(self) -> None:
        """A reader of our own, written from the other side, reads what the page draws."""
        texts = [address(ALICE), address(ALICE, "mainnet"), "TIME0" + "z" * 43, "x", "a" * 62]
        for text, rows in zip(texts, run({"qr": texts})["qr"], strict=True):
            self.assertEqual(read(rows), text)
