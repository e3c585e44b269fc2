"""The server and the load tool as processes, each bound to its core."""

import errno
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

SECRET = "the secret that the benchmark signs its tokens with"
API_KEY = "the key of the benchmark"
# A run that takes longer has gone wrong.
PATIENCE_S = 300
START_S = 20
REALTIME_PRIORITY = 10


class Trouble(Exception):
    """Why a run gave no figures."""


def config(port: int, internal_port: int, certificate: pathlib.Path = None, redis: "Redis" = None, compression: bool = False) -> dict:
    """Defaults, but for what makes clients known and gives them channels. With a certificate, TLS for clients."""
    http = {"address": "127.0.0.1", "port": port}
    if certificate:
        key = certificate.with_suffix(".key")
        http["tls"] = {"enabled": True, "cert_pem": str(certificate), "key_pem": str(key)}
        http["tls_external"] = True
        http["internal_port"] = str(internal_port)
    namespaces = [
        {"name": "room", "allow_subscribe_for_client": True},
        {
            "name": "log",
            "allow_subscribe_for_client": True,
            "history_size": 1000,
            "history_ttl": "5m",
            "force_recovery": True,
        },
    ]
    engine = {"engine": {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{redis.port}"}}} if redis else {}
    return {
        **engine,
        "http_server": http,
        "websocket": {"compression": compression},
        "client": {"token": {"hmac_secret_key": SECRET}},
        "http_api": {"key": API_KEY},
        "channel": {"namespaces": namespaces},
    }


def free_port() -> int:
    """A port below those that the system gives to clients: one of them may take any of those in the meantime."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return port


def may_be_realtime() -> bool:
    """Whether this process may give its children real-time priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


class Bench:
    """Starts servers and runs the tool against them. Used with `with`: nothing is left behind."""

    def __init__(self, programs: dict, server_cpu: int | None, client_cpu: int | None, raw: pathlib.Path, realtime: bool):
        self.programs = programs
        self.realtime = realtime
        self.cpus = os.sched_getaffinity(0)
        self.server_cpu, self.client_cpu = server_cpu, client_cpu
        self.raw = raw
        self.folder = None
        self.servers = []
        self.tools = []
        self.run_name = ""
        self.commands = []
        self.problems = []

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
        shutil.rmtree(self.raw, ignore_errors=True)
        self.raw.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        for tool in self.tools:
            if tool.poll() is None:
                tool.kill()
            tool.wait()
        self.stop_servers()
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, name: str) -> None:
        """Begins a run: without servers, commands and problems of the one before."""
        self.stop_servers()
        self.tools = [tool for tool in self.tools if tool.poll() is None]
        self.run_name, self.commands, self.problems = name, [], []

    def stop_servers(self) -> None:
        for server in self.servers:
            server.kill()
        self.servers = []

    def server(self, tls: bool = False, redis: "Redis" = None, compression: bool = False) -> "Server":
        """A server with the default configuration that serves; with a Redis, a node on it; with compression, where clients
        ask for it."""
        server = Server(self, self.certificate() if tls else None, redis, compression)
        self.servers.append(server)
        return server

    def redis(self) -> "Redis":
        """A Redis that keeps nothing on disk, on the server's core."""
        redis = Redis(self)
        self.servers.append(redis)
        return redis

    def certificate(self) -> pathlib.Path:
        """One that signs itself, for 127.0.0.1, with the kind of key that servers mostly have."""
        path = self.folder / "server.pem"
        if not path.exists():
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "30"]
            command += ["-addext", "basicConstraints=critical,CA:FALSE"]
            command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
            made = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if made.returncode:
                raise Trouble(f"openssl made no certificate: {made.stderr}")
        return path

    def bind(self, cpu: int | None):
        """What a child does first: goes to its core, if it has one and there is such a core, and before all else there if
        that was asked for."""

        def at_first() -> None:
            os.sched_setaffinity(0, {cpu} if cpu in self.cpus else self.cpus)
            if self.realtime:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))

        return at_first

    def load(self, server: "Server", *words: str, floor: bool = False, api: "Server" = None) -> dict:
        """Runs the tool; its figures. What went wrong but left figures is noted. `api`: through which node it publishes,
        if not through the one where its clients are."""
        process = self.start_load(server, *words, floor=floor, api=api or server)
        return self.finish_load(process)

    def measure_engine(self, redis: "Redis", measure: str, **numbers: int) -> dict:
        """Runs the engine beside a plain client; the figures."""
        words = [f"{name}={number}" for name, number in numbers.items()]
        self.commands.append(shlex.join(["redis-measure", measure, "PORT", *words]))
        command = [str(self.programs["redis-measure"]), measure, str(redis.port), *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        at_first = self.bind(self.client_cpu)
        self.tools.append(subprocess.Popen(command, env={}, text=True, preexec_fn=at_first, **pipes))
        try:
            out, errors = self.tools[-1].communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.tools[-1].kill()
            raise Trouble(f"redis-measure was not done after {PATIENCE_S} s") from None
        (self.raw / f"{self.run_name}-{len(self.commands)}.json").write_text(out)
        if self.tools[-1].returncode:
            raise Trouble(errors.strip())
        return json.loads(out)

    def start_load(self, server: "Server", *words: str, floor: bool = False, api: "Server" = None) -> subprocess.Popen:
        writer = [] if self.server_cpu is None else ["--writer-cpu", str(self.server_cpu)]
        words = [*words, *(["--floor", *writer] if floor else [])]
        shown = ["tidewire-load", *words, *(["--url", "wss://…", "--ca", "server.pem"] if server.certificate else [])]
        self.commands.append(shlex.join(shown).replace("'", ""))
        has_clients, publishes = words[0] != "publish", words[0] not in ("idle", "accept", "handshake", "restart")
        command = [str(self.programs["tidewire-load"]), *words, "--json", "--pid", str(server.process.pid)]
        if has_clients:
            command += ["--url", server.url]
            command += ["--ca", str(server.certificate)] if server.certificate else []
        if publishes:
            command += ["--api-url", (api or server).api]
        environment = {**os.environ, "LOAD_API_KEY": API_KEY, "LOAD_TOKEN_HMAC_SECRET": SECRET}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        at_first = self.bind(self.client_cpu)
        self.tools.append(subprocess.Popen(command, env=environment, text=True, preexec_fn=at_first, **pipes))
        return self.tools[-1]

    def finish_load(self, process: subprocess.Popen) -> dict:
        try:
            out, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Trouble(f"the tool was not done after {PATIENCE_S} s") from None
        (self.raw / f"{self.run_name}-{len(self.commands)}.json").write_text(out)
        try:
            result = json.loads(out)
        except ValueError:
            raise Trouble(errors.strip() or f"the tool ended with {process.returncode}") from None
        if process.returncode == 1:
            self.problems.append("the checker found violations: " + "; ".join(result["checker"]["violations"][:3]))
        self.problems += result["shortfalls"]
        return {**result["figures"], "checker": result["checker"]}


class Server:
    """A server that serves."""

    def __init__(self, bench: Bench, certificate: pathlib.Path = None, redis: "Redis" = None, compression: bool = False):
        self.bench = bench
        self.certificate = certificate
        # One that is restarted has to come back where it was.
        self.port, self.internal_port = free_port(), free_port()
        self.file = bench.folder / f"config-{self.port}.json"
        settings = config(self.port, self.internal_port, certificate, redis, compression)
        self.file.write_text(json.dumps(settings))
        self.process = None
        self.start()

    @property
    def url(self) -> str:
        return f"{'wss' if self.certificate else 'ws'}://127.0.0.1:{self.port}/connection/websocket"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.internal_port if self.certificate else self.port}/api"

    def start(self) -> None:
        """Starts it and waits until it says that it serves."""
        command = [str(self.bench.programs["tidewire"]), "serve", "--config", str(self.file)]
        # Like a service: none of the environment of whoever starts it.
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        at_first = self.bench.bind(self.bench.server_cpu)
        self.process = subprocess.Popen(command, cwd=self.bench.folder, env={}, text=True, preexec_fn=at_first, **pipes)
        serves, said = threading.Event(), []

        def read(lines) -> None:
            for line in lines:
                said.append(line) if len(said) < 20 else None
                if '"serving"' in line:
                    serves.set()
            serves.set()

        threading.Thread(target=read, args=(self.process.stderr,), daemon=True).start()
        if not serves.wait(START_S) or self.process.poll() is not None:
            self.kill()
            raise Trouble("the server does not start: " + "".join(said).strip())

    def restart(self) -> None:
        """Ends it without a goodbye and starts it again."""
        self.kill()
        self.start()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Redis:
    """A Redis that answers."""

    def __init__(self, bench: Bench):
        self.port = free_port()
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        at_first = bench.bind(bench.server_cpu)
        self.process = subprocess.Popen(words, cwd=bench.folder, env={"PATH": os.environ["PATH"]}, preexec_fn=at_first, **pipes)
        end = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        self.kill()
        raise Trouble("redis-server does not start")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
