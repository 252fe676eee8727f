"""The web port of real nodes: a payment by HTTP becomes final, the numbers are there, TLS and names hold."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from OpenSSL import SSL
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.threads import deferToThread
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request, TextMessage

from tests.test_processes.harness import DevnetCase, free_ports, until
from tests.test_processes.test_operations import OperationsCase
from timeproto.errors import ExitStatus, Refusal
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.network.handshake import HandshakeMachine
from timeproto.wire import codec


def fetch(url: str, body: bytes | None = None, context: Any = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of one answer. Blocks."""
    headers = {"Content-Type": "application/json"} | headers if body is not None else headers
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


class WebCase(DevnetCase):
    """A devnet whose masternodes have web ports."""

    coins = 8

    async def start_web(self, masternodes: int, **options: Any) -> None:
        await self.start(masternodes, web_port=free_ports(masternodes), **options)

    def page(self, number: int = 1) -> str:
        page = self.devnet.layout.page(self.devnet.layout.nodes[number - 1])
        assert page is not None
        return page

    async def ask(self, path: str, body: bytes | None = None, number: int = 1, **options: Any) -> tuple[int, Any]:
        status, found = await deferToThread(fetch, self.page(number) + path, body, **options)
        return status, json.loads(found)


class Payments(WebCase):
    async def test_a_payment_from_its_post_to_its_block(self) -> None:
        """Sent to one node by HTTP, shown final by another with a proof that holds, and then in a block."""
        await self.start_web(4, block_interval=1)
        genesis, tx = self.devnet.layout.genesis, self.transactions[0]
        status, info = await self.ask("v1/node")
        self.assertEqual((status, info["genesis"], info["connected"]), (200, genesis.hash, 4))
        status, accepted = await self.ask("v1/transactions", codec.encode(tx))
        self.assertEqual((status, accepted["txid"]), (202, tx.txid))
        for wanted in ("proof", "inclusion"):
            shown: dict[str, Any] = {}

            async def has_it(wanted: str = wanted, shown: dict[str, Any] = shown) -> bool:
                shown.update((await self.ask(f"v1/transactions/{tx.txid}", number=3))[1])
                return wanted in shown

            await until(has_it)
            self.assertEqual(shown["status"], "final")
            check_proof(msgspec.convert(shown["proof"], FinalityProof), genesis.masternode_set, genesis.hash)
        status, again = await self.ask("v1/transactions", codec.encode(tx))
        self.assertEqual((status, again.get("txid") or again["code"]), (202, tx.txid))
        _, line = await self.ask("v1/masternodes")
        self.assertEqual(sorted(each["direction"] == "self" for each in line["masternodes"]), [False] * 3 + [True])

    async def test_health_and_numbers(self) -> None:
        """Live and ready, and Prometheus's own parser reads what the node measured of a payment."""
        await self.start_web(1)

        async def is_ready() -> bool:
            return (await self.ask("ready"))[0] == 200

        await until(is_ready)
        self.assertEqual(await self.ask("live"), (200, {"live": True}))
        await self.ask("v1/transactions", codec.encode(self.transactions[0]))
        await self.devnet.info(1)
        _, text = await deferToThread(fetch, self.page() + "metrics")
        found = {
            (sample.name, sample.labels.get("type", "")): sample.value
            for family in text_string_to_metric_families(text.decode("utf-8"))
            for sample in family.samples
        }
        for name in ("final_transactions", "lock_seconds_count", "final_seconds_count"):
            self.assertEqual(found[f"timeproto_{name}", ""], 1, name)
        for name in ("commit_seconds_count", "verify_seconds_count", "notify_seconds_count", "commits_total"):
            self.assertGreater(found[f"timeproto_{name}", ""], 0, name)
        self.assertGreater(found["timeproto_messages_total", "GetInfo"], 0)

    async def test_the_nodes_tls_is_the_web_ports(self) -> None:
        """One certificate for both ports; who speaks plain HTTP there gets no answer."""
        await self.start_web(1, tls=True)
        self.assertTrue(self.page().startswith("https://"))
        trusted = ssl.create_default_context(cafile=str(self.devnet.layout.nodes[0].folder / "tls-certificate.pem"))
        status, info = await self.ask("v1/node", context=trusted)
        self.assertEqual((status, info["masternodes"]), (200, 1))
        plain = self.page().replace("https://", "http://")
        await self.assertFailure(deferToThread(fetch, plain + "live"), OSError)
        await deferToThread(self.prove_the_key, self.devnet.layout.nodes[0].web or "")

    def prove_the_key(self, address: str) -> None:
        """A wallet's handshake over a WebSocket in TLS: the node's proof is bound to this very channel. Blocks."""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port))) as wire:
            channel = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), wire)
            channel.set_connect_state()
            channel.do_handshake()
            binding = channel.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
            genesis = self.devnet.layout.genesis
            here, elsewhere = (
                HandshakeMachine(genesis=genesis, key=None, dialled=True, nonce=b"n" * 32, binding=bound)
                for bound in (binding, b"x" * 32)
            )
            frames, told = WSConnection(ConnectionType.CLIENT), list[Any]()
            channel.sendall(frames.send(Request(host=address, target="/v1/socket")))
            while len(told) < 2:
                frames.receive_data(channel.recv(65_536))
                for event in frames.events():
                    if isinstance(event, AcceptConnection):
                        words = codec.encode(here.ours).decode("utf-8")
                        channel.sendall(frames.send(TextMessage(words)))
                    elif isinstance(event, TextMessage):
                        told.append(codec.decode(event.data.encode("utf-8")))
        theirs, proof = told
        for machine in (here, elsewhere):
            machine.hear_handshake(theirs)
        here.hear_ack(proof)
        self.assertTrue(here.done)
        with self.assertRaisesRegex(Refusal, "does not prove the key on this channel"):
            elsewhere.hear_ack(proof)

    async def test_it_leaves_with_the_node(self) -> None:
        """A reader of events neither keeps a node from stopping nor is left waiting."""
        await self.start_web(1)
        stream = await deferToThread(urllib.request.urlopen, self.page() + "v1/events", timeout=20)
        self.addCleanup(stream.close)
        self.assertEqual(await self.devnet.stop(), [0])
        rest = await deferToThread(stream.read)
        self.assertNotIn(b"gap", rest)


class Operation(OperationsCase):
    def test_a_port_that_is_taken(self) -> None:
        """Status 2 and one sentence with the address, before anybody is served."""
        _, port = self.solo("--datadir", "d")
        other = f"127.0.0.1:{free_ports(1)}"
        ended = self.timenode("--datadir", "e", "--listen", other, "--web", f"127.0.0.1:{port}")
        self.assert_one_sentence(ended, ExitStatus.CONFIGURATION, f"127.0.0.1:{port}", "web")

    def test_other_names_are_refused_until_they_are_named(self) -> None:
        """A page whose name was made to point here learns nothing; the operator's names are served."""
        web = f"127.0.0.1:{free_ports(1)}"
        self.solo("--datadir", "d", "--web", web, "--web-host", "node.example")
        for host, status in (("node.example", 200), ("evil.example", 421), (web, 200)):
            self.assertEqual(fetch(f"http://{web}/live", Host=host)[0], status, host)

    def test_the_devnet_tells_where_its_pages_are(self) -> None:
        """Each node's page, the first one's aloud; they answer with a page that needs nothing else."""
        base = free_ports(4)
        options = ("-n", "2", "--base-port", base, "--web-port", base + 2)
        devnet = self.begin("timeproto", "devnet", *options)
        said = self.wait_for(devnet, "live page")
        self.assertIn(f"http://127.0.0.1:{base + 2}/", said)
        for port in (base + 2, base + 3):
            status, page = fetch(f"http://127.0.0.1:{port}/")
            self.assertEqual(status, 200)
            self.assertTrue(page.startswith(b"<!doctype html>"))
        ended = self.run_command("timeproto", "devnet", "-n", "2", "--base-port", base, "--web-port", base + 1)
        self.assert_one_sentence(ended, ExitStatus.CONFIGURATION, "overlap")
        self.assertFalse((Path(self.folder) / "genesis.json").exists())
