"""TLS: the official client, and OpenSSL for what it never does: new keys, renegotiation, farewells in either order."""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness.server import Server
from harness.tokens import connection_token

CONFIG = {"channel": {"without_namespace": {"allow_subscribe_for_client": True, "allow_publish_for_client": True}}}

UPGRADE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)


def make_certificate() -> tuple[str, str]:
    """A certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem).decode(), key.private_bytes(pem, *private).decode()


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """Certificate and key, and the certificate as a file that clients of this process trust."""
    certificate, key = make_certificate()
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_text(certificate)
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(path)
    yield certificate, key, str(path)
    if before is None:
        del os.environ["SSL_CERT_FILE"]
    else:
        os.environ["SSL_CERT_FILE"] = before


@pytest.fixture(scope="module")
def secure(identity):
    with Server(CONFIG, tls=identity[:2]) as running:
        yield running
        assert "panicked" not in "".join(running.log)
        assert running.process.poll() is None, "the server left during the tests"


def frame(text: str) -> bytes:
    """A text frame of a client, masked with zeros. Under 126 bytes."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


CLOSE = bytes([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8])


async def test_the_official_client_talks_over_tls(secure, peer):
    one = peer(secure.wss, token=connection_token("ann"))
    await one.connect()
    sub = await one.subscribe(f"secure-{peer.encoding}")
    large = "x" * 40_000
    for value in [1, "two", {"three": large}]:
        await one.publish(sub.channel, value)
    assert await sub.payloads(3) == [1, "two", {"three": large}]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_server_answers_the_farewell_of_tls(secure, identity, version):
    context = ssl.create_default_context(cafile=identity[2])
    context.minimum_version = context.maximum_version = version

    def converse() -> tuple[bytes, bool]:
        import socket

        raw = socket.create_connection(("localhost", secure.tls_port), timeout=10)
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as wrapped:
            wrapped.sendall(UPGRADE)
            answer = wrapped.recv(4096)
            wrapped.sendall(CLOSE)
            closing = wrapped.recv(100)
            # The server's close_notify: without it this raises.
            ended = wrapped.recv(100) == b""
            return answer + closing, ended

    answer, ended = await asyncio.to_thread(converse)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(bytes([0x88, 2, 0x03, 0xE8]))
    assert ended


class OpenSsl:
    """`openssl s_client`, whose commands do what libraries do not offer."""

    def __init__(self, process):
        self.process = process
        self.seen = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, port: int, *options: str):
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def send(self, what: bytes) -> None:
        """One command or message; commands are only seen at the beginning of what is read at once."""
        self.process.stdin.write(what)
        await self.process.stdin.drain()

    async def sees(self, what: bytes) -> None:
        async with asyncio.timeout(10):
            while what not in self.seen:
                more = await self.process.stdout.read(65536)
                assert more, f"openssl ended without {what!r}: {self.seen[-2000:]!r}"
                self.seen += more
        self.seen = self.seen[self.seen.index(what) + len(what) :]


async def test_openssl_changes_keys_under_a_connection(secure):
    async with OpenSsl.connected(secure.tls_port, "-tls1_3") as client:
        await client.sees(b"Verification")
        await client.send(UPGRADE)
        await client.sees(b"\r\n\r\n")
        await client.send(b"K\n")
        await client.sees(b"KEYUPDATE")
        token = connection_token("ann")
        message = f'{{"id":1,"connect":{{"token":"{token}"}}}}'
        head = bytes([0x81, 0x80 | 126]) + len(message).to_bytes(2, "big") + bytes(4)
        await client.send(head + message.encode())
        await client.sees(b'"client":')
        for number, command in enumerate([b"k\n", b"K\n", b"K\n"], 2):
            # k: new keys of the client; K: and of the server as well.
            await client.send(command)
            await client.sees(b"KEYUPDATE")
            await client.send(frame(f'{{"id":{number},"subscribe":{{"channel":"keys{number}"}}}}'))
            await client.sees(f'"id":{number}'.encode())


async def test_openssl_may_not_renegotiate(secure, peer):
    one = peer(secure.wss, token=connection_token("ann"))
    await one.connect()
    async with OpenSsl.connected(secure.tls_port, "-tls1_2") as client:
        await client.sees(b"Verif")
        await client.send(UPGRADE)
        await client.sees(b"\r\n\r\n")
        await client.send(b"R\n")
        await client.sees(b"RENEGOTIATING")
        await client.sees(b"no renegotiation")
    sub = await one.subscribe("renegotiation")
    await one.publish(sub.channel, "still there")
    assert await sub.payloads(1) == ["still there"]
