"""The plain protocol over `websockets`, with positions of several topics and of topics that the server chose, over cuts and a restart."""

import asyncio
import json
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from harness import API_KEY, PATIENCE, SECRET, Broker, Proxy, eventually, token, unique

CONFIG = f"""
[client]
anonymous = true

[client.token]
hmac_secret = "{SECRET}"

[api]
key = "{API_KEY}"

[namespaces.group]
history_size = 1000

[namespaces.user]
history_size = 1000

[namespaces.open]
history_size = 1000
allow = ["sub"]
"""


class Envelope:
    """A client of thirty lines: comes back by itself with where it stands in each topic, and keeps what it is told."""

    def __init__(self, url):
        self.url, self.positions, self.told, self.opens = url, {}, [], 0
        self._task = asyncio.create_task(self._run())

    async def _run(self):
        while True:
            resume = "".join(f"&resume={quote(f'{topic},{position}')}" for topic, position in self.positions.items())
            try:
                async with connect(self.url + resume, proxy=None) as socket:
                    self.opens += 1
                    async for text in socket:
                        self._take(json.loads(text))
            except (OSError, EOFError, WebSocketException):
                pass
            await asyncio.sleep(0.01)

    def _take(self, frame):
        word, topic = frame["broker"], frame.get("topic")
        if word in ("subscribed", "publication", "gap"):
            self.told.append(frame)
        if word == "publication" or (word == "subscribed" and "recovered" not in frame):
            self.positions[topic] = frame["position"]
        if word == "gap" and "to" in frame:
            self.positions[topic] = frame["to"]

    def of(self, topic, word):
        return [frame for frame in self.told if (frame["topic"], frame["broker"]) == (topic, word)]

    async def until(self, holds, what):
        async def ask():
            assert not self._task.done(), self._task.exception()
            return holds()

        await eventually(ask, bool, what)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._task.cancel()


@pytest.fixture
def place():
    """A user, its token, and the topics of one connection: two of the URL, a group, the user's own."""
    user, group, name = unique("u"), unique("g"), unique("t")
    topics = [f"open:{name}", f"open:{name}.b", f"group:{group}", f"user:{user}"]
    path = f"/ws?topic={topics[0]}&topic={topics[1]}&format=envelope&token={token(sub=user, groups=[group])}"
    return topics, path


async def test_after_cuts_nothing_is_missing_and_nothing_comes_twice(guarded, place):
    topics, path = place
    async with Proxy(guarded.port) as proxy, Envelope(f"ws://127.0.0.1:{proxy.port}{path}") as client:
        await client.until(lambda: all(client.of(topic, "subscribed") for topic in topics), "it is subscribed")
        sent = 0
        for _ in range(5):
            opens = client.opens
            proxy.refuse(True)
            proxy.cut()
            for _ in range(4):
                sent += 1
                for topic in topics:
                    await asyncio.to_thread(guarded.publish, topic, sent)
            proxy.refuse(False)
            await client.until(lambda: client.opens > opens, "it is back")
            sent += 1
            for topic in topics:
                await asyncio.to_thread(guarded.publish, topic, sent)
            await client.until(lambda: all(len(client.of(topic, "publication")) >= sent for topic in topics), "all arrived")
        for topic in topics:
            publications = client.of(topic, "publication")
            assert [frame["data"] for frame in publications] == list(range(1, sent + 1)), topic
            assert [int(frame["position"].split("@")[0]) for frame in publications] == list(range(1, sent + 1)), topic
            first, *others = [frame.get("recovered") for frame in client.of(topic, "subscribed")]
            assert first is None and len(others) >= 5 and all(others), topic
            assert client.of(topic, "gap") == []


async def test_a_restart_is_told_once_with_its_reason(tmp_path, place):
    topics, path = place
    config = tmp_path / "broker.toml"
    config.write_text(CONFIG)
    start = lambda: asyncio.to_thread(Broker, "--config", str(config), api_key=API_KEY)
    first, second = await start(), await start()
    async with Proxy(first.port) as proxy:
        with first, second:
            async with Envelope(f"ws://127.0.0.1:{proxy.port}{path}") as client:
                await client.until(lambda: all(client.of(topic, "subscribed") for topic in topics), "it is subscribed")
                for topic in topics:
                    await asyncio.to_thread(first.publish, topic, "before")
                await client.until(lambda: all(client.of(topic, "publication") for topic in topics), "the first arrived")
                proxy._target = second.port
                await asyncio.to_thread(first.stop)
                await client.until(lambda: all(client.of(topic, "gap") for topic in topics), "the restart is told")
                for data in ["after", "after a cut"]:
                    for topic in topics:
                        await asyncio.to_thread(second.publish, topic, data)
                    await client.until(lambda: all(client.of(topic, "publication")[-1]["data"] == data for topic in topics), data)
                    opens = client.opens
                    proxy.cut()
                    await client.until(lambda: client.opens > opens, "it is back")
                await client.until(lambda: all(client.of(topic, "subscribed")[-1]["recovered"] for topic in topics), "it resumed")
                for topic in topics:
                    assert [frame["reason"] for frame in client.of(topic, "gap")] == ["epoch"], topic
                    assert [frame["data"] for frame in client.of(topic, "publication")] == ["before", "after", "after a cut"], topic


async def test_a_raw_socket_resumes_what_the_server_chose_and_is_told_of_what_is_not_kept(guarded, place):
    topics, path = place
    position = None
    async with connect(guarded.ws + path, proxy=None) as socket:
        while position is None:
            frame = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
            if frame["broker"] == "subscribed" and frame["topic"] == topics[2]:
                position = frame["position"]
    for n in range(3):
        guarded.publish(topics[2], n)
    raw = guarded.ws + path.replace("format=envelope", "format=raw")
    async with connect(f"{raw}&resume={topics[2]},{position}", proxy=None) as socket:
        assert [await asyncio.wait_for(socket.recv(), PATIENCE) for _ in range(3)] == ["0", "1", "2"]
    async with connect(f"{raw}&resume={topics[2]},7@elsewhere", proxy=None) as socket:
        gap = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
        assert (gap["broker"], gap["topic"], gap["reason"]) == ("gap", topics[2], "epoch")
