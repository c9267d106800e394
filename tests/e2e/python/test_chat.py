"""U5 with Python's `websockets`: the frames and steps of a chat client that is no page, against the chat of `examples/`."""

import asyncio
import itertools
import json
import urllib.error
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import Server, binary, remember

PASSWORD = "correct horse battery"
_number = itertools.count()


class Chat(Server):
    address = r"chat at (http://[\d.:]+)/"

    def call(self, method, path, body=None, token=None):
        """One request; answers status and the parsed body."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.http}/api{path}", data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, text = refused.code, refused.read()
        return status, json.loads(text) if text else None

    async def sign_up(self, name):
        name = f"{name} {next(_number)}"
        status, body = await asyncio.to_thread(self.call, "POST", "/signup", {"name": name, "password": remember(PASSWORD)})
        assert status == 201, body
        return User(self, name, body["user"]["id"], remember(body["token"]))


class User:
    def __init__(self, chat, name, id, token):
        self.chat, self.name, self.id, self.token = chat, name, id, token

    async def post(self, path, body=None):
        return await asyncio.to_thread(self.chat.call, "POST", path, body or {}, self.token)

    async def get(self, path):
        return await asyncio.to_thread(self.chat.call, "GET", path, None, self.token)

    async def create(self, title="Night shift"):
        status, session = await self.post("/sessions", {"title": title})
        assert status == 201, session
        return session["id"], session["invite"]

    async def join(self, invite):
        status, session = await self.post(f"/invites/{invite}")
        assert status == 200, session

    async def say(self, session, content, client_id=None):
        status, answer = await self.post(f"/sessions/{session}/messages", {"content": content, "clientId": client_id})
        assert status in (200, 201), answer
        return answer["message"]["id"]

    async def stored(self, session):
        _, answer = await self.get(f"/sessions/{session}/messages?after=0&limit=200")
        return [message["content"] for message in answer["messages"]]

    def listen(self, session, more=""):
        return Socket.open(f"{self.chat.ws}/ws/chat?sessionId={session}&token={self.token}{more}")


class Socket:
    """A plain WebSocket with the application's own JSON frames."""

    def __init__(self, socket):
        self.socket = socket

    @classmethod
    async def open(cls, url):
        return cls(await connect(url, proxy=None))

    async def frame(self):
        async with asyncio.timeout(10):
            return json.loads(await self.socket.recv())

    async def of(self, kind):
        while True:
            frame = await self.frame()
            if kind in (frame.get("type"), frame.get("broker")):
                return frame

    async def send(self, **frame):
        await self.socket.send(json.dumps(frame))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.socket.close()


@pytest.fixture(scope="module")
def chat():
    with Chat([binary("CHAT_BIN"), "--listen", "127.0.0.1:0", "--password-memory", "64"]) as running:
        yield running


async def refusal(url):
    """Status and error of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, proxy=None)
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"]


async def test_three_refusals_each_say_what_to_do(chat):
    dana, eun = await chat.sign_up("Dana"), await chat.sign_up("은정")
    session, _ = await dana.create()
    url = f"{chat.ws}/ws/chat?sessionId={{}}&token={{}}"
    bad_token = await refusal(url.format(session, "garbage"))
    unknown = await refusal(url.format("no-such-session", eun.token))
    stranger = await refusal(url.format(session, eun.token))
    assert [(status, error["code"], error["error"]) for status, error in (bad_token, unknown, stranger)] == [
        (401, 101, "unauthorized"),
        (404, 102, "unknown_topic"),
        (403, 103, "permission_denied"),
    ]
    assert unknown[1]["message"] == "there is no session with this id" and "GET /api/sessions" in unknown[1]["hint"]
    assert stranger[1]["message"] == "you are not a member of this session" and "share link" in stranger[1]["hint"]


async def test_a_page_is_told_the_same_over_its_socket(chat):
    """A script cannot read the answer to a refused handshake."""
    dana, eun = await chat.sign_up("Dana"), await chat.sign_up("은정")
    session, _ = await dana.create()
    cases = [(session, "garbage", "unauthorized", 3500), ("none", eun.token, "unknown_topic", 3507), (session, eun.token, "permission_denied", 3507)]
    for of, token, word, code in cases:
        async with connect(f"{chat.ws}/ws/chat?sessionId={of}&token={token}", proxy=None, origin=chat.http) as socket:
            told = json.loads(await socket.recv())
            assert (told["broker"], told["error"]) == ("error", word)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == code


async def test_a_hundred_bad_tokens_at_once_disturb_nobody(chat):
    dana = await chat.sign_up("Dana")
    session, _ = await dana.create()
    async with await dana.listen(session) as socket:
        bad = asyncio.gather(*[refusal(f"{chat.ws}/ws/chat?sessionId={session}&token=bad-{number}") for number in range(100)])
        for number in range(20):
            await socket.send(type="message", content=f"n{number}")
            assert (await socket.of("message"))["content"] == f"n{number}"
        assert {status for status, _ in await bad} == {401}


async def test_by_rest_and_by_frame_it_reaches_everybody_once_with_its_id(chat):
    dana, eun = await chat.sign_up("Dana"), await chat.sign_up("은정")
    session, invite = await dana.create()
    await eun.join(invite)
    async with await dana.listen(session) as first, await eun.listen(session) as second, await eun.listen(session) as third:
        assert await dana.say(session, "by REST") == 1
        await second.of("history")
        await second.send(type="message", content="MRI order of 홍길동 was accepted", clientId="c1")
        answers = [await second.of("message"), await second.frame(), await second.frame()]
        [sent] = [frame for frame in answers if frame["type"] == "sent"]
        assert (sent["id"], sent["clientId"], sent["repeated"]) == (2, "c1", False)
        for socket in (first, third):
            heard = [await socket.of("message"), await socket.of("message")]
            assert [(message["id"], message["content"]) for message in heard] == [(1, "by REST"), (2, "MRI order of 홍길동 was accepted")]
            assert [message["user"]["name"] for message in heard] == [dana.name, eun.name]


async def test_retried_it_is_stored_once_whichever_way(chat):
    dana = await chat.sign_up("Dana")
    session, _ = await dana.create()
    ids = await asyncio.gather(*[dana.say(session, "once", "same") for _ in range(10)])
    async with await dana.listen(session) as socket:
        await socket.send(type="message", content="once", clientId="same")
        sent = await socket.of("sent")
        assert (set(ids), sent["id"], sent["repeated"]) == ({1}, 1, True)
        await dana.say(session, "next")
        assert (await socket.of("message"))["content"] == "next", "nobody was told of the first one again"
    assert await dana.stored(session) == ["once", "next"]


async def test_who_joins_later_sees_what_was_said(chat):
    dana, eun = await chat.sign_up("Dana"), await chat.sign_up("은정")
    session, invite = await dana.create()
    for number in range(5):
        await dana.say(session, f"said {number}")
    await eun.join(invite)
    async with await eun.listen(session) as socket:
        history = await socket.frame()
        assert history["type"] == "history"
        assert [message["content"] for message in history["messages"]] == [f"said {number}" for number in range(5)]
    assert await eun.stored(session) == [f"said {number}" for number in range(5)]


async def test_a_ticket_opens_one_connection(chat):
    dana = await chat.sign_up("Dana")
    session, _ = await dana.create()
    status, ticket = await dana.post(f"/sessions/{session}/ticket")
    assert status == 200
    remember(ticket["path"].split("ticket=")[1])
    async with await Socket.open(chat.ws + ticket["path"]) as socket:
        await socket.send(type="message", content="hello")
        assert (await socket.of("message"))["user"]["id"] == dana.id
    status, error = await refusal(chat.ws + ticket["path"])
    assert (status, error["error"]) == (401, "unauthorized")


async def test_cut_off_and_back_it_catches_up_from_its_position_and_nothing_is_doubled(chat):
    dana, eun = await chat.sign_up("Dana"), await chat.sign_up("은정")
    session, invite = await dana.create()
    await eun.join(invite)
    async with await eun.listen(session, "&format=envelope") as socket:
        await dana.say(session, "heard")
        position = (await socket.of("publication"))["position"]
        # Sent, and cut before the answer: whether it was stored nobody knows.
        await socket.send(type="message", content="from the dead spot", clientId="c9")
        socket.socket.transport.abort()
    for number in range(10):
        await dana.say(session, f"missed {number}")
    await eun.say(session, "from the dead spot", "c9")
    async with await eun.listen(session, f"&format=envelope&since={position.replace('@', '%40')}") as back:
        subscribed = await back.of("subscribed")
        assert subscribed["recovered"] is True
        missed = [(await back.of("publication"))["data"] for _ in range(11)]
    stored = await eun.stored(session)
    assert [message["content"] for message in missed] == stored[1:]
    assert sorted(stored[1:]) == sorted([f"missed {number}" for number in range(10)] + ["from the dead spot"])


async def test_a_hundred_connections_in_one_session(chat):
    dana = await chat.sign_up("Dana")
    session, _ = await dana.create("All hands")
    sockets = await asyncio.gather(*[dana.listen(session) for _ in range(100)])
    try:
        await asyncio.gather(*[socket.send(type="message", content=f"from {number}") for number, socket in enumerate(sockets)])

        async def hear(socket):
            return [(message["id"], message["content"]) for message in [await socket.of("message") for _ in range(100)]]

        heard = await asyncio.gather(*[hear(socket) for socket in sockets])
    finally:
        await asyncio.gather(*[socket.socket.close() for socket in sockets])
    assert all(one == heard[0] for one in heard)
    assert [id for id, _ in heard[0]] == list(range(1, 101))


async def test_a_logout_closes_the_sockets_of_that_login(chat):
    dana = await chat.sign_up("Dana")
    session, _ = await dana.create()
    async with await dana.listen(session) as socket:
        status, _ = await dana.post("/logout")
        assert status == 204
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.frame()
        assert closed.value.rcvd.code == 3500
    status, error = await refusal(f"{chat.ws}/ws/chat?sessionId={session}&token={dana.token}")
    assert status == 401
