"""The node's configuration: command line over TOML file over defaults, checked before anything starts.

Every mistake is named in one plain sentence (:class:`ConfigurationError`), with the option and the file it stands in.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, get_args

import attrs

from timeproto.errors import ConfigurationError
from timeproto.model.address import problem_with
from timeproto.model.canonical import is_hex
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import TxOutput
from timeproto.network.discovery import is_loopback, parse_address
from timeproto.params import COIN, GENESIS_VERSION, NETWORKS, NetworkName
from timeproto.web import bounds
from timeproto.web.hooks import replace_file
from timeproto.web.targets import TargetRefused, Targets, place_of
from timeproto.wire import codec

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")

PUBLIC_DEVNET_ADDRESS = "TIME0AXFLiWUT5wLFBTLuF4Nw4SkeUt2zaBtRh"
"""Owns the coins of a devnet that a node makes for itself: the first address of the published BIP-39 test phrase
(``abandon`` eleven times, then ``about``), so that anybody can restore a wallet with money to try things with."""
PUBLIC_DEVNET_COINS = 100


def default_datadir() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "timeproto" / "node"


@attrs.frozen
class Config:
    """What a node needs to know. ``peers``, ``listen``, ``announce`` and ``web`` are ``HOST:PORT``; paths are absolute.

    ``web`` None for a node without web port; ``web_hosts`` and ``web_origins``: see web.site.WebSite. ``webhooks`` are
    ``ADDRESS URL``; ``webhook_networks`` are opened to them though they are not on the Internet.
    """

    datadir: Path
    network: NetworkName = "devnet"
    genesis: Path | None = None
    key: Path | None = None
    listen: str = ""
    announce: str | None = None
    peers: tuple[str, ...] = ()
    bootstrap: str | None = None
    web: str | None = None
    web_hosts: tuple[str, ...] = ()
    web_origins: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    webhook_wallets: bool = False
    webhook_networks: tuple[str, ...] = ()
    tls: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_plaintext: bool = False
    log_level: str = "info"

    @property
    def genesis_path(self) -> Path:
        return self.genesis or self.datadir / "genesis.json"

    @property
    def key_path(self) -> Path:
        return self.key or self.datadir / "node.key"

    @property
    def store_path(self) -> Path:
        return self.datadir / "store"

    @property
    def webhooks_path(self) -> Path:
        return self.datadir / "webhooks.json"

    @property
    def keys_path(self) -> Path:
        return self.datadir / "keys.json"

    @property
    def webhook_pairs(self) -> list[tuple[str, str]]:
        """The operator's webhooks as (address, URL)."""
        return [(address, url) for address, _, url in (each.partition(" ") for each in self.webhooks)]

    @property
    def tls_paths(self) -> tuple[Path, Path]:
        """Certificate and key in PEM."""
        return (
            self.tls_certificate or self.datadir / "tls-certificate.pem",
            self.tls_key or self.datadir / "tls-key.pem",
        )

    @property
    def tls_host(self) -> str:
        """Whom a certificate that the node makes for itself is for."""
        return parse_address(self.announce or self.listen)[0]


_SHAPES: dict[str, Any] = {
    "datadir": str,
    "network": str,
    "genesis": str,
    "key": str,
    "listen": str,
    "announce": str,
    "peers": list,
    "bootstrap": str,
    "web": str,
    "web_hosts": list,
    "web_origins": list,
    "webhooks": list,
    "webhook_wallets": bool,
    "webhook_networks": list,
    "tls": bool,
    "tls_certificate": str,
    "tls_key": str,
    "allow_plaintext": bool,
    "log_level": str,
}
_HOST_NAME = re.compile(r"\A(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])\Z")
_ORIGIN = re.compile(r"\Ahttps?://(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_WORDS: dict[Any, str] = {str: "a string", bool: "true or false", list: "a list of strings"}


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, each known and of the right shape."""
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None
    for name, value in settings.items():
        shape = _SHAPES.get(name)
        if shape is None:
            known = ", ".join(sorted(_SHAPES))
            raise ConfigurationError(f"{path} sets {name!r}, which is no option; the options are {known}")
        if type(value) is not shape or (shape is list and not all(isinstance(item, str) for item in value)):
            raise ConfigurationError(f"{path} sets {name!r} to {value!r}, but it must be {_WORDS[shape]}")
    return settings


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"the path {path} leads nowhere: there is no such home directory") from None


def make_config(settings: dict[str, Any], source: str = "the command line") -> Config:
    """A checked :class:`Config` from settings by name; ``source`` is named in complaints."""
    values: dict[str, Any] = dict(settings)
    network = values.setdefault("network", "devnet")
    if network not in get_args(NetworkName):
        raise ConfigurationError(
            f"the network {network!r} in {source} is none of {', '.join(get_args(NetworkName))}"
        )
    values["datadir"] = _expanded(values.get("datadir") or default_datadir())
    for name in ("genesis", "key", "tls_certificate", "tls_key"):
        if values.get(name) is not None:
            values[name] = _expanded(values[name])
    values["listen"] = values.get("listen") or f"127.0.0.1:{NETWORKS[network].port}"
    for name in ("peers", "web_hosts", "web_origins", "webhooks", "webhook_networks"):
        values[name] = tuple(values.get(name) or ())
    for name, address in [
        ("listen", values["listen"]),
        ("announce", values.get("announce")),
        ("web", values.get("web")),
        *(("peers", peer) for peer in values["peers"]),
    ]:
        if address is not None:
            _require_host_port(name, address, source)
    for name, shape, words in (
        ("web_hosts", _HOST_NAME, "a host name or address without a port"),
        ("web_origins", _ORIGIN, "http:// or https:// and a host, with no path"),
    ):
        for text in values[name]:
            if not shape.match(text):
                raise ConfigurationError(f"{name} has {text!r} in {source}, but each must be {words}")
    _require_webhooks(values, source)
    level = values.setdefault("log_level", "info")
    if level not in LOG_LEVELS:
        raise ConfigurationError(f"the log level {level!r} in {source} is none of {', '.join(LOG_LEVELS)}")
    bootstrap = values.get("bootstrap")
    if bootstrap is not None and not bootstrap.startswith("https://"):
        raise ConfigurationError(f"the bootstrap list {bootstrap!r} in {source} must be an https:// address")
    config = Config(**values)
    for address in (config.listen, config.web):
        exposed = address is not None and not is_loopback(parse_address(address)[0])
        if exposed and not (config.tls or config.allow_plaintext):
            raise ConfigurationError(
                f"listening on {address} would send everything in the clear: set tls, or allow_plaintext"
                " if that is what you want"
            )
    return config


def _require_webhooks(values: dict[str, Any], source: str) -> None:
    try:
        targets = Targets(values["webhook_networks"])
    except ValueError as error:
        raise ConfigurationError(f"webhook_networks in {source}: {error}") from None
    for text in values["webhooks"]:
        address, _, url = text.partition(" ")
        problem = problem_with(address, NETWORKS[values["network"]])
        if problem is None:
            try:
                targets.require_host(place_of(url).host)
            except TargetRefused as error:
                problem = f"{error} (webhook_networks)"
            except ValueError as error:
                problem = str(error)
        if problem is not None:
            raise ConfigurationError(f"webhooks has {text!r} in {source}, but each must be ADDRESS URL: {problem}")
    if len(values["webhooks"]) > bounds.WEBHOOKS:
        raise ConfigurationError(f"webhooks in {source} are more than {bounds.WEBHOOKS}")
    if (values["webhooks"] or values.get("webhook_wallets")) and not values.get("web"):
        raise ConfigurationError(f"webhooks in {source} need the web port: set web")


def _require_host_port(name: str, address: str, source: str) -> None:
    try:
        parse_address(address)
    except ValueError:
        raise ConfigurationError(f"{name} is {address!r} in {source}, but it must be HOST:PORT") from None


# -- what a node makes for itself --------------------------------------------------------------------


def prepare(config: Config) -> tuple[SigningKey, Genesis]:
    """The node's key and genesis, made first if they may be; raises :class:`ConfigurationError`."""
    try:
        config.datadir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the data directory {config.datadir} cannot be made: {error.strerror}") from None
    if not os.access(config.datadir, os.W_OK | os.X_OK):
        raise ConfigurationError(f"the data directory {config.datadir} is not writable")
    key = read_key(config.key_path) if _is_there(config.key_path) else _make_key(config)
    genesis = read_genesis(config.genesis_path) if _is_there(config.genesis_path) else _make_genesis(config, key)
    if genesis.network != config.network:
        raise ConfigurationError(
            f"{config.genesis_path} is the genesis of {genesis.network}, but this node is set to {config.network}"
        )
    if key.public_hex not in genesis.masternode_set:
        raise ConfigurationError(
            f"the key in {config.key_path} ({key.public_hex}) is not among the masternodes of {config.genesis_path}"
        )
    return key, genesis


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def read_key(path: Path) -> SigningKey:
    """A node key: 32 bytes in hex, readable by its owner alone."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the key file {path} cannot be read: {error}") from None
    if mode & 0o077:
        raise ConfigurationError(f"the key file {path} can be read by others (mode {mode:04o}): chmod 600 it")
    if not is_hex(text, 32):
        raise ConfigurationError(f"the key file {path} does not hold a key: 64 characters of lower-case hex")
    return SigningKey(bytes.fromhex(text))


def write_key(path: Path, key: SigningKey) -> None:
    """Writes a node key, mode 0600, never over an existing file; an OSError leaves none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise


def read_genesis(path: Path) -> Genesis:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the genesis {path} cannot be read: {error.strerror}") from None
    return codec.load_genesis(text, str(path))


def _make_key(config: Config) -> SigningKey:
    if config.key is not None:
        raise ConfigurationError(f"there is no key file {config.key}")
    key = SigningKey.generate()
    try:
        write_key(config.key_path, key)
    except OSError as error:
        raise ConfigurationError(f"the key file {config.key_path} cannot be made: {error.strerror}") from None
    return key


def _make_genesis(config: Config, key: SigningKey) -> Genesis:
    if config.genesis is not None:
        raise ConfigurationError(f"there is no genesis file {config.genesis}")
    if config.network != "devnet":
        raise ConfigurationError(
            f"{config.network} needs its genesis: give --genesis, or put it at {config.genesis_path}"
        )
    allocations = (TxOutput(1_000 * COIN, PUBLIC_DEVNET_ADDRESS),) * PUBLIC_DEVNET_COINS
    genesis = Genesis(
        version=GENESIS_VERSION,
        network="devnet",
        timestamp=0,
        block_interval=NETWORKS["devnet"].block_interval,
        masternodes=(key.public_hex,),
        allocations=allocations,
    )
    try:
        replace_file(config.genesis_path, codec.dump_document(genesis).rstrip())
        config.genesis_path.chmod(0o644)  # wallets of other users read it
    except OSError as error:
        raise ConfigurationError(f"the genesis {config.genesis_path} cannot be made: {error.strerror}") from None
    return genesis
