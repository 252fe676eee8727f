"""Certificates that a node makes for itself, and makes again before they end.

Nobody has to trust them: masternodes prove their keys on the channel (network.tls), and so does a node to a wallet that
pins its key. They live a year at most, as browsers and TLS scanners want it, and the key stays when they are renewed.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)
_LEEWAY = datetime.timedelta(hours=1)
"""For clocks that are behind."""
_MAKER = "timeproto, made by the node itself"


def make_certificate(certificate: Path, key: Path, host: str, now: datetime.datetime | None = None) -> None:
    """Writes a self-signed P-256 certificate for ``host`` and its key (mode 0600): both, or neither."""
    private = ec.generate_private_key(ec.SECP256R1())
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _MAKER), x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]
    )
    signed = _signed(private, name, x509.SubjectAlternativeName([alternative]), now)
    _write_whole(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    try:
        _write_whole(certificate, signed)
    except OSError:
        key.unlink()  # alone it would be in the way of the next try
        raise


def renew_certificate(certificate: Path, key: Path, now: datetime.datetime | None = None) -> bool:
    """Makes the certificate again, with the same key and name, if it is one of ours and ends within ``RENEW_BEFORE``.

    True if it did. What cannot be read, or is somebody else's, is left alone.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        old = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), None)
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        makers = [each.value for each in old.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if makers != [_MAKER] or not isinstance(private, ec.EllipticCurvePrivateKey):
            return False
        if old.not_valid_after_utc - now > RENEW_BEFORE:
            return False
        signed = _signed(private, old.subject, names, now)
    except Exception:  # what is in a file can be wrong in more ways than the library has names for
        return False
    _write_whole(certificate, signed)
    return True


def _signed(
    private: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    names: x509.SubjectAlternativeName,
    now: datetime.datetime | None,
) -> bytes:
    now = now or datetime.datetime.now(datetime.UTC)
    public = private.public_key()
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + LIFETIME)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
