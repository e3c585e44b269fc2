"""What is measured: each row with its runs, its figures and their targets."""

import dataclasses
import enum
from typing import Callable

from .processes import Bench, Trouble

PAYLOAD_BYTES = 128


class Scale(enum.Enum):
    """The real numbers, or some that only show that everything works."""

    FULL = "full"
    QUICK = "quick"

    def of(self, full, quick) -> str:
        return str(full if self is Scale.FULL else quick)


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of a row. `target`: what it is held to, as `<=` or `>=` and the number."""

    key: str
    words: str
    unit: str = ""
    target: tuple = None

    def is_met(self, value: float) -> bool:
        comparison, bound = self.target
        return value <= bound if comparison == "<=" else value >= bound


@dataclasses.dataclass(frozen=True)
class Row:
    """`run` makes one run and gives a value for each figure's key. `seconds`: about how long it takes."""

    name: str
    title: str
    run: Callable
    figures: tuple
    runs: int
    seconds: float


# === Connections ===


def idle(tls: bool) -> Callable:
    def run(bench: Bench, scale: Scale) -> dict:
        words = ["idle", "-n", scale.of(15_000, 150), "--rate", scale.of(1_000 if tls else 2_000, 500)]
        # A ping to each connection within every 25 s; the first one, right after the ramp, apart.
        words += ["--channel", "room:idle", "--settle", scale.of("25s", "1s"), "--hold", scale.of("25s", "1s")]
        found = bench.load(bench.server(tls), *words, floor=not tls)
        figures = {
            "rss": found["rss_per_connection_bytes"],
            "cpu": found["server_cpu_per_connection_second_us"],
            "first": found["settling_cpu_per_connection_second_us"],
            "connect": found["server_cpu_per_connect_us"],
        }
        if not tls:
            figures |= {"ping": found["server_cpu_per_ping_us"], "floor": found["floor_cpu_per_ping_us"]}
            figures["over"] = figures["ping"] / figures["floor"]
        return figures

    return run


def idle_figures(bytes_max: int, cpu_target: tuple) -> tuple:
    return (
        Figure("rss", "server memory (RSS) per connection", "B", ("<=", bytes_max)),
        Figure("cpu", "server CPU per connection and second", "µs", cpu_target),
        Figure("first", "the same in the first 25 s after the last connect", "µs"),
        Figure("connect", "server CPU per authenticated connect, with upgrade and subscribe", "µs"),
    )


PINGS = (
    Figure("ping", "server CPU per ping and its answer, with everything else it does", "µs"),
    Figure("floor", "a bare loop's, with as many sockets", "µs"),
    Figure("over", "server over the bare loop", "", ("<=", 1.25)),
)


def accept(bench: Bench, scale: Scale) -> dict:
    found = bench.load(bench.server(), "accept", "-n", scale.of(10_000, 200))
    return {
        "rate": found["accepts_per_second"],
        "cpu": found["server_cpu_per_accept_us"],
        "server_cores": found["server_cores"],
    }


def handshakes(bench: Bench, scale: Scale) -> dict:
    words = ["handshake", "-n", scale.of(5_000, 100)]
    server = bench.server(tls=True)
    full = bench.load(server, *words, "--no-tls-resumption")
    resumed = bench.load(server, *words)
    return {
        "full_rate": full["handshakes_per_second"],
        "resumed_rate": resumed["handshakes_per_second"],
        "full_cpu": full["server_cpu_per_handshake_us"],
        "resumed_cpu": resumed["server_cpu_per_handshake_us"],
        "resumed": resumed["resumed"] / resumed["handshakes"],
    }


# === Deliveries ===


def fan_out_words(clients: str, *words: str) -> list:
    return ["fanout", "-n", clients, "--rate", "4000", "--channel", "room:all", "--payload", str(PAYLOAD_BYTES), *words]


def alone(clients: int, rate: int, seconds: int) -> Callable:
    """Each message on its own: the next one comes when the one before has long been sent."""

    def run(bench: Bench, scale: Scale) -> dict:
        words = ["--publish-rate", scale.of(rate, 20), "--duration", scale.of(f"{seconds}s", "1s")]
        words = fan_out_words(scale.of(clients, 50), *words)
        found = bench.load(bench.server(), *words, floor=True)
        return {
            "share": found["share_of_floor"],
            "per_cpu": found["deliveries_per_cpu_second"],
            "floor": found["floor_paced_per_cpu_second"],
            "missing": found["missing"],
        }

    return run


def coalesced(clients: int, rate: int, burst: int, seconds: int) -> Callable:
    """Bursts: what is due at once is written at once."""

    def run(bench: Bench, scale: Scale) -> dict:
        words = ["--publish-rate", scale.of(rate, 200), "--burst", scale.of(burst, 20), "--publishers", "4"]
        words += ["--duration", scale.of(f"{seconds}s", "1s"), "--pace", scale.of(rate // burst, 20)]
        found = bench.load(bench.server(), *fan_out_words(scale.of(clients, 50), *words), floor=True)
        return {
            "times": found["share_of_floor"],
            "per_cpu": found["deliveries_per_cpu_second"],
            "floor": found["floor_paced_per_cpu_second"],
            "floor_gathered": found["floor_gathered_per_cpu_second"],
            "missing": found["missing"],
        }

    return run


ALONE = (
    Figure("share", "deliveries per CPU-second over the floor's", "", (">=", 0.8)),
    Figure("per_cpu", "deliveries per server-CPU-second", "/s"),
    Figure("floor", "the floor's, at the same pace", "/s"),
    Figure("missing", "deliveries missing", "", ("<=", 0)),
)
COALESCED = (
    # "Several times" the floor that flushes each message alone.
    Figure("times", "deliveries per CPU-second over the floor's, which writes each alone", "", (">=", 3)),
    Figure("per_cpu", "deliveries per server-CPU-second", "/s"),
    Figure("floor", "the floor's, at the pace of the bursts", "/s"),
    Figure("floor_gathered", "the floor's with 16 in a write", "/s"),
    Figure("missing", "deliveries missing", "", ("<=", 0)),
)


def latency(clients: int, rate: int) -> Callable:
    """At half the rate at which the core of the server, or of the tool, would have nothing left, as far as a short fan-out
    tells."""

    def run(bench: Bench, scale: Scale) -> dict:
        many = scale.of(clients, 50)
        words = ["--publish-rate", scale.of(rate, 20), "--duration", scale.of("3s", "1s")]
        tried = bench.load(bench.server(), *fan_out_words(many, *words))
        bench.stop_servers()
        tool = tried["deliveries_per_second"] / max(tried["tool_cores"], 1e-9)
        half = min(tried["deliveries_per_cpu_second"], tool) / int(many) / 2
        half = f"{min(half, 50) if scale is Scale.QUICK else half:.1f}"
        words = ["--warm-up", scale.of("2s", "200ms"), "--duration", scale.of("10s", "1s"), "--payload", str(PAYLOAD_BYTES)]
        words = ["-n", many, "--rate", "4000", "--channel", "room:all", "--publish-rate", half, *words]
        found = bench.load(bench.server(), "latency", *words, floor=True)
        times = found["latency"]
        return {
            "rate": float(half) * int(many),
            "p50": times["p50_us"] / 1e3,
            "p99": times["p99_us"] / 1e3,
            "p999": times["p999_us"] / 1e3,
            "floor": found["floor_latency"]["p99_us"] / 1e3,
            "over": found["p99_over_floor"],
        }

    return run


def latency_figures(p99_target: tuple) -> tuple:
    return (
        Figure("rate", "deliveries per second, half of what saturates a core", "/s"),
        Figure("p50", "from due to delivered, p50", "ms"),
        Figure("p99", "p99", "ms", p99_target),
        Figure("p999", "p99.9", "ms"),
        Figure("floor", "p99 of a bare loop at the same rate", "ms"),
        Figure("over", "p99 over the bare loop's", "", ("<=", 1.25)),
    )


def tls_delivery(bench: Bench, scale: Scale) -> dict:
    words = ["--publish-rate", scale.of(20, 20), "--duration", scale.of("5s", "1s")]
    words = fan_out_words(scale.of(1_000, 50), *words)
    cost = {}
    for tls in [False, True]:
        found = bench.load(bench.server(tls), *words)
        cost[tls] = 1e6 / found["deliveries_per_cpu_second"]
        bench.stop_servers()
    return {"plain": cost[False], "tls": cost[True], "ratio": cost[True] / cost[False]}


COMPRESSED_BYTES = (128, 512, 2_048)


def compression(bench: Bench, scale: Scale) -> dict:
    """The same fan-out to clients of one server that ask for compression and to clients that do not, by turns."""
    server = bench.server(compression=True)
    figures = {}
    for bytes_each in COMPRESSED_BYTES:
        words = ["fanout", "-n", scale.of(1_000, 50), "--rate", "4000", "--channel", "room:all", "--publish-rate", scale.of(30, 20)]
        words += ["--duration", scale.of("4s", "1s"), "--payload", str(bytes_each), "--filler", "records"]
        plain = bench.load(server, *words)
        compressed = bench.load(server, *words, "--compression")
        cost = [1e6 / found["deliveries_per_cpu_second"] for found in (plain, compressed)]
        figures |= {
            f"bytes_{bytes_each}": compressed["wire_bytes_per_delivery"] / plain["wire_bytes_per_delivery"],
            f"plain_{bytes_each}": cost[0],
            f"compressed_{bytes_each}": cost[1],
            f"cpu_{bytes_each}": cost[1] / cost[0],
        }
    return figures


def compression_figures() -> tuple:
    figures = ()
    for each in COMPRESSED_BYTES:
        figures += (
            Figure(f"bytes_{each}", f"{each} bytes of JSON: bytes on the wire over plain"),
            Figure(f"plain_{each}", f"{each} bytes: server CPU per delivery, plain", "µs"),
            Figure(f"compressed_{each}", f"{each} bytes: the same, compressed", "µs"),
            Figure(f"cpu_{each}", f"{each} bytes: compressed over plain"),
        )
    return figures


def publish(bench: Bench, scale: Scale) -> dict:
    words = ["publish", "--channel", "room:nobody", "--publishers", "8", "--duration", scale.of("5s", "1s")]
    found = bench.load(bench.server(), *words)
    return {
        "rate": found["publications_per_second"],
        "cpu": found["server_cpu_per_request_us"],
        "p99": found["publish_answer"]["p99_us"] / 1e3,
    }


# === Trouble ===


def recovery(bench: Bench, scale: Scale) -> dict:
    words = ["recovery", "-n", scale.of(5_000, 50), "--channel", "log:1", "--publish-rate", scale.of(5, 20)]
    words += ["--publishers", "4"]
    words += ["--cut-every", scale.of("3s", "500ms"), "--duration", scale.of("20s", "2s")]
    found = bench.load(bench.server(), *words)
    counts = found["checker"]["counts"]
    return {
        "lost": counts["lost"],
        "duplicated": counts["duplicated"],
        "reordered": counts["reordered"],
        "recovered": found["recovered"],
        "not_recovered": found["not_recovered"],
        "back": found["back"]["p99_us"] / 1e3,
    }


def restart(bench: Bench, scale: Scale) -> dict:
    server = bench.server()
    words = ["restart", "-n", scale.of(15_000, 100), "--rate", scale.of(2_000, 500), "--channel", "log:1"]
    words += [] if scale is Scale.FULL else ["--reconnect-max", "1s"]
    tool = bench.start_load(server, *words)
    try:
        # It says when all are connected.
        told = tool.stderr.readline()
        if "restart the server now" not in told:
            raise Trouble(told + tool.stderr.read())
        server.restart()
        found = bench.finish_load(tool)
    finally:
        tool.kill()
        tool.wait()
    return {
        "last": found["last_back_s"],
        "p50": found["away"]["p50_us"] / 1e6,
        "p99": found["away"]["p99_us"] / 1e6,
        "failed": found["attempts_failed"],
    }


def slow(share: int) -> Callable:
    def run(bench: Bench, scale: Scale) -> dict:
        words = ["slow", "-n", scale.of(5_000, 50), "--rate", "4000", "--slow-share", scale.of(share, share), "--channel", "room:all"]
        words += ["--publish-rate", scale.of(10, 20), "--payload", "4096"]
        words += ["--publishers", "4", "--before", scale.of("8s", "1s"), "--cut-within", scale.of("5s", "4s")]
        found = bench.load(bench.server(), *words)
        return {
            "growth": found["p99_growth"],
            "before": found["latency_before"]["p99_us"] / 1e3,
            "beside": found["latency_beside"]["p99_us"] / 1e3,
            "cut": found["cut"]["max_us"] / 1e6,
            "left": found["slow"] - found["cuts"],
        }

    return run


def slow_figures(growth: float) -> tuple:
    return (
        Figure("growth", "p99 of the others over p99 before", "", ("<=", growth)),
        Figure("before", "p99 while all read", "ms"),
        Figure("beside", "p99 of the others beside the slow ones", "ms"),
        Figure("cut", "from stopping to read to being cut, the last one", "s", ("<=", 2)),
        Figure("left", "slow clients that were not cut", "", ("<=", 0)),
    )


# === Several nodes ===


def redis_publish(kept: bool) -> Callable:
    def run(bench: Bench, scale: Scale) -> dict:
        numbers = {"turns": int(scale.of(5, 1)), "ms": int(scale.of(1_000, 200)), "kept": int(kept)}
        found = bench.measure_engine(bench.redis(), "publish", **numbers)
        return {
            "share": found["share"],
            "rate": found["engine_per_second"],
            "plain": found["plain_per_second"],
            "shared": found["shared_per_second"],
            "cpu": found["engine_cpu_us"],
            "plain_cpu": found["plain_cpu_us"],
            "shared_cpu": found["shared_cpu_us"],
            "redis_cpu": found["engine_redis_cpu_us"],
            "redis_cores": found["engine_redis_cores"],
        }

    return run


REDIS_PUBLISH = (
    Figure("share", "publications per second over the plain client's", "", (">=", 0.85)),
    Figure("rate", "publications per second, 256 callers", "/s"),
    Figure("plain", "the plain client's, 256 under way", "/s"),
    Figure("shared", "the plain client's, shared by 256 callers", "/s"),
    Figure("cpu", "engine CPU per publication", "µs"),
    Figure("plain_cpu", "CPU of the plain client", "µs"),
    Figure("shared_cpu", "CPU of the plain client, shared by 256 callers", "µs"),
    Figure("redis_cpu", "CPU of Redis per publication of the engine", "µs"),
    Figure("redis_cores", "cores Redis used under the engine"),
)


def redis_receive(bench: Bench, scale: Scale) -> dict:
    found = bench.measure_engine(bench.redis(), "receive", turns=int(scale.of(5, 1)), ms=int(scale.of(1_000, 200)))
    return {
        "share": found["share"],
        "rate": found["engine_per_second"],
        "plain": found["plain_per_second"],
        "cpu": found["engine_cpu_us"],
        "plain_cpu": found["plain_cpu_us"],
    }


def redis_resubscribe(bench: Bench, scale: Scale) -> dict:
    found = bench.measure_engine(bench.redis(), "resubscribe", channels=int(scale.of(100_000, 2_000)))
    return {
        "time": found["resubscribe_s"],
        "plain": found["plain_s"],
        "first": found["subscribe_s"],
        "cpu": found["resubscribe_cpu_s"],
    }


def redis_node(bench: Bench, scale: Scale) -> dict:
    """The cost of a message for the node it is published through, and for one that only receives it."""

    def published(channel: str, on) -> dict:
        words = ["publish", "--channel", channel, "--publishers", "8", "--duration", scale.of("5s", "1s")]
        found = bench.load(bench.server(redis=on), *words)
        bench.stop_servers()
        return found

    memory = published("room:nobody", None)
    passing = published("room:nobody", bench.redis())
    kept = published("log:nobody", bench.redis())
    redis = bench.redis()
    first, second = bench.server(redis=redis), bench.server(redis=redis)
    words = ["fanout", "-n", "1", "--channel", "room:all", "--payload", str(PAYLOAD_BYTES)]
    words += ["--publish-rate", scale.of(2_000, 100), "--duration", scale.of("5s", "1s")]
    received = bench.load(second, *words, api=first)
    return {
        "rate": passing["publications_per_second"],
        "kept_rate": kept["publications_per_second"],
        "memory": memory["server_cpu_per_request_us"],
        "passing": passing["server_cpu_per_request_us"],
        "kept": kept["server_cpu_per_request_us"],
        "received": 1e6 / received["deliveries_per_cpu_second"],
    }


def redis_latency(bench: Bench, scale: Scale) -> dict:
    """What two nodes and Redis add to the way through one, beside the way through Redis alone. All at one slow rate."""
    rate = 200
    seconds = int(scale.of(10, 1))
    words = ["latency", "-n", "1", "--channel", "room:all", "--publish-rate", str(rate), "--payload", str(PAYLOAD_BYTES)]
    words += ["--warm-up", scale.of("1s", "200ms"), "--duration", f"{seconds}s"]
    one = bench.load(bench.server(), *words)["latency"]
    bench.stop_servers()
    redis = bench.redis()
    first, second = bench.server(redis=redis), bench.server(redis=redis)
    two = bench.load(second, *words, api=first)["latency"]
    bench.stop_servers()
    plain = bench.measure_engine(bench.redis(), "pingpong", count=rate * seconds, rate=rate)
    values = {"ratio": (two["p50_us"] - one["p50_us"]) / plain["plain_p50_us"]}
    for name in ["p50", "p99", "p999"]:
        values[f"added_{name}"] = two[f"{name}_us"] - one[f"{name}_us"]
        values[f"plain_{name}"] = plain[f"plain_{name}_us"]
        values[f"engine_{name}"] = plain[f"engine_{name}_us"]
    return values


def redis_latency_figures() -> tuple:
    figures = [Figure("ratio", "added by Redis and a second node, p50, over the bare ping-pong's", "", ("<=", 3))]
    kinds = [("added", "publish through one node, delivery by another, less both by one"), ("engine", "engine to engine")]
    for key, words in [*kinds, ("plain", "bare PUBLISH to SUBSCRIBE")]:
        figures.append(Figure(f"{key}_p50", f"{words}, p50", "µs"))
        figures += [Figure(f"{key}_{name}", f"{words}, {shown}", "µs") for name, shown in [("p99", "p99"), ("p999", "p99.9")]]
    return tuple(figures)


# === All of them ===

ROWS = (
    Row("idle-plain", "Idle, 15 000 connections", idle(False), idle_figures(1_500, ("<=", 0.5)) + PINGS, 2, 80),
    Row("idle-tls", "Idle with TLS, 15 000 connections", idle(True), idle_figures(6_000, None), 2, 77),
    Row("accept", "Taking in 10 000 authenticated clients", accept, (
        Figure("rate", "clients taken in per second", "/s"),
        Figure("cpu", "server CPU for each", "µs"),
        Figure("server_cores", "cores the server used meanwhile"),
    ), 5, 6),
    Row("tls-handshakes", "TLS handshakes and nothing else, 5 000 of each kind", handshakes, (
        Figure("full_rate", "full handshakes per second", "/s"),
        Figure("resumed_rate", "resumed sessions per second", "/s"),
        Figure("full_cpu", "server CPU of a full handshake", "µs"),
        Figure("resumed_cpu", "server CPU of a resumed one", "µs"),
        Figure("resumed", "share that was resumed in the second run", "", (">=", 1)),
    ), 3, 14),
    Row("fanout-1000", "Fan-out to 1 000, each flushed alone", alone(1_000, 40, 5), ALONE, 5, 17),
    Row("fanout-10000", "Fan-out to 10 000, each flushed alone", alone(10_000, 4, 6), ALONE, 3, 26),
    Row("coalesced-1000", "Fan-out to 1 000, bursts of 100", coalesced(1_000, 1_000, 100, 5), COALESCED, 3, 13),
    Row("coalesced-10000", "Fan-out to 10 000, bursts of 100", coalesced(10_000, 100, 100, 6), COALESCED, 2, 22),
    Row("latency-1000", "Latency at half saturation, 1 000 subscribers", latency(1_000, 40), latency_figures(("<=", 50)), 3, 28),
    Row("latency-10000", "Latency at half saturation, 10 000 subscribers", latency(10_000, 4), latency_figures(None), 2, 44),
    Row("tls-delivery", "Fan-out to 1 000 with TLS beside plain", tls_delivery, (
        Figure("plain", "server CPU per delivery, plain", "µs"),
        Figure("tls", "the same with TLS", "µs"),
        Figure("ratio", "TLS over plain"),
    ), 3, 15),
    Row("compression", "Fan-out to 1 000 with permessage-deflate beside plain", compression, compression_figures(), 3, 42),
    Row("publish", "Publish API, 8 publishers, nobody subscribed", publish, (
        Figure("rate", "requests per second", "/s"),
        Figure("cpu", "server CPU per request", "µs"),
        Figure("p99", "answer, p99", "ms"),
    ), 5, 6),
    Row("recovery", "5 000 clients cut every 3 s", recovery, (
        Figure("lost", "publications lost", "", ("<=", 0)),
        Figure("duplicated", "duplicated", "", ("<=", 0)),
        Figure("reordered", "reordered", "", ("<=", 0)),
        Figure("recovered", "recoveries that brought everything"),
        Figure("not_recovered", "recoveries refused"),
        Figure("back", "from cut to subscribed again, p99, with the client's wait", "ms"),
    ), 2, 32),
    Row("restart", "Server killed and restarted under 15 000 clients", restart, (
        Figure("last", "until the last one is back", "s"),
        Figure("p50", "time a client was away, p50", "s"),
        Figure("p99", "p99", "s"),
        Figure("failed", "attempts that failed"),
    ), 2, 40),
    Row("slow-1", "1 % of 5 000 clients stop reading", slow(1), slow_figures(1.10), 2, 22),
    Row("slow-10", "10 % of 5 000 clients stop reading", slow(10), slow_figures(1.25), 2, 22),
    Row("redis-publish", "Redis: publishing without history, the engine beside a plain client", redis_publish(False), REDIS_PUBLISH, 3, 19),
    Row("redis-publish-kept", "Redis: publishing with history", redis_publish(True), REDIS_PUBLISH, 3, 19),
    Row("redis-receive", "Redis: receiving announcements of 100 channels", redis_receive, (
        Figure("share", "announcements per second over the plain client's", "", (">=", 0.85)),
        Figure("rate", "announcements per second", "/s"),
        Figure("plain", "the plain client's", "/s"),
        Figure("cpu", "engine CPU per announcement", "µs"),
        Figure("plain_cpu", "the plain client's", "µs"),
    ), 3, 13),
    Row("redis-resubscribe", "Redis: 100 000 channels after the connection was lost", redis_resubscribe, (
        Figure("time", "until all are announced again", "s", ("<=", 5)),
        Figure("plain", "a plain client subscribing to them", "s"),
        Figure("first", "the engine subscribing to them at first", "s"),
        Figure("cpu", "engine CPU", "s"),
    ), 3, 4),
    Row("redis-node", "Redis: the node's CPU for a message", redis_node, (
        Figure("rate", "API requests per second without history, 8 publishers", "/s"),
        Figure("kept_rate", "with history", "/s"),
        Figure("memory", "server CPU per request, engine in memory", "µs"),
        Figure("passing", "on Redis, without history", "µs"),
        Figure("kept", "on Redis, with history", "µs"),
        Figure("received", "server CPU of another node per message that it delivers to one client", "µs"),
    ), 3, 24),
    Row("redis-latency", "Redis: from one node to another, 200 a second", redis_latency, redis_latency_figures(), 3, 35),
)
