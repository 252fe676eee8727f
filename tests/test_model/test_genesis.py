"""Genesis: its hash covers all of it, and an unusable one is refused with the reason."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, GENESIS, VOTERS, address, plain, replace
from timeproto.errors import ConfigurationError
from timeproto.model.genesis import Genesis
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.wire.codec import dump_document, load_genesis


class Geneses(SynchronousTestCase):
    def test_every_field_is_in_the_hash(self) -> None:
        """Two networks that differ in anything never take each other for one."""
        first = GENESIS.allocations[0]
        changed = [
            replace(GENESIS, network="testnet"),
            replace(GENESIS, timestamp=GENESIS.timestamp + 1),
            replace(GENESIS, block_interval=6),
            replace(GENESIS, masternodes=GENESIS.masternodes[:-1]),
            replace(GENESIS, masternodes=GENESIS.masternodes[::-1]),
            replace(GENESIS, allocations=GENESIS.allocations[:-1]),
            replace(GENESIS, allocations=()),
            replace(GENESIS, allocations=(replace(first, amount=1), *GENESIS.allocations[1:])),
            replace(GENESIS, allocations=(replace(first, address=address(VOTERS[0])), *GENESIS.allocations[1:])),
        ]
        self.assertEqual(len({genesis.hash for genesis in [GENESIS, *changed]}), len(changed) + 1)

    def test_the_first_coins(self) -> None:
        """Each allocation is a coin of the genesis hash, in order, and they make the supply."""
        coins = GENESIS.coins()
        self.assertEqual([outpoint for outpoint, _ in coins], [Outpoint(GENESIS.hash, at) for at in range(3)])
        self.assertEqual(sum(output.amount for _, output in coins), GENESIS.supply)

    def test_a_good_document_is_read_back(self) -> None:
        """What is written for people is read as the same genesis, in any layout of the JSON."""
        text = dump_document(GENESIS)
        self.assertEqual(load_genesis(text, "g.json").hash, GENESIS.hash)
        self.assertEqual(load_genesis(b" " + text.replace(b"\n", b" "), "g.json").hash, GENESIS.hash)

    def refused(self, text: bytes) -> str:
        error = self.assertRaises(ConfigurationError, load_genesis, text, "the file g.json")
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_unusable_ones_are_named(self) -> None:
        """A masternode twice, another network's address, too much money, other rules, no such year: in one sentence."""
        table: list[tuple[Genesis, str]] = [
            (replace(GENESIS, masternodes=(*GENESIS.masternodes, GENESIS.masternodes[0])), "listed twice"),
            (replace(GENESIS, allocations=(TxOutput(1, address(ALICE, "mainnet")),)), "another network"),
            (replace(GENESIS, network="mainnet"), "another network"),
            (replace(GENESIS, version=1), "it has version 1, and this program keeps the chain's rules of version 2"),
            (replace(GENESIS, version=3), "it has version 3"),
            (replace(GENESIS, timestamp=-1), "no year"),
            (replace(GENESIS, timestamp=2**63 - 1), "no year"),
            (replace(GENESIS, allocations=(TxOutput(2**63, address(ALICE)),) * 2), "2^64"),
        ]
        for genesis, words in table:
            self.assertIn(words, str(self.assertRaises(ConfigurationError, genesis.check)))
            self.assertIn(words, self.refused(dump_document(genesis)))

    def test_malformed_documents(self) -> None:
        """Not JSON, the wrong shape, a missing, an extra or an impossible field: the file is named."""
        body: dict[str, Any] = plain(GENESIS)
        wrong = [
            {name: body[name] for name in body if name != "network"},
            body | {"extra": 1},
            body | {"version": -1},
            body | {"network": "moon"},
            body | {"masternodes": []},
            body | {"masternodes": [f"{at:064x}" for at in range(257)]},
            body | {"masternodes": [VOTERS[0].public_hex.upper()]},
            body | {"block_interval": 0},
            body | {"block_interval": True},
            body | {"timestamp": "now"},
            body | {"allocations": [{"amount": -1, "address": address(ALICE)}]},
            body | {"allocations": [{"amount": 1.5, "address": address(ALICE)}]},
            body | {"allocations": [{"amount": 2**64, "address": address(ALICE)}]},
            [body],
            None,
        ]
        texts = [json.dumps(document).encode() for document in wrong]
        for text in [b"", b"{", b"\xff", b"\xef\xbb\xbf" + dump_document(GENESIS), b"[" * 100_000, *texts]:
            self.assertTrue(self.refused(text).startswith("the file g.json is not a genesis document: "), text[:80])
