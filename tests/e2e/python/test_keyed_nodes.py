"""State by key on two nodes with one Redis (docs/history.md): rows that are set on one and removed on the other, read in pages on either, over the end of
a node."""

import asyncio

import pytest

from harness import API_KEY, Broker, eventually
from redis_server import Redis
from wire import CentrifugeWire, PlainWire

SETTINGS = """
[client]
anonymous = true

[api]
key = "{key}"

[client.token]
hmac_secret = "of-both-nodes-in-the-tests-of-rows-0123456789"

[backplane]
url = "{url}"

[namespaces.rows]
history_size = 50
keyed = true
state_size = 5000
allow = ["sub"]
allow_anonymous = true
"""
# More than the engine reads at a time, and many times what one answer of Redis has.
ROWS = 1200
PER_BATCH = 200
TOPIC = "rows:orders"


@pytest.fixture
def start(tmp_path):
    """Starts nodes on one Redis."""
    with Redis() as redis:
        path = tmp_path / "broker.toml"
        path.write_text(SETTINGS.format(key=API_KEY, url=redis.url))
        yield lambda: Broker("--config", str(path), api_key=API_KEY)


async def knows(broker, count):
    async def ask():
        return await asyncio.to_thread(broker.get, "/ready")

    await eventually(ask, lambda told: told[0] == 200 and told[2]["nodes"] >= count, f"{broker.http} is ready and knows {count} nodes")


async def change(broker, changes):
    """Publishes rows; a row that is `None` goes."""
    commands = [
        {"publish": {"channel": TOPIC, "key": key, **({"data": row} if row else {"removed": True})}} for key, row in changes.items()
    ]
    for start in range(0, len(commands), PER_BATCH):
        body = {"commands": commands[start : start + PER_BATCH]}
        status, _, answer = await asyncio.to_thread(broker.post, "/api/batch", body)
        assert status == 200 and all("publish" in reply for reply in answer["replies"]), answer


async def read(broker, limit=350):
    """The rows over the API, page by page, and how many pages there were."""
    rows, cursor, pages = {}, None, 0
    while True:
        page = await asyncio.to_thread(broker.api, "state", channel=TOPIC, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert len(page["rows"]) <= limit
        for row in page["rows"]:
            assert row["key"] not in rows, "a row stands on two pages"
            rows[row["key"]] = row["data"]
        pages += 1
        cursor = page.get("next")
        if not cursor:
            return rows, pages


def believed(wire):
    """What a client that begins with nothing makes of what it is sent."""
    rows = {}
    for event in wire.all("publication", TOPIC):
        key = event.frame["key"]
        rows.pop(key, None) if event.frame.get("removed") else rows.__setitem__(key, event.data)
    return rows


async def everybody_sees(brokers, expected):
    for broker in brokers:
        rows, pages = await read(broker)
        assert rows == expected and pages == -(-len(expected) // 350)
        for wire in (PlainWire, CentrifugeWire):
            async with await wire.open(broker, topics=[TOPIC]) as new:
                await new.until(lambda new=new: believed(new) == expected, "a new subscriber has the rows")
                assert len(new.all("publication", TOPIC)) == len(expected), "each row comes once, and none that is gone"
                assert not new.all("gap")


async def test_rows_are_the_same_on_all_nodes_and_outlive_the_one_that_set_them(start):
    with start() as one, start() as other:
        for broker in (one, other):
            await knows(broker, 2)
        async with await PlainWire.open(one, topics=[TOPIC]) as here, await CentrifugeWire.open(other, topics=[TOPIC]) as there:
            rows = {f"o{n}": {"n": n, "state": "new"} for n in range(ROWS)}
            await change(one, rows)
            removed = {f"o{n}": None for n in range(0, ROWS, 10)}
            await change(other, removed)
            changed = {f"o{n}": {"n": n, "state": "done"} for n in range(5, ROWS, 10)}
            await change(other, changed)
            expected = {key: row for key, row in (rows | removed | changed).items() if row}
            for wire in (here, there):
                await wire.until(lambda wire=wire: believed(wire) == expected, "who listens all the time has the rows")
                assert not wire.all("gap") and not wire.all("unsubscribed")
            await everybody_sees((one, other), expected)
            one.process.kill()
            await here.ended()
            more = {"late": {"state": "new"}, "o1": None, "o2": {"n": 2, "state": "late"}}
            await change(other, more)
            expected = {key: row for key, row in (expected | more).items() if row}
            await there.until(lambda: believed(there) == expected, "the other node goes on")
            with start() as third:
                await knows(third, 2)
                await everybody_sees((other, third), expected)
