"""Python `websockets` against the plain protocol: no SDK at all (docs/protocols/plain.md)."""

import asyncio
import base64
import json
import time
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import PATIENCE, SECRET, Broker, eventually, token


def open_socket(broker, path, **options):
    return connect(broker.ws + path, proxy=None, ping_interval=None, **options)


async def take(socket, count=1):
    """The next frames as they came."""
    async with asyncio.timeout(PATIENCE):
        return [await socket.recv() for _ in range(count)]


async def take_json(socket, count=1):
    return [json.loads(frame) for frame in await take(socket, count)]


async def take_told(socket, count):
    """The next frames of an envelope, without who comes and goes: those may stand anywhere."""
    frames = []
    while len(frames) < count:
        frames += [frame for frame in await take_json(socket) if frame["broker"] not in ("join", "leave")]
    return frames


async def ask(socket, **command):
    """Sends a command of ours; answers the next frame that is an answer."""
    await socket.send(json.dumps(command))
    return await answer(socket)


async def answer(socket):
    async with asyncio.timeout(PATIENCE):
        while True:
            frame = json.loads(await socket.recv())
            if isinstance(frame, dict) and frame.get("broker") not in (None, "publication", "join", "leave", "connected"):
                return frame


async def ended(socket):
    """The close code and reason; frames before it are dropped."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None, closed.rcvd.reason if closed.rcvd else None


async def refused(broker, path, **options):
    """Status and body of a handshake that is refused over HTTP."""
    with pytest.raises(InvalidStatus) as refusal:
        async with open_socket(broker, path, **options):
            pass
    response = refusal.value.response
    body = response.body.decode()
    return response.status_code, json.loads(body) if body.startswith("{") else body


class TestRaw:
    async def test_payloads_come_exactly_as_they_were_published(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            for data in ['{"b":1,  "a":[1.50, "\\u00e9"]}', '"text"', "17", "null"]:
                status, _, _ = broker.post("/api/publish", f'{{"channel":"{topic}","data":{data}}}'.encode())
                assert status == 200
                assert await take(socket) == [data]
            broker.api("publish", channel=topic, b64data=base64.b64encode(b"\x00\xff").decode())
            assert await take(socket) == [b"\x00\xff"]

    async def test_nothing_comes_before_the_first_publication(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            broker.publish(topic, "first")
            assert await take(socket) == ['"first"']

    async def test_what_is_published_after_the_handshake_arrives(self, broker, topic):
        for number in range(30):
            async with open_socket(broker, f"/ws/{topic}.{number}") as socket:
                broker.publish(f"{topic}.{number}", number)
                assert await take_json(socket) == [number]

    async def test_several_topics_share_a_socket(self, broker, topic):
        async with open_socket(broker, f"/ws?topic={topic}.a&topic={topic}.b") as socket:
            broker.publish(f"{topic}.a", "a")
            broker.publish(f"{topic}.b", "b")
            assert await take_json(socket, 2) == ["a", "b"]

    async def test_a_resume_brings_what_was_missed(self, broker, topic):
        broker.publish(topic, 1)
        position = broker.publish(topic, 2)
        broker.publish(topic, 3)
        since = quote(f"{position['offset']}@{position['epoch']}")
        async with open_socket(broker, f"/ws/{topic}?since={since}") as socket:
            broker.publish(topic, 4)
            assert await take_json(socket, 2) == [3, 4]

    async def test_since_zero_brings_all_history(self, broker, topic):
        for number in range(5):
            broker.publish(topic, number)
        async with open_socket(broker, f"/ws/{topic}?since=0") as socket:
            assert await take_json(socket, 5) == [0, 1, 2, 3, 4]

    async def test_a_resume_in_another_epoch_is_a_gap(self, broker, topic):
        broker.publish(topic, 1)
        async with open_socket(broker, f"/ws/{topic}?since=1@elsewhen") as socket:
            [gap] = await take_json(socket)
            assert (gap["broker"], gap["topic"], gap["reason"]) == ("gap", topic, "epoch")
            broker.publish(topic, "live")
            assert await take_json(socket) == ["live"]

    async def test_a_resume_from_before_the_history_is_a_gap(self, broker, topic):
        position = broker.publish(topic, 0)
        for _ in range(10):
            broker.api("broadcast", channels=[topic] * 31, data=1)
        async with open_socket(broker, f"/ws/{topic}?since={position['offset']}@{position['epoch']}") as socket:
            [gap] = await take_json(socket)
            assert (gap["broker"], gap["topic"], gap["reason"]) == ("gap", topic, "trimmed")

    async def test_the_bare_text_ping_is_answered_with_pong(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            await socket.send("ping")
            assert await take(socket) == ["pong"]

    async def test_a_publish_that_could_be_taken_for_ours_is_refused(self, broker, topic):
        status, _, body = broker.post("/api/publish", {"channel": topic, "data": {"broker": "closing"}})
        assert (status, body["error"]["code"]) == (200, 107)
        async with open_socket(broker, f"/ws/{topic}") as socket:
            error = await ask(socket, broker="publish", id=1, topic=topic, data={"broker": "closing"})
            assert (error["broker"], error["code"], error["id"]) == ("error", 107, 1)
            ok = await ask(socket, broker="publish", id=2, topic=topic, data={"in": {"broker": "deeper is fine"}})
            assert ok["broker"] == "ok"


class TestEnvelope:
    async def test_the_first_frames_tell_session_user_and_topic(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?format=envelope") as socket:
            connected, subscribed = await take_told(socket, 2)
            assert connected["broker"] == "connected" and connected["session"]
            assert (subscribed["broker"], subscribed["topic"]) == ("subscribed", topic)
            assert "id" not in subscribed
            offset, epoch = subscribed["position"].split("@")
            assert offset == "0" and epoch

    async def test_a_publication_tells_what_is_known_of_it(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?format=envelope") as socket:
            before = time.time() * 1000
            position = broker.publish(topic, {"n": 1}, tags={"kind": "tick"}, key="o7")
            _, _, publication = await take_told(socket, 3)
            assert list(publication)[0] == "broker"
            assert publication["broker"] == "publication"
            assert publication["position"] == f"{position['offset']}@{position['epoch']}"
            assert (publication["topic"], publication["data"]) == (topic, {"n": 1})
            assert (publication["key"], publication["tags"]) == ("o7", {"kind": "tick"})
            assert abs(publication["time"] - before) < 60_000
            broker.api("publish", channel=topic, b64data=base64.b64encode(b"\x00\xff").decode())
            [binary] = await take_told(socket, 1)
            assert binary["b64data"] == base64.b64encode(b"\x00\xff").decode()

    async def test_a_resume_says_that_it_recovered(self, broker, topic):
        position = broker.publish(topic, 1)
        broker.publish(topic, 2)
        async with open_socket(broker, f"/ws/{topic}?format=envelope&since={position['offset']}@{position['epoch']}") as socket:
            _, subscribed, missed = await take_told(socket, 3)
            assert subscribed["recovered"] is True
            assert missed["data"] == 2

    async def test_a_resume_that_fails_says_so_and_tells_the_gap(self, broker, topic):
        broker.publish(topic, 1)
        async with open_socket(broker, f"/ws/{topic}?format=envelope&since=1@elsewhen") as socket:
            _, subscribed, gap = await take_told(socket, 3)
            assert subscribed["recovered"] is False
            assert (gap["broker"], gap["reason"]) == ("gap", "epoch")

    async def test_join_and_leave_are_told(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?format=envelope") as socket:
            own = (await take_json(socket))[0]["session"]

            async def next_of(kind):
                while True:
                    [frame] = await take_json(socket)
                    if frame["broker"] == kind and frame["session"] != own:
                        return frame

            async with open_socket(broker, f"/ws/{topic}?format=envelope&token={token(sub='ris1')}") as guest:
                session = (await take_json(guest))[0]["session"]
                join = await next_of("join")
                assert (join["topic"], join["user"], join["session"]) == (topic, "ris1", session)
            leave = await next_of("leave")
            assert leave["session"] == session

    async def test_notices_off_keeps_only_answers(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?notices=off&since=1@elsewhen") as socket:
            ok = await ask(socket, broker="publish", id=1, topic=topic, data="hello")
            assert (ok["broker"], ok["id"]) == ("ok", 1)


class TestCommands:
    @pytest.mark.parametrize("id", [1, "one"])
    async def test_subscribe_and_unsubscribe(self, broker, topic, id):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            subscribed = await ask(socket, broker="subscribe", id=id, topic=f"{topic}.more")
            assert (subscribed["broker"], subscribed["id"], subscribed["topic"]) == ("subscribed", id, f"{topic}.more")
            assert "recovered" not in subscribed
            broker.publish(f"{topic}.more", "heard")
            assert await take_json(socket) == ["heard"]
            unsubscribed = await ask(socket, broker="unsubscribe", id=id, topic=f"{topic}.more")
            assert (unsubscribed["broker"], unsubscribed["id"]) == ("unsubscribed", id)
            broker.publish(f"{topic}.more", "not heard")
            broker.publish(topic, "heard")
            assert await take_json(socket) == ["heard"]

    async def test_subscribe_since_brings_what_was_missed_after_the_answer(self, broker, topic):
        position = broker.publish(topic, 1)
        broker.publish(topic, 2)
        async with open_socket(broker, f"/ws/{topic}.url") as socket:
            since = f"{position['offset']}@{position['epoch']}"
            subscribed = await ask(socket, broker="subscribe", id=1, topic=topic, since=since)
            assert subscribed["recovered"] is True
            assert await take_json(socket) == [2]

    async def test_publish_answers_topic_and_position(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            ok = await ask(socket, broker="publish", id=3, topic=topic, data={"n": 1})
            assert (ok["broker"], ok["id"], ok["topic"], ok["position"].split("@")[0]) == ("ok", 3, topic, "1")

    async def test_publish_with_one_idempotency_key_is_stored_once(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}.url") as socket:
            answers = [await ask(socket, broker="publish", id=n, topic=topic, data=1, idempotency_key="k") for n in range(3)]
            assert len({ok["position"] for ok in answers}) == 1
            history = await ask(socket, broker="history", id=9, topic=topic, limit=10)
            assert len(history["publications"]) == 1

    async def test_history(self, broker, topic):
        for number in range(1, 6):
            position = broker.publish(topic, number)
        async with open_socket(broker, f"/ws/{topic}.url") as socket:
            page = await ask(socket, broker="history", id=4, topic=topic, limit=2, reverse=True)
            assert [publication["data"] for publication in page["publications"]] == [5, 4]
            assert page["position"] == f"5@{position['epoch']}"
            page = await ask(socket, broker="history", id=5, topic=topic, limit=50, since=f"3@{position['epoch']}")
            assert [publication["data"] for publication in page["publications"]] == [4, 5]

    async def test_presence(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?format=envelope&token={token(sub='ris1')}") as socket:
            session = (await take_json(socket))[0]["session"]
            ok = await ask_after_subscribed(socket, broker="presence", id=5, topic=topic)
            assert list(ok["presence"]) == [session]
            assert ok["presence"][session]["user"] == "ris1"

    async def test_ping_is_answered_with_pong(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            await socket.send('{"broker":"ping"}')
            assert await take_json(socket) == [{"broker": "pong"}]

    async def test_unknown_fields_are_ignored(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            ok = await ask(socket, broker="publish", id=1, topic=topic, data=1, colour="blue", extra={"deep": [1]})
            assert ok["broker"] == "ok"

    async def test_a_command_may_come_in_fragments(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}.url") as socket:
            text = json.dumps({"broker": "publish", "id": 1, "topic": topic, "data": "x" * 1000})
            await socket.send([text[:1], text[1:500], "", text[500:]])
            assert (await answer(socket))["id"] == 1


async def ask_after_subscribed(socket, **command):
    """`ask` on an envelope socket, whose `subscribed` of the URL's topic comes first."""
    assert (await answer(socket))["broker"] == "subscribed"
    return await ask(socket, **command)


class TestMistakes:
    @pytest.mark.parametrize(
        ("frame", "code", "word", "id"),
        [
            ('{"broker":"subscribe","id":1,"topic":', 107, "bad_request", None),
            ("not JSON at all", 107, "bad_request", None),
            ("", 107, "bad_request", None),
            ("[1,2,3]", 107, "bad_request", None),
            ("{}", 107, "bad_request", None),
            ('{"hello":"application"}', 107, "bad_request", None),
            (b"\x00\x01\x02", 107, "bad_request", None),
            ('{"broker":"dance","id":1}', 104, "unknown_action", 1),
            ('{"broker":7,"id":1}', 107, "bad_request", 1),
            ('{"broker":"subscribe","id":"a"}', 107, "bad_request", "a"),
            ('{"broker":"subscribe","id":1,"topic":7}', 107, "bad_request", 1),
            ('{"broker":"subscribe","id":1,"topic":""}', 107, "bad_request", 1),
            ('{"broker":"subscribe","id":1,"topic":"with blank"}', 107, "bad_request", 1),
            ('{"broker":"subscribe","id":1,"topic":"t","since":"nonsense"}', 107, "bad_request", 1),
            ('{"broker":"publish","id":1,"topic":"t"}', 107, "bad_request", 1),
            ('{"broker":"history","id":1,"topic":"t","limit":"many"}', 107, "bad_request", 1),
            ('{"broker":"call","id":1,"method":"nothing","data":1}', 108, "not_available", 1),
            ('{"broker":"publish","id":1,"topic":"t","data":' + "[" * 5000 + "]" * 5000 + "}", 107, "bad_request", None),
        ],
    )
    async def test_each_is_named_and_the_socket_lives(self, broker, topic, frame, code, word, id):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            await socket.send(frame)
            error = await answer(socket)
            assert (error["broker"], error["code"], error["error"]) == ("error", code, word)
            assert error["message"]
            if id is not None:
                assert error["id"] == id
            broker.publish(topic, "still here")
            assert await take_json(socket) == ["still here"]

    async def test_the_place_of_a_mistake_in_json_is_told(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            await socket.send('{"broker":"ping",}')
            assert 16 <= (await answer(socket))["at"] <= 18

    async def test_subscribing_twice_is_refused(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            error = await ask(socket, broker="subscribe", id=1, topic=topic)
            assert (error["broker"], error["code"], error["error"]) == ("error", 105, "already_subscribed")

    async def test_one_topic_too_many_is_refused(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            for number in range(1, 128):
                assert (await ask(socket, broker="subscribe", id=number, topic=f"{topic}.{number}"))["broker"] == "subscribed"
            error = await ask(socket, broker="subscribe", id=128, topic=f"{topic}.128")
            assert (error["broker"], error["id"], error["code"], error["error"]) == ("error", 128, 106, "limit_exceeded")

    async def test_a_message_may_have_64_kib_and_not_one_byte_more(self, broker, topic):
        def publish_of(size):
            frame = json.dumps({"broker": "publish", "id": 1, "topic": topic, "data": ""})
            return frame[:-2] + "x" * (size - len(frame)) + frame[-2:]

        async with open_socket(broker, f"/ws/{topic}.url") as socket:
            await socket.send(publish_of(65536))
            assert (await answer(socket))["broker"] == "ok"
            await socket.send(publish_of(65537))
            assert (await ended(socket))[0] == 1009

    async def test_bad_utf8_ends_the_connection_as_websocket_asks(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}") as socket:
            await socket.send(b'{"broker":"ping\xff"}', text=True)
            assert (await ended(socket))[0] == 1007


class TestHandshake:
    async def test_plain_http_on_a_socket_route_is_told_to_upgrade(self, broker, topic):
        status, _, body = broker.get(f"/ws/{topic}")
        assert status == 426
        assert "websocket" in json.dumps(body).lower()

    async def test_an_unknown_path_names_the_nearest_route(self, broker):
        for path in ["/wss/news", "/w/news", "/ws/ws/news"]:
            status, body = await refused(broker, path)
            assert (status, body["error"]["error"]) == (404, "unknown_topic"), path
            assert "did you mean" in json.dumps(body).lower(), path

    async def test_a_bad_name_is_refused(self, broker):
        for path in ["/ws/with%20blank", "/ws/" + "x" * 256, "/ws?topic=", "/ws/%ff"]:
            status, body = await refused(broker, path)
            assert (status, body["error"]["code"]) == (400, 107), path

    async def test_a_bad_query_is_refused(self, broker, topic):
        for query in ["since=nonsense", "format=xml", "notices=maybe"]:
            status, body = await refused(broker, f"/ws/{topic}?{query}")
            assert (status, body["error"]["error"]) == (400, "bad_request"), query
            assert query.split("=")[0] in body["error"]["message"], query

    async def test_a_position_fits_one_topic_only(self, broker, topic):
        status, body = await refused(broker, f"/ws?topic={topic}.a&topic={topic}.b&since=1@e")
        assert (status, body["error"]["error"]) == (400, "bad_request")

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://evil.example:8000",
            "http://localhost@evil.example",
            "file://",
            "nonsense",
        ],
    )
    async def test_a_foreign_origin_is_a_bare_403(self, broker, topic, origin):
        status, _ = await refused(broker, f"/ws/{topic}", origin=origin)
        assert status == 403
        status, _ = await refused(broker, "/connection/websocket", origin=origin)
        assert status == 403

    @pytest.mark.parametrize("origin", ["http://localhost:5173", "http://127.0.0.1:1", "http://LOCALHOST:80", "https://localhost"])
    async def test_loopback_origins_of_any_port_are_welcome_in_dev_mode(self, broker, topic, origin):
        async with open_socket(broker, f"/ws/{topic}", origin=origin) as socket:
            broker.publish(topic, 1)
            assert await take_json(socket) == [1]

    async def test_with_an_allowed_origin_a_refusal_is_said_over_the_socket(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?since=nonsense", origin="http://localhost") as socket:
            [error] = await take_json(socket)
            assert (error["broker"], error["error"]) == ("error", "bad_request")
            assert (await ended(socket))[0] == 3501

    async def test_a_hundred_sockets_at_once(self, broker, topic):
        sockets = await asyncio.gather(*(open_socket(broker, f"/ws/{topic}") for _ in range(100)))
        broker.publish(topic, "for all")
        assert await asyncio.gather(*(take(socket) for socket in sockets)) == [['"for all"']] * 100
        await asyncio.gather(*(socket.close() for socket in sockets))


class TestCredentials:
    @pytest.fixture
    def ways(self):
        """Every way to show a token, as arguments of a handshake."""
        return {
            "query": lambda path, token: (f"{path}&token={token}", {}),
            "header": lambda path, token: (path, {"additional_headers": {"Authorization": f"Bearer {token}"}}),
            "cookie": lambda path, token: (path, {"additional_headers": {"Cookie": f"other=1; broker_token={token}"}}),
            "subprotocol": lambda path, token: (path, {"subprotocols": ["bearer", token]}),
        }

    @pytest.mark.parametrize("way", ["query", "header", "cookie", "subprotocol"])
    async def test_a_token_names_the_user(self, broker, topic, ways, way):
        path, options = ways[way](f"/ws/{topic}?format=envelope", token(sub="ris1"))
        async with open_socket(broker, path, **options) as socket:
            [connected] = await take_json(socket)
            assert connected["user"] == "ris1"
            if way == "subprotocol":
                assert socket.subprotocol == "bearer"

    @pytest.mark.parametrize("way", ["query", "header", "cookie", "subprotocol"])
    async def test_a_wrong_token_is_unauthorized(self, broker, topic, ways, way):
        path, options = ways[way](f"/ws/{topic}?format=envelope", token(secret="somebody else's secret 0123456789abcdef", sub="ris1"))
        status, body = await refused(broker, path, **options)
        assert (status, body["error"]["error"], body["error"]["code"]) == (401, "unauthorized", 101)

    async def test_an_expired_token_is_told_apart(self, broker, topic):
        path = f"/ws/{topic}?token={token(sub='ris1', exp=int(time.time()) - 60)}"
        status, body = await refused(broker, path)
        assert (status, body["error"]["error"], body["error"]["code"]) == (401, "token_expired", 109)
        async with open_socket(broker, path, origin="http://localhost") as socket:
            [error] = await take_json(socket)
            assert error["error"] == "token_expired"
            assert (await ended(socket))[0] == 3005

    async def test_a_token_without_a_user_is_anonymous(self, broker, topic):
        async with open_socket(broker, f"/ws/{topic}?format=envelope&token={token(exp=int(time.time()) + 60)}") as socket:
            [connected] = await take_json(socket)
            assert connected.get("user", "") == ""

    async def test_no_secret_is_logged(self, topic):
        with Broker("--dev", "--token-hmac-secret", SECRET) as own:
            good, bad = token(sub="ris1"), token(secret="somebody else's secret 0123456789abcdef", sub="ris1")
            async with open_socket(own, f"/ws/{topic}?token={good}&format=envelope") as socket:
                session = (await take_json(socket))[0]["session"]
            await refused(own, f"/ws/{topic}?token={bad}")
            await refused(own, f"/ws/{topic}?token={bad}", additional_headers={"Authorization": f"Bearer {bad}"})
            own.wait_for_log(session)
            own.stop()
            for secret in [SECRET, good, bad, good.split(".")[2], bad.split(".")[2]]:
                assert secret not in own.log()


class TestLife:
    async def test_a_session_is_one_line_at_open_and_one_at_close(self, topic):
        with Broker("--dev") as own:
            async with open_socket(own, f"/ws/{topic}?format=envelope") as socket:
                session = (await take_json(socket))[0]["session"]
            own.wait_for_log(f"(?s){session}.*\n.*{session}")
            own.stop()
            lines = [line for line in own.log().splitlines() if session in line]
            assert len(lines) == 2, lines
            assert "127.0.0.1" in lines[0]

    async def test_a_stop_is_told_and_the_exit_code_is_zero(self, topic):
        with Broker("--dev") as own:
            async with open_socket(own, f"/ws/{topic}") as socket:
                stopping = asyncio.create_task(asyncio.to_thread(own.stop))
                [closing] = await take_json(socket)
                assert (closing["broker"], closing["code"]) == ("closing", 3001)
                assert (await ended(socket))[0] == 3001
                assert await stopping == 0

    async def test_a_silent_peer_is_pinged_and_closed_with_3012(self, pinging, topic):
        reader, writer = await asyncio.open_connection("127.0.0.1", pinging.port)
        try:
            writer.write(
                f"GET /ws/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 101 " in head.split(b"\r\n")[0]
                frames = []
                while not frames or frames[-1][0] != 8:
                    first, length = await reader.readexactly(2)
                    assert length < 126
                    frames.append((first & 15, await reader.readexactly(length)))
            kinds = [kind for kind, _ in frames]
            assert 9 in kinds, "no ping came"
            assert int.from_bytes(frames[-1][1][:2], "big") == 3012
        finally:
            writer.close()

        async def stats():
            return await asyncio.to_thread(pinging.api, "presence_stats", channel=topic)

        await eventually(stats, lambda answer: answer["num_clients"] == 0, "the session is gone")
