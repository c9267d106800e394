"""Every limit of what may be sent, and one byte (or one thing) over it, against the real binary: what fits passes, what does not is refused by its name,
nothing of it is kept, and a healthy client beside it notices nothing."""

import asyncio
import json
import re
import socket
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness import PATIENCE, Broker, token, unique
from wire import CentrifugeWire, PlainWire, Refused

MESSAGE_MAX = 64 * 1024
BODY_MAX = 1024 * 1024
SUBSCRIPTIONS_MAX = 128
TOPIC_MAX = 255
KEY_MAX = 255
TOKEN_MAX = 8 * 1024
TICKET_MAX = 16 * 1024
HEAD_MAX = 16 * 1024
NAMES_MAX = 256
COMMANDS_MAX = 10_000
DEPTH_MAX = 64


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """A dev server without rates: what is refused here is refused for its size."""
    rates = {f"BROKER_CLIENT__RATE__{kind}": "off" for kind in ["COMMANDS", "PUBLISHES", "SUBSCRIBES", "BYTES", "ERRORS"]}
    path = tmp_path_factory.mktemp("sized") / "broker.toml"
    path.write_text('[namespaces.chosen]\nfilter = true\nallow = ["sub"]\nallow_anonymous = true\n')
    with Broker("--dev", "--config", str(path), env=rates | {"BROKER_CLIENT__MISTAKES_PER_MINUTE": "1000"}) as running:
        yield running


async def healthy(broker, topic):
    """Opens a client that must hear what is published at the end of the test."""
    return await PlainWire.open(broker, topics=[topic])


async def unharmed(broker, wire, topic):
    await asyncio.to_thread(broker.publish, topic, "after all")
    await wire.hears("after all", topic)
    await wire.close()


def padded(length, frame):
    """The JSON of `frame`, whose one `%` is filled up so that it has this many bytes."""
    text = json.dumps(frame)
    return text.replace("%", "x" * (length - len(text) + 1))


COMMANDS = {
    "plain": lambda topic: ("/ws?format=envelope", [], {"broker": "publish", "id": 7, "topic": topic, "data": "%"}, '"ok","id":7'),
    "centrifuge": lambda topic: ("/connection/websocket", ['{"id":1,"connect":{}}'], {"id": 7, "publish": {"channel": topic, "data": "%"}}, '"id":7,"publish":{'),
}


async def answer_with(client, wanted):
    """Reads on to a frame that contains the text; `None`: the connection ended before."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if wanted in (frame := await client.recv()):
                    return frame
    except ConnectionClosed:
        return None


@pytest.mark.parametrize("protocol", COMMANDS)
@pytest.mark.parametrize("pieces", [1, 2, 5], ids=["one frame", "two frames", "five frames"])
async def test_a_message(sized, topic, protocol, pieces):
    watching = await healthy(sized, topic)
    path, hello, frame, wanted = COMMANDS[protocol](topic)
    for length, fits in [(MESSAGE_MAX, True), (MESSAGE_MAX + 1, False)]:
        async with connect(sized.ws + path, proxy=None, compression=None, max_size=None) as client:
            for text in hello:
                await client.send(text)
            text = padded(length, frame)
            assert len(text) == length
            size = -(-length // pieces)
            parts = [text[start : start + size] for start in range(0, length, size)]
            try:
                await client.send(parts[0] if pieces == 1 else iter(parts))
            except ConnectionClosed:
                assert not fits
            answer = await answer_with(client, wanted)
            assert bool(answer) == fits, answer
            if not fits:
                assert client.close_code == 1009 and str(MESSAGE_MAX) in client.close_reason, client.close_reason
    # The one that fits arrived whole, the other not at all.
    await unharmed(sized, watching, topic)
    assert [len(data) for data in watching.heard(topic)] == [MESSAGE_MAX - len(padded(0, frame)), len("after all")]


def highest_kib(broker):
    """The most memory that the server has ever had resident."""
    with open(f"/proc/{broker.process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])


async def pour(broker, head, count, answer):
    """Announces far too much and sends of it as long as anybody listens, at most so many pieces of 64 KiB.

    `answer` must come back, unless it is empty: whoever goes on writing may find the connection reset before it has read why.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    heard = bytearray()

    async def listen():
        try:
            while data := await reader.read(65536):
                heard.extend(data)
        except OSError:
            pass

    writer.write(head)
    listening = asyncio.create_task(listen())
    try:
        for _ in range(count):
            writer.write(b"x" * 65536)
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
    except (OSError, TimeoutError):
        pass
    async with asyncio.timeout(PATIENCE):
        await listening
    writer.transport.abort()
    assert answer in heard, heard[:300]


UPGRADE = (
    "GET /ws/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = "POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: dev\r\nContent-Type: application/json\r\n"


async def test_what_is_announced_too_large_is_not_buffered(sized, topic):
    watching = await healthy(sized, topic)
    before = highest_kib(sized)
    upgrade = UPGRADE.format(topic=unique("t")).encode()
    gibibyte = 1 << 30
    frame = bytes([0x81, 0x80 | 127]) + struct.pack(">Q", gibibyte) + bytes(4)
    close_1009 = struct.pack(">H", 1009)
    await asyncio.gather(*(pour(sized, upgrade + frame, 1024, close_1009) for _ in range(4)))
    announced = POST.encode() + f"Content-Length: {gibibyte}\r\n\r\n".encode()
    chunked = POST.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % gibibyte
    await asyncio.gather(*(pour(sized, head, 1024, b"") for head in [announced, chunked] * 2))
    # Four bodies of at most a mebibyte each, and what the allocator keeps of them.
    grown = highest_kib(sized) - before
    assert grown <= 8 * 1024, f"{grown} KiB more for 512 MiB that were not taken"
    await unharmed(sized, watching, topic)


async def test_a_body(sized, topic):
    watching = await healthy(sized, topic)
    for length, status in [(BODY_MAX, 200), (BODY_MAX + 1, 413)]:
        body = padded(length, {"channel": f"{topic}.other", "data": "%"}).encode()
        assert len(body) == length
        found, _, answer = await asyncio.to_thread(sized.post, "/api/publish", body)
        assert found == status, answer
        if status == 413:
            assert answer["error"]["code"] == 106 and str(BODY_MAX) in answer["error"]["message"], answer
    [kept] = (await asyncio.to_thread(sized.api, "history", channel=f"{topic}.other", limit=10))["publications"]
    assert len(kept["data"]) == BODY_MAX - len(padded(0, {"channel": f"{topic}.other", "data": ""}))
    await unharmed(sized, watching, topic)


async def test_a_head(sized, topic):
    """Of requests and of handshakes: what all headers have together, in about so many bytes."""
    watching = await healthy(sized, topic)

    async def ask(length):
        reader, writer = await asyncio.open_connection("127.0.0.1", sized.port)
        rest = UPGRADE.format(topic=unique("t"))
        writer.write(rest.replace("\r\n\r\n", f"\r\nX-Filler: {'x' * (length - len(rest) - 12)}\r\n\r\n").encode())
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
        writer.transport.abort()
        return line

    assert b" 101 " in await ask(HEAD_MAX - 1024)
    assert b" 431 " in await ask(HEAD_MAX + 1024)
    await unharmed(sized, watching, topic)


def assert_refused(broker, method, request, code, most):
    """The server API decides against it and names the limit."""
    status, _, answer = broker.post(f"/api/{method}", request)
    assert status == 200 and answer["error"]["code"] == code, (method, answer)
    assert re.search(rf"\b{most}\b", answer["error"]["message"]), (method, answer)


async def test_the_name_of_a_topic(sized, mode):
    fits, over = "t" * TOPIC_MAX, "t" * (TOPIC_MAX + 1)
    async with await mode.open(sized) as wire:
        await wire.subscribe(fits)
        await wire.publish(fits, "it fits")
        await wire.hears("it fits", fits)
        for act in [wire.subscribe(over), wire.publish(over, 1), wire.history(over)]:
            with pytest.raises(Refused) as refusal:
                await act
            assert refusal.value.code == 107 and str(TOPIC_MAX) in refusal.value.message, refusal.value
        assert sized.publish(fits, 1)["offset"]
        assert_refused(sized, "publish", {"channel": over, "data": 1}, 107, TOPIC_MAX)
    async with await PlainWire.open(sized, topics=[fits]):
        pass
    with pytest.raises(Refused) as refusal:
        await PlainWire.open(sized, topics=[over])
    assert (refusal.value.status, refusal.value.code) == (400, 107)


@pytest.mark.parametrize("field", ["key", "idempotency_key"])
async def test_keys_of_a_publish(sized, topic, field):
    for length, fits in [(KEY_MAX, True), (KEY_MAX + 1, False)]:
        async with await PlainWire.open(sized) as wire:
            act = wire.command("publish", topic=topic, data=1, **{field: "k" * length})
            if fits:
                await act
            else:
                with pytest.raises(Refused) as refusal:
                    await act
                assert refusal.value.code == 107 and str(KEY_MAX) in refusal.value.message, refusal.value
        if fits:
            assert sized.publish(topic, 1, **{field: "k" * length})["offset"]
        else:
            assert_refused(sized, "publish", {"channel": topic, "data": 1, field: "k" * length}, 107, KEY_MAX)


async def test_levels_of_a_command(sized, topic, mode):
    levels = DEPTH_MAX - (1 if mode is PlainWire else 2)
    nested = lambda count: json.loads("[" * count + "]" * count)
    async with await mode.open(sized) as wire:
        await wire.publish(topic, nested(levels))
        with pytest.raises(Refused) as refusal:
            await wire.publish(topic, nested(levels + 1))
        assert refusal.value.code == 107 and str(DEPTH_MAX) in refusal.value.message, refusal.value


async def test_subscriptions_of_a_session(sized, topic, mode):
    names = [f"{topic}.{number}" for number in range(SUBSCRIPTIONS_MAX)]
    async with await mode.open(sized) as wire:
        for name in names:
            await wire.subscribe(name)
        with pytest.raises(Refused) as refusal:
            await wire.subscribe(topic)
        assert refusal.value.code == 106 and str(SUBSCRIPTIONS_MAX) in refusal.value.message, refusal.value
        await wire.unsubscribe(names[0])
        await wire.subscribe(topic)
        sized.publish(topic, "it fits")
        await wire.hears("it fits", topic)
    status = []
    for count in [SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_MAX + 1]:
        query = "&".join(f"topic=a{number}" for number in range(count))
        status.append(sized_status(sized, f"/sse?{query}"))
    assert status == [200, 429]


def sized_status(broker, path):
    with socket.create_connection(("127.0.0.1", broker.port), PATIENCE) as pipe:
        pipe.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        return int(pipe.recv(64).split(b" ")[1])


async def test_a_token(tmp_path, mode):
    secret = "a-secret-of-the-end-to-end-tests-0123456789"
    with Broker("--dev", "--token-hmac-secret", secret) as broker:

        def proof(length):
            """A token of so many bytes: three bytes of claims are four of the token."""
            filler = 0
            while len(found := token(sub="u", info="x" * filler)) < length:
                filler += max(1, (length - len(found)) * 3 // 4 - 2)
            return found

        fits = proof(TOKEN_MAX - 3)
        assert TOKEN_MAX - 3 <= len(fits) <= TOKEN_MAX
        async with await mode.open(broker) as wire:
            await wire.close()
        if mode is CentrifugeWire:
            # In a query it would be the head of the request that is too long first.
            async with await mode.open(broker, fits):
                pass
            with pytest.raises(Refused) as refusal:
                await mode.open(broker, proof(TOKEN_MAX + 1))
            assert refusal.value.close == 3500 or refusal.value.code == 101, refusal.value
        else:
            async with await mode.open(broker) as wire:
                await wire.refresh(fits)
                with pytest.raises(Refused) as refusal:
                    await wire.refresh(proof(TOKEN_MAX + 1))
                assert refusal.value.code == 101 and str(TOKEN_MAX) in refusal.value.message, refusal.value


async def test_claims_of_a_ticket(sized):
    for length, fits in [(TICKET_MAX, True), (TICKET_MAX + 1, False)]:
        # They are counted as a token would hold them: without spaces, and with `sub` for `user`.
        claims = padded(0, {"sub": "u", "info": ""}).replace(": ", ":").replace(", ", ",")
        body = json.dumps({"user": "u", "info": "x" * (length - len(claims))}).encode()
        status, _, answer = sized.post("/api/ticket", body)
        assert status == 200 and ("result" in answer) == fits, (length, answer)
        if not fits:
            assert answer["error"]["code"] == 106 and str(TICKET_MAX) in answer["error"]["message"], answer


async def test_lists_of_the_server_api(sized, topic):
    names = lambda count: [f"u{number}" for number in range(count)]
    table = [
        ("publish", lambda count: {"channel": topic, "data": 1, "except": {"user": names(count)}}, NAMES_MAX, 106),
        # The set is one of them.
        ("send", lambda count: {"to": {"any": [{"user": name} for name in names(count - 1)]}, "data": 1}, NAMES_MAX, 107),
        ("batch", lambda count: {"commands": [{"presence_stats": {"channel": topic}}] * count}, COMMANDS_MAX, 106),
        ("broadcast", lambda count: {"channels": names(count), "data": 1}, COMMANDS_MAX, 106),
    ]
    for method, request, most, code in table:
        status, _, answer = await asyncio.to_thread(sized.post, f"/api/{method}", request(most))
        assert status == 200 and "error" not in answer, (method, answer)
        await asyncio.to_thread(assert_refused, sized, method, request(most + 1), code, most)


async def test_texts_of_a_filter(sized):
    topic = f"chosen:{unique('t')}"
    for nodes, text, fits in [(1, 256, True), (1, 257, False), (64, 1, True), (65, 1, False)]:
        leaf = {"key": "k", "cmp": "eq", "val": "v" * text}
        chosen = leaf if nodes == 1 else {"op": "and", "nodes": [leaf] * (nodes - 1)}
        async with await PlainWire.open(sized) as wire:
            act = wire.command("subscribe", topic=topic, filter=chosen)
            if fits:
                await act
            else:
                with pytest.raises(Refused) as refusal:
                    await act
                assert refusal.value.code in (106, 107), refusal.value
