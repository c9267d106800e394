"""The PyPI package `cent`, unmodified: the client of the server API that Python backends use."""

import base64
import contextlib
import json
import time

import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness import eventually, token


@pytest.fixture
def cent(broker):
    with Client(f"{broker.http}/api", "dev") as client:
        yield client


def test_publish_answers_the_position(cent, topic):
    first = cent.publish(PublishRequest(channel=topic, data={"n": 1}))
    second = cent.publish(PublishRequest(channel=topic, data={"n": 2}))
    assert (first.offset, second.offset) == (1, 2)
    assert first.epoch and first.epoch == second.epoch


def test_publish_skips_history_when_asked(cent, topic):
    cent.publish(PublishRequest(channel=topic, data=1, skip_history=True))
    assert cent.history(HistoryRequest(channel=topic, limit=10)).publications == []


def test_publish_is_stored_once_for_one_idempotency_key(cent, topic):
    positions = [cent.publish(PublishRequest(channel=topic, data=1, idempotency_key="k")) for _ in range(3)]
    assert [position.offset for position in positions] == [1, 1, 1]
    assert len(cent.history(HistoryRequest(channel=topic, limit=10)).publications) == 1


def test_publish_refuses_a_bad_name(cent):
    for name in ["", "with blank", "x" * 256]:
        with pytest.raises(CentApiResponseError) as refusal:
            cent.publish(PublishRequest(channel=name, data=1))
        assert refusal.value.code == 107, name
        assert refusal.value.message


async def test_publish_of_bytes_reaches_a_socket_as_a_binary_frame(broker, cent, topic):
    async with connect(f"{broker.ws}/ws/{topic}", proxy=None) as socket:
        cent.publish(PublishRequest(channel=topic, data=None, b64data=base64.b64encode(b"\x00\xffbytes").decode()))
        assert await socket.recv() == b"\x00\xffbytes"


def test_broadcast_answers_one_response_for_each_topic(cent, topic):
    result = cent.broadcast(BroadcastRequest(channels=[f"{topic}.a", f"{topic}.b", "with blank"], data={"n": 1}, tags={"k": "v"}))
    assert [response.result.offset for response in result.responses[:2]] == [1, 1]
    assert result.responses[2].error.code == 107
    [publication] = cent.history(HistoryRequest(channel=f"{topic}.b", limit=1)).publications
    assert (publication.data, publication.tags) == ({"n": 1}, {"k": "v"})


def test_history_is_read_by_limit_position_and_direction(cent, topic):
    for number in range(1, 11):
        last = cent.publish(PublishRequest(channel=topic, data=number))

    def data(**query):
        return [publication.data for publication in cent.history(HistoryRequest(channel=topic, **query)).publications]

    top = cent.history(HistoryRequest(channel=topic))
    assert (top.publications, top.offset, top.epoch) == ([], 10, last.epoch)
    assert data(limit=3) == [1, 2, 3]
    assert data(limit=3, reverse=True) == [10, 9, 8]
    assert data(limit=100, since=StreamPosition(offset=7, epoch=last.epoch)) == [8, 9, 10]
    assert data(limit=-1) == list(range(1, 11))


def test_history_remove_empties_it_and_keeps_counting(cent, topic):
    before = cent.publish(PublishRequest(channel=topic, data=1))
    cent.history_remove(HistoryRemoveRequest(channel=topic))
    assert cent.history(HistoryRequest(channel=topic, limit=10)).publications == []
    after = cent.publish(PublishRequest(channel=topic, data=2))
    # (topic, epoch, offset) names one publication for ever.
    assert (after.epoch, after.offset) != (before.epoch, before.offset)


async def test_presence_names_the_sessions(broker, cent, topic):
    async with connect(f"{broker.ws}/ws/{topic}?format=envelope", proxy=None) as socket:
        session = json.loads(await socket.recv())["session"]
        presence = cent.presence(PresenceRequest(channel=topic)).presence
        assert list(presence) == [session]
        assert presence[session].client == session
        stats = cent.presence_stats(PresenceStatsRequest(channel=topic))
        assert (stats.num_clients, stats.num_users) == (1, 1)

    async def stats():
        return cent.presence_stats(PresenceStatsRequest(channel=topic))

    await eventually(stats, lambda answer: answer.num_clients == 0, "the session is gone")


async def test_channels_lists_topics_with_listeners(broker, cent, topic):
    async with connect(f"{broker.ws}/ws/{topic}", proxy=None), connect(f"{broker.ws}/ws/{topic}", proxy=None):
        channels = cent.channels(ChannelsRequest()).channels
        assert channels[topic].num_clients == 2
        assert list(cent.channels(ChannelsRequest(pattern=topic)).channels) == [topic]
        assert topic in cent.channels(ChannelsRequest(pattern=f"{topic[:-2]}*")).channels
        assert cent.channels(ChannelsRequest(pattern="nobody-listens-here.*")).channels == {}


async def test_info_describes_the_node(broker, cent, topic):
    async with connect(f"{broker.ws}/ws/{topic}", proxy=None):
        [node] = cent.info(InfoRequest()).nodes
        assert node.uid and node.name and node.version
        assert node.num_clients >= 1 and node.num_channels >= 1 and node.num_subs >= 1


class Session:
    """A connection in the Centrifuge protocol that shows what it is told."""

    def __init__(self, socket):
        self._socket = socket
        self._waiting = []

    async def command(self, **command):
        await self._socket.send(json.dumps({"id": 1} | command))
        while True:
            frame = await self._next()
            if frame.get("id") == 1:
                return frame

    async def push(self, kind):
        """The next push of this kind; those of other kinds are passed over."""
        while True:
            push = (await self._next()).get("push", {})
            if kind in push:
                return push

    async def closed(self):
        """The code and the text with which the server closes."""
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self._next()
        return closed.value.rcvd.code, closed.value.rcvd.reason

    async def _next(self):
        while not self._waiting:
            self._waiting = [json.loads(line) for line in (await self._socket.recv()).split("\n") if line.strip()]
        return self._waiting.pop(0)


@contextlib.asynccontextmanager
async def session(broker, **claims):
    async with connect(broker.centrifuge, proxy=None) as socket:
        opened = Session(socket)
        opened.id = (await opened.command(connect={"token": token(**claims)}))["connect"]["client"]
        yield opened


@pytest.fixture
def user(topic):
    """A user of this test alone."""
    return f"user-of-{topic}"


async def test_subscribe_brings_what_was_missed_and_what_comes(broker, cent, topic, user):
    first = cent.publish(PublishRequest(channel=topic, data=1))
    cent.publish(PublishRequest(channel=topic, data=2))
    async with session(broker, sub=user) as one:
        since = StreamPosition(offset=1, epoch=first.epoch)
        result = cent.subscribe(SubscribeRequest(user=user, channel=topic, info={"role": "nurse"}, data={"n": 7}, recover_since=since))
        assert result.sessions == 1
        push = await one.push("subscribe")
        assert (push["channel"], push["subscribe"]["data"]) == (topic, {"n": 7})
        cent.publish(PublishRequest(channel=topic, data=3))
        received = [publication["data"] for publication in push["subscribe"].get("publications", [])]
        while 3 not in received:
            received.append((await one.push("pub"))["pub"]["data"])
        assert received == [2, 3]
        [member] = cent.presence(PresenceRequest(channel=topic)).presence.values()
        assert (member.user, member.chan_info) == (user, {"role": "nurse"})


async def test_unsubscribe_narrows_to_a_client(broker, cent, topic, user):
    async with session(broker, sub=user) as one, session(broker, sub=user) as other:
        assert cent.subscribe(SubscribeRequest(user=user, channel=topic)).sessions == 2
        assert cent.unsubscribe(UnsubscribeRequest(user=user, client=one.id, channel=topic)).sessions == 1
        push = await one.push("unsubscribe")
        assert (push["channel"], push["unsubscribe"]["code"]) == (topic, 2000)
        cent.publish(PublishRequest(channel=topic, data="still here"))
        assert (await other.push("pub"))["pub"]["data"] == "still here"
        assert cent.presence_stats(PresenceStatsRequest(channel=topic)).num_clients == 1


async def test_disconnect_closes_all_but_the_whitelist(broker, cent, user):
    async with session(broker, sub=user) as one, session(broker, sub=user) as spared:
        assert cent.disconnect(DisconnectRequest(user=user, whitelist=[spared.id])).sessions == 1
        assert await one.closed() == (3503, "force disconnect")
        custom = Disconnect(code=4321, reason="moved")
        assert cent.disconnect(DisconnectRequest(user=user, client=spared.id, disconnect=custom)).sessions == 1
        assert await spared.closed() == (4321, "moved")
    assert cent.disconnect(DisconnectRequest(user=user)).sessions == 0


async def test_refresh_moves_the_end_and_can_be_the_end(broker, cent, user):
    async with session(broker, sub=user) as one:
        assert cent.refresh(RefreshRequest(user=user, expire_at=int(time.time()) + 3600)).sessions == 1
        refresh = (await one.push("refresh"))["refresh"]
        assert refresh["expires"] and 3500 < refresh["ttl"] <= 3600
        assert cent.refresh(RefreshRequest(user=user, client=one.id, expired=True)).sessions == 1
        assert (await one.closed())[0] == 3005


def test_calls_about_sessions_refuse_what_is_wrong(cent, topic):
    for call, request in [
        (cent.subscribe, SubscribeRequest(user="", channel=topic)),
        (cent.unsubscribe, UnsubscribeRequest(user="a", client="no uuid", channel=topic)),
        (cent.disconnect, DisconnectRequest(user="a", disconnect=Disconnect(code=1000))),
        (cent.refresh, RefreshRequest(user="a", expire_at=-1)),
    ]:
        with pytest.raises(CentApiResponseError) as refusal:
            call(request)
        assert refusal.value.code == 107, request


async def test_groups_and_sends_to_them(broker, cent, topic, user):
    group = f"group-of-{topic}"
    async with session(broker, sub=user) as one:
        assert broker.api("group_join", group=group, user=user) == {"sessions": 1}
        members = broker.api("group_members", group=group)["members"]
        assert members == [{"user": user, "sessions": [one.id]}]
        assert {"group": group, "sessions": 1, "users": 1} in broker.api("groups", pattern=f"{group}*")["groups"]
        assert broker.api("send", group=group, data="to the group")["sessions"] == 1
        push = await one.push("pub")
        assert (push["channel"], push["pub"]["data"]) == (f"group:{group}", "to the group")
        [connection] = broker.api("connections", to={"group": group})["connections"]
        assert (connection["session"], connection["groups"], connection["transport"]) == (one.id, [group], "websocket")
        assert broker.api("group_leave", group=group, user=user) == {"sessions": 1}
        assert broker.api("group_members", group=group)["members"] == []


async def test_a_revoked_user_is_out_and_stays_out(broker, user):
    issued = int(time.time()) - 10
    async with session(broker, sub=user, iat=issued) as one:
        assert broker.api("revoke", user=user) == {"sessions": 1}
        assert (await one.closed())[0] == 3500
    async with connect(broker.centrifuge, proxy=None) as socket:
        again = Session(socket)
        with pytest.raises(ConnectionClosed) as closed:
            await again.command(connect={"token": token(sub=user, iat=issued)})
        assert closed.value.rcvd.code == 3500


@pytest.mark.parametrize("parallel", [False, True])
def test_batch_answers_every_command_in_its_place(cent, topic, parallel):
    requests = [
        PublishRequest(channel=topic, data=1),
        BroadcastRequest(channels=[f"{topic}.b"], data=2),
        HistoryRequest(channel=topic, limit=10),
        PresenceStatsRequest(channel=topic),
        ChannelsRequest(),
        InfoRequest(),
    ]
    published, broadcast, history, stats, channels, info = cent.batch(BatchRequest(requests=requests, parallel=parallel)).replies
    assert published.offset == 1
    assert broadcast.responses[0].result.offset == 1
    assert history.epoch == published.epoch
    assert stats.num_clients == 0
    assert topic not in channels.channels
    assert len(info.nodes) == 1


def test_a_wrong_key_is_told(broker, topic):
    with Client(f"{broker.http}/api", "wrong") as stranger, pytest.raises(CentUnauthorizedError):
        stranger.publish(PublishRequest(channel=topic, data=1))


async def test_the_async_client_works_too(broker, topic):
    async with AsyncClient(f"{broker.http}/api", "dev") as client:
        assert (await client.publish(PublishRequest(channel=topic, data=1))).offset == 1
        assert len((await client.history(HistoryRequest(channel=topic, limit=1))).publications) == 1
