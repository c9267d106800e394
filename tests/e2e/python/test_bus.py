"""What goes wrong between nodes although every connection is up (docs/operations/redis.md, F13 and F24 of docs/chaos.md): a bus that delivers nothing,
messages and entries of another version of the format, and those of the first one, which every version reads."""

import asyncio
import time

from harness import Broker, eventually
from redis_server import DeafProxy, Redis
from wire import CentrifugeWire, PlainWire

SECRET_OF_NODES = "of-both-nodes-in-the-tests-of-the-bus-0123456789"
# A deaf bus is told so soon, and what it loses is read so soon.
NOTICED_MAX = 5.0
READ_MAX = 2.5
# From the cure to a node that is whole again.
BACK_MAX = 5.0
# Each is another moment between two probes; `broker-redis/tests/it/network.rs` has twenty nodes at a time.
ROUNDS = 3


def node(url):
    return Broker("--dev", "--redis", url, "--token-hmac-secret", SECRET_OF_NODES)


async def ready(broker):
    status, _, body = await asyncio.to_thread(broker.get, "/ready")
    return status, body


async def all_ready(*nodes):
    for one in nodes:
        whole = f"{one.http} is ready and knows the others"
        await eventually(lambda one=one: ready(one), lambda told: told[0] == 200 and told[1]["nodes"] == len(nodes), whole)


async def test_a_deaf_bus_is_noticed_and_what_it_loses_is_read(topic):
    with Redis() as redis:
        async with DeafProxy(redis.port) as proxy:
            with node(f"redis://127.0.0.1:{proxy.port}") as deaf, node(redis.url) as other:
                await all_ready(deaf, other)
                async with await PlainWire.open(deaf, topics=[topic]) as plain, await CentrifugeWire.open(deaf, topics=[topic]) as centrifuge:
                    for number in range(ROUNDS):
                        found = await deaf.metric("broker_redis_bus_deaf_total")
                        proxy.deaf, deaf_at = True, time.monotonic()
                        _, body = await eventually(lambda: ready(deaf), lambda told: told[0] == 503, "it says that its bus is deaf")
                        assert time.monotonic() - deaf_at <= NOTICED_MAX
                        assert any("delivers nothing" in problem for problem in body["problems"]), body
                        assert await deaf.metric("broker_redis_bus_deaf_total") > found
                        assert (await ready(other))[0] == 200
                        published_at = time.monotonic()
                        await asyncio.to_thread(other.publish, topic, {"lost": number})
                        for wire in (plain, centrifuge):
                            await wire.hears({"lost": number})
                        assert time.monotonic() - published_at <= READ_MAX
                        proxy.deaf, cured_at = False, time.monotonic()
                        await all_ready(deaf, other)
                        assert time.monotonic() - cured_at <= BACK_MAX
                        await asyncio.to_thread(other.publish, topic, {"heard": number})
                    expected = [{word: number} for number in range(ROUNDS) for word in ("lost", "heard")]
                    for wire in (plain, centrifuge):
                        await wire.hears(expected[-1])
                        assert wire.heard(topic) == expected
                        assert not wire.all("gap") and not wire.all("unsubscribed") and not wire.all("closed")


# As version 1 wrote them, byte for byte: an entry, what stands before it in the log, a message of the bus, and one without positions.
EPOCH = b"e1"
ENTRY = b'\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a{"n":1}'
LOGGED = b"\x00\x00\x00\x00\x00\x01" + bytes(6) + bytes(6) + ENTRY
MESSAGE = b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02e1\x01" + len(ENTRY).to_bytes(4, "big") + ENTRY
UNPOSITIONED = b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01-\x00" + len(ENTRY).to_bytes(4, "big") + ENTRY


def life(redis):
    """Of which life of the data Redis speaks."""
    [line] = [line for line in redis.call("INFO", "replication").split(b"\r\n") if line.startswith(b"master_replid:")]
    return line.split(b":")[1]


def kept(redis, topic, top, *logged):
    """Puts a topic's log there, as a node would have."""
    name = "broker:{%s}:" % topic
    redis.call("HSET", name + "m", "e", EPOCH, "t", str(top), "g", life(redis))
    for entry in logged:
        redis.call("RPUSH", name + "l", entry)


async def test_what_version_1_wrote_is_read_from_the_bus_and_from_the_log(mode, topic):
    with Redis() as redis, node(redis.url) as broker:
        await all_ready(broker)
        kept(redis, topic, 0)
        async with await mode.open(broker, topics=[topic]) as wire:
            kept(redis, topic, 1, LOGGED)
            redis.call("PUBLISH", "broker:{%s}" % topic, MESSAGE)
            await wire.hears({"n": 1})
            assert wire.positions()[topic] == (1, EPOCH.decode())
            redis.call("PUBLISH", "broker:{%s}" % topic, UNPOSITIONED)
            await wire.until(lambda: wire.heard(topic) == [{"n": 1}] * 2, "what has no position comes too")
        async with await mode.open(broker) as later:
            await later.subscribe(topic, since=(0, EPOCH.decode()))
            await later.hears({"n": 1})
            assert later.positions()[topic] == (1, EPOCH.decode()) and not later.all("gap")
        assert (await ready(broker))[0] == 200
        assert await broker.metric("broker_redis_unreadable_total") == 0


async def test_another_version_is_counted_told_by_ready_and_told_to_whoever_misses_it(topic):
    with Redis() as redis, node(redis.url) as broker, node(redis.url) as other:
        await all_ready(broker, other)
        kept(redis, topic, 1, LOGGED)
        async with await PlainWire.open(broker, topics=[topic]) as plain, await CentrifugeWire.open(broker, topics=[topic]) as centrifuge:
            foreign = b"\x63" + ENTRY[1:]
            kept(redis, topic, 2, b"\x00\x00\x00\x00\x00\x02" + bytes(12) + foreign)
            redis.call("PUBLISH", "broker:{%s}" % topic, b"\x63" + MESSAGE[1:])
            status, body = await eventually(lambda: ready(broker), lambda told: told[0] == 503, "it says that there is another version")
            assert any("version 99" in problem and "version 1" in problem for problem in body["problems"]), body
            assert await broker.metric("broker_redis_unreadable_total") >= 1
            assert (await asyncio.to_thread(broker.get, "/health"))[0] == 200
            # Any node says how all of them are.
            nodes = {node["uid"]: node["problems"] for node in (await asyncio.to_thread(other.api, "info"))["nodes"]}
            assert nodes == {body["node"]: body["problems"], (await ready(other))[1]["node"]: []}
            # What it says cannot be known, so whoever listens is told that something is missing.
            await plain.until(lambda: plain.all("gap", topic), "a gap is told")
            await centrifuge.until(lambda: centrifuge.all("unsubscribed", topic), "the subscription is told to begin anew")
            assert centrifuge.all("unsubscribed", topic)[0].code == 2500
            await centrifuge.subscribe(topic)
            await asyncio.to_thread(broker.publish, topic, {"n": 3})
            for wire in (plain, centrifuge):
                await wire.hears({"n": 3})
                assert wire.heard(topic) == [{"n": 3}] and not wire.all("closed")
