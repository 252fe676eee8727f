"""What an operator does and gets wrong: every mistake is one sentence and a status that says what kind it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.test_processes.harness import free_ports
from timeproto.errors import ExitStatus
from timeproto.model.keys import SigningKey

BIN = Path(sys.executable).parent
PATIENCE = 30


class OperationsCase(SynchronousTestCase):
    """Runs our commands as a shell would."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.environment = {**os.environ, "XDG_DATA_HOME": str(self.folder / "home"), "HOME": str(self.folder)}
        self.environment.pop("TIMEPROTO_WALLET_PASSWORD", None)

    def timenode(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """A node that is expected to end by itself."""
        return self.run_command("twistd", "-n", "--pidfile=", "timenode", *arguments)

    def run_command(self, name: str, *arguments: Any, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / name, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def status_when(self, is_so: Callable[[subprocess.CompletedProcess[str]], bool], *arguments: Any) -> str:
        """What ``timeproto status`` prints once that is so: the first block of a network comes when it comes."""
        deadline = time.monotonic() + PATIENCE
        told = self.run_command("timeproto", "status", *arguments)
        while not is_so(told) and time.monotonic() < deadline:
            told = self.run_command("timeproto", "status", *arguments)
        self.assertTrue(is_so(told), told)
        return told.stdout

    def begin(self, name: str, *arguments: Any) -> subprocess.Popen[str]:
        """A process that goes on; killed at the end whatever happens."""
        process = subprocess.Popen(
            [BIN / name, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> None:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

        self.addCleanup(end)
        return process

    def wait_for(self, process: subprocess.Popen[str], words: str) -> str:
        """Reads the process's output until a line holds ``words``."""
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if words in line:
                return seen
        raise AssertionError(f"ended without saying {words!r}:\n{seen}")

    def solo(self, *arguments: Any) -> tuple[subprocess.Popen[str], int]:
        """A running one-masternode devnet, and its port."""
        port = free_ports(1)
        node = self.begin("twistd", "-n", "--pidfile=", "timenode", "--listen", f"127.0.0.1:{port}", *arguments)
        self.wait_for(node, "serves on")
        return node, port

    def assert_one_sentence(self, ended: subprocess.CompletedProcess[str], status: int, *words: Any) -> None:
        self.assertEqual(ended.returncode, status, ended.stderr)
        lines = [line for line in ended.stderr.splitlines() if line.startswith(("timenode:", "timeproto:"))]
        self.assertEqual(len(lines), 1, ended.stderr)
        self.assertNotIn("Traceback", ended.stderr + ended.stdout)
        for word in words:
            self.assertIn(str(word), lines[0])


class Starting(OperationsCase):
    """``twistd timenode``."""

    def test_with_no_options_it_makes_itself_all_it_needs(self) -> None:
        """A data directory, a key, a genesis, and a node that serves (with a port of our choice)."""
        node, port = self.solo()
        home = self.folder / "home" / "timeproto" / "node"
        self.assertEqual(os.stat(home / "node.key").st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(home / "genesis.json").st_mode & 0o777, 0o644)
        told = self.run_command("timeproto", "status", "--node", f"127.0.0.1:{port}", "--json")
        self.assertEqual(told.returncode, ExitStatus.OK, told.stderr)
        info = json.loads(told.stdout)
        self.assertEqual((info["masternodes"], info["quorum"], info["voting"]), (1, 1, True))
        node.send_signal(signal.SIGTERM)
        self.assertEqual(node.wait(PATIENCE), 0)

    def test_it_awaits_its_turn_unless_told_otherwise(self) -> None:
        """All of its threads are scheduled as work that pushes nobody off; an operator's choice stays what it is."""
        if not hasattr(os, "SCHED_BATCH"):
            raise SkipTest("this system schedules in one way only")
        node, _ = self.solo()
        policies = {os.sched_getscheduler(int(thread.name)) for thread in Path(f"/proc/{node.pid}/task").iterdir()}
        self.assertEqual(policies, {os.SCHED_BATCH})
        chosen = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); "
        asked = "from timeproto.masternode.machine import await_turns; await_turns(); print(os.sched_getscheduler(0))"
        told = subprocess.run([sys.executable, "-c", chosen + asked], capture_output=True, text=True, check=True)
        self.assertEqual(int(told.stdout), os.SCHED_IDLE)

    def test_a_solo_payment_from_the_published_phrase(self) -> None:
        """The devnet a node makes for itself pays the published test phrase, so anybody can try a payment."""
        _, port = self.solo()
        self.environment["TIMEPROTO_WALLET_PASSWORD"] = "secret"
        wallet = ("wallet", "--wallet", "w.json", "--node", f"127.0.0.1:{port}")
        phrase = "abandon " * 11 + "about"
        restored = self.run_command("timeproto", *wallet, "restore", "--json", stdin=phrase)
        self.assertEqual(restored.returncode, 0, restored.stderr)
        self.assertEqual(json.loads(restored.stdout)["total"], 100 * 1000 * 10**8)
        self.assertIn("Trusting genesis", restored.stderr)
        address = self.run_command("timeproto", *wallet, "address").stdout.strip()
        sent = self.run_command("timeproto", *wallet, "send", address, "1.5", "--json")
        self.assertEqual(sent.returncode, 0, sent.stderr)
        payment = json.loads(sent.stdout)
        self.assertEqual((payment["final"], payment["votes"]), (True, 1))
        proof = self.run_command("timeproto", *wallet, "proof", payment["txid"], "--out", "p.json")
        self.assertEqual(proof.returncode, 0, proof.stderr)
        self.assertTrue((self.folder / "p.json").exists())
        self.assertEqual(os.stat(self.folder / "w.json").st_mode & 0o777, 0o600)
        self.assertNotIn("abandon", (self.folder / "w.json").read_text())

    def test_mistakes_in_options_are_named(self) -> None:
        """Unknown options, wrong values, missing files: status 2, one sentence with the option in it (O-01)."""
        (self.folder / "bad.toml").write_text('listn = "x"\n')
        (self.folder / "worse.toml").write_text("tls = 3\n")
        (self.folder / "worst.toml").write_text("= =\n")
        for arguments, word in (
            (["--datadri", "x"], "--datadri"),
            (["--network", "moon"], "moon"),
            (["--listen", "nowhere"], "nowhere"),
            (["--peer", "127.0.0.1:99999"], "99999"),
            (["--log-level", "loud"], "loud"),
            (["--genesis", "missing.json"], "missing.json"),
            (["--key", "missing.key"], "missing.key"),
            (["--network", "mainnet"], "mainnet"),
            (["--config", "missing.toml"], "missing.toml"),
            (["--config", "bad.toml"], "listn"),
            (["--config", "worse.toml"], "tls"),
            (["--config", "worst.toml"], "worst.toml"),
            (["--listen", "0.0.0.0:24100"], "tls"),
            (["--bootstrap", "http://example.com"], "https"),
        ):
            self.assert_one_sentence(self.timenode(*arguments), ExitStatus.CONFIGURATION, word)

    def test_a_key_others_can_read_is_refused(self) -> None:
        """Mode 0644 on the key file: status 2, and what to do (P-25)."""
        key = self.folder / "node.key"
        key.write_text("11" * 32 + "\n")
        key.chmod(0o644)
        self.assert_one_sentence(self.timenode("--key", key), ExitStatus.CONFIGURATION, "chmod 600", key)

    def test_a_key_that_is_no_masternode_is_refused(self) -> None:
        """A genesis without this key cannot be voted in."""
        first = self.folder / "first"
        node, _ = self.solo("--datadir", first)
        node.terminate()
        node.wait(PATIENCE)
        (first / "node.key").unlink()
        self.assert_one_sentence(self.timenode("--datadir", first, "--key", self._key()), 2, "not among")

    def test_a_port_in_use_is_named(self) -> None:
        """Status 2 with the address."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ended = self.timenode("--listen", f"127.0.0.1:{port}")
        self.assert_one_sentence(ended, ExitStatus.CONFIGURATION, port)

    def test_one_data_directory_serves_one_process(self) -> None:
        """The second process on it ends with status 4 and starts nothing (P-26, O-15)."""
        self.solo("--datadir", "d")
        ended = self.timenode("--datadir", "d", "--listen", f"127.0.0.1:{free_ports(1)}")
        self.assert_one_sentence(ended, ExitStatus.IDENTITY, "in use")

    def test_the_data_directory_of_another_network_is_refused(self) -> None:
        """Another genesis over an old store: status 2 (O-03)."""
        node, _ = self.solo("--datadir", "d")
        node.terminate()
        node.wait(PATIENCE)
        genesis = json.loads((self.folder / "d" / "genesis.json").read_text())
        genesis["timestamp"] = 5
        (self.folder / "d" / "genesis.json").write_text(json.dumps(genesis))
        self.assert_one_sentence(self.timenode("--datadir", "d"), ExitStatus.CONFIGURATION, "another network")

    def test_a_damaged_store_is_refused_not_repaired(self) -> None:
        """Damage in the middle of the store: status 3, and the files are left as they are (P-16)."""
        node, _ = self.solo("--datadir", "d")
        node.terminate()
        node.wait(PATIENCE)
        store = self.folder / "d" / "store"
        current = store / "CURRENT"
        current.write_text("MANIFEST-999999\n")
        names = sorted(path.name for path in store.iterdir() if not path.name.startswith("LOG"))
        self.assert_one_sentence(self.timenode("--datadir", "d"), ExitStatus.STORAGE, "store")
        self.assertEqual(names, sorted(path.name for path in store.iterdir() if not path.name.startswith("LOG")))

    def test_no_secret_reaches_the_log(self) -> None:
        """The key's seed is nowhere in what a node says, even at level debug (O-14)."""
        node, port = self.solo("--datadir", "d", "--log-level", "debug")
        self.run_command("timeproto", "status", "--node", f"127.0.0.1:{port}")
        node.terminate()
        said = node.communicate()[0]
        self.assertNotIn((self.folder / "d" / "node.key").read_text().strip(), said)

    def _key(self) -> Path:
        path = self.folder / "other.key"
        path.write_text(SigningKey.generate().seed.hex() + "\n")
        path.chmod(0o600)
        return path


class Commands(OperationsCase):
    """The console script."""

    def test_devnet_tells_where_everything_is_and_leaves_nothing(self) -> None:
        """Ready as JSON; SIGINT stops all; the temporary folder and every process are gone."""
        devnet = self.begin("timeproto", "devnet", "-n", "4", "--base-port", free_ports(4), "--json")
        ready = json.loads(self.wait_for(devnet, "genesis").splitlines()[-1])
        self.assertEqual(len(ready["nodes"]), 4)
        addresses = [argument for node in ready["nodes"] for argument in ("--node", node["address"])]
        told = self.status_when(lambda told: told.returncode == 0, *addresses)
        self.assertIn("all agree", told)
        devnet.send_signal(signal.SIGINT)
        self.assertEqual(devnet.wait(PATIENCE), 0)
        self.assertFalse(Path(ready["datadir"]).exists())
        self.assertFalse(_processes_naming(ready["datadir"]))

    def test_a_devnet_does_not_take_strangers_for_its_own(self) -> None:
        """Another node at its port, or one that ends while it serves: one sentence with the node's, and status 2."""
        _, port = self.solo()
        for command in ("devnet", "demo"):
            ended = self.run_command("timeproto", command, "-n", "1", "--base-port", port)
            self.assert_one_sentence(ended, ExitStatus.CONFIGURATION, "masternode 1 ended", "cannot be listened on")
        devnet = self.begin("timeproto", "devnet", "-n", "2", "--base-port", free_ports(2), "--json", "--datadir", "d")
        ready = json.loads(self.wait_for(devnet, "genesis").splitlines()[-1])
        os.kill(_processes_naming(f"{ready['datadir']}/node-2/")[0], signal.SIGKILL)
        self.wait_for(devnet, "timeproto: masternode 2 ended with status -9")
        self.assertEqual(devnet.wait(PATIENCE), ExitStatus.CONFIGURATION)
        self.assertFalse(_processes_naming(ready["datadir"]))

    def test_nodes_end_with_a_devnet_that_is_killed(self) -> None:
        """kill -9 of the supervisor leaves no masternode running."""
        devnet = self.begin("timeproto", "devnet", "-n", "2", "--base-port", free_ports(2), "--json", "--datadir", "d")
        ready = json.loads(self.wait_for(devnet, "genesis").splitlines()[-1])
        devnet.kill()
        deadline = time.monotonic() + PATIENCE
        while _processes_naming(ready["datadir"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertFalse(_processes_naming(ready["datadir"]))

    def test_a_kept_devnet_goes_on_where_it_stopped(self) -> None:
        """--datadir keeps the coins for the next start; another number of masternodes is refused."""
        base = free_ports(2)
        digests = []
        options = ("-n", "2", "--base-port", base, "--datadir", "d", "--block-interval", 3600)  # one block, at once
        for _ in range(2):
            devnet = self.begin("timeproto", "devnet", *options, "--json")
            self.wait_for(devnet, "genesis")
            node = "--node", f"127.0.0.1:{base}", "--json"
            told = self.status_when(lambda told: json.loads(told.stdout)["height"] == 1, *node)
            digests.append(json.loads(told)["digest"])
            devnet.send_signal(signal.SIGINT)
            self.assertEqual(devnet.wait(PATIENCE), 0)
        self.assertEqual(digests[0], digests[1])
        ended = self.run_command("timeproto", "devnet", "-n", "3", "--datadir", "d")
        self.assert_one_sentence(ended, ExitStatus.CONFIGURATION, "2 masternodes")

    def test_a_reader_that_has_seen_enough(self) -> None:
        """``timeproto status | head -1`` ends without a traceback."""
        _, port = self.solo()
        command = f"{BIN / 'timeproto'} status" + f" --node 127.0.0.1:{port}" * 200 + " | head -1"
        ended = subprocess.run(
            ["bash", "-c", command], env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        self.assertIn("127.0.0.1", ended.stdout)
        self.assertEqual(ended.stderr, "")

    def test_wallet_mistakes_are_one_sentence(self) -> None:
        """Nobody there, no wallet, wrong password, wrong phrase, wrong amount."""
        _, port = self.solo()
        wallet = ("wallet", "--wallet", "w.json", "--node", f"127.0.0.1:{port}")
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "balance"), 2, "no wallet")
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "new"), 2, "no password")
        self.environment["TIMEPROTO_WALLET_PASSWORD"] = "right"
        ended = self.run_command("timeproto", *wallet, "restore", stdin="abandon abandon nonsense")
        self.assert_one_sentence(ended, 2, "phrase")
        self.assertEqual(self.run_command("timeproto", *wallet, "new").returncode, 0)
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "new"), 2, "already")
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "send", "x", "1e3"), 2, "1e3")
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "proof", "xyz"), 2, "txid")
        self.environment["TIMEPROTO_WALLET_PASSWORD"] = "wrong"
        self.assert_one_sentence(self.run_command("timeproto", *wallet, "balance"), 2, "password")
        dead = ("status", "--node", f"127.0.0.1:{free_ports(1)}")
        self.assertEqual(self.run_command("timeproto", *dead).returncode, ExitStatus.REFUSED)


def _processes_naming(text: str) -> list[int]:
    """Running processes whose command line holds ``text``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in command:
                found.append(int(entry.name))
    return found
