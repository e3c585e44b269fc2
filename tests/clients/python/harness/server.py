"""The real binary, started with a configuration of its own on a free port."""

import asyncio
import errno
import json
import os
import pathlib
import random
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[4]
API_KEY = "api-key-of-these-tests-which-must-not-be-logged"
HMAC_SECRET = "hmac-secret-of-these-tests-which-must-not-be-logged"


def binary() -> str:
    """`TIDEWIRE_BIN`, or what `cargo build` leaves."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ.get("TIDEWIRE_BIN", str(target / "debug" / "tidewire"))


def merge(base: dict, over: dict) -> dict:
    """Lays one tree over another; lists are replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


def free_port() -> int:
    """A port below those that the system gives to clients: one of them could take any of those in the meantime."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return port


class ApiError(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(f"{code} {message}")
        self.code = code


class Server:
    """A running server; a context manager that stops it."""

    def __init__(self, config: dict, port: int | None = None, tls: tuple[str, str] | None = None):
        """With `tls`, a certificate and its key in PEM, clients connect by TLS to a port of their own."""
        self.port = port or free_port()
        self.tls_port = free_port() if tls else None
        self.folder = tempfile.TemporaryDirectory(prefix="tidewire-test-")
        base = {
            "log": {"level": "debug"},
            "health": {"enabled": True},
            "http_api": {"key": API_KEY},
            "shutdown": {"spread": "50ms"},
            "http_server": {"address": "127.0.0.1", "port": self.port},
            "client": {"token": {"hmac_secret_key": HMAC_SECRET}},
        }
        if tls:
            base["http_server"] |= {
                "port": self.tls_port,
                "tls": {"enabled": True, "cert_pem": tls[0], "key_pem": tls[1]},
                "tls_external": True,
                "internal_address": "127.0.0.1",
                "internal_port": self.port,
            }
        path = pathlib.Path(self.folder.name) / "config.json"
        path.write_text(json.dumps(merge(base, config), indent=2))
        prefixes = ("TIDEWIRE_", "CENTRIFUGO_", "RUST_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        self.process = subprocess.Popen(
            [binary(), "serve", "--config", str(path)],
            cwd=self.folder.name,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self._reader.start()
        self._wait()

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def wss(self) -> str:
        return f"wss://localhost:{self.tls_port}/connection/websocket"

    def _wait(self) -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.http}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError("the server does not answer:\n" + "".join(self.log))

    def call(self, method: str, params: dict | None = None) -> dict:
        """The answer of an API method as it is. Blocks: for use outside the event loop."""
        request = urllib.request.Request(
            f"{self.http}/api/{method}",
            data=json.dumps(params or {}).encode(),
            headers={"X-API-Key": API_KEY, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    async def api(self, method: str, **params) -> dict:
        """The result of an API method; an error is raised."""
        answer = await asyncio.to_thread(self.call, method, params)
        if "error" in answer:
            raise ApiError(answer["error"]["code"], answer["error"]["message"])
        return answer.get("result", answer)

    async def publish(self, channel: str, data, **more) -> dict:
        return await self.api("publish", channel=channel, data=data, **more)

    async def publish_all(self, channel: str, items: list) -> None:
        """One after the other, so that their order is given."""
        for at in range(0, len(items), 100):
            commands = [{"publish": {"channel": channel, "data": data}} for data in items[at : at + 100]]
            answer = await asyncio.to_thread(self.call, "batch", {"commands": commands})
            assert not [reply for reply in answer["replies"] if "error" in reply], answer

    def stop(self) -> int:
        self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()
        self.folder.cleanup()
        return code

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.stop()
