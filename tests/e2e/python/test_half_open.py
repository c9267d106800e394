"""Networks that are gone without a word (half-open TCP): hundreds of clients at once, in both protocols and as streams of events. Each is noticed in
time, with its reason in the log; healthy ones beside them miss nothing; and whoever comes back misses nothing either.

A network goes in two ways: something on the way swallows everything but answers the server's kernel (a proxy that hangs), or nothing is
acknowledged any more (a pulled cable). Only a missing pong tells the first; streams of events have none, so only the second can be noticed there.
"""

import asyncio
import datetime
import json
import time
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from harness import API_KEY, Broker, Proxy, Publisher, Recorder, black_hole, eventually, unique
from wire import CentrifugeWire, PlainWire

LOST = 300
HEALTHY = 20
STREAMS = 20

# Clients of this one process must have answered after that time, on a machine however busy.
PING_INTERVAL = 3.0
PONG_TIMEOUT = 2.5
WRITE_TIMEOUT = 3.0
# What a busy machine may add, and a kernel that doubles the time between two tries.
TOLERANCE = 2.5

SETTINGS = f"""
[server]
session_log_lines = 100000
[client]
anonymous = true
ping_interval = "{PING_INTERVAL:.0f}s"
pong_timeout = "{PONG_TIMEOUT * 1000:.0f}ms"
write_timeout = "{WRITE_TIMEOUT:.0f}s"
[api]
key = "{API_KEY}"
[namespaces.kept]
history_size = 10000
history_bytes = "4MiB"
allow = ["sub"]
allow_anonymous = true
"""


@pytest.fixture
def hasty(tmp_path):
    """A server that notices within seconds."""
    path = tmp_path / "broker.toml"
    path.write_text(SETTINGS)
    with Broker("--config", str(path), api_key=API_KEY) as running:
        yield running


def through(proxy):
    """The addresses of the server behind a proxy."""
    return SimpleNamespace(ws=f"ws://127.0.0.1:{proxy.port}", centrifuge=f"ws://127.0.0.1:{proxy.port}/connection/websocket")


class Cable:
    """The way of clients that is going to be pulled."""

    def __init__(self, proxy):
        self.address = through(proxy)

    def pull(self, wires):
        for wire in wires:
            black_hole(wire.transport)


class Hanging:
    """A proxy that is going to swallow everything, and goes on acknowledging it."""

    def __init__(self, proxy):
        self.address = through(proxy)
        self._proxy = proxy

    def pull(self, _wires):
        self._proxy.stall()


async def open_all(address, count, topics):
    """So many clients, half of them in each protocol, each with one of the topics."""
    modes = [PlainWire, CentrifugeWire]

    async def one(number):
        return await modes[number % 2].open(address, topics=[topics[number % len(topics)]])

    return [wire for start in range(0, count, 50) for wire in await asyncio.gather(*map(one, range(start, min(start + 50, count))))]


def numbers(wire):
    return [data["n"] for data in wire.heard()]


def closed_lines(broker, sessions):
    """The log's lines about the ends of these sessions, by session."""
    lines = [json.loads(line) for line in broker.log().splitlines() if line.startswith("{") and "session closed" in line]
    return {line["session"]: line for line in lines if line["session"] in sessions}


async def all_closed(broker, sessions):
    async def ask():
        return closed_lines(broker, sessions)

    return await eventually(ask, lambda lines: len(lines) == len(sessions), f"{len(sessions)} ends are in the log")


def noticed_after(line, since):
    """Seconds from a moment of `time.time` to the line."""
    return datetime.datetime.fromisoformat(line["timestamp"]).timestamp() - since


@pytest.mark.parametrize("way", [Hanging, Cable])
async def test_300_lost_clients_are_noticed_in_time_and_come_back_without_loss(hasty, way):
    topics = [f"kept:{unique('t')}" for _ in range(10)]
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(hasty.port))
        network = way(proxy)
        healthy = await open_all(hasty, HEALTHY, topics)
        lost = await open_all(network.address, LOST, topics)
        for wire in healthy + lost:
            stack.push_async_callback(asyncio.to_thread, wire.transport.abort)
        assert await hasty.metric("broker_connections") == HEALTHY + LOST
        with Publisher(hasty, topics, pause=0.2) as publisher:
            # Long enough for a ping and its answer: nobody leaves a network that works.
            await publisher.goes_on(round(1.5 * PING_INTERVAL / 0.2))
            assert await hasty.metric("broker_connections") == HEALTHY + LOST
            network.pull(lost)
            pulled = time.time()

            lines = await all_closed(hasty, {wire.session for wire in lost})
            assert {(line["cause"], line["code"], line["closed_by"]) for line in lines.values()} == {("no_pong", 3012, "server")}
            latest = max(noticed_after(line, pulled) for line in lines.values())
            assert latest <= PING_INTERVAL + PONG_TIMEOUT + TOLERANCE, f"noticed after {latest:.1f} s"
            silent = max(line["last_heard_s"] for line in lines.values())
            assert silent <= PING_INTERVAL + PONG_TIMEOUT + TOLERANCE, f"nothing was heard for {silent:.1f} s"

            async def connections():
                return await hasty.metric("broker_connections")

            await eventually(connections, lambda count: count == HEALTHY, "only the healthy ones are left")
            assert not any(wire.all("closed") for wire in healthy)

            back = []
            for start in range(0, LOST, 25):
                back += await asyncio.gather(*(come_back(hasty, wire) for wire in lost[start : start + 25]))
            for wire in back:
                stack.push_async_callback(wire.close)
            await publisher.goes_on(5)
        last = publisher.answered
        assert not [wire.all("closed") for wire in healthy + back if wire.all("closed")]
        for wire in healthy + back:
            await wire.until(lambda: wire.heard() and numbers(wire)[-1] == last, f"{last} arrived")
        for wire in healthy:
            assert numbers(wire) == list(range(1, last + 1))
        for before, after in zip(lost, back):
            assert numbers(before) + numbers(after) == list(range(1, last + 1)), after.mode
        assert await hasty.metric("broker_gaps_total") == 0


async def test_clients_that_are_cut_every_second_lose_nothing(hasty):
    topics = [f"kept:{unique('t')}" for _ in range(3)]
    async with Proxy(hasty.port) as proxy:
        wires = await open_all(through(proxy), 30, topics)
        chains = [[wire] for wire in wires]
        with Publisher(hasty, topics, pause=0.01) as publisher:
            for _ in range(8):
                await asyncio.sleep(1)
                proxy.cut()
                for chain in chains:
                    await chain[-1].ended()
                back = await asyncio.gather(*(come_back(through(proxy), chain[-1]) for chain in chains))
                for chain, wire in zip(chains, back):
                    chain.append(wire)
            await publisher.goes_on(5)
        last = publisher.answered
        for chain in chains:
            await chain[-1].until(lambda: numbers(chain[-1])[-1:] == [last], f"{last} arrived")
            heard = [number for wire in chain for number in numbers(wire)]
            assert heard == list(range(1, last + 1)), chain[-1].mode
            await chain[-1].close()
        assert await hasty.metric("broker_resumes_failed_total") == 0


async def come_back(broker, lost):
    """A new connection of a client, from where the old one was."""
    [(topic, place)] = lost.positions().items()
    if lost.mode == "plain":
        wire = await PlainWire.open(broker, topics=[topic], since=place)
    else:
        wire = await CentrifugeWire.open(broker, topics=[topic], since={topic: place})
    await wire.until(lambda: wire.all("subscribed"), "it is subscribed")
    [subscribed] = wire.all("subscribed")
    assert subscribed.frame["recovered"] is True, subscribed
    return wire


class Events(Recorder):
    """A stream of events in the envelope."""

    @classmethod
    async def open(cls, broker, topic, last_id=None):
        events = cls()
        events.id, events.data, events.notices, events.ended = last_id, [], [], False
        events._reader, events._writer = await asyncio.open_connection("127.0.0.1", broker.port)
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        head = f"GET /sse/{topic}?format=envelope HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{resume}\r\n"
        events._writer.write(head.encode())
        assert b" 200 " in await events._reader.readline()
        events._task = asyncio.create_task(events._read())
        await events.until(lambda: events.said("subscribed"), "the stream is subscribed")
        events.session = events.said("connected")[0]["session"]
        return events

    @property
    def transport(self):
        return self._writer.transport

    async def _read(self):
        """Sizes of chunks and empty lines say nothing that a line with a name does not."""
        try:
            while line := (await self._reader.readline()).decode():
                name, _, value = line.rstrip("\r\n").partition(": ")
                if name == "id":
                    self.id = value
                elif name == "data":
                    frame = json.loads(value)
                    (self.data if frame["broker"] == "publication" else self.notices).append(frame)
                    self.changed()
        except ConnectionError:
            pass
        self.ended = True
        self.changed()

    def said(self, what):
        return [frame for frame in self.notices if frame["broker"] == what]

    def heard(self):
        return [frame["data"] for frame in self.data]


async def test_streams_of_events_whose_network_is_gone_are_noticed_and_come_back_without_loss(hasty):
    topic = f"kept:{unique('t')}"
    healthy = [await Events.open(hasty, topic) for _ in range(2)]
    lost = [await Events.open(hasty, topic) for _ in range(STREAMS)]
    # One more whose topic is silent: only the comments of the heartbeat go out there.
    idle = await Events.open(hasty, f"kept:{unique('silent')}")
    with Publisher(hasty, [topic], pause=0.2) as publisher:
        await publisher.goes_on(5)
        for events in [*lost, idle]:
            black_hole(events.transport)
        pulled = time.time()
        sessions = {events.session for events in [*lost, idle]}
        lines = await all_closed(hasty, sessions)
        assert {line["cause"] for line in lines.values()} == {"transport_broke"}
        latest = max(noticed_after(lines[events.session], pulled) for events in lost)
        assert latest <= WRITE_TIMEOUT + TOLERANCE, f"noticed after {latest:.1f} s"
        silent = noticed_after(lines[idle.session], pulled)
        assert silent <= PING_INTERVAL + WRITE_TIMEOUT + TOLERANCE, f"noticed after {silent:.1f} s"
        back = [await Events.open(hasty, topic, events.id) for events in lost]
        assert all(events.said("subscribed")[0]["recovered"] is True for events in back)
        await publisher.goes_on(5)
    last = publisher.answered
    for events in healthy + back:
        await events.until(lambda: events.data and events.heard()[-1]["n"] == last, f"{last} arrived")
    expected = list(range(1, last + 1))
    assert all(numbers(events) == expected and not events.ended for events in healthy)
    assert all(numbers(before) + numbers(after) == expected for before, after in zip(lost, back))
    for events in [*healthy, *lost, idle, *back]:
        events.transport.abort()
