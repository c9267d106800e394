"""Two nodes on Redis as operators arrange it: one server with TLS and a user of its own, sentinels with a failover, a cluster; with the URLs and rights
of docs/operations/redis.md, and `broker doctor` finding nothing wrong."""

import asyncio
import time

import pytest

from doctor import doctor, of
from harness import Broker, eventually
from topologies import Certificates, Cluster, OneServer, Sentinels
from wire import CentrifugeWire, PlainWire

# From a server's end to nodes that say so.
TOLD_MAX = 5.0
SECRET_OF_NODES = "of-both-nodes-in-the-tests-of-topologies-0123456789"


@pytest.fixture(scope="module")
def certificates():
    with Certificates() as made:
        yield made


# How the servers are arranged, and whether they speak TLS.
ARRANGED = {
    "one server, TLS": (OneServer, True),
    "sentinels": (Sentinels, False),
    "sentinels, TLS": (Sentinels, True),
    "cluster": (Cluster, False),
    "cluster, TLS": (Cluster, True),
}


@pytest.fixture(scope="module", params=ARRANGED.values(), ids=ARRANGED.keys())
def world(request, certificates):
    """The servers, and two nodes."""
    arranged, is_tls = request.param
    with arranged(certificates if is_tls else None) as servers, node(servers) as one, node(servers) as other:
        yield servers, one, other


def node(servers):
    return Broker("--dev", "--redis", servers.url, "--token-hmac-secret", SECRET_OF_NODES, env=servers.env)


async def ready(broker):
    """Status and body."""
    status, _, body = await asyncio.to_thread(broker.get, "/ready")
    return status, body


async def both_ready(*nodes):
    for one in nodes:
        await eventually(lambda one=one: ready(one), lambda told: told[0] == 200 and told[1]["nodes"] == 2, f"{one.http} knows the other")


async def published(broker, topic, data):
    """Publishes until it is taken, as a backend would: again and again with the same key."""
    body = {"channel": topic, "data": data, "idempotency_key": f"{topic} {data}"}

    async def ask():
        return await asyncio.to_thread(broker.post, "/api/publish", body)

    return await eventually(ask, lambda answer: answer[0] == 200 and "result" in answer[2], f"{data} is published to {topic}")


async def is_well(world, tmp_path):
    servers, one, _ = world
    code, findings = await doctor("--dev", "--redis", servers.url, one.http, cwd=tmp_path, env=servers.env)
    assert code == 0 and of(findings, "pairs", "ok") == ["2 nodes, and each hears what each publishes: 4 ways"], findings
    assert not [finding for finding in findings if finding["severity"] == "error"], findings


# So many topics that every server of a cluster has some of them.
TOPICS = [f"news.{number}" for number in range(12)]


async def test_the_nodes_are_one_broker_and_a_client_resumes_at_the_other(world):
    _, one, other = world
    await both_ready(one, other)
    async with await PlainWire.open(other, topics=TOPICS) as plain, await CentrifugeWire.open(other, topics=TOPICS) as centrifuge:
        for topic in TOPICS:
            await asyncio.to_thread(one.publish, topic, {"of": topic, "n": 1})
        for wire in (plain, centrifuge):
            for topic in TOPICS:
                await wire.hears({"of": topic, "n": 1}, topic)
        held = {wire: wire.positions() for wire in (plain, centrifuge)}
    for topic in TOPICS:
        await asyncio.to_thread(other.publish, topic, {"of": topic, "n": 2})
    for wire in (plain, centrifuge):
        async with await type(wire).open(one) as again:
            for topic in TOPICS:
                await again.subscribe(topic, since=held[wire][topic])
                await again.hears({"of": topic, "n": 2}, topic)
                assert again.heard(topic) == [{"of": topic, "n": 2}] and not again.all("gap", topic)


async def test_a_server_that_is_gone_is_told_by_ready_and_all_go_on_when_it_is_back_or_replaced(world, tmp_path):
    servers, one, other = world
    await both_ready(one, other)
    # In a cluster the one whose topic it is; otherwise the primary.
    topic = servers.topic_at(servers.servers[1], "gone") if isinstance(servers, Cluster) else "gone"
    victim = servers.servers[1] if isinstance(servers, Cluster) else servers.servers[0]
    async with await PlainWire.open(one, topics=[topic]) as plain, await CentrifugeWire.open(other, topics=[topic]) as centrifuge:
        await published(one, topic, {"n": 1})
        for wire in (plain, centrifuge):
            await wire.hears({"n": 1})
        victim.kill()
        killed_at = time.monotonic()
        told = [eventually(lambda broker=broker: ready(broker), lambda told: told[0] == 503, "it says so") for broker in (one, other)]
        for _, body in await asyncio.gather(*told):
            assert any("no connection to Redis" in problem for problem in body["problems"]), body
        assert time.monotonic() - killed_at < TOLD_MAX
        if not isinstance(servers, Sentinels):
            victim.start()
        await published(other, topic, {"n": 2})
        for wire in (plain, centrifuge):
            # Whether something was lost nobody can know: it comes, or they are told of a new epoch.
            await wire.until(lambda wire=wire: {"n": 2} in wire.heard() or wire.all("gap") or wire.all("unsubscribed"), "it goes on")
        await both_ready(one, other)
        await published(one, topic, {"n": 3})
        await plain.hears({"n": 3})
        assert not plain.all("closed") and not centrifuge.all("closed")
    if isinstance(servers, Sentinels):
        assert b"role:master" in servers.servers[1].command("INFO", "replication")
    await is_well(world, tmp_path)
