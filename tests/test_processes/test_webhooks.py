"""A real node tells a shop over TLS, though the shop is away and the node is killed."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.test_processes.harness import free_ports, until
from tests.test_processes.test_web_port import WebCase, fetch
from timeproto.wallet import hd
from timeproto.web.hooks import sign
from timeproto.wire import codec

STEPS = ["Locked", "SpentPending", "SpentFinalized"]


class Shop(Resource):
    """Takes every POST, and keeps it with its headers."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[dict[str, str], bytes]] = []

    def render_POST(self, request: Any) -> bytes:
        names = ("Timeproto-Timestamp", "Timeproto-Signature", "Timeproto-Webhook")
        self.heard.append(({name: request.getHeader(name) for name in names}, request.content.read()))
        return b""

    def deliveries(self) -> list[Any]:
        return [json.loads(body) for _, body in self.heard]

    def positions(self) -> list[int]:
        return [event["cursor"]["position"] for each in self.deliveries() for event in each.get("events", [])]

    def states(self) -> dict[str, list[str]]:
        """By coin, the states it was told to have come to, each position once."""
        found: dict[int, tuple[str, str]] = {}
        for each in self.deliveries():
            for event in each.get("events", []):
                change = event["notification"]
                state = change["new_state"]
                name = state if isinstance(state, str) else next(iter(state))
                outpoint = change["outpoint"]
                coin = outpoint if isinstance(outpoint, str) else f"{outpoint['txid']}:{outpoint['vout']}"
                found[event["cursor"]["position"]] = coin, name
        told = defaultdict(list)
        for position in sorted(found):
            coin, name = found[position]
            told[coin].append(name)
        return told


class Webhooks(WebCase):
    async def test_all_arrives_in_order(self) -> None:
        """The shop is away, the node is killed, twice: every step of every coin comes, signed, in its order."""
        authority, self.shop = trustme.CA(), Shop()
        bundle = self.mktemp()
        authority.cert_pem.write_to_path(bundle)
        os.environ["SSL_CERT_FILE"] = os.path.abspath(bundle)
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        await self.start_web(1)
        node = self.devnet.layout.nodes[0]
        alice = hd.address(hd.derive(self.devnet.layout.phrase("alice")), self.devnet.layout.genesis.params)
        port = free_ports(1)
        with node.config.open("a", encoding="utf-8") as file:
            file.write(f'webhooks = ["{alice} https://localhost:{port}/paid"]\nwebhook_networks = ["127.0.0.0/8"]\n')
        await self.again(signal.SIGTERM)
        await self.pay(0)
        await until(self.has_failed)
        await self.again(signal.SIGKILL)
        await self.pay(1)
        listening = self.open(authority, port)
        await until(lambda: self.is_told(2))
        await listening.stopListening()
        await self.pay(2)
        await self.again(signal.SIGKILL)
        await self.pay(3)
        self.open(authority, port)
        await until(lambda: self.is_told(4))
        secret = json.loads((node.folder / "webhooks.json").read_text("utf-8"))["hooks"][0]["secret"]
        for headers, body in self.shop.heard:
            made = sign(bytes.fromhex(secret), int(headers["Timeproto-Timestamp"]), body)
            self.assertEqual(headers["Timeproto-Signature"], made)
        self.assertNotIn(secret, node.log.read_text("utf-8"))
        seen: list[int] = []
        for position in self.shop.positions():  # in order, and twice only what a kill made the node forget
            if position in seen:
                del seen[seen.index(position) :]
            self.assertGreater(position, max(seen, default=0))
            seen.append(position)
        self.assertEqual({each.get("gap") for each in self.shop.deliveries()}, {None})

    async def pay(self, number: int) -> None:
        tx = self.transactions[number]
        status, accepted = await self.ask("v1/transactions", codec.encode(tx))
        self.assertEqual((status, accepted["txid"]), (202, tx.txid))

    def is_told(self, payments: int) -> bool:
        told = self.shop.states()
        return all(told[str(tx.outpoints[0])][:3] == STEPS for tx in self.transactions[:payments])

    async def has_failed(self) -> bool:
        _, numbers = await deferToThread(fetch, self.page() + "metrics")
        return b'timeproto_webhook_posts_total{outcome="unreachable"}' in numbers

    async def again(self, by: int) -> None:
        """The node ends and starts."""
        process = self.devnet.processes[0]
        process.signal(by)
        await process.when_ended()
        self.devnet.restart(1)
        await self.devnet.meshed()

    def open(self, authority: trustme.CA, port: int) -> Any:
        issued, context = authority.issue_cert("localhost"), SSL.Context(SSL.TLS_METHOD)
        for data, use in (
            (issued.cert_chain_pems[0].bytes(), context.use_certificate_chain_file),
            (issued.private_key_pem.bytes(), context.use_privatekey_file),
        ):
            path = self.mktemp()
            with open(path, "wb") as file:
                file.write(data)
            use(path)
        options = CertificateOptions()
        options._context = context
        listening = reactor.listenSSL(port, Site(self.shop), options, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return listening
