"""An operator's commands to a real node: over its socket, while wallets pay by what he gave them."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.test_processes.harness import until
from tests.test_processes.test_web_port import WebCase, fetch
from timeproto.errors import ExitStatus, Refusal
from timeproto.wallet.nodes import Node
from timeproto.wallet.protocol import WalletClientFactory
from timeproto.wire import messages

COMMAND = Path(sys.executable).parent / "timeproto"


class Commands(WebCase):
    async def admin(self, *arguments: str) -> tuple[int, str]:
        """Status, and everything that was said."""
        folder = self.devnet.layout.nodes[0].folder

        def run() -> tuple[int, str]:
            line = [COMMAND, "admin", "--datadir", folder, *arguments]
            ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
            return ended.returncode, ended.stdout + ended.stderr

        return await deferToThread(run)

    async def budget(self, secret: str | None = None) -> Any:
        """What the node says of a connection that shows this key."""
        node = Node(self.devnet.addresses[0])
        protocol = await node.endpoint(reactor).connect(WalletClientFactory(reactor, self.devnet.layout.genesis))
        try:
            await protocol.when_ready()
            return await protocol.request(messages.GetBudget(key=secret))
        finally:
            protocol.close()

    async def test_a_key_from_its_making_to_its_end(self) -> None:
        """Minted, shown over TCP and HTTP, known after a SIGKILL, revoked; its secret is in no file and no log."""
        await self.start_web(1)
        node = self.devnet.layout.nodes[0]
        door = node.folder / "admin.sock"
        self.assertEqual(stat.S_IMODE(door.stat().st_mode), 0o600)
        status, said = await self.admin("mint", "shop", "--cost-per-second", "50000")
        secret = said.split()[0]
        self.assertEqual((status, len(secret)), (ExitStatus.OK, 64))
        told = await self.budget(secret)
        self.assertEqual((told.key, told.cost_per_second), ("shop", 50_000))
        process = self.devnet.processes[0]
        process.signal(signal.SIGKILL)
        await process.when_ended()
        self.devnet.restart(1)
        await until(lambda: self.devnet.info(1))
        self.assertEqual((await self.budget(secret)).key, "shop")
        shown = {"Authorization": f"Bearer {secret}"}
        self.assertEqual((await deferToThread(fetch, self.page() + "live", **shown))[0], 200)
        self.assertEqual((await self.admin("revoke", "shop"))[0], ExitStatus.OK)
        self.assertEqual((await deferToThread(fetch, self.page() + "live", **shown))[0], 401)
        with self.assertRaises(Refusal):
            await self.budget(secret)
        for path in (node.log, node.folder / "keys.json"):
            self.assertNotIn(secret.encode("ascii"), path.read_bytes())
        status, said = await self.admin("connections")
        self.assertEqual(status, ExitStatus.OK, said)
        await self.devnet.stop()
        self.assertFalse(door.exists())
        status, said = await self.admin("keys")
        self.assertEqual((status, said.count("\n")), (ExitStatus.CONFIGURATION, 1))
