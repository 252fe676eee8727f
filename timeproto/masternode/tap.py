"""``twistd timenode``: options, and the service they describe. With no options: a devnet of one masternode.

A mistake is told in one sentence on standard error, with exit status 2, before anything is started.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.python import usage

from timeproto.errors import ConfigurationError, ExitStatus
from timeproto.masternode.config import LOG_LEVELS, make_config, prepare, read_toml
from timeproto.masternode.service import TimeNode
from timeproto.masternode.timers import keep_steady


class Options(usage.Options):
    """The command line of ``twistd timenode``. Every option may stand in the TOML file too, under its long name."""

    synopsis = "[options]"
    longdesc = (
        "Runs a masternode. With no options it makes itself a data directory, a key and a one-masternode devnet,"
        " and serves wallets on 127.0.0.1:24100. Exit status: 0 fine, 2 configuration, 3 storage,"
        " 4 identity conflict."
    )
    optParameters = [  # noqa: RUF012  (Twisted reads it from the class)
        ["config", "c", None, "TOML file with any of these options; the command line wins"],
        ["datadir", "d", None, "where everything is kept (default: ~/.local/share/timeproto/node)"],
        ["network", "n", None, "mainnet, testnet or devnet (default: devnet)"],
        ["genesis", "g", None, "genesis document (default: DATADIR/genesis.json)"],
        ["key", "k", None, "file with this masternode's key, mode 0600 (default: DATADIR/node.key)"],
        ["listen", "l", None, "HOST:PORT to serve on (default: 127.0.0.1 and the network's port)"],
        ["announce", "a", None, "HOST:PORT at which other masternodes can dial this one (default: listen)"],
        ["bootstrap", "b", None, "https:// address of a JSON list of peers"],
        ["web", "w", None, "HOST:PORT for HTTP, WebSocket, the page and metrics (default: none)"],
        ["tls-certificate", None, None, "PEM file (default: made in DATADIR)"],
        ["tls-key", None, None, "PEM file (default: made in DATADIR)"],
        ["log-level", None, None, f"one of {', '.join(LOG_LEVELS)} (default: info)"],
    ]
    optFlags = [  # noqa: RUF012
        ["tls", None, "speak TLS on every connection"],
        ["webhook-wallets", None, "let wallets register webhooks for their addresses"],
        ["allow-plaintext", None, "serve without TLS on an address that is not loopback"],
        ["until-stdin-closes", None, "stop when standard input ends (for a supervisor that may be killed)"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["peers"] = []
        self["web_hosts"] = []
        self["web_origins"] = []
        self["webhooks"] = []
        self["webhook_networks"] = []

    def opt_peer(self, address: str) -> None:
        """HOST:PORT of another masternode; may be given more than once"""
        self["peers"].append(address)

    opt_p = opt_peer

    def opt_web_host(self, name: str) -> None:
        """another name or address that the web port goes by; may be given more than once"""
        self["web_hosts"].append(name)

    def opt_web_origin(self, origin: str) -> None:
        """https://HOST of a foreign page that may send payments here; may be given more than once"""
        self["web_origins"].append(origin)

    def opt_webhook(self, text: str) -> None:
        """"ADDRESS URL": POST what happens to the address's coins to an https:// URL; may be given more than once"""
        self["webhooks"].append(text)

    def opt_webhook_network(self, network: str) -> None:
        """a network like 10.1.2.0/24 to which webhooks may go, though it is not on the Internet; may be repeated"""
        self["webhook_networks"].append(network)

    def parseOptions(self, options: Any = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            _refuse(str(error))

    def settings(self) -> tuple[dict[str, Any], str]:
        """What was given, by the names of :class:`~timeproto.masternode.config.Config`, and where it stands."""
        path = self["config"]
        settings = read_toml(Path(path)) if path else {}
        given = {name.replace("-", "_"): value for name, value in self.items() if value}
        for name in ("config", "until_stdin_closes"):
            given.pop(name, None)
        settings.update(given)
        return settings, f"{path} or the command line" if path else "the command line"


def makeService(options: Options) -> IService:
    """The masternode ``options`` describe; exits with status 2 and one sentence if they make no sense."""
    try:
        config = make_config(*options.settings())
        key, genesis = prepare(config)
    except ConfigurationError as error:
        _refuse(str(error))
    from twisted.internet import reactor

    keep_steady(reactor)
    # The reactor thread and the threads that verify and commit share one interpreter: a thread that has its result
    # must not wait the default 5 ms for the lock that gives it back.
    sys.setswitchinterval(0.0005)
    return TimeNode(reactor, config, key, genesis, until_stdin_closes=bool(options["until-stdin-closes"]))


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"timenode: {sentence}\n")
    raise SystemExit(ExitStatus.CONFIGURATION)
