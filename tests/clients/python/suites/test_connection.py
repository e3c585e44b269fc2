"""Connecting, refreshing, being disconnected."""

import asyncio

import pytest
from centrifuge import UnauthorizedError
from centrifuge.exceptions import ReplyError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from harness.tokens import connection_token, seconds

CONFIG = {
    "client": {"expired_close_delay": "3s"},
    "channel": {
        "without_namespace": {"presence": True, "allow_subscribe_for_client": True, "allow_presence_for_client": True},
    },
}


async def test_a_token_connects_its_user(server, peer):
    one = peer(server.ws, token=connection_token("ann", info={"name": "Änn"}))
    connected = await one.connect()
    assert connected.client
    assert connected.version
    await one.subscribe("room")
    result = await one.client.presence("room")
    info = result.clients[connected.client]
    assert info.user == "ann"
    assert one.unpack(info.conn_info) == {"name": "Änn"}


async def test_without_credentials_it_is_refused_for_good(server, peer):
    one = peer(server.ws)
    await one.client.connect()
    assert (await one.events.next("disconnected")).code == 3501


async def test_bad_j1_a_forged_token_is_refused_for_good(server, peer):
    for key in ["another key than the one that is configured", "0" * 64]:
        one = peer(server.ws, token=connection_token("ann", key=key))
        await one.client.connect()
        assert (await one.events.next("disconnected")).code == 3500


async def test_an_expired_token_is_replaced_by_get_token(server, peer):
    asked = []

    async def get_token():
        asked.append(1)
        return connection_token("ann")

    one = peer(server.ws, token=connection_token("ann", exp=seconds(-10)), get_token=get_token)
    await one.connect()
    assert len(asked) == 1


async def test_get_token_may_say_unauthorized(server, peer):
    async def get_token():
        raise UnauthorizedError

    one = peer(server.ws, get_token=get_token)
    await one.client.connect()
    assert (await one.events.next("disconnected")).code == 1


async def test_a_connection_that_expires_is_refreshed_and_stays(server, peer):
    asked = asyncio.Semaphore(0)

    async def get_token():
        asked.release()
        return connection_token("ann", exp=seconds(3))

    one = peer(server.ws, get_token=get_token)
    connected = await one.connect()
    for _ in range(3):
        await asked.acquire()
    await one.subscribe("refreshed")
    result = await one.client.presence("refreshed")
    assert list(result.clients) == [connected.client]
    assert len(one.events.of("connecting")) == 1


@pytest.mark.parametrize(
    ("code", "event"), [(None, "disconnected"), (4000, "connecting"), (4500, "disconnected"), (3001, "connecting")]
)
async def test_disconnected_by_the_api(server, peer, code, event):
    user = f"disconnected-{code}-{peer.encoding}"
    one = peer(server.ws, token=connection_token(user))
    await one.connect()
    more = {"disconnect": {"code": code, "reason": "because of us"}} if code else {}
    await server.api("disconnect", user=user, **more)
    ctx = await one.events.next(event)
    assert (ctx.code, ctx.reason) == ((code, "because of us") if code else (3503, "force disconnect"))
    if event == "connecting":
        await one.events.next("connected")


async def test_rpc_without_anything_behind_it(server, peer):
    one = peer(server.ws, token=connection_token("ann"))
    await one.connect()
    with pytest.raises(ReplyError) as raised:
        await one.client.rpc("method", one.pack({}))
    assert raised.value.code == 108


async def test_bad_o1_a_message_above_the_limit_ends_with_1009(server, peer):
    one = peer(server.ws, token=connection_token("ann"))
    await one.connect()
    with pytest.raises(Exception):
        await one.publish("large", "x" * 65_536)
    # 3: the client's own code for a close with 1009; unlike the JavaScript client it comes back.
    await one.events.next("connected")
    assert [ctx.code for ctx in one.events.of("connecting")] == [0, 3]


def public_pem(key) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form).decode()


@pytest.mark.parametrize("alg", ["RS256", "ES256", "ES512"])
async def test_tokens_of_other_keys(serve, peer, alg):
    curves = {"ES256": ec.SECP256R1, "ES512": ec.SECP521R1}
    key = ec.generate_private_key(curves[alg]()) if alg in curves else rsa.generate_private_key(65537, 2048)
    name = "ecdsa_public_key" if alg in curves else "rsa_public_key"
    server = serve({"client": {"token": {"hmac_secret_key": "", name: public_pem(key)}}})
    await peer(server.ws, token=connection_token("ann", key=key, alg=alg)).connect()
    other = peer(server.ws, token=connection_token("ann"))
    await other.client.connect()
    assert (await other.events.next("disconnected")).code == 3500


async def test_pinged_clients_stay(serve, peer):
    server = serve({"client": {"ping_interval": "1s", "pong_timeout": "900ms"}})
    one = peer(server.ws, token=connection_token("ann"), max_server_ping_delay=0.9)
    await one.connect()
    # Time has to pass here: three intervals and their answers; without a pong the server cuts within 1.9 s, and
    # without a ping the client leaves by itself within 1.9 s.
    await asyncio.sleep(3.6)
    assert len(one.events.of("connecting")) == 1
    assert not one.events.of("disconnected")


async def test_anonymous_where_allowed(serve, peer):
    server = serve({"client": {"allow_anonymous_connect_without_token": True}})
    assert (await peer(server.ws).connect()).client
