"""permessage-deflate as the PyPI package `websockets` does it, alone and below the official client."""

import json

import pytest
import websockets
from harness.tokens import connection_token
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

CONFIG = {
    "websocket": {"compression": True},
    "channel": {
        "without_namespace": {
            "allow_subscribe_for_client": True, "allow_publish_for_client": True,
            "history_size": 40, "history_ttl": "300s", "force_recovery": True,
        },
    },
}  # fmt: skip


def payload(n: int) -> dict:
    return {"rows": "same " * 200, "n": n, "text": f"é日{n}本"}


async def test_inv_d6_the_official_client_live_and_recovered(server, peer):
    channel = f"log-{peer.encoding}"
    proxy = await peer.proxy(server.port)
    one = peer(proxy.ws, token=connection_token("ann"))
    await one.connect()
    assert [type(each) for each in one.client._conn.protocol.extensions] == [PerMessageDeflate]
    made = await one.subscribe(channel)
    for n in range(1, 4):
        await one.publish(channel, payload(n))
    assert await made.payloads(3) == [payload(n) for n in range(1, 4)]
    proxy.down()
    await one.events.next("connecting")
    await server.publish_all(channel, [payload(n) for n in range(4, 15)])
    proxy.restore()
    assert (await made.events.next("subscribed")).recovered
    assert await made.payloads(11) == [payload(n) for n in range(4, 15)]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"client_max_window_bits": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        {"server_max_window_bits": 11, "client_max_window_bits": 15},
        {"server_max_window_bits": 12, "server_no_context_takeover": True},
        {"server_max_window_bits": 15, "client_no_context_takeover": True},
    ],
    ids=str,
)
async def test_inv_d6_commands_and_replies_with_every_parameter(server, parameters):
    factory = ClientPerMessageDeflateFactory(**parameters)
    channel = "raw-" + "-".join(f"{name}-{value}" for name, value in parameters.items())
    async with websockets.connect(server.ws, extensions=[factory], compression=None, proxy=None) as socket:
        [agreed] = socket.protocol.extensions
        assert agreed.remote_no_context_takeover and agreed.local_no_context_takeover
        assert agreed.remote_max_window_bits <= parameters.get("server_max_window_bits", 15)
        await socket.send(json.dumps({"id": 1, "connect": {"token": connection_token("ann")}}))
        assert json.loads(await socket.recv())["connect"]["client"]
        await socket.send(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
        assert json.loads(await socket.recv())["id"] == 2
        # Larger than any window, and nothing like its neighbours.
        for n in range(3):
            data = {"n": n, "rows": [f"{n} {row} {row * row % 977}" for row in range(3000)]}
            await server.publish(channel, data)
            assert json.loads(await socket.recv())["push"]["pub"]["data"] == data


async def test_an_offer_that_cannot_be_met_is_declined(server):
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=8)
    async with websockets.connect(server.ws, extensions=[factory], compression=None, proxy=None) as socket:
        assert socket.protocol.extensions == []
