"""The live page in a real browser, before real masternodes: what moves, what turns green, and what turns red."""

from __future__ import annotations

import json
import signal
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.test_processes.harness import signed_payments, until
from tests.test_processes.test_web_port import WebCase
from tests.test_web.browser import NAMES, Browser, installed
from timeproto.model.transaction import Transaction
from timeproto.network.discovery import parse_address
from timeproto.wire import codec

CHIP = "document.querySelector('.title .chip')?.textContent"
VERDICT = "document.querySelector('#verdict')"
AXE = (files("axe_core_python") / "axe.min.js").read_text("utf-8")
VIOLATIONS = """axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
    .map((each) => [each.impact, each.id, each.nodes.map((node) => node.html.slice(0, 200) + node.failureSummary)]))"""
WIDTHS = {390: 844, 820: 1180, 1440: 900}
"""A phone, a tablet and a desktop: widths with their heights."""
DONE = "document.querySelectorAll('ol.way li.done').length"


class PageCase(WebCase):
    timeout = 240

    def setUp(self) -> None:
        if installed() is None:
            raise SkipTest(f"there is no browser here (one of {', '.join(NAMES)})")

    async def browse(self, view: str = "") -> Browser:
        """The first node's page in a browser of its own."""
        browser = self.browser = Browser(reactor, Path(self.mktemp()).absolute())
        self.addCleanup(browser.stop)
        await browser.start()
        await browser.open(f"{self.page()}#/{view}")
        await browser.until("document.querySelector('#live')?.textContent === 'live'")
        return browser

    async def send(self, tx: Transaction) -> None:
        status, _ = await self.ask("v1/transactions", codec.encode(tx))
        self.assertEqual(status, 202)

    async def spend_twice(self) -> tuple[Transaction, Transaction]:
        """Two payments of one coin, each locked by two of four masternodes: neither can become final.

        Two masternodes are silent while the second payment comes to them, over connections that stand already, and
        after it the first one and its votes: they read what came first. If one does not, the next coin is tried.
        """
        again = signed_payments(self.devnet.layout, self.coins, timestamp=1)
        for one, two in zip(reversed(self.transactions), reversed(again), strict=True):
            late = [await deferToThread(self.connected, number) for number in (3, 4)]
            self.freeze(3, 4)
            for connection in late:
                connection.request("POST", "/v1/transactions", codec.encode(two), {"Content-Type": "application/json"})
            first = [(await self.ask("v1/transactions", codec.encode(one), number))[0] for number in (1, 2)]
            self.thaw(3, 4)
            second = [(await deferToThread(connection.getresponse)).status for connection in late]
            for connection in late:
                connection.close()
            if first + second == [202] * 4:
                return one, two
        raise AssertionError("no coin was locked half and half")

    def connected(self, number: int) -> HTTPConnection:
        """A connection to a masternode's web port that has been answered once."""
        host, port = parse_address(self.devnet.layout.nodes[number - 1].web or "")
        connection = HTTPConnection(host, port, timeout=30)
        connection.request("GET", "/live")
        connection.getresponse().read()
        return connection

    def freeze(self, *numbers: int) -> None:
        """These masternodes fall silent until :meth:`thaw`; at the latest when the test ends."""
        for number in numbers:
            self.devnet.processes[number - 1].signal(signal.SIGSTOP)
        self.addCleanup(self.thaw, *numbers)

    def thaw(self, *numbers: int) -> None:
        for number in numbers:
            self.devnet.processes[number - 1].signal(signal.SIGCONT)

    async def shown_final(self, txid: str) -> None:
        async def is_final() -> bool:
            return bool((await self.ask(f"v1/transactions/{txid}"))[1]["status"] == "final")

        await until(is_final)


class Payments(PageCase):
    async def test_a_payment_moves_on_the_page_without_a_reload(self) -> None:
        """Unknown, locked while a quorum is missing, final and verified green when it is back, confirmed by a block."""
        await self.start_web(4, block_interval=2)
        tx = self.transactions[0]
        browser = await self.browse(f"tx/{tx.txid}")
        await browser.until("document.querySelector('h1')?.textContent === 'Not known here'")
        await browser.run("window.sameDocument = true")
        self.freeze(3, 4)
        await self.send(tx)
        await browser.until(f"{CHIP} === 'Locked' && {VERDICT}.className === 'verdict wait'")
        self.assertEqual(await browser.run(DONE), 2)
        await browser.until("document.querySelectorAll('.missing-vote').length === 2")
        self.assertIn("Waits for lock votes", await browser.run("document.querySelector('.waits').textContent"))
        moving = "getComputedStyle(document.querySelector('ol.way li.next'), '::after').animationName"
        self.assertEqual(await browser.run(moving), "beat")
        await browser.ask(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}]
        )
        self.assertEqual(await browser.run(moving), "none")
        self.thaw(3, 4)
        await browser.until(f"{VERDICT}?.className === 'verdict good'")
        words = await browser.run(f"{VERDICT}.textContent")
        self.assertIn("Proof verified in this browser", words)
        self.assertRegex(words, "[34] of 4 masternodes signed")
        await browser.until(f"{CHIP} === 'Confirmed' && {DONE} === 5")
        await browser.until("document.querySelector('ul.checks').textContent.includes('precommits hold')")
        self.assertIn("Confirmed. Proof verified", await browser.run("document.querySelector('#say').textContent"))
        self.assertTrue(await browser.run("window.sameDocument"))
        self.assertEqual(browser.faults, [])

    async def test_what_is_forged_turns_red(self) -> None:
        """Bent signatures, other amounts, no votes, no proof, another's, an end without a block, another genesis."""
        await self.start_web(1)
        tx, another = self.transactions[:2]
        for each in (tx, another):
            await self.send(each)
            await self.shown_final(each.txid)
        _, other_trace = await self.ask(f"v1/transactions/{another.txid}/trace")
        browser = await self.browse(f"tx/{tx.txid}")
        await browser.until(f"{VERDICT}?.className === 'verdict good'")

        def bent(found: Any) -> Any:
            vote = found["proof"]["votes"][0]
            vote["signature"] = ("0" if vote["signature"][0] != "0" else "1") + vote["signature"][1:]
            return found

        def richer(found: Any) -> Any:
            found["tx"]["outputs"][0]["amount"] += 1
            return found

        def unsigned(found: Any) -> Any:
            found["proof"]["votes"] = []
            return found

        def bare(found: Any) -> Any:
            return {name: value for name, value in found.items() if name not in ("proof", "inclusion")}

        def ended(found: Any) -> Any:
            return found | {"status": "aborted", "height": 1, "inclusion": None}

        for change, why in (
            (bent, "not signed"), (richer, "another txid"), (unsigned, "no votes"), (bare, "shows nothing that proves"),
            (lambda found: other_trace, "another txid"), (ended, "no block is shown"),
        ):  # fmt: skip
            await browser.forge("*/v1/transactions/*/trace", change)
            await browser.ask("Page.reload")
            await browser.until(f"{VERDICT}?.className === 'verdict bad'")
            self.assertIn(why, await browser.run(f"{VERDICT}.textContent"))

        def other(found: Any) -> Any:
            found["genesis"]["timestamp"] += 1
            return found

        await browser.forge("*/v1/genesis", other)
        await browser.ask("Page.reload")
        await browser.until(f"{VERDICT}?.className === 'verdict bad'")
        self.assertIn("another genesis", await browser.run("document.querySelector('.notice.bad').textContent"))
        self.assertEqual(browser.faults, [])

    async def test_a_coin_spent_twice(self) -> None:
        """Contested, with the rival and who voted for what; then the block's verdict, proved red, without a reload."""
        await self.start_web(4, block_interval=6)
        browser = await self.browse()
        one, two = await self.spend_twice()
        await browser.until(f"document.querySelector('[aria-label^=Contested] a[href*=\"{one.txid}\"]') !== null")
        await browser.run(f"location.hash = '#/tx/{one.txid}'")
        await browser.until("document.querySelector('.title')?.textContent.includes('Contested')")
        await browser.run("window.sameDocument = true")
        rival = f"document.querySelector('[aria-label^=Conflicting] a[href*=\"{two.txid}\"]') !== null"
        await browser.until(rival)
        self.assertIn("Contested", await browser.run("document.querySelector('.waits').textContent"))
        await browser.until(f"{CHIP} === 'Aborted' && {VERDICT}.className === 'verdict bad'")
        self.assertIn("Aborted, and that is proved", await browser.run(f"{VERDICT}.textContent"))
        self.assertIn("holds the verdict", await browser.run("document.querySelector('.waits').textContent"))
        self.assertTrue(await browser.run(rival))
        self.assertTrue(await browser.run("window.sameDocument"))
        await browser.run("location.hash = '#/'")
        await browser.until("document.querySelectorAll('[aria-label=Verdicts] .aborted').length === 2")
        self.assertEqual(browser.faults, [])

    async def test_a_pasted_proof(self) -> None:
        """#/check finds a true one true, and false with one digit changed."""
        await self.start_web(1)
        tx = self.transactions[0]
        await self.send(tx)
        await self.shown_final(tx.txid)
        _, proof = await self.ask(f"v1/transactions/{tx.txid}/proof")
        browser = await self.browse("check")
        await browser.until("document.querySelector('textarea') !== null")
        forged = json.loads(json.dumps(proof))
        forged["txid"] = ("0" if proof["txid"][0] != "0" else "1") + proof["txid"][1:]
        for words, mood in ((proof, "good"), (forged, "bad"), ({"a": 1}, "bad"), (proof, "good")):
            await browser.focus("textarea")
            await browser.type(json.dumps(words))
            await browser.run("document.querySelector('button.main').click()")
            await browser.until(f"{VERDICT}?.className === 'verdict {mood}'")
        self.assertEqual(browser.faults, [])


class Looks(PageCase):
    async def test_the_dashboard_lives(self) -> None:
        """Payments show up as they are made, with their time to finality; the masternodes are there, and trouble."""
        await self.start_web(4, block_interval=2)
        browser = await self.browse()
        await browser.until("document.querySelectorAll('[aria-label=Masternodes] tbody tr').length === 4")
        await browser.run("window.sameDocument = true")
        for tx in self.transactions[:3]:
            await self.send(tx)
            row = f'[aria-label="Newest transitions"] a[title="{tx.txid}"]'
            await browser.until(f"document.querySelector('{row}') !== null")
        await browser.until("document.querySelector('svg.chart[aria-label^=\"Histogram of 3 payments\"]') !== null")
        await browser.until("document.querySelectorAll('[aria-label=Blocks] tbody tr').length > 0")
        self.assertTrue(await browser.run("window.sameDocument"))
        await browser.forge("*/v1/node", lambda info: info | {"degraded": ["quorum"]})
        await browser.until("document.querySelector('.notice.bad')?.textContent.includes('no quorum')")
        self.assertEqual(browser.faults, [])

    async def test_it_fits_every_window_and_everybody(self) -> None:
        """Every view on a phone, a tablet and a desktop, light and dark: nothing sticks out, axe-core finds nothing."""
        await self.start_web(4, block_interval=2)
        final, pending = self.transactions[:2]
        await self.send(final)
        await self.shown_final(final.txid)
        aborted, _ = await self.spend_twice()

        async def is_aborted() -> bool:
            return bool((await self.ask(f"v1/transactions/{aborted.txid}"))[1]["status"] == "aborted")

        await until(is_aborted)
        self.freeze(3, 4)
        await self.send(pending)
        browser = await self.browse()
        pictures = Path(self.mktemp()).absolute()
        pictures.mkdir(parents=True)
        views = {
            "node": "", "final": f"tx/{final.txid}", "pending": f"tx/{pending.txid}", "aborted": f"tx/{aborted.txid}",
            "unknown": f"tx/{'ab' * 32}", "address": f"address/{final.outputs[0].address}", "block": "block/1",
            "coin": f"coin/{final.outpoints[0]}", "check": "check", "nowhere": "there",
        }  # fmt: skip
        await browser.until("document.querySelectorAll('[aria-label=Blocks] tbody tr').length > 0")
        await browser.run(AXE + "; location.hash = '#/elsewhere'")
        for name, view in views.items():
            await browser.run(f"document.title = ''; location.hash = '#/{view}'")
            await browser.until("document.title !== ''")
            for width, height in WIDTHS.items():
                for theme in ("light", "dark"):
                    await browser.look(width, height, theme)
                    await browser.until(f"document.documentElement.dataset.theme === '{theme}'")
                    wide = await browser.run("document.documentElement.scrollWidth - innerWidth")
                    self.assertLessEqual(wide, 0, (name, width))
                    self.assertEqual(await browser.run(VIOLATIONS), [], (name, width, theme))
                    await browser.picture(pictures / f"{name}-{width}-{theme}.png")
        self.assertEqual(browser.faults, [])
        await browser.run("document.querySelector('main').append(document.createElement('button')); true")
        self.assertEqual([name for _, name, _ in await browser.run(VIOLATIONS)], ["button-name"])

    async def test_it_is_found_by_keyboard(self) -> None:
        """A slash goes to the search, a txid, a height, an address or a coin to its page; nonsense stays."""
        await self.start_web(1)
        tx = self.transactions[0]
        await self.send(tx)
        await self.shown_final(tx.txid)
        browser = await self.browse()
        address, coin = tx.outputs[0].address, str(tx.outpoints[0])
        for words, view in ((tx.txid, "tx"), (address, "address"), (coin, "coin"), ("1", "block")):
            await browser.press("/")
            await browser.until("document.activeElement.id === 'query'")
            await browser.type(words)
            await browser.run("document.querySelector('#search').requestSubmit()")
            await browser.until(f"location.hash.startsWith('#/{view}/') && document.querySelector('main h1') !== null")
        before = await browser.run("location.hash")
        await browser.focus("#query")
        await browser.type("nonsense")
        await browser.run("document.querySelector('#search').requestSubmit()")
        self.assertEqual(await browser.run("location.hash"), before)
        self.assertIn("no txid", await browser.run("document.querySelector('#hint').textContent"))
        self.assertEqual(await browser.run("document.querySelector('#query').getAttribute('aria-invalid')"), "true")
        await browser.press("Escape")
        await browser.until("document.querySelector('#hint').textContent === ''")
        self.assertEqual(browser.faults, [])
