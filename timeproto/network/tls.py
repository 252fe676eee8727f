"""TLS for node and wallet connections: version 1.3 only, with its own strong suites.

Version 1.3 because the channel binding of RFC 9266 is safe there as it is, while 1.2 needs the extended master secret
and both ends to agree that they use it. Masternodes do not trust certificates but keys: the handshake of protocol §7
signs the channel's exporter value, so a man in the middle, who has another channel on each side, cannot pass it on.
A wallet trusts either a host name, by service-identity and a CA, or a pinned node key, by the same handshake.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    ISSLTransport,
)
from twisted.internet.ssl import Certificate, TLSVersion, optionsForClientTLS, trustRootFromCertificates
from zope.interface import implementer

from timeproto.errors import ConfigurationError

_EXPORTER = b"EXPORTER-Channel-Binding"
_BINDING_SIZE = 32
_LIFETIME = datetime.timedelta(days=3_650)


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


@implementer(IOpenSSLContextFactory)
class ServerContextFactory:
    """The context of a listening port, from PEM files that are read once, when it is made."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises :class:`ConfigurationError` naming the file that does not serve."""
        context = _context()
        try:
            context.use_certificate_chain_file(str(certificate))
            context.use_privatekey_file(str(key))
            context.check_privatekey()
        except (SSL.Error, OSError) as error:
            raise ConfigurationError(
                f"the TLS certificate {certificate} and key {key} cannot be used: {error or 'not PEM'}"
            ) from None
        self._ssl_context = context

    def getContext(self) -> SSL.Context:
        return self._ssl_context


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
        except (OSError, SSL.Error) as error:
            raise ConfigurationError(f"the CA certificate {ca} cannot be read: {error or 'not PEM'}") from None
    return optionsForClientTLS(
        hostname, trustRoot=trust, extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_3}
    )


def channel_binding(transport: Any) -> bytes:
    """The exporter value of RFC 9266 (32 bytes) of a TLS transport; empty for plain TCP."""
    if not ISSLTransport.providedBy(transport):
        return b""
    connection: SSL.Connection = transport.getHandle()  # type: ignore[attr-defined]
    return connection.export_keying_material(_EXPORTER, _BINDING_SIZE, b"")


def make_certificate(certificate: Path, key: Path, host: str) -> None:
    """Writes a self-signed P-256 certificate for ``host`` and its key (mode 0600), each whole or not at all."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    _write_whole(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    _write_whole(certificate, signed.public_bytes(serialization.Encoding.PEM))


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the start
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)
