"""Tokens whose keys the server fetches from their issuer."""

import asyncio

import pytest
from harness.jwks import MAKERS, Issuer, Key, verified_by
from harness.server import free_port
from harness.tokens import connection_token, seconds

CHANNEL = {"without_namespace": {"presence": True}}


async def code_of(peer, server, token: str) -> int | None:
    """The code with which a connection with this token ends; none if it is let in."""
    one = peer(server.ws, token=token)
    await one.client.connect()
    while True:
        event = await asyncio.wait_for(one.events.queue.get(), 10)
        if event.name in ("connected", "disconnected"):
            break
    await one.client.disconnect()
    return None if event.name == "connected" else event.ctx.code


@pytest.mark.parametrize("alg", MAKERS)
async def test_connect_refresh_and_subscribe_with_published_keys(serve, peer, alg):
    key = Key(alg, "the key")
    refreshed = asyncio.Event()

    async def get_token():
        refreshed.set()
        return key.sign("ann")

    with Issuer([Key("RS256", "another"), key]) as issuer:
        server = serve({"client": {"token": verified_by(issuer.port)}, "channel": CHANNEL})
        one = peer(server.ws, token=key.sign("ann", exp=seconds(3)), get_token=get_token)
        connected = await one.connect()
        await refreshed.wait()
        await one.subscribe("$room", token=key.sign("ann", channel="$room"))
        result = await server.api("presence", channel="$room")
        assert {client: info["user"] for client, info in result["presence"].items()} == {connected.client: "ann"}
        assert len(one.events.of("connecting")) == 1
        assert issuer.asked == 1


async def test_bad_j5_tokens_that_no_published_key_has_signed_are_refused(serve, peer):
    key = Key("EdDSA", "known")
    with Issuer([key]) as issuer:
        server = serve({"client": {"token": verified_by(issuer.port)}})
        for token in [
            Key("EdDSA", "known").sign("ann"),
            Key("ES256", "known").sign("ann"),
            Key("EdDSA", "unknown").sign("ann"),
            connection_token("ann"),
        ]:
            assert await code_of(peer, server, token) == 3500
        assert await code_of(peer, server, key.sign("ann")) is None
        assert issuer.asked <= 2


async def test_a_key_that_the_issuer_adds_is_found(serve, peer):
    old, new = Key("ES256", "old"), Key("EdDSA", "new")
    with Issuer([old]) as issuer:
        server = serve({"client": {"token": verified_by(issuer.port)}})
        assert await code_of(peer, server, old.sign("ann")) is None
        issuer.keys = [old, new]
        # At most one fetch in ten seconds, so it takes a while.
        async with asyncio.timeout(20):
            while await code_of(peer, server, new.sign("ann")) is not None:
                await asyncio.sleep(0.25)
        assert issuer.asked == 2
        assert await code_of(peer, server, old.sign("ann")) is None


async def test_clients_come_in_when_the_issuer_is_back(serve, peer):
    key, port = Key("EdDSA", "a"), free_port()
    server = serve({"client": {"token": verified_by(port)}})
    one = peer(server.ws, token=key.sign("ann"))
    await one.client.connect()
    error = await one.events.next("error")
    assert error.error.code == 100
    with Issuer([key], port):
        async with asyncio.timeout(20):
            while not one.events.of("connected"):
                await asyncio.sleep(0.05)
    assert not one.events.of("disconnected")
    assert await code_of(peer, server, key.sign("ann")) is None, "the keys are kept while it is away"
