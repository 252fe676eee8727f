"""TLS: the binding of RFC 9266, version 1.3 only, host names, certificates made here."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.network.protocol import MessageProtocol
from timeproto.network.tls import (
    KeyedConnectionCreator,
    ServerContextFactory,
    channel_binding,
    make_certificate,
    named_connection_creator,
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
        server, client = Talking(self.clock), Talking(self.clock)
        context = server_context or ServerContextFactory(self.certificate, self.key)
        server_side = _wrap(server, context, is_client=False)
        client_side = _wrap(client, client_creator, is_client=True)
        from twisted.test.iosim import FakeTransport

        pump = connect(server_side, FakeTransport(server_side, True), client_side, FakeTransport(client_side, False))
        pump.flush()
        return client, server, pump


def _wrap(protocol: Protocol, context: Any, *, is_client: bool) -> Any:
    factory = Factory.forProtocol(lambda: protocol)  # type: ignore[arg-type]
    return TLSMemoryBIOFactory(context, is_client, factory).buildProtocol(None)


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
        server = Talking(self.clock)
        side = _wrap(server, ServerContextFactory(self.certificate, self.key), is_client=False)
        transport = StringTransport()
        ended = []
        transport.abortConnection = lambda: ended.append(True)  # type: ignore[method-assign]
        side.makeConnection(transport)
        self.clock.advance(limits.HANDSHAKE - 0.1)
        self.assertEqual(ended, [])
        self.clock.advance(0.2)
        self.assertEqual(ended, [True])
        self.assertFalse(server.was_ready)

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

    def authority(self) -> tuple[Path, ServerContextFactory]:
        ca = trustme.CA()
        issued = ca.issue_cert("node.example")
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

    def test_files_that_do_not_serve_are_named(self) -> None:
        """Missing, not PEM, or not belonging together."""
        junk = Path(self.mktemp())
        junk.write_text("nonsense")
        other = Path(self.mktemp())
        make_certificate(Path(self.mktemp()), other, "::1")
        for certificate, key in ((junk, self.key), (self.certificate, junk), (self.certificate, other)):
            with self.assertRaises(ConfigurationError) as caught:
                ServerContextFactory(certificate, key)
            self.assertIn(str(key), str(caught.exception))
