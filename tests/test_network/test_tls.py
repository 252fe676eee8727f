"""TLS: the binding of RFC 9266, version 1.3 only, host names, certificates that change and those made here."""

from __future__ import annotations

import datetime
import gc
import stat
import weakref
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.authority import DAY, Authority
from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.network.certificates import LIFETIME, RENEW_BEFORE, make_certificate, renew_certificate
from timeproto.network.protocol import MessageProtocol
from timeproto.network.tls import (
    KeyedConnectionCreator,
    ServerContextFactory,
    channel_binding,
    named_connection_creator,
    secured,
)
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Talking(MessageProtocol):
    """Greets as soon as it may."""

    remote_role = Role.MASTERNODE
    was_ready = False

    def ready(self) -> None:
        self.was_ready = True
        self.binding = channel_binding(self.transport)
        self.send(messages.Ping(id=1))


class TLSCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        make_certificate(self.certificate, self.key, "127.0.0.1")
        self.clock = Clock()

    def pair(self, client_creator: Any, server_context: Any = None) -> tuple[Talking, Talking, Any]:
        """A client and a server over TLS in memory."""
        server_side = self.accepting(server_context)
        factory = TLSMemoryBIOFactory(client_creator, True, self.talking(), self.clock)
        client_side: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        client, server = client_side.wrappedProtocol, server_side.wrappedProtocol
        from twisted.test.iosim import FakeTransport

        pump = connect(server_side, FakeTransport(server_side, True), client_side, FakeTransport(client_side, False))
        pump.flush()
        return client, server, pump

    def accepting(self, context: Any = None) -> Any:
        """The end of a connection that came in."""
        context = context or ServerContextFactory(self.certificate, self.key)
        return secured(self.talking(), context, self.clock).buildProtocol(None)  # type: ignore[arg-type]

    def talking(self) -> Factory:
        clock = self.clock
        return Factory.forProtocol(lambda: Talking(clock))  # type: ignore[arg-type]


class Channels(TLSCase):
    """Both ends of one channel, and of two."""

    def test_the_parts_are_what_twisted_expects(self) -> None:
        """Interfaces are kept."""
        verifyObject(IOpenSSLContextFactory, ServerContextFactory(self.certificate, self.key))
        verifyObject(IOpenSSLClientConnectionCreator, KeyedConnectionCreator())

    def test_both_ends_see_one_binding_and_no_two_channels_share_it(self) -> None:
        """Thirty-two bytes, equal here and there, different elsewhere."""
        client, server, _ = self.pair(KeyedConnectionCreator())
        other, _, _ = self.pair(KeyedConnectionCreator())
        self.assertEqual(len(client.binding), 32)
        self.assertEqual(client.binding, server.binding)
        self.assertNotEqual(client.binding, other.binding)

    def test_nothing_is_said_before_the_handshake(self) -> None:
        """``ready`` comes with the end of the TLS handshake, on both sides, and messages pass after it."""
        client, server, _ = self.pair(KeyedConnectionCreator())
        self.assertEqual((client.was_ready, server.was_ready), (True, True))
        self.assertTrue(client.is_open and server.is_open)
        self.assertGreater(client._heard, -1)

    def test_plain_tcp_has_no_binding(self) -> None:
        """Empty bytes."""
        self.assertEqual(channel_binding(StringTransport()), b"")

    def test_who_never_speaks_tls_is_cut_off(self) -> None:
        """``limits.HANDSHAKE`` seconds, and the connection is gone (T-04)."""
        side = self.accepting()
        transport = StringTransport()
        ended = []
        transport.abortConnection = lambda: ended.append(True)  # type: ignore[method-assign]
        side.makeConnection(transport)
        self.clock.advance(limits.HANDSHAKE - 0.1)
        self.assertEqual(ended, [])
        self.clock.advance(0.2)
        self.assertEqual(ended, [True])
        self.assertFalse(side.wrappedProtocol.was_ready)

    def test_who_ends_abruptly_leaves_nothing_for_the_collector(self) -> None:
        """Not who said nothing, nor half a word, nor nonsense, nor where TLS stood: what is lost is gone at once."""
        self.addCleanup(gc.enable)
        gc.disable()
        for words in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
            side = self.accepting()
            kept = [weakref.ref(side), weakref.ref(side.wrappedProtocol)]
            side.makeConnection(StringTransport())
            if words:
                side.dataReceived(words)
            side.connectionLost(Failure(ConnectionDone()))
            del side
            self.assertEqual([each() for each in kept], [None, None], words)
        client, server, pump = self.pair(KeyedConnectionCreator())
        self.assertTrue(server.was_ready)
        side, kept = pump.server, [weakref.ref(pump.server), weakref.ref(server)]
        pump.serverIO.protocol = None  # as a socket's transport lets go of it
        side.connectionLost(Failure(ConnectionDone()))
        del client, server, side, pump
        self.assertEqual([each() for each in kept], [None, None])

    def test_version_1_2_is_refused(self) -> None:
        """A client that can do no better gets no connection (T-01)."""

        class Old(KeyedConnectionCreator):
            def __init__(self) -> None:
                self._context = SSL.Context(SSL.TLS_METHOD)
                self._context.set_max_proto_version(SSL.TLS1_2_VERSION)

        client, server, _ = self.pair(Old())
        self.assertEqual((client.was_ready, server.was_ready), (False, False))

    def test_closing_under_tls_ends_in_time(self) -> None:
        """``close`` leaves no timer behind once the connection is down, though a producer was registered."""
        client, server, pump = self.pair(KeyedConnectionCreator())
        client.close()
        pump.flush()
        self.clock.advance(limits.CLOSE + 1)
        pump.flush()
        self.assertFalse(server.is_open)


class Names(TLSCase):
    """Wallets that trust a name."""

    def authority(self, not_after: Any = None) -> tuple[Path, ServerContextFactory]:
        ca = trustme.CA()
        issued = ca.issue_cert("node.example", not_after=not_after)
        folder = Path(self.mktemp())
        folder.mkdir()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        return folder / "ca.pem", ServerContextFactory(folder / "cert.pem", folder / "key.pem")

    def test_the_right_name_by_the_right_authority(self) -> None:
        """Connects."""
        ca, context = self.authority()
        client, _, _ = self.pair(named_connection_creator("node.example", ca), context)
        self.assertTrue(client.was_ready)

    def test_the_wrong_name_or_the_wrong_authority(self) -> None:
        """Refused by service-identity, or by the chain (T-03)."""
        ca, context = self.authority()
        other, _ = self.authority()
        for creator in (named_connection_creator("other.example", ca), named_connection_creator("node.example", other)):
            client, _, _ = self.pair(creator, context)
            self.assertFalse(client.was_ready and client.is_open)
        self.flushLoggedErrors()

    def test_a_certificate_that_has_ended(self) -> None:
        """A wallet that checks names is not served by it; the node's port goes on all the same (T-03)."""
        ca, context = self.authority(datetime.datetime.now(datetime.UTC) - DAY)
        client, _, _ = self.pair(named_connection_creator("node.example", ca), context)
        self.assertFalse(client.was_ready and client.is_open)
        keyed, _, _ = self.pair(KeyedConnectionCreator(), context)
        self.assertTrue(keyed.was_ready)
        self.flushLoggedErrors()

    def test_an_authority_that_cannot_be_read(self) -> None:
        """A sentence, not a traceback."""
        with self.assertRaises(ConfigurationError):
            named_connection_creator("node.example", Path("missing.pem"))


class Certificates(TLSCase):
    """What a node makes for itself."""

    def test_the_key_is_for_its_owner_alone(self) -> None:
        """Mode 0600, and no half-written file beside it."""
        self.assertEqual(stat.S_IMODE(self.key.stat().st_mode), 0o600)
        self.assertEqual(len(list(self.key.parent.iterdir())), 2)

    def test_it_is_as_scanners_want_it(self) -> None:
        """P-256, signed with SHA-256, for its host, for less than 366 days, and for servers."""
        made = self.read()
        self.assertLessEqual((made.not_valid_after_utc - made.not_valid_before_utc).days, 366)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([str(each) for each in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"])
        self.assertEqual(made.signature_algorithm_oid._name, "ecdsa-with-SHA256")

    def read(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def test_it_is_renewed_before_it_ends(self) -> None:
        """Same key, same name, a new life; not earlier than it must be."""
        old, key, now = self.read(), self.key.read_bytes(), datetime.datetime.now(datetime.UTC)
        early, late = now + LIFETIME - RENEW_BEFORE - DAY, now + LIFETIME - RENEW_BEFORE + DAY
        self.assertFalse(renew_certificate(self.certificate, self.key, early))
        self.assertEqual(self.read(), old)
        self.assertTrue(renew_certificate(self.certificate, self.key, late))
        new = self.read()
        self.assertEqual((new.public_key(), new.subject, self.key.read_bytes()), (old.public_key(), old.subject, key))
        self.assertGreater(new.not_valid_after_utc, late + LIFETIME - DAY)
        self.assertEqual(new.extensions.get_extension_for_class(x509.SubjectAlternativeName).value,
                         old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)

    def test_what_others_made_is_left_alone(self) -> None:
        """An operator's certificate that ends is the operator's to renew; so is what cannot be read."""
        Authority(self.certificate.parent).issue(self.certificate, self.key, life=DAY)
        before = self.certificate.read_bytes()
        self.assertFalse(renew_certificate(self.certificate, self.key))
        self.assertEqual(self.certificate.read_bytes(), before)
        self.certificate.write_text("nonsense")
        self.assertFalse(renew_certificate(self.certificate, self.key))
        self.assertFalse(renew_certificate(Path("missing.pem"), self.key))

    def test_files_that_do_not_serve_are_named(self) -> None:
        """Missing, not PEM, or not belonging together."""
        junk = Path(self.mktemp())
        junk.write_text("nonsense")
        other = Path(self.mktemp())
        make_certificate(Path(self.mktemp()), other, "::1")
        exchange = Path(self.mktemp())
        agreeing = x25519.X25519PrivateKey.generate()
        exchange.write_bytes(agreeing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for certificate, key in (
            (junk, self.key), (self.certificate, junk), (self.certificate, other), (self.certificate, exchange),
            (Path("missing.pem"), self.key), (self.certificate, Path("missing.pem")),
        ):  # fmt: skip
            with self.assertRaisesRegex(ConfigurationError, "cannot be used: [^:/]+$") as caught:
                ServerContextFactory(certificate, key)
            self.assertIn(str(key), str(caught.exception))


class Reloading(TLSCase):
    """Files that change under a running port."""

    def setUp(self) -> None:
        super().setUp()
        self.context = ServerContextFactory(self.certificate, self.key)
        self.now = datetime.datetime.now(datetime.UTC)
        self.authority = Authority(self.certificate.parent)

    def serial(self, client: Talking) -> int:
        """The serial number of the certificate that the client was shown."""
        shown = client.transport.getPeerCertificate().to_cryptography()  # type: ignore[union-attr]
        return int(shown.serial_number)

    def test_new_connections_get_the_new_one(self) -> None:
        """And those that are there go on with theirs."""
        old, server, pump = self.pair(KeyedConnectionCreator(), self.context)
        before = self.serial(old)
        loaded = self.context.loaded
        serial = self.authority.issue(self.certificate, self.key)
        self.assertNotEqual(self.context.fingerprint(), loaded)
        unchanged, _, _ = self.pair(KeyedConnectionCreator(), self.context)
        self.assertEqual(self.serial(unchanged), before)
        self.context.reload(self.now)
        self.assertEqual(self.context.fingerprint(), self.context.loaded)
        new, _, _ = self.pair(KeyedConnectionCreator(), self.context)
        self.assertEqual(self.serial(new), serial)
        server.send(messages.Ping(id=7))
        pump.flush()
        self.assertTrue(old.is_open and server.is_open)
        self.assertEqual(self.serial(old), before)

    def test_all_of_it_or_nothing(self) -> None:
        """Half a pair, junk, a file that is gone, one that has ended: the one before stays."""
        before = self.pair(KeyedConnectionCreator(), self.context)[0]
        certificate, key = self.certificate.read_bytes(), self.key.read_bytes()

        def junk() -> None:
            self.certificate.write_bytes(b"nonsense")

        def half() -> None:
            self.authority.issue(self.certificate, Path(self.mktemp()))

        def ended() -> None:
            self.authority.issue(self.certificate, self.key, life=-DAY)

        for spoil in (junk, half, self.key.unlink, ended):
            spoil()
            self.assertRaises(ConfigurationError, self.context.reload, self.now)
            client, _, _ = self.pair(KeyedConnectionCreator(), self.context)
            self.assertEqual(self.serial(client), self.serial(before))
            self.certificate.write_bytes(certificate)
            self.key.write_bytes(key)
