"""TLS for node and wallet connections: version 1.3 only, with its own strong suites and few groups.

Version 1.3 because the channel binding of RFC 9266 is safe there as it is, while 1.2 needs the extended master secret
and both ends to agree that they use it. Masternodes do not trust certificates but keys: the handshake of protocol §7
signs the channel's exporter value, so a man in the middle, who has another channel on each side, cannot pass it on.
A wallet trusts either a host name, by service-identity and a CA, or a pinned node key, by the same handshake.
"""

from __future__ import annotations

import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    IProtocolFactory,
    ISSLTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, TLSVersion, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto import limits
from timeproto.errors import ConfigurationError

_EXPORTER = b"EXPORTER-Channel-Binding"
_BINDING_SIZE = 32
_GROUPS = (b"?X25519MLKEM768:X25519:P-256:P-384", b"X25519:P-256:P-384")
"""Mozilla's, and before them the one that a quantum computer does not open, where OpenSSL has it (3.5)."""
_REASONS: dict[type[Exception], str] = {
    ValueError: "not PEM",
    TypeError: "the key is sealed, or of a kind that cannot sign",
}


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    _set_groups(context)
    return context


def _set_groups(context: SSL.Context) -> None:
    # pyOpenSSL has a door for one group, and none for a list; its bindings have one since cryptography 47.
    lib: Any = Binding().lib
    set_list = getattr(lib, "SSL_CTX_set1_curves_list", None)
    if set_list is not None and any(set_list(context._context, names) == 1 for names in _GROUPS):
        lib.ERR_clear_error()  # of the first list, if this OpenSSL did not know it
    else:
        context.set_tmp_ecdh(ec.SECP256R1())


@implementer(IOpenSSLContextFactory)
class ServerContextFactory:
    """The context of a listening port, from PEM files. ``end`` is when the certificate ends, in UTC; ``loaded`` is the
    ``fingerprint`` of what is in use.

    New connections get what was loaded last; those that are there keep what they have.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises :class:`ConfigurationError` naming the files that do not serve."""
        self._paths = certificate, key
        self._ssl_context, self.end, self.loaded = self._read()

    def getContext(self) -> SSL.Context:
        return self._ssl_context

    def fingerprint(self) -> bytes:
        """Of what is in the files now: another one when they have changed."""
        try:
            return _digest(*self._contents())
        except ConfigurationError as error:
            return str(error).encode("utf-8")

    def reload(self, now: datetime.datetime) -> None:
        """Reads the files again: all of it is taken, or nothing changes and :class:`ConfigurationError` says why."""
        context, end, loaded = self._read()
        if end <= now:
            raise ConfigurationError(f"the TLS certificate {self._paths[0]} ended at {end:%Y-%m-%d %H:%M} UTC")
        self._ssl_context, self.end, self.loaded = context, end, loaded

    def _contents(self) -> tuple[bytes, bytes]:
        try:
            certificate, key = (path.read_bytes() for path in self._paths)
        except OSError as error:
            raise self._complaint(error) from None
        return certificate, key

    def _read(self) -> tuple[SSL.Context, datetime.datetime, bytes]:
        certificate, key = self._contents()
        context = _context()
        try:
            first, *others = x509.load_pem_x509_certificates(certificate)
            context.use_certificate(first)
            for other in others:
                context.add_extra_chain_cert(other)
            context.use_privatekey(load_pem_private_key(key, None))  # type: ignore[arg-type]  # it says TypeError
            context.check_privatekey()
        except Exception as error:  # a file can be wrong in more ways than the libraries have names for
            raise self._complaint(error) from None
        return context, first.not_valid_after_utc, _digest(certificate, key)

    def _complaint(self, error: Exception) -> ConfigurationError:
        certificate, key = self._paths
        reason = _REASONS.get(type(error), "")
        if isinstance(error, OSError):
            reason = str(error.strerror)
        elif isinstance(error, SSL.Error) and error.args and error.args[0]:
            reason = error.args[0][-1][-1]  # what OpenSSL says last
        return ConfigurationError(
            f"the TLS certificate {certificate} and key {key} cannot be used: {reason or 'of no use to TLS'}"
        )


def _digest(certificate: bytes, key: bytes) -> bytes:
    return sha256(sha256(certificate).digest() + sha256(key).digest()).digest()


class ServerTransport(BufferingTLSTransport):
    """TLS that lets go at once of a connection that is lost.

    Twisted's holds the protocol as a producer, and the protocol holds it. And the error that says that TLS ended
    abruptly has the stack it came through, and that stack has the error. What is in such a ring waits for the garbage
    collector, which freed the connections of a crowd that came and went by the hundred: 20 ms, once in some seconds, in
    which nothing else was done.
    """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.unregisterProducer()
        super().connectionLost(reason)

    def _tlsShutdownFinished(self, reason: Any) -> None:
        super()._tlsShutdownFinished(reason)  # if Twisted calls it otherwise one day, they wait again
        if reason is not None:
            reason.cleanFailure()


class TLS4ServerEndpoint(TCP4ServerEndpoint):
    """What Twisted's SSL4ServerEndpoint is, for :class:`ServerTransport` and with the house's queue."""

    def __init__(self, reactor: Any, port: int, context: IOpenSSLContextFactory, interface: str) -> None:
        super().__init__(reactor, port, limits.LISTEN_QUEUE, interface)
        self._context = context

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        listening: Deferred[Any] = super().listen(secured(protocolFactory, self._context, self._reactor))
        return listening


def secured(factory: IProtocolFactory, context: IOpenSSLContextFactory, clock: Any) -> TLSMemoryBIOFactory:
    """What ``factory`` makes, behind TLS."""
    secure = TLSMemoryBIOFactory(context, False, factory, clock)
    secure.protocol = ServerTransport
    return secure


@implementer(IOpenSSLClientConnectionCreator)
class KeyedConnectionCreator:
    """Client connections that accept any certificate, because the signed handshake proves the key instead.

    Only for callers that go on to run the handshake with the channel's binding.
    """

    def __init__(self) -> None:
        self._context = _context()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return connection


def named_connection_creator(hostname: str, ca: Path | None) -> Any:
    """Client connections to a server whose certificate must be for ``hostname`` (service-identity), issued by ``ca``
    or, without one, by an authority the system trusts."""
    trust = None
    if ca is not None:
        try:
            trust = trustRootFromCertificates([Certificate.loadPEM(ca.read_bytes())])
        except OSError as error:
            raise ConfigurationError(f"the CA certificate {ca} cannot be read: {error.strerror}") from None
        except (SSL.Error, crypto.Error):
            raise ConfigurationError(f"the CA certificate {ca} cannot be read: it is not PEM") from None
    return optionsForClientTLS(
        hostname, trustRoot=trust, extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_3}
    )


def channel_binding(transport: Any) -> bytes:
    """The exporter value of RFC 9266 (32 bytes) of a TLS transport; empty for plain TCP."""
    if not ISSLTransport.providedBy(transport):
        return b""
    connection: SSL.Connection = transport.getHandle()  # type: ignore[attr-defined]
    return connection.export_keying_material(_EXPORTER, _BINDING_SIZE, b"")
