"""The PyPI package `cent`, unmodified: the client of the server API that Python backends use."""

import base64
import json

import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    StreamPosition,
)
from websockets.asyncio.client import connect

from harness import eventually


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
