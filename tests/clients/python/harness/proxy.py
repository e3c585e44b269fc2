"""A TCP proxy that loses connections on command."""

import asyncio
import socket
import struct


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST, as a connection ends that was lost."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    def __init__(self, target: int):
        self.target = target
        self.refusing = False
        self.open: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task] = set()

    @classmethod
    async def to(cls, port: int) -> "Proxy":
        proxy = cls(port)
        proxy.listener = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = proxy.listener.sockets[0].getsockname()[1]
        return proxy

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    async def _accept(self, reader, writer) -> None:
        if self.refusing:
            reset(writer)
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.open |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))

    async def _pump(self, reader, writer) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def down(self) -> None:
        """Resets every connection and refuses new ones until `restore`."""
        self.refusing = True
        for writer in list(self.open):
            reset(writer)
        self.open.clear()

    def restore(self) -> None:
        self.refusing = False

    def close(self) -> None:
        self.down()
        self.listener.close()
