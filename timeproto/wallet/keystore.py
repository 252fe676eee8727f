"""The wallet file: one JSON document, the phrase sealed in it, everything else readable and authenticated.

The phrase is sealed with XChaCha20-Poly1305 under a key that Argon2id makes from the password; what stands beside it in
the clear is the seal's associated data, so that nobody can swap the genesis under a wallet. Mode 0600, written whole or
not at all: the old file is there until the new one is safely on the disk. Several processes may use one file: a change
is made to the file as it is at that moment, never to what was read of it before.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import nacl.bindings
import nacl.exceptions
import nacl.utils
from msgspec import Meta
from nacl.pwhash import argon2id

from timeproto.errors import ConfigurationError, StorageError
from timeproto.model.canonical import U32, Hex32, Noun
from timeproto.model.genesis import Genesis
from timeproto.model.transaction import Transaction
from timeproto.wallet import hd
from timeproto.wallet.purse import require_free
from timeproto.wire import codec

OPS_LIMIT = argon2id.OPSLIMIT_INTERACTIVE
MEMORY_LIMIT = argon2id.MEMLIMIT_INTERACTIVE
MOST_OPS = 20
MOST_MEMORY = 1024 * 1024 * 1024
"""A file may not ask for more than this: opening somebody's file must not eat the machine."""
MOST_SIZE = 64 * 1024 * 1024
LOCKED, LOCK_AGAIN = 2.0, 0.005
"""Seconds for which another program may keep the file locked (a change takes some milliseconds), and between two tries:
nothing else is done meanwhile …"""
LOCKED_OUT = 60.0
"""… so that after that it is not waited for again for so many seconds."""

_KEY_SIZE = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES
_NONCE_SIZE = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_Sealed = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{2}){16,2048}\Z")]
"""Never shorter than the 16 bytes of the seal's tag: the library answers those with an error of its own."""


class Derivation(Noun, frozen=True):
    """How the password becomes a key (RFC 9106)."""

    name: Literal["argon2id"]
    opslimit: Annotated[int, Meta(ge=1, le=MOST_OPS)]
    memlimit: Annotated[int, Meta(ge=8_192, le=MOST_MEMORY)]
    salt: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class Document(Noun, frozen=True, omit_defaults=True):
    """The file. ``receive`` and ``change`` count the addresses handed out; ``pending`` are own undecided payments;
    ``spare`` are the indices of addresses for change that were given back unpaid, ``shared`` the payments that more
    than one process may have sent."""

    version: Literal[1]
    genesis_hash: Hex32
    kdf: Derivation
    nonce: Annotated[str, Meta(pattern=r"\A[0-9a-f]{48}\Z")]
    sealed: _Sealed
    receive: U32
    change: U32
    pending: tuple[Transaction, ...]
    genesis: Genesis
    spare: tuple[U32, ...] = ()
    shared: tuple[Hex32, ...] = ()

    def without(self, txid: str, spare: tuple[int, ...]) -> Document:
        """The payment is gone, and these indices of change are free again; the same document if it is not here."""
        rest = tuple(tx for tx in self.pending if tx.txid != txid)
        if len(rest) == len(self.pending):
            return self
        shared = tuple(each for each in self.shared if each != txid)
        return msgspec.structs.replace(self, pending=rest, shared=shared).with_spare(spare)

    def with_spare(self, indices: tuple[int, ...]) -> Document:
        every = tuple(sorted({*self.spare, *indices}))
        return self if every == self.spare else msgspec.structs.replace(self, spare=every)


class WalletFile:
    """An open wallet file. Every change is on the disk before the method that made it returns.

    Raises :class:`ConfigurationError` for a file that is not what it should be, and :class:`StorageError` if the disk
    does not take a change: what it holds of it then is what the properties say.
    """

    def __init__(self, path: Path, document: Document, phrase: str, key: bytes) -> None:
        self.path = path.resolve()  # of a link the file: it is the file that is replaced
        self.phrase = phrase
        self._document = document
        self._key = key
        self._seen: _Seen | None = None
        self._wait_again_at = 0.0

    def __repr__(self) -> str:
        return f"<WalletFile {self.path}>"

    # -- making and opening --------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        phrase: str,
        password: str,
        genesis: Genesis,
        *,
        receive: int = 0,
        change: int = 0,
        opslimit: int = OPS_LIMIT,
        memlimit: int = MEMORY_LIMIT,
    ) -> WalletFile:
        """A new file, of which ``receive`` and ``change`` addresses were handed out; never over an existing one.

        :class:`ConfigurationError` for a phrase that is none, too: what is kept is its one spelling."""
        phrase = hd.check_phrase(phrase)
        kdf = Derivation("argon2id", opslimit, memlimit, nacl.utils.random(argon2id.SALTBYTES).hex())
        document = Document(1, genesis.hash, kdf, "", "", receive, change, (), genesis)
        try:
            if path.exists():  # before the password costs any time
                raise FileExistsError
            wallet = cls(path, document, phrase, _key(kdf, password))
            wallet._save(document, is_new=True)
        except FileExistsError:
            raise ConfigurationError(f"there is a file {path} already") from None
        except OSError as error:
            raise StorageError(f"the wallet {path} cannot be written: {error.strerror}") from None
        return wallet

    @classmethod
    def open(cls, path: Path, password: str) -> WalletFile:
        """Opens and decrypts; :class:`ConfigurationError` if that cannot be, in one sentence."""
        document, seen = _read(path)
        key = _key(document.kdf, password)
        wallet = cls(path, document, _unseal(path, document, key), key)
        wallet._seen = seen
        return wallet

    # -- what it holds -------------------------------------------------------------------------------

    @property
    def genesis(self) -> Genesis:
        return self._document.genesis

    @property
    def receive_index(self) -> int:
        """How many addresses were handed out: indices 0 to this, exclusive."""
        return self._document.receive

    @property
    def change_index(self) -> int:
        return self._document.change

    @property
    def pending(self) -> tuple[Transaction, ...]:
        """Payments that left, or were about to leave, and are not known to be decided."""
        return self._document.pending

    def look(self) -> None:
        """Sees what another process has changed; nothing is read if none has."""
        try:
            is_seen = self._is_seen()
        except OSError as error:
            raise StorageError(f"the wallet {self.path} cannot be read: {error.strerror}") from None
        if not is_seen:
            self._change(lambda document: document)

    def reserve_receive_index(self) -> int:
        """The next index, remembered before it is used."""
        document = self._change(lambda old: msgspec.structs.replace(old, receive=old.receive + 1))
        return document.receive - 1

    def reserve_change_index(self) -> int:
        document = self._change(lambda old: msgspec.structs.replace(old, change=old.change + 1))
        return document.change - 1

    def take_spare_change(self) -> int | None:
        taken: list[int] = []

        def without_first(old: Document) -> Document:
            taken[:] = old.spare[:1]
            return msgspec.structs.replace(old, spare=old.spare[1:]) if taken else old

        self._change(without_first)
        return taken[0] if taken else None

    def give_back_change(self, *indices: int) -> None:
        self._change(lambda old: old.with_spare(indices))

    def add_pending(self, tx: Transaction) -> None:
        """Raises :class:`CoinsTaken` if a payment of another process has a coin of it."""

        def with_it(old: Document) -> Document:
            require_free(tx, old.pending)
            return msgspec.structs.replace(old, pending=(*old.pending, tx))

        self._change(with_it)

    def share(self, *txids: str) -> list[str]:
        wanted = set(txids)

        def with_them(old: Document) -> Document:
            there = [tx.txid for tx in old.pending if tx.txid in wanted]
            shared = tuple(dict.fromkeys((*old.shared, *there)))
            return old if shared == old.shared else msgspec.structs.replace(old, shared=shared)

        return [tx.txid for tx in self._change(with_them).pending if tx.txid in wanted]

    def take_back(self, txid: str, *spare: int) -> bool:
        taken: list[Document] = []

        def without(old: Document) -> Document:
            new = old if txid in old.shared else old.without(txid, spare)
            taken[:] = [] if new is old else [new]
            return new

        self._change(without)
        return bool(taken)

    def remove_pending(self, txid: str, *spare: int) -> None:
        self._change(lambda old: old.without(txid, spare))

    # -- writing -------------------------------------------------------------------------------------

    def _change(self, change: Callable[[Document], Document]) -> Document:
        """Makes a change to the file as it is now, while no other process makes one. No change writes nothing."""
        try:
            with self._alone():
                if not self._is_seen():
                    document, seen = _read(self.path)
                    if _unseal(self.path, document, self._key) != self.phrase:
                        raise ConfigurationError(f"the wallet {self.path} is another one by now")
                    self._document, self._seen = document, seen
                changed = change(self._document)
                if changed is not self._document:
                    self._save(changed)
        except OSError as error:
            raise StorageError(f"the wallet {self.path} cannot be written: {error.strerror}") from None
        return self._document

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from changing the file. The lock is on the file itself: nothing is left beside it.
        One that another keeps for more than ``LOCKED`` seconds is a :class:`StorageError`: it may stand still."""
        now = time.monotonic()
        until = now + LOCKED if now >= self._wait_again_at else now
        while True:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                if _is_locked(descriptor):
                    if os.fstat(descriptor).st_ino == os.stat(self.path).st_ino:  # else it was replaced meanwhile
                        self._wait_again_at = 0.0
                        yield
                        return
                elif time.monotonic() >= until:
                    if until > now:
                        self._wait_again_at = until + LOCKED_OUT
                    raise StorageError(f"the wallet {self.path} is kept locked by another program")
                else:
                    time.sleep(LOCK_AGAIN)
            finally:
                os.close(descriptor)

    def _is_seen(self) -> bool:
        return self._seen is not None and self._seen.mark == _mark(self.path.stat())

    def _seal(self, document: Document) -> Document:
        """The same with a new nonce and a seal that covers every other field as it is now."""
        nonce = nacl.utils.random(_NONCE_SIZE)
        document = msgspec.structs.replace(document, nonce=nonce.hex())
        sealed = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            self.phrase.encode("utf-8"), _associated(document), nonce, self._key
        )
        return msgspec.structs.replace(document, sealed=sealed.hex())

    def _save(self, document: Document, *, is_new: bool = False) -> None:
        document = self._seal(document)
        text = codec.dump_document(document)
        if len(text) > MOST_SIZE:  # it would be written and never opened again
            raise ConfigurationError(f"the wallet {self.path} is full: too many payments in it are not decided yet")
        folder = self.path.parent
        directory = os.open(folder, os.O_RDONLY)
        try:
            self._put(document, text, is_new)
            os.fsync(directory)
        except OSError:
            if is_new and self._seen:  # whoever is told that there is no wallet has seen no phrase
                self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(directory)

    def _put(self, document: Document, text: bytes, is_new: bool) -> None:
        folder = self.path.parent
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")  # mode 0600 from the start
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                seen = _Seen(os.dup(file.fileno()))  # of this file: once it is in place, another may follow it
            if is_new:
                os.link(name, self.path)  # unlike a rename, never over a file that came meanwhile
                os.unlink(name)
            else:
                os.replace(name, self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._document, self._seen = document, seen


def _associated(document: Document) -> bytes:
    """Every field but the seal itself, in its one spelling."""
    return b"timeproto/wallet/v1" + codec.encode(msgspec.structs.replace(document, sealed=""))


def _key(kdf: Derivation, password: str) -> bytes:
    salt = bytes.fromhex(kdf.salt)
    return argon2id.kdf(_KEY_SIZE, password.encode("utf-8"), salt, opslimit=kdf.opslimit, memlimit=kdf.memlimit)


def _read(path: Path) -> tuple[Document, _Seen]:
    """The document, still sealed, and the very file it was read from."""
    try:
        with path.open("rb") as file:
            found, seen = os.fstat(file.fileno()), _Seen(os.dup(file.fileno()))
            text = file.read() if found.st_size <= MOST_SIZE else b""
    except OSError as error:
        raise ConfigurationError(f"the wallet {path} cannot be read: {error.strerror}") from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise ConfigurationError(f"the wallet {path} can be read by others (mode {mode:04o}): chmod 600 it")
    document = codec.load_document(text, Document, f"the wallet {path}")
    if document.genesis.hash != document.genesis_hash:
        raise ConfigurationError(f"the wallet {path} is damaged: its genesis is not the one it names")
    return document, seen


def _unseal(path: Path, document: Document, key: bytes) -> str:
    """The phrase, if the seal holds over all of the document."""
    try:
        phrase = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes.fromhex(document.sealed), _associated(document), bytes.fromhex(document.nonce), key
        )
    except nacl.exceptions.CryptoError:
        raise ConfigurationError(f"the password does not open {path} (or the file was changed)") from None
    return phrase.decode("utf-8")


class _Seen:
    """A file that was read, or written, and is kept open: as long as it is, no later one is given its number again."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.mark = _mark(os.fstat(descriptor))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the very end there is no module any more
        close(self._descriptor)


def _mark(found: os.stat_result) -> tuple[int, ...]:
    """What differs between two saves of one file: every save is a new file."""
    return found.st_ino, found.st_mtime_ns, found.st_size


def _is_locked(descriptor: int) -> bool:
    """True if the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
