"""The PyPI package `centrifuge-python`, unmodified, over JSON."""

import asyncio
import json
import time

import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientState,
    ReplyError,
    StreamPosition,
    SubscriptionState,
)
from websockets.asyncio.client import connect

from harness import Broker, Proxy, Recorder, eventually, token, unique
from sdk import Events, listen, sdk, subscribe


async def test_connects_and_learns_its_session(broker):
    async with sdk(broker.centrifuge) as client:
        [connected] = client.events.all("connected")
        assert len(connected.client) == 36
        assert connected.version


async def test_subscribes_and_learns_the_position(broker, topic):
    async with sdk(broker.centrifuge) as client:
        subscription = await listen(client, topic)
        [answer] = subscription.events.all("subscribed")
        assert (answer.recoverable, answer.positioned) == (True, True)
        assert answer.stream_position.offset == 0
        assert answer.stream_position.epoch


async def test_publishes_of_clients_reach_everyone_in_order(broker, topic):
    async with sdk(broker.centrifuge) as one, sdk(broker.centrifuge) as two:
        heard = [await listen(one, topic), await listen(two, topic)]
        for number in range(20):
            await (one if number % 2 else two).publish(topic, {"n": number})
        for subscription in heard:
            await subscription.events.until(lambda: len(subscription.events.got()) >= 20, "all arrived")
            assert subscription.events.got() == [{"n": number} for number in range(20)]
        first = heard[0].events.all("publication")[0].pub
        assert first.offset == 1
        assert first.info.client == two.events.all("connected")[0].client


async def test_a_publish_of_the_api_arrives_with_offset_and_tags(broker, topic):
    async with sdk(broker.centrifuge) as client:
        subscription = await listen(client, topic)
        result = await asyncio.to_thread(broker.publish, topic, {"price": 17.5}, tags={"kind": "tick"})
        await subscription.events.until(lambda: subscription.events.got(), "it arrived")
        pub = subscription.events.all("publication")[0].pub
        assert (pub.data, pub.offset, pub.tags, pub.info) == ({"price": 17.5}, result["offset"], {"kind": "tick"}, None)


async def test_keys_and_removals_are_told_in_the_tags(guarded):
    """This SDK hands on neither `key` nor `removed`, and sends none: rows are set and removed by backends, or over the plain protocol."""
    topic = f"rows:{unique('t')}"
    guarded.publish(topic, {"n": 1}, key="a", tags={"kind": "row"})
    guarded.publish(topic, {"n": 2}, key="b")
    async with sdk(guarded.centrifuge) as client, connect(f"{guarded.ws}/ws/{topic}") as plain:
        subscription = await listen(client, topic)
        guarded.publish(topic, {"n": 3}, key="b")
        guarded.api("publish", channel=topic, key="a", removed=True)
        await plain.send(json.dumps({"broker": "publish", "id": 1, "topic": topic, "key": "b", "removed": True}))
        await subscription.events.until(lambda: len(subscription.events.got()) >= 5, "all arrived")
        assert [(ctx.pub.data, ctx.pub.tags) for ctx in subscription.events.all("publication")] == [
            ({"n": 1}, {"kind": "row", "broker_key": "a"}),
            ({"n": 2}, {"broker_key": "b"}),
            ({"n": 3}, {"broker_key": "b"}),
            (None, {"broker_key": "a", "broker_removed": "true"}),
            (None, {"broker_key": "b", "broker_removed": "true"}),
        ]
    assert guarded.api("state", channel=topic)["rows"] == []


async def test_payloads_arrive_as_they_were_published(broker, topic):
    payloads = [{}, [], 0, -1.5e-7, True, "", "line\nbreak \" \\ \u0000", "검사 결과 이상 없음 — 😀", [[[]]], {"t": "x" * 50_000}]
    async with sdk(broker.centrifuge) as client:
        subscription = await listen(client, topic)
        for payload in payloads:
            await subscription.publish(payload)
        await subscription.events.until(lambda: len(subscription.events.got()) >= len(payloads), "all arrived")
        assert subscription.events.got() == payloads


async def test_reads_history(broker, topic):
    for number in range(1, 11):
        broker.publish(topic, number)
    async with sdk(broker.centrifuge) as client:
        top = await client.history(topic)
        assert (top.publications, top.offset) == ([], 10)

        async def data(**query):
            return [pub.data for pub in (await client.history(topic, **query)).publications]

        assert await data(limit=3) == [1, 2, 3]
        assert await data(limit=-1) == list(range(1, 11))
        assert await data(limit=2, reverse=True) == [10, 9]
        assert await data(limit=100, since=StreamPosition(7, top.epoch)) == [8, 9, 10]


async def test_sees_who_is_present(broker, topic):
    async with sdk(broker.centrifuge, token=token(sub="ris1", info={"name": "Kim"})) as named, sdk(broker.centrifuge) as other:
        subscription = await listen(named, topic)
        await listen(other, topic)
        present = await eventually(subscription.presence, lambda answer: len(answer.clients) == 2, "both are present")
        info = present.clients[named.events.all("connected")[0].client]
        assert (info.user, info.conn_info) == ("ris1", {"name": "Kim"})
        stats = await named.presence_stats(topic)
        assert (stats.num_clients, stats.num_users) == (2, 2)
        await other.disconnect()
        await eventually(lambda: named.presence_stats(topic), lambda stats: stats.num_clients == 1, "the other one is gone")


async def test_hears_joins_and_leaves(broker, topic):
    async with sdk(broker.centrifuge) as watcher:
        watched = await listen(watcher, topic, join_leave=True)
        async with sdk(broker.centrifuge) as guest:
            session = guest.events.all("connected")[0].client
            await listen(guest, topic)
            joined = lambda: session in [ctx.info.client for ctx in watched.events.all("join")]
            await watched.events.until(joined, "the join is heard")
        left = lambda: session in [ctx.info.client for ctx in watched.events.all("leave")]
        await watched.events.until(left, "the leave is heard")


async def test_recovers_what_it_missed_after_the_socket_was_cut(broker, topic):
    async with Proxy(broker.port) as proxy:
        # While connections are refused the SDK's attempts fail, which it reports.
        async with sdk(f"ws://127.0.0.1:{proxy.port}/connection/websocket", expect_errors=True) as client:
            subscription = await listen(client, topic)
            await client.publish(topic, 1)
            await subscription.events.until(lambda: subscription.events.got(), "the first one arrived")
            proxy.refuse(True)
            proxy.cut()
            await client.events.until(lambda: client.state is ClientState.CONNECTING, "the client noticed")
            for number in range(2, 7):
                await asyncio.to_thread(broker.publish, topic, number)
            proxy.refuse(False)
            await subscription.events.until(lambda: len(subscription.events.got()) >= 6, "all arrived")
            assert subscription.events.got() == [1, 2, 3, 4, 5, 6]
            answer = subscription.events.all("subscribed")[1]
            assert (answer.was_recovering, answer.recovered) == (True, True)
            assert subscription.events.errors == []


async def test_a_cut_socket_comes_back_without_an_error(broker, topic):
    async with Proxy(broker.port) as proxy:
        async with sdk(f"ws://127.0.0.1:{proxy.port}/connection/websocket") as client:
            subscriptions = [await listen(client, f"{topic}.{number}") for number in range(20)]
            proxy.cut()
            for subscription in subscriptions:
                again = lambda: len(subscription.events.all("subscribed")) == 2
                await subscription.events.until(again, "it is subscribed again")
                await asyncio.to_thread(broker.publish, subscription.events.topic, "after")
                await subscription.events.until(lambda: subscription.events.got() == ["after"], "it hears")


async def test_loses_and_doubles_nothing_under_repeated_cuts(broker, topic):
    async with Proxy(broker.port) as proxy:
        async with sdk(f"ws://127.0.0.1:{proxy.port}/connection/websocket", expect_errors=True) as client:
            subscription = await listen(client, topic)
            for number in range(200):
                await asyncio.to_thread(broker.publish, topic, number)
                if number % 50 == 25:
                    proxy.cut()
            await subscription.events.until(lambda: len(subscription.events.got()) >= 200, "all arrived")
            assert subscription.events.got() == list(range(200))
            assert all(answer.recovered for answer in subscription.events.all("subscribed")[1:])


async def test_unsubscribes_and_subscribes_again(broker, topic):
    async with sdk(broker.centrifuge) as client:
        subscription = await listen(client, topic)
        await subscription.unsubscribe()
        assert subscription.state is SubscriptionState.UNSUBSCRIBED
        await eventually(lambda: client.presence_stats(topic), lambda stats: stats.num_clients == 0, "nobody is present")
        await subscription.subscribe()
        await subscription.events.until(lambda: len(subscription.events.all("subscribed")) == 2, "it is subscribed again")
        await subscription.publish("hello")
        await subscription.events.until(lambda: subscription.events.got() == ["hello"], "it hears")


async def test_a_bad_subscribe_is_refused_and_leaves_the_connection_alone(broker, topic):
    async with sdk(broker.centrifuge) as client:
        good = await listen(client, topic)
        for name in ["x" * 256, "with blank", "ünïcode"]:
            bad = await subscribe(client, name)
            await bad.events.until(lambda: bad.events.all("unsubscribed"), f"{name} is refused")
            [end] = bad.events.all("unsubscribed")
            assert end.code == 107 and end.reason
            client.remove_subscription(bad)
        await good.publish("still here")
        await good.events.until(lambda: good.events.got() == ["still here"], "the good one goes on")


async def test_rpc_without_a_handler_is_refused(broker):
    async with sdk(broker.centrifuge) as client:
        with pytest.raises(ReplyError) as refusal:
            await client.rpc("nothing", {})
        assert refusal.value.code == 108
        assert client.state is ClientState.CONNECTED


async def test_rpc_is_answered_by_the_application(application):
    async with sdk(application.centrifuge) as client:
        assert (await client.rpc("echo", {"n": 1})).data == {"n": 1}
        with pytest.raises(ReplyError) as refusal:
            await client.rpc("no such method", {})
        assert refusal.value.code == 104


async def test_stays_connected_through_pings(pinging, topic):
    # The SDK gives up 0.9 s after a ping that is due: three of them came when it is connected 3.5 s later.
    async with sdk(pinging.centrifuge, max_server_ping_delay=0.9) as client:
        started = time.monotonic()
        await eventually(lambda: client.history(topic), lambda _: time.monotonic() - started > 3.5, "3.5 s have passed")
        assert [name for name, _ in client.events.calls] == ["connecting", "connected"]


async def test_notices_a_stalled_network_and_comes_back(pinging, topic):
    async with Proxy(pinging.port) as proxy:
        async with sdk(f"ws://127.0.0.1:{proxy.port}/connection/websocket", max_server_ping_delay=0.9) as client:
            subscription = await listen(client, topic)
            proxy.stall()
            await asyncio.to_thread(pinging.publish, topic, "missed")
            await subscription.events.until(lambda: subscription.events.got() == ["missed"], "what was missed arrived")
            await eventually(lambda: client.presence_stats(topic), lambda stats: stats.num_clients == 1, "the silent session is gone")


async def test_a_wrong_token_ends_the_attempt_for_good(broker):
    for wrong in [token(secret="the secret of somebody else 0123456789", sub="a"), "nonsense", "a.b.c"]:
        client = Client(broker.centrifuge, events=Events(), token=wrong, proxy=None)
        await client.connect()
        await client.events.until(lambda: client.events.all("disconnected"), "the client gave up")
        [end] = client.events.all("disconnected")
        assert end.code == 3500 and end.reason


async def test_an_expired_token_is_replaced_and_the_client_connects(broker):
    asked = []

    async def fresh():
        asked.append(1)
        return token(sub="lis1", exp=int(time.time()) + 3600)

    expired = token(sub="lis1", exp=int(time.time()) - 60)
    async with sdk(broker.centrifuge, token=expired, get_token=fresh, expect_errors=True) as client:
        assert asked == [1]
        assert [error.error.code for error in client.events.errors if isinstance(error.error, ReplyError)] == [109]


async def test_a_token_that_ends_while_connected_is_renewed_on_the_same_connection(broker, topic):
    asked = Recorder()
    asked.times = 0

    async def fresh():
        asked.times += 1
        asked.changed()
        return token(sub="lis1", exp=int(time.time()) + 3600)

    async with sdk(broker.centrifuge, token=token(sub="lis1", exp=int(time.time()) + 2), get_token=fresh) as client:
        subscription = await listen(client, topic)
        await asked.until(lambda: asked.times == 1, "a fresh token was asked for")
        await subscription.publish("still here")
        await subscription.events.until(lambda: subscription.events.got() == ["still here"], "it hears")
        started = time.monotonic()
        await eventually(lambda: client.history(topic), lambda _: time.monotonic() - started > 1.5, "the old token is over")
        assert len(client.events.all("connecting")) == 1


async def test_a_server_that_stops_sends_its_clients_elsewhere(topic):
    with Broker("--dev") as last:
        client = Client(last.centrifuge, events=Events(), proxy=None)
        await client.connect()
        await client.ready(10)
        code = await asyncio.to_thread(last.stop)
        await client.events.until(lambda: len(client.events.all("connecting")) == 2, "the client was told")
        assert (client.events.all("connecting")[1].code, code) == (3001, 0)
        try:
            await client.disconnect()
        except CentrifugeError:
            pass


async def test_a_command_may_cross_a_ping(pinging, topic):
    """Without the SDK, so that the order is certain: the command was on its way when the ping came, and its pong follows."""
    async with connect(pinging.centrifuge, proxy=None) as socket, asyncio.timeout(10):
        await socket.send('{"id":1,"connect":{}}')
        assert json.loads(await socket.recv())["id"] == 1
        for command in range(2, 5):
            assert await socket.recv() == "{}"
            await socket.send(json.dumps({"id": command, "history": {"channel": topic}}))
            assert json.loads(await socket.recv())["id"] == command
            await socket.send("{}")
