"""The PyPI package `centrifuge-python`, unmodified, with a record of what happened."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

PATIENCE = 10.0

CLIENT_EVENTS = [
    "connecting", "connected", "disconnected", "error", "subscribed", "subscribing", "unsubscribed", "publication", "join", "leave",
]  # fmt: skip
SUBSCRIPTION_EVENTS = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"]


@dataclass
class Event:
    name: str
    ctx: Any


class Record:
    """Events in the order they came, taken one by one."""

    def __init__(self, what: str):
        self.what = what
        self.all: list[Event] = []
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    def add(self, name: str, ctx: Any) -> None:
        event = Event(name, ctx)
        self.all.append(event)
        self.queue.put_nowait(event)

    async def next(self, name: str | None = None) -> Any:
        """The context of the next event; of this name if one is given, passing over others."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    event = await self.queue.get()
                    if name is None or event.name == name:
                        return event.ctx
        except TimeoutError:
            seen = ", ".join(event.name for event in self.all[-12:])
            raise AssertionError(f"{self.what}: no {name}; seen: {seen}") from None

    async def take(self, name: str, count: int) -> list[Any]:
        return [await self.next(name) for _ in range(count)]

    def of(self, name: str) -> list[Any]:
        return [event.ctx for event in self.all if event.name == name]


def recorder(base: type, names: list[str], record: Record) -> Any:
    """An event handler that writes everything down."""

    def method(name: str):
        async def on(_self, ctx) -> None:
            record.add(name, ctx)

        return on

    return type("Recorder", (base,), {f"on_{name}": method(name) for name in names})()


class Subscription:
    def __init__(self, peer: "Peer", channel: str, **options):
        self.peer = peer
        self.channel = channel
        self.events = Record(channel)
        handler = recorder(SubscriptionEventHandler, SUBSCRIPTION_EVENTS, self.events)
        self.sub = peer.client.new_subscription(
            channel, handler, min_resubscribe_delay=0.005, max_resubscribe_delay=0.04, **options
        )
        self.first = None

    async def payloads(self, count: int) -> list[Any]:
        return [self.peer.unpack(ctx.pub.data) for ctx in await self.events.take("publication", count)]


class Peer:
    """A client of one encoding."""

    def __init__(self, encoding: str, address: str, **options):
        self.protobuf = encoding == "protobuf"
        self.events = Record("client")
        handler = recorder(ClientEventHandler, CLIENT_EVENTS, self.events)
        query = "?format=protobuf" if self.protobuf else ""
        self.client = Client(
            address + query, handler, use_protobuf=self.protobuf,
            min_reconnect_delay=0.005, max_reconnect_delay=0.04, proxy=None, **options,
        )  # fmt: skip

    async def connect(self):
        await self.client.connect()
        return await self.events.next("connected")

    def subscription(self, channel: str, **options) -> Subscription:
        return Subscription(self, channel, **options)

    async def subscribe(self, channel: str, **options) -> Subscription:
        made = self.subscription(channel, **options)
        await made.sub.subscribe()
        made.first = await made.events.next("subscribed")
        return made

    def pack(self, value: Any) -> Any:
        """How a payload looks to an application: a JSON value, or bytes."""
        return json.dumps(value).encode() if self.protobuf else value

    def unpack(self, data: Any) -> Any:
        return json.loads(data) if self.protobuf and data else data

    async def publish(self, channel: str, value: Any) -> None:
        await self.client.publish(channel, self.pack(value))
