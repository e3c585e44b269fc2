"""Connections that are lost, and what is missed meanwhile; server-side subscriptions."""

import pytest
from harness.tokens import connection_token

RETAINED = 60
CONFIG = {
    "channel": {
        "without_namespace": {},
        "namespaces": [
            {"name": "log", "allow_subscribe_for_client": True, "history_size": RETAINED, "history_ttl": "300s", "force_recovery": True},
            {
                "name": "cache", "allow_subscribe_for_client": True, "history_size": 5, "history_ttl": "300s",
                "force_recovery": True, "force_recovery_mode": "cache",
            },
            {"name": "plain"},
        ],
    },
}  # fmt: skip


async def behind(server, peer, **claims):
    proxy = await peer.proxy(server.port)
    one = peer(proxy.ws, token=connection_token("ann", **claims))
    await one.connect()
    return proxy, one


def numbers(count: int, start: int = 1) -> list[int]:
    return list(range(start, start + count))


async def lose(proxy, one) -> None:
    """Cuts the connection and waits until the client knows."""
    already = len(one.events.of("connecting"))
    proxy.down()
    while len(one.events.of("connecting")) == already:
        await one.events.next("connecting")


@pytest.mark.parametrize("missed", [0, 1, 50, RETAINED])
async def test_inv_d1_missed_publications_come_back_once_and_in_order(server, peer, missed):
    channel = f"log:missed-{missed}-{peer.encoding}"
    proxy, one = await behind(server, peer)
    made = await one.subscribe(channel)
    assert made.first.recoverable
    await server.publish_all(channel, numbers(3))
    assert await made.payloads(3) == numbers(3)
    await lose(proxy, one)
    await server.publish_all(channel, numbers(missed, 4))
    proxy.restore()
    again = await made.events.next("subscribed")
    assert again.was_recovering
    assert again.recovered
    await server.publish_all(channel, numbers(2, 4 + missed))
    events = await made.events.take("publication", missed + 2)
    assert [ctx.pub.offset for ctx in events] == numbers(missed + 2, 4)
    assert [one.unpack(ctx.pub.data) for ctx in events] == numbers(missed + 2, 4)


async def test_inv_d2_more_than_retained_is_told(server, peer):
    channel = f"log:more-{peer.encoding}"
    proxy, one = await behind(server, peer)
    made = await one.subscribe(channel)
    await server.publish(channel, 1)
    await made.payloads(1)
    await lose(proxy, one)
    await server.publish_all(channel, numbers(RETAINED + 1, 2))
    proxy.restore()
    again = await made.events.next("subscribed")
    assert (again.was_recovering, again.recovered) == (True, False)
    await server.publish(channel, "live")
    assert await made.payloads(1) == ["live"]


async def test_cache_recovery_brings_the_newest(server, peer):
    channel = f"cache:x-{peer.encoding}"
    proxy, one = await behind(server, peer)
    made = await one.subscribe(channel)
    await lose(proxy, one)
    await server.publish_all(channel, numbers(30))
    proxy.restore()
    assert (await made.events.next("subscribed")).recovered
    assert await made.payloads(1) == [30]


@pytest.mark.parametrize("missed", [0, 15])
async def test_inv_d1_server_side_subscriptions_recover_with_the_connect(server, peer, missed):
    channel = f"log:server-{missed}-{peer.encoding}"
    proxy, one = await behind(server, peer, channels=[channel])
    assert (await one.events.next("subscribed")).channel == channel
    await server.publish_all(channel, numbers(2))
    await one.events.take("publication", 2)
    await lose(proxy, one)
    await server.publish_all(channel, numbers(missed, 3))
    proxy.restore()
    again = await one.events.next("subscribed")
    assert (again.was_recovering, again.recovered) == (True, True)
    await server.publish(channel, missed + 3)
    events = await one.events.take("publication", missed + 1)
    assert [ctx.pub.offset for ctx in events] == numbers(missed + 1, 3)


async def test_server_side_subscriptions_of_the_api(server, peer):
    user = f"api-{peer.encoding}"
    one = peer(server.ws, token=connection_token(user))
    await one.connect()
    await server.api("subscribe", user=user, channel="plain:x", data={"from": "api"})
    ctx = await one.events.next("subscribed")
    assert ctx.channel == "plain:x"
    assert one.unpack(ctx.data) == {"from": "api"}
    await server.publish("plain:x", 1)
    assert one.unpack((await one.events.next("publication")).pub.data) == 1
    await server.api("unsubscribe", user=user, channel="plain:x")
    assert (await one.events.next("unsubscribed")).channel == "plain:x"
