"""Subscribing, publishing, presence, history."""

import asyncio

import pytest
from centrifuge import StreamPosition
from centrifuge.exceptions import ReplyError
from harness.tokens import connection_token, seconds, subscription_token

CONFIG = {
    "client": {"expired_sub_close_delay": "3s", "presence_update_interval": "1s", "history_max_publication_limit": 30},
    "channel": {
        "without_namespace": {},
        "namespaces": [
            {"name": "chat", "allow_subscribe_for_client": True, "allow_publish_for_client": True},
            {"name": "read", "allow_subscribe_for_client": True},
            {
                "name": "room", "allow_subscribe_for_client": True, "presence": True, "join_leave": True,
                "allow_presence_for_subscriber": True,
            },
            {
                "name": "log", "allow_subscribe_for_client": True, "allow_publish_for_client": True,
                "history_size": 40, "history_ttl": "300s", "allow_history_for_client": True,
            },
        ],
    },
}  # fmt: skip


async def connected(server, peer, user="ann"):
    one = peer(server.ws, token=connection_token(user))
    await one.connect()
    return one


@pytest.mark.parametrize(("channel", "code"), [("closed", 103), ("nowhere:x", 102), ("$secret", 103), ("chat:" + "x" * 251, 107)])
async def test_refused_subscriptions(server, peer, channel, code):
    one = await connected(server, peer)
    made = one.subscription(channel)
    await made.sub.subscribe()
    assert (await made.events.next("unsubscribed")).code == code
    await one.subscribe("chat:after")
    assert len(one.events.of("connecting")) == 1


async def test_a_token_opens_a_private_channel_and_carries_data(server, peer):
    one = await connected(server, peer)

    async def get_token(channel):
        return subscription_token("ann", channel, data={"welcome": "hé"})

    expired = subscription_token("ann", "$private", exp=seconds(-5))
    made = await one.subscribe("$private", token=expired, get_token=get_token)
    assert one.unpack(made.first.data) == {"welcome": "hé"}


async def test_bad_j3_a_subscription_token_of_another_channel_ends_the_connection(server, peer):
    one = await connected(server, peer)
    await one.subscription("$private", token=subscription_token("ann", "$other")).sub.subscribe()
    assert (await one.events.next("disconnected")).code == 3500


async def test_a_subscription_that_expires_is_refreshed(server, peer):
    one = await connected(server, peer)
    asked = asyncio.Semaphore(0)

    async def get_token(channel):
        asked.release()
        return subscription_token("ann", channel, exp=seconds(3))

    made = await one.subscribe("$short", get_token=get_token)
    for _ in range(3):
        await asked.acquire()
    await server.publish("$short", "still")
    assert await made.payloads(1) == ["still"]
    assert len(made.events.of("subscribing")) == 1


async def test_unsubscribed_by_the_api(server, peer):
    user = f"unsubscribed-{peer.encoding}"
    one = await connected(server, peer, user)
    made = await one.subscribe("chat:room")
    await server.api("unsubscribe", user=user, channel="chat:room")
    ctx = await made.events.next("unsubscribed")
    assert (ctx.code, ctx.reason) == (2000, "server unsubscribe")


async def test_unsubscribing_and_subscribing_again(server, peer):
    one = await connected(server, peer)
    made = await one.subscribe("chat:again")
    await made.sub.unsubscribe()
    await made.events.next("unsubscribed")
    await made.sub.subscribe()
    await made.events.next("subscribed")
    await server.publish("chat:again", 1)
    assert await made.payloads(1) == [1]


async def test_publications_carry_who_it_was(server, peer):
    ann, bob = await connected(server, peer), await connected(server, peer, "bob")
    made = await bob.subscribe("chat:who")
    await ann.publish("chat:who", {"text": "hi"})
    ctx = await made.events.next("publication")
    assert ctx.pub.info.user == "ann"
    assert bob.unpack(ctx.pub.data) == {"text": "hi"}


async def test_publishing_without_permission(server, peer):
    one = await connected(server, peer)
    for channel, code in [("read:x", 103), ("closed", 103), ("nowhere:x", 102)]:
        with pytest.raises(ReplyError) as raised:
            await one.publish(channel, 1)
        assert raised.value.code == code


PAYLOADS = ["Grüße, 世界 🐦", "line\nline\r\n\"quoted\" \u2028", "\u0000\u001f", "", 0, -1.5e-7, [[[]], {}], {"": 1, "a\nb": 2, "π": []}]


@pytest.mark.parametrize("value", PAYLOADS, ids=repr)
async def test_payloads(server, peer, value):
    one = await connected(server, peer)
    made = await one.subscribe("chat:payloads")
    await one.publish("chat:payloads", value)
    await server.publish("chat:payloads", value)
    assert await made.payloads(2) == [value, value]


async def test_a_message_just_below_the_limit_and_larger_ones_of_the_api(server, peer):
    one = await connected(server, peer)
    made = await one.subscribe("chat:large")
    await one.publish("chat:large", "x" * 65_400)
    text = "ü" * 80_000
    await server.publish("chat:large", text)
    first, second = await made.payloads(2)
    assert len(first) == 65_400
    assert second == text


async def test_presence(server, peer):
    channel = f"room:presence-{peer.encoding}"
    people = [await connected(server, peer, user) for user in ("ann", "ann", "bob")]
    for one in people:
        await one.subscribe(channel)
    result = await people[0].client.presence(channel)
    assert sorted(info.user for info in result.clients.values()) == ["ann", "ann", "bob"]
    stats = await people[0].client.presence_stats(channel)
    assert (stats.num_clients, stats.num_users) == (3, 2)
    outsider = await connected(server, peer, "eve")
    with pytest.raises(ReplyError) as raised:
        await outsider.client.presence(channel)
    assert raised.value.code == 103


async def test_joins_and_leaves(server, peer):
    channel = f"room:joins-{peer.encoding}"
    ann = await connected(server, peer)
    made = await ann.subscribe(channel, join_leave=True)
    assert (await made.events.next("join")).info.user == "ann"
    bob = await connected(server, peer, "bob")
    await bob.subscribe(channel)
    assert (await made.events.next("join")).info.user == "bob"
    await bob.client.disconnect()
    assert (await made.events.next("leave")).info.user == "bob"


async def test_history_in_pages(server, peer):
    channel = f"log:pages-{peer.encoding}"
    await server.publish_all(channel, list(range(1, 26)))
    one = await connected(server, peer)
    top = await one.client.history(channel)
    assert (top.publications, top.offset) == ([], 25)
    seen, since = [], None
    while True:
        page = await one.client.history(channel, limit=10, since=since)
        if not page.publications:
            break
        seen += [one.unpack(pub.data) for pub in page.publications]
        since = StreamPosition(page.publications[-1].offset, page.epoch)
    assert seen == list(range(1, 26))
    back = await one.client.history(channel, limit=5, reverse=True)
    assert [one.unpack(pub.data) for pub in back.publications] == [25, 24, 23, 22, 21]
    with pytest.raises(ReplyError) as raised:
        await one.client.history(channel, limit=1, since=StreamPosition(1, "another"))
    assert raised.value.code == 112
    with pytest.raises(ReplyError) as raised:
        await one.client.history("chat:x", limit=1)
    assert raised.value.code == 108


async def test_a_hundred_subscriptions(server, peer):
    one = await connected(server, peer)
    subs = [one.subscription(f"chat:many{index}") for index in range(100)]
    await asyncio.gather(*(made.sub.subscribe() for made in subs))
    await asyncio.gather(*(made.events.next("subscribed") for made in subs))
    await server.publish("chat:many99", "last")
    assert await subs[99].payloads(1) == ["last"]
