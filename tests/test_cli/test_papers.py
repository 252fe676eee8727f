"""``timeproto genesis`` and ``timeproto key``: what an operator compares and hands on before the first start."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, STRANGER, VOTERS
from timeproto.cli import main
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import make_config, read_key, write_key
from timeproto.model.address import address_of
from timeproto.params import NETWORKS
from timeproto.wire import codec


class PaperCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.genesis, self.key = self.folder / "genesis.json", self.folder / "node.key"
        self.genesis.write_bytes(codec.dump_document(GENESIS))
        write_key(self.key, VOTERS[0])

    def call(self, *argv: str | Path) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main.main([str(each) for each in argv])
        self.assertNotIn(VOTERS[0].seed.hex(), out.getvalue() + err.getvalue())
        return status, out.getvalue(), err.getvalue()

    def refused(self, *argv: str | Path) -> str:
        status, out, err = self.call(*argv)
        self.assertEqual((status, out, err.count("\n")), (2, "", 1), err)
        return err


class GenesisCommand(PaperCase):
    def test_the_hash_and_what_is_in_it(self) -> None:
        """For people, and as one object for programs."""
        status, out, _ = self.call("genesis", self.genesis)
        self.assertEqual(status, 0)
        for words in (GENESIS.hash, GENESIS.network, *GENESIS.masternodes, f"{len(GENESIS.allocations)}, "):
            self.assertIn(words, out)
        told = json.loads(self.call("genesis", self.genesis, "--json")[1])
        self.assertEqual((told["hash"], told["network"]), (GENESIS.hash, GENESIS.network))
        self.assertEqual(told["masternodes"], list(GENESIS.masternodes))
        self.assertEqual((told["coins"], told["sum"]), (len(GENESIS.allocations), str(GENESIS.supply)))

    def test_what_no_node_would_take(self) -> None:
        """Status 2 and the sentence of the node."""
        self.assertIn("cannot be read", self.refused("genesis", self.folder / "none"))
        self.genesis.write_text("{}")
        self.assertIn("is not a genesis document", self.refused("genesis", self.genesis))


class KeyCommand(PaperCase):
    def test_the_public_key(self) -> None:
        """And its address where a network is named; the secret is shown nowhere."""
        self.assertEqual(self.call("key", self.key), (0, f"key          {VOTERS[0].public_hex}\n", ""))
        address = address_of(bytes.fromhex(VOTERS[0].public_hex), NETWORKS["mainnet"])
        self.assertIn(address, self.call("key", self.key, "--network", "mainnet")[1])

    def test_whether_it_is_in_the_genesis(self) -> None:
        """Its place there is what lets a node start."""
        status, out, _ = self.call("key", self.key, "--genesis", self.genesis)
        self.assertEqual((status, out.splitlines()[-1].split()), (0, ["masternode", "yes"]))
        self.assertIn(address_of(bytes.fromhex(VOTERS[0].public_hex), GENESIS.params), out)
        stranger = self.folder / "stranger.key"
        write_key(stranger, STRANGER)
        self.assertIn("NO: it is not among", self.call("key", stranger, "--genesis", self.genesis)[1])
        told = json.loads(self.call("key", stranger, "--genesis", self.genesis, "--json")[1])
        self.assertEqual((told["key"], told["masternode"]), (STRANGER.public_hex, False))

    def test_a_file_that_others_can_read(self) -> None:
        """Is refused as the node refuses it; and so is one that holds no key, or is not there. Nothing is made."""
        self.key.chmod(0o640)
        said = self.refused("key", self.key)
        self.assertEqual(said, f"timeproto: {self.assertRaises(ConfigurationError, read_key, self.key)}\n")
        self.assertIn("chmod 600", said)
        self.key.chmod(0o600)
        self.key.write_text("no key")
        self.assertIn("does not hold a key", self.refused("key", self.key))
        self.assertIn("cannot be read", self.refused("key", self.folder / "none"))
        self.assertFalse((self.folder / "none").exists())

    def test_a_home_directory_that_nobody_has(self) -> None:
        """A slip in a path is a sentence here as it is for the node itself."""
        for argv in (("key", "~nobody-at-all/x"), ("genesis", "~nobody-at-all/x")):
            status, out, err = self.call(*argv)
            self.assertEqual((status, out), (2, ""))
            self.assertIn("leads nowhere", err)
        self.assertRaises(ConfigurationError, make_config, {"datadir": "~nobody-at-all/x"})
