"""Fixtures: a server for each module's `CONFIG`, peers that are closed, an event loop for each test."""

import asyncio
import contextlib
import inspect

import pytest

from harness.client import Peer
from harness.proxy import Proxy
from harness.server import Server


def pytest_pyfunc_call(pyfuncitem):
    """Runs coroutine tests, each in a loop of its own, with a limit."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def run():
        peers = pyfuncitem.funcargs.get("peer")
        async with asyncio.timeout(60):
            try:
                await pyfuncitem.obj(**arguments)
            finally:
                if peers is not None:
                    await peers.close()

    asyncio.run(run())
    return True


class Peers:
    """Makes clients of one encoding, and proxies, and closes them after the test."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self.made: list[Peer] = []
        self.proxies: list[Proxy] = []

    def __call__(self, address: str, **options) -> Peer:
        made = Peer(self.encoding, address, **options)
        self.made.append(made)
        return made

    async def proxy(self, port: int) -> Proxy:
        made = await Proxy.to(port)
        self.proxies.append(made)
        return made

    async def close(self) -> None:
        for made in self.made:
            with contextlib.suppress(Exception):
                await made.client.disconnect()
        for made in self.proxies:
            made.close()


@pytest.fixture(params=["json", "protobuf"])
def peer(request):
    return Peers(request.param)


@pytest.fixture(scope="module")
def server(request):
    with Server(request.module.CONFIG) as running:
        yield running
        log = "".join(running.log)
        assert "panicked" not in log
        assert running.process.poll() is None, "the server left during the tests"


@pytest.fixture
def serve():
    """Starts servers for one test; they are stopped after its clients have left."""
    made = []

    def start(config):
        made.append(Server(config))
        return made[-1]

    yield start
    for running in made:
        running.stop()
