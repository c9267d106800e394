"""Signs of life over real sockets: what keeps a quiet client connected, and clients that ping the server themselves and give up without a pong, beside
a topic that is published to faster than they read."""

import asyncio
import http.client
import json
import socket
import threading
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness import API_KEY, PATIENCE, Broker, unique
from wire import PlainWire

# Pings of the server in the shared server `pinging`, and the time in which something must be heard.
ROUND = 1.9
ROUNDS = 3

# A client that pings every 20 s and gives up after 10: twenty times as often, and it gives up after a fifth of that time, since the machine may have other
# work for a second. What its own kernel holds for it stands before every pong, whatever the server does, so that is a tenth too.
OWN_INTERVAL, OWN_TIMEOUT = 1.0, 2.0
RECEIVE_BUFFER = 64 * 1024

SETTINGS = f"""
[server]
session_log_lines = 100000
[client]
anonymous = true
backlog_max = "64KiB"
[api]
key = "{API_KEY}"
[namespaces.busy]
history_size = 100
slow_consumer = "{{policy}}"
allow = ["sub"]
allow_anonymous = true
"""


async def close_code(client, within):
    """The code of the close, or `None` where the connection holds for so long."""
    try:
        async with asyncio.timeout(within):
            while True:
                await client.recv()
    except ConnectionClosed:
        return client.close_code
    except TimeoutError:
        return None


class TestQuietClients:
    @pytest.mark.parametrize("format", ["raw", "envelope"])
    async def test_plain_whoever_answers_the_websockets_pings_alone_stays(self, pinging, topic, format):
        """`websockets` answers pings by itself; nothing else is sent."""
        async with await PlainWire.open(pinging, topics=[topic], format=format) as wire:
            before = pinging.lines()
            await asyncio.sleep(ROUNDS * ROUND)
            pinging.publish(topic, "still there")
            await wire.hears("still there")
            assert not wire.all("closed") and "no_pong" not in "".join(pinging.log().splitlines()[before:])

    async def test_centrifuge_whoever_answers_no_ping_of_the_protocol_is_closed_with_3012(self, pinging):
        """The server sends no pings of the WebSocket there: docs/protocols/centrifuge.md."""
        async with connect(pinging.centrifuge, proxy=None, ping_interval=None) as client:
            await client.send('{"id":1,"connect":{}}')
            assert await close_code(client, ROUNDS * ROUND) == 3012

    async def test_centrifuge_any_frame_is_a_sign_of_life_also_a_ping_of_the_client(self, pinging):
        async with connect(pinging.centrifuge, proxy=None, ping_interval=0.3) as client:
            await client.send('{"id":1,"connect":{}}')
            assert await close_code(client, ROUNDS * ROUND) is None

    async def test_plain_a_ping_of_the_protocol_or_as_bare_text_is_a_sign_of_life(self, pinging, topic):
        """A client that cannot answer pings of the WebSocket, and says something now and then."""
        await asyncio.gather(says(pinging, topic, "ping", "pong"), says(pinging, topic, '{"broker":"ping"}', '{"broker":"pong"}'))


async def says(broker, topic, text, answer):
    """Says the same over and over, and nothing else, on a socket that stays open and is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(
        f"GET /ws/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    # A text frame with an empty mask, and the answer without one.
    frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()
    awaited = bytes([0x81, len(answer)]) + answer.encode()
    end = time.monotonic() + ROUNDS * ROUND
    while time.monotonic() < end:
        writer.write(frame)
        async with asyncio.timeout(PATIENCE):
            # Pings of the WebSocket come between; nobody answers them.
            await reader.readuntil(awaited)
        await asyncio.sleep(0.3)
    writer.transport.abort()


async def stays_alive(ping, failures, latencies):
    """Pings every so often and gives up without an answer in time, for ever."""
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(OWN_TIMEOUT):
                await ping()
        except TimeoutError:
            failures.append("no pong in time")
            return
        latencies.append(time.monotonic() - began)
        await asyncio.sleep(OWN_INTERVAL - (time.monotonic() - began))


class Flood(threading.Thread):
    """Publishes as fast as the server answers."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self._broker, self._topic, self._stopping = broker, topic, threading.Event()
        self.published = 0

    def run(self):
        connection = http.client.HTTPConnection(self._broker.http.removeprefix("http://"), timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "X-API-Key": self._broker.api_key}
        commands = [{"publish": {"channel": self._topic, "data": "x" * 1000}}] * 50
        while not self._stopping.is_set():
            connection.request("POST", "/api/batch", json.dumps({"commands": commands}), headers)
            replies = json.loads(connection.getresponse().read())["replies"]
            self.published += sum("publish" in reply for reply in replies)
        connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self.join(PATIENCE)


class Reader:
    """A client of a busy topic that takes its time with every frame, and knows the answers to its pings."""

    def __init__(self, client, topic):
        self.client, self.topic, self.frames, self._pongs = client, topic, 0, asyncio.Queue()

    async def connect(self):
        """Says hello in the Centrifuge protocol."""
        await self.client.send('{"id":1,"connect":{}}')
        await self.subscribe()

    async def subscribe(self):
        await self.client.send(json.dumps({"id": 2, "subscribe": {"channel": self.topic}}))

    async def read(self):
        async for frame in self.client:
            if frame in ("pong", '{"broker":"pong"}'):
                self._pongs.put_nowait(frame)
                continue
            for line in frame.splitlines():
                if line == "{}":
                    await self.client.send("{}")
                elif '"unsubscribe":' in line:
                    # That is how the Centrifuge protocol tells a gap.
                    await self.subscribe()
                self.frames += 1
                await asyncio.sleep(0.001)

    async def frame(self):
        await (await self.client.ping())

    async def bare(self):
        await self.client.send("ping")
        assert await self._pongs.get() == "pong"

    async def command(self):
        await self.client.send('{"broker":"ping"}')
        assert await self._pongs.get() == '{"broker":"pong"}'


async def dial(broker, path, **options):
    """A WebSocket over a connection whose kernel holds little."""
    pipe = socket.socket()
    pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    pipe.setblocking(False)
    await asyncio.get_running_loop().sock_connect(pipe, ("127.0.0.1", broker.port))
    return await connect(broker.ws + path, sock=pipe, proxy=None, **options)


@pytest.fixture(params=["drop_oldest", "catch_up"])
def busy(request, tmp_path):
    """A server and a topic that is published to faster than its readers read."""
    path = tmp_path / "broker.toml"
    path.write_text(SETTINGS.format(policy=request.param))
    with Broker("--config", str(path), api_key=API_KEY) as running:
        yield running


@pytest.mark.parametrize(
    "path, ways",
    [
        ("/ws?topic={topic}&format=raw", ["frame", "bare", "command"]),
        ("/ws?topic={topic}&format=envelope", ["frame", "bare", "command"]),
        ("/connection/websocket", ["frame"]),
    ],
    ids=["raw", "envelope", "centrifuge"],
)
async def test_whoever_pings_beside_a_saturated_topic_gets_every_pong_in_time(busy, path, ways):
    topic = f"busy:{unique('t')}"
    failures, latencies, readers = [], [], []
    async with asyncio.TaskGroup() as group:
        tasks = []
        for way in ways:
            # The library's own pings as well, which end the connection where a pong is late.
            client = await dial(busy, path.format(topic=topic), ping_interval=OWN_INTERVAL, ping_timeout=OWN_TIMEOUT)
            reader = Reader(client, topic)
            if path.startswith("/connection"):
                await reader.connect()
            readers.append(reader)
            tasks.append(group.create_task(reader.read()))
            tasks.append(group.create_task(stays_alive(getattr(reader, way), failures, latencies)))
        with Flood(busy, topic) as flood:
            await asyncio.sleep(6 * OWN_INTERVAL)
            published = flood.published
        assert failures == [] and len(latencies) >= 4 * len(ways), (failures, latencies)
        for reader in readers:
            assert reader.client.close_code is None, reader.client.close_reason
            assert 0 < reader.frames < published, "it reads, and less than is published"
        for task in tasks:
            task.cancel()
        print(f"the slowest of {len(latencies)} pongs took {max(latencies) * 1000:.0f} ms beside {published} publications")
        for reader in readers:
            reader.client.transport.abort()
