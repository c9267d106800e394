"""Two nodes on one real Redis act as one broker; what clients and operators see while Redis is gone, and afterwards (docs/operations/redis.md)."""

import asyncio
import time

import pytest

from harness import API_KEY, Broker, Proxy, eventually, token, unique
from redis_server import Redis
from wire import CentrifugeWire, PlainWire, Refused

# From the cure of Redis to a node that is whole again.
BACK_MAX = 5.0
SECRET_OF_NODES = "of-both-nodes-in-the-tests-with-redis-0123456789"


def node(redis, *more, **options):
    return Broker("--dev", "--redis", redis.url, "--token-hmac-secret", SECRET_OF_NODES, *more, **options)


async def is_ready(broker):
    async def ask():
        return (await asyncio.to_thread(broker.get, "/ready"))[0]

    await eventually(ask, lambda status: status == 200, f"{broker.http} is ready")


@pytest.fixture(scope="module")
def redis():
    with Redis() as running:
        yield running


@pytest.fixture(scope="module")
def nodes(redis):
    with node(redis) as one, node(redis) as other:
        yield one, other


async def both(nodes):
    """Waits until both are ready and know each other."""
    for one in nodes:

        async def ask(one=one):
            return await asyncio.to_thread(one.get, "/ready")

        await eventually(ask, lambda answer: answer[0] == 200 and answer[2]["nodes"] == 2, f"{one.http} is ready and knows the other")
    return nodes


class TestTwoNodes:
    async def test_what_is_published_on_one_is_heard_on_the_other(self, nodes, mode, topic):
        one, other = await both(nodes)
        async with await mode.open(other, topics=[topic]) as wire:
            first = await asyncio.to_thread(one.publish, topic, {"n": 1})
            await wire.hears({"n": 1})
            second = await asyncio.to_thread(other.publish, topic, {"n": 2})
            await wire.hears({"n": 2})
            assert wire.heard() == [{"n": 1}, {"n": 2}]
            assert (second["offset"], second["epoch"]) == (first["offset"] + 1, first["epoch"])

    async def test_a_client_resumes_at_the_other_node(self, nodes, mode, topic):
        one, other = await both(nodes)
        async with await mode.open(one, topics=[topic]) as wire:
            await asyncio.to_thread(one.publish, topic, {"n": 1})
            await wire.hears({"n": 1})
            held = wire.positions()[topic]
        for n in (2, 3):
            await asyncio.to_thread(one.publish, topic, {"n": n})
        async with await mode.open(other) as wire:
            await wire.subscribe(topic, since=held)
            await wire.hears({"n": 3})
            assert wire.heard(topic) == [{"n": 2}, {"n": 3}]

    async def test_presence_and_the_nodes_are_those_of_both(self, nodes, topic):
        one, other = await both(nodes)
        here, there = (token(SECRET_OF_NODES, sub=unique("user")) for _ in range(2))
        async with await PlainWire.open(one, here, topics=[topic]), await CentrifugeWire.open(other, there, topics=[topic]):

            async def stats():
                return await asyncio.to_thread(one.api, "presence_stats", channel=topic)

            await eventually(stats, lambda stats: stats == {"num_clients": 2, "num_users": 2}, "both are present")
            infos = await asyncio.to_thread(other.api, "info")
            assert len({info["uid"] for info in infos["nodes"]}) == 2, infos

    async def test_a_session_of_the_other_node_is_sent_away_and_its_user_revoked(self, nodes, mode):
        one, other = await both(nodes)
        user = unique("user")
        credentials = token(SECRET_OF_NODES, sub=user, iat=int(time.time()) - 10)
        async with await mode.open(other, credentials) as wire:
            assert await asyncio.to_thread(one.api, "disconnect", user=user) == {"sessions": 1}
            await wire.ended()
        async with await mode.open(other, credentials) as wire:
            assert await asyncio.to_thread(one.api, "revoke", user=user) == {"sessions": 1}
            assert (await wire.ended()).code == 3500
        with pytest.raises(Refused):
            async with await mode.open(other, credentials):
                pass

    async def test_every_node_hears_the_probes_of_every_node(self, nodes):
        one, _ = await both(nodes)
        probed = await asyncio.to_thread(one.api, "probe")
        ids = {found["uid"] for found in probed["nodes"]}
        assert len(ids) == 2 and probed["silent"] == []
        for found in probed["nodes"]:
            assert set(found["heard"]) == ids and set(found["knows"]) == ids and "trouble" not in found, found
            assert abs(found["clock_ms"] / 1000 - time.time()) < 10
        first, second = (found["settings"] for found in probed["nodes"])
        assert {name for name in first if first[name] != second[name]} == set()


class TestWithoutRedis:
    async def test_a_node_starts_before_redis_says_so_and_comes_up_by_itself(self, topic):
        with Redis(running=False) as redis, node(redis) as broker:
            await broker.logs("Redis cannot be used")
            assert broker.get("/health")[0] == 200
            status, _, answer = broker.get("/ready")
            assert status == 503 and any("Connection refused" in problem for problem in answer["problems"]), answer
            redis.start()
            started = time.monotonic()
            await is_ready(broker)
            assert time.monotonic() - started < BACK_MAX
            await broker.logs("Redis can be used again")
            assert await asyncio.to_thread(broker.publish, topic, 1)

    @pytest.mark.parametrize("fault", ["killed", "stopped"])
    async def test_sockets_stay_publishes_fail_at_once_and_all_go_on_without_a_gap(self, fault, topic):
        with Redis() as redis, node(redis, env={"BROKER_BACKPLANE__DURABLE": "true"}) as one, node(
            redis, env={"BROKER_BACKPLANE__DURABLE": "true"}
        ) as other:
            await both((one, other))
            async with await PlainWire.open(one, topics=[topic]) as plain, await CentrifugeWire.open(other, topics=[topic]) as centrifuge:
                await asyncio.to_thread(one.publish, topic, {"n": 1})
                for wire in (plain, centrifuge):
                    await wire.hears({"n": 1})
                redis.kill() if fault == "killed" else redis.pause()
                gone_at = time.monotonic()
                for broker in (one, other):
                    await self._refuses_in_time(broker, topic)
                for broker, wire in ((one, plain), (other, centrifuge)):
                    with pytest.raises(Refused) as refused:
                        await wire.subscribe(unique("late"))
                    assert refused.value.code == 100
                    assert broker.get("/health")[0] == 200
                    await eventually(self._status(broker), lambda status: status == 503, "the node is not ready")
                assert time.monotonic() - gone_at < 25
                await asyncio.sleep(max(0.0, 10 - (time.monotonic() - gone_at)))
                assert not plain.all("closed") and not centrifuge.all("closed")
                redis.start() if fault == "killed" else redis.resume()
                cured_at = time.monotonic()
                await both((one, other))
                assert time.monotonic() - cured_at < BACK_MAX
                await asyncio.to_thread(other.publish, topic, {"n": 2})
                for wire in (plain, centrifuge):
                    await wire.hears({"n": 2})
                    heard = [data["n"] for data in wire.heard(topic) if data["n"] in (1, 2)]
                    assert heard == [1, 2], wire.events
                    assert not wire.all("gap") and not wire.all("unsubscribed") and not wire.all("closed")

    def _status(self, broker):
        async def ask():
            return (await asyncio.to_thread(broker.get, "/ready"))[0]

        return ask

    async def _refuses_in_time(self, broker, topic):
        """A publish is refused within its timeout, with the time to wait."""
        begun = time.monotonic()
        body = {"channel": topic, "data": {"n": 0}}
        status, headers, answer = await asyncio.to_thread(broker.post, "/api/publish", body)
        assert (status, answer["error"]["code"]) == (503, 100), answer
        assert int(headers["Retry-After"]) >= 1
        assert time.monotonic() - begun < 3


    async def test_one_node_that_is_cut_off_keeps_its_clients_and_hears_afterwards_what_it_missed(self, topic):
        with Redis() as redis:
            async with Proxy(redis.port) as proxy:
                with Broker("--dev", "--redis", f"redis://127.0.0.1:{proxy.port}", "--token-hmac-secret", SECRET_OF_NODES) as cut:
                    with node(redis) as whole:
                        await both((cut, whole))
                        async with await PlainWire.open(cut, topics=[topic]) as plain, await CentrifugeWire.open(cut, topics=[topic]) as centrifuge:
                            await asyncio.to_thread(whole.publish, topic, {"n": 1})
                            for wire in (plain, centrifuge):
                                await wire.hears({"n": 1})
                            proxy.refuse(True)
                            proxy.cut()
                            await eventually(self._status(cut), lambda status: status == 503, "the node that is cut off is not ready")
                            assert (await self._status(whole)()) == 200
                            await asyncio.to_thread(whole.publish, topic, {"n": 2})
                            await self._refuses_in_time(cut, topic)
                            proxy.refuse(False)
                            healed_at = time.monotonic()
                            for wire in (plain, centrifuge):
                                await wire.hears({"n": 2})
                                assert wire.heard(topic) == [{"n": 1}, {"n": 2}]
                                assert not wire.all("gap") and not wire.all("unsubscribed") and not wire.all("closed")
                            await both((cut, whole))
                            assert time.monotonic() - healed_at < BACK_MAX

    async def test_topics_without_history_go_on_within_the_node_where_that_is_configured(self, tmp_path):
        settings = tmp_path / "broker.toml"
        lines = ["[client]", "anonymous = true", "[default]", 'allow = ["sub", "pub"]', "allow_anonymous = true"]
        settings.write_text("\n".join(lines) + "\n")
        with Redis() as redis:
            for local in (True, False):
                env = {"BROKER_BACKPLANE__LOCAL_WHEN_DOWN": str(local).lower()}
                with Broker("--config", str(settings), "--redis", redis.url, "--api-key", API_KEY, api_key=API_KEY, env=env) as broker:
                    await is_ready(broker)
                    async with await PlainWire.open(broker, topics=["here"]) as wire:
                        redis.kill()
                        await eventually(self._status(broker), lambda status: status == 503, "the node is not ready")
                        if local:
                            await asyncio.to_thread(broker.publish, "here", {"n": 1})
                            await wire.hears({"n": 1})
                            await wire.subscribe("there")
                            await asyncio.to_thread(broker.publish, "there", {"n": 2})
                            await wire.hears({"n": 2})
                        else:
                            await self._refuses_in_time(broker, "here")
                        redis.start()
                        await is_ready(broker)
                        await asyncio.to_thread(broker.publish, "here", {"n": 3})
                        await wire.hears({"n": 3})


class TestTroubles:
    """`/ready` and the log name one reason, and keep to it."""

    async def test_a_replica_is_told_in_its_own_words_all_the_time(self):
        with Redis() as redis:
            redis.command("REPLICAOF", "127.0.0.1", "1")
            with node(redis) as broker:
                await broker.logs("this node could not say that it is there", "READONLY")
                said = set()
                # Two tries of a node to say that it is there, each as long as it may be.
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    said.add(tuple((await asyncio.to_thread(broker.get, "/ready"))[2]["problems"]))
                    await asyncio.sleep(0.05)
                assert len(said) == 1 and "READONLY" in str(said), said

    async def test_channels_without_rights_are_one_line_however_often_they_are_tried(self):
        with Redis() as redis:
            rights = "+info +@scripting +@read +@write +@fast +@pubsub"
            redis.command("ACL", "SETUSER", "ann", "on", ">secret-of-ann-0123456789", "~broker:*", "resetchannels", rights)
            with Broker("--dev", "--redis", redis.url.replace("//", "//ann:secret-of-ann-0123456789@")) as broker:
                await broker.logs("Redis cannot be used", "does not let this node hear its channels")

                async def tries():
                    return int(redis.command("INFO", "commandstats").decode().split("cmdstat_subscribe:")[1].split("rejected_calls=")[1].split(",")[0])

                before = await tries()
                await eventually(tries, lambda now: now >= before + 2, "it is tried again")
                assert broker.log().count("Redis does not let this node hear its channels") == 1
                redis.command("ACL", "SETUSER", "ann", "&broker:*")
                await is_ready(broker)
                await broker.logs("Redis lets this node hear its channels again")

    async def test_tls_at_a_port_without_it_is_told(self):
        with Redis() as redis, Broker("--dev", "--redis", redis.url.replace("redis://", "rediss://")) as broker:

            async def problems():
                return str((await asyncio.to_thread(broker.get, "/ready"))[2]["problems"])

            await eventually(problems, lambda told: "the server answered something else than TLS" in told, "it says what is there")


class TestSettings:
    def test_the_password_of_redis_stands_nowhere(self, tmp_path):
        with Redis("--requirepass", "s3cret-of-redis") as redis:
            url = redis.url.replace("//", "//:s3cret-of-redis@")
            with Broker("--dev", "--redis", url) as broker:
                broker.wait_for_log("broker started")
                assert "s3cret" not in broker.log()
                assert "s3cret" not in str(broker.get("/ready")) + str(broker.get("/metrics", internal=True))
