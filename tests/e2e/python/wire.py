"""One session of either protocol behind one interface: the plain protocol and the Centrifuge protocol as bare frames over Python `websockets`.

No SDK, and nothing comes back by itself: what a server says is what stands in `events`, in the order in which it came.
"""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import Recorder

# The words of the plain protocol; Centrifuge frames carry only the number.
WORDS = {
    100: "unavailable",
    101: "unauthorized",
    102: "unknown_topic",
    103: "permission_denied",
    104: "unknown_action",
    105: "already_subscribed",
    106: "limit_exceeded",
    107: "bad_request",
    108: "not_available",
    109: "token_expired",
    111: "too_many_requests",
}


@dataclass(eq=False)
class Refused(Exception):
    """A command or an opening that the server refused; of an opening also how it ended."""

    code: int | None
    word: str | None
    message: str
    hint: str | None = None
    close: int | None = None
    status: int | None = None
    retry_after_ms: int | None = None


@dataclass
class Event:
    """Something that the server said. `kind` is `publication`, `subscribed`, `unsubscribed`, `answer`, `join`, `leave`, `expiring`, `closing`,
    `identity`, `gap` or `closed`."""

    kind: str
    topic: str | None = None
    data: object = None
    offset: int | None = None
    epoch: str | None = None
    code: int | None = None
    reason: str | None = None
    frame: dict = field(default_factory=dict)
    at: float = field(default_factory=time.time)


class Wire(Recorder):
    """What both protocols share: the socket, the events, and commands that wait for their answer."""

    def __init__(self, socket):
        super().__init__()
        self.events = []
        self.session = None
        self._socket = socket
        self._ids = itertools.count(2)
        self._waiting = {}
        self._reader = None

    def _note(self, kind, **more):
        self.events.append(Event(kind, **more))
        self.changed()

    def _read(self):
        self._reader = asyncio.create_task(self._forward())

    async def _forward(self):
        try:
            async for frame in self._socket:
                self._take(frame)
        except ConnectionClosed:
            pass
        self._note("closed", code=self._socket.close_code, reason=self._socket.close_reason)
        for waiting in self._waiting.values():
            waiting.cancel()

    async def _ask(self, frame):
        """Sends a command; answers its answer's frame, or raises `Refused`."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[frame["id"]] = waiting
        await self._socket.send(json.dumps(frame))
        try:
            async with asyncio.timeout(10):
                return await waiting
        except asyncio.CancelledError:
            if not self._waiting[frame["id"]].cancelled():
                raise
            raise Refused(None, None, "the connection ended", close=self._socket.close_code) from None
        finally:
            del self._waiting[frame["id"]]

    def _answer(self, number, result):
        """Passes an answer to who waits for it. It stands among the events too, for its place in the order."""
        self._note("answer", frame=result if isinstance(result, dict) else {})
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        waiting.set_exception(result) if isinstance(result, Refused) else waiting.set_result(result)

    def heard(self, topic=None):
        """The data of the publications so far."""
        return [event.data for event in self.events if event.kind == "publication" and topic in (None, event.topic)]

    def all(self, kind, topic=None):
        return [event for event in self.events if event.kind == kind and topic in (None, event.topic)]

    async def hears(self, data, topic=None):
        await self.until(lambda: data in self.heard(topic), f"{data!r} arrived")

    @property
    def transport(self):
        """The connection under the socket."""
        return self._socket.transport

    async def ended(self):
        """Waits for the close; answers it."""
        await self.until(lambda: self.all("closed"), "the connection is closed")
        return self.all("closed")[0]

    def positions(self):
        """Of each topic that is subscribed to now: the last position, to resume from."""
        held = {}
        for event in self.events:
            if event.kind == "unsubscribed":
                held.pop(event.topic, None)
            elif event.kind == "subscribed" and event.epoch:
                held[event.topic] = (event.offset, event.epoch)
            elif event.kind == "publication" and event.offset and event.topic in held:
                held[event.topic] = (event.offset, held[event.topic][1])
        return held

    async def close(self):
        await self._socket.close()
        if self._reader:
            await self._reader

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()


def position(text):
    """`17@Bx3k` in its parts."""
    if not text:
        return {}
    offset, epoch = text.split("@", 1)
    return {"offset": int(offset), "epoch": epoch}


class PlainWire(Wire):
    """The plain protocol. In `raw` format publications have neither topic nor position, so the data must say what they are."""

    mode = "plain"

    @classmethod
    async def open(cls, broker, token=None, topics=(), path="/ws", since=None, format="envelope", **options):
        query = [("format", format)] + [("topic", topic) for topic in topics]
        query += [("token", token)] if token else []
        query += [("since", f"{since[0]}@{since[1]}" if isinstance(since, tuple) else since)] if since else []
        url = f"{broker.ws}{path}?{urlencode(query)}"
        try:
            socket = await connect(url, proxy=None, ping_interval=None, compression=None, **options)
        except InvalidStatus as refusal:
            response = refusal.response
            error = json.loads(response.body)["error"]
            raise refused(error, status=response.status_code) from None
        wire = cls(socket)
        wire.raw = format == "raw"
        wire._read()
        if not wire.raw:
            await wire.until(lambda: wire.session or wire.all("closed"), "the session is connected")
        return wire

    def _take(self, text):
        try:
            frame = json.loads(text)
        except ValueError:
            frame = text
        kind = frame.get("broker") if isinstance(frame, dict) else None
        match kind:
            case None:
                self._note("publication", data=frame)
            case "connected":
                self.session = frame["session"]
                self.user = frame.get("user", "")
                self.changed()
            case "publication":
                self._note(kind, topic=frame["topic"], data=frame.get("data"), frame=frame, **position(frame.get("position")))
            case "subscribed":
                self._note(kind, topic=frame["topic"], frame=frame, **position(frame.get("position")))
                if "id" in frame:
                    self._answer(frame["id"], frame)
            case "unsubscribed":
                self._note(kind, topic=frame["topic"], code=frame["code"], reason=frame["reason"], frame=frame)
                if "id" in frame:
                    self._answer(frame["id"], frame)
            case "identity":
                self._note(kind, frame=frame)
                if "id" in frame:
                    self._answer(frame["id"], frame)
            case "ok":
                self._answer(frame["id"], frame)
            case "error":
                self._answer(frame.get("id"), refused(frame))
            case _:
                self._note(kind, topic=frame.get("topic"), code=frame.get("code"), reason=frame.get("reason"), frame=frame)

    async def command(self, name, **fields):
        return await self._ask({"broker": name, "id": next(self._ids), **fields})

    async def subscribe(self, topic, since=None):
        return await self.command("subscribe", topic=topic, **({"since": f"{since[0]}@{since[1]}"} if since else {}))

    async def unsubscribe(self, topic):
        return await self.command("unsubscribe", topic=topic)

    async def publish(self, topic, data):
        return await self.command("publish", topic=topic, data=data)

    async def history(self, topic):
        return [entry.get("data") for entry in (await self.command("history", topic=topic))["publications"]]

    async def presence(self, topic):
        return (await self.command("presence", topic=topic))["presence"]

    async def refresh(self, token):
        return await self.command("authenticate", token=token)


class CentrifugeWire(Wire):
    """The Centrifuge protocol in JSON."""

    mode = "centrifuge"

    @classmethod
    async def open(cls, broker, token=None, topics=(), since=None, **options):
        """`since`: positions by topic, of the server's subscriptions too."""
        try:
            wire = cls(await connect(broker.centrifuge, proxy=None, ping_interval=None, compression=None, **options))
        except InvalidStatus as refusal:
            raise refused(json.loads(refusal.response.body)["error"], status=refusal.response.status_code) from None
        wire._epochs = {}
        wire._asked = {}
        since = since or {}
        wire._read()
        request = {"token": token} if token else {}
        resumed = {topic: recover(place) for topic, place in since.items() if topic not in topics}
        if resumed:
            request["subs"] = resumed
        try:
            wire.connected = (await wire._ask({"id": 1, "connect": request}))["connect"]
        except Refused as refusal:
            if refusal.code:
                # It may try again with other credentials, on the same connection.
                await wire.close()
                raise
            closed = await wire.ended()
            await wire.close()
            raise Refused(None, None, closed.reason, close=closed.code) from None
        wire.session = wire.connected["client"]
        for topic in topics:
            await wire.subscribe(topic, since.get(topic))
        return wire

    def _take(self, text):
        for line in text.splitlines():
            reply = json.loads(line)
            if not reply:
                asyncio.ensure_future(self._socket.send("{}"))
            elif push := reply.get("push"):
                self._push(push)
            else:
                self._reply(reply)

    def _reply(self, reply):
        if error := reply.get("error"):
            message, _, hint = error["message"].partition(" - ")
            self._answer(reply["id"], Refused(error["code"], WORDS.get(error["code"]), message, hint or None))
            return
        if "connect" in reply:
            for topic, subscribed in reply["connect"].get("subs", {}).items():
                self._subscribed(topic, subscribed)
        elif "subscribe" in reply:
            self._subscribed(self._asked[reply["id"]], reply["subscribe"])
        self._answer(reply["id"], reply)

    def _push(self, push):
        topic = push.get("channel")
        if "pub" in push:
            self._publication(topic, push["pub"])
        elif "subscribe" in push:
            self._subscribed(topic, push["subscribe"])
        elif "unsubscribe" in push:
            self._note("unsubscribed", topic=topic, code=push["unsubscribe"]["code"], reason=push["unsubscribe"].get("reason"), frame=push)
        else:
            [kind] = [kind for kind in push if kind != "channel"]
            self._note(kind, topic=topic, frame=push)

    def _subscribed(self, topic, result):
        """What stands in the answer comes before it: the position is that behind the publications of the answer."""
        self._epochs[topic] = result.get("epoch")
        self._note("subscribed", topic=topic, offset=result.get("offset", 0), epoch=result.get("epoch"), frame=result)
        for publication in result.get("publications", []):
            self._publication(topic, publication)

    def _publication(self, topic, publication):
        more = {"offset": publication.get("offset"), "epoch": publication.get("epoch") or self._epochs.get(topic)}
        self._note("publication", topic=topic, data=publication.get("data"), frame=publication, **more)

    async def command(self, name, **fields):
        return (await self._ask({"id": next(self._ids), name: fields}))[name]

    async def subscribe(self, topic, since=None, token=None):
        number = next(self._ids)
        self._asked[number] = topic
        request = {"channel": topic} | (recover(since) if since else {}) | ({"token": token} if token else {})
        return (await self._ask({"id": number, "subscribe": request})).get("subscribe")

    async def unsubscribe(self, topic):
        return await self.command("unsubscribe", channel=topic)

    async def publish(self, topic, data):
        return await self.command("publish", channel=topic, data=data)

    async def history(self, topic):
        return [publication.get("data") for publication in (await self.command("history", channel=topic, limit=-1))["publications"]]

    async def presence(self, topic):
        return (await self.command("presence", channel=topic))["presence"]

    async def presence_stats(self, topic):
        return await self.command("presence_stats", channel=topic)

    async def refresh(self, token):
        return await self.command("refresh", token=token)

    async def sub_refresh(self, topic, token):
        return await self.command("sub_refresh", channel=topic, token=token)


def refused(error, **more):
    """What an error of the plain protocol says."""
    return Refused(error["code"], error["error"], error["message"], error.get("hint"), retry_after_ms=error.get("retry_after_ms"), **more)


def recover(place):
    return {"recover": True, "offset": place[0], "epoch": place[1]}


MODES = {"plain": PlainWire, "centrifuge": CentrifugeWire}


