"""Clients of the PyPI package `centrifuge-python`, and plain ones, that say in lines of JSON what they are told.

`chaos_client.py URL NAME COUNT TOPIC..`: a URL that ends in `/connection/websocket` is spoken to with the package, any other with the plain protocol.
"""

import asyncio
import json
import random
import sys

import websockets
from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

url, name, count, *topics = sys.argv[1:]


def say(client, topic, **event):
    sys.stdout.write(json.dumps({"client": client, "topic": topic, **event}) + "\n")
    sys.stdout.flush()


class OfClient(ClientEventHandler):
    def __init__(self, client):
        self.client = client

    async def on_connecting(self, ctx):
        if ctx.code:
            say(self.client, "", event="disconnected", code=ctx.code)


class OfSubscription(SubscriptionEventHandler):
    def __init__(self, client, topic):
        self.client, self.topic = client, topic

    async def on_subscribed(self, ctx):
        position = ctx.stream_position
        say(
            self.client,
            self.topic,
            event="subscribed",
            epoch=position.epoch if position else "",
            offset=position.offset if position else 0,
            resumed=ctx.recovered if ctx.was_recovering else None,
        )

    async def on_publication(self, ctx):
        say(self.client, self.topic, event="publication", offset=ctx.pub.offset, n=ctx.pub.data["n"])


async def of_the_package(client):
    connection = Client(url, events=OfClient(client), proxy=None, min_reconnect_delay=0.05, max_reconnect_delay=0.5, timeout=2, max_server_ping_delay=2)
    for topic in topics:
        subscription = connection.new_subscription(topic, events=OfSubscription(client, topic), recoverable=True, positioned=True)
        await subscription.subscribe()
    await connection.connect()


def split(position):
    offset, epoch = position.split("@")
    return {"epoch": epoch, "offset": int(offset)}


async def plain(client):
    """What a page would do by hand: subscribe with the last position, come back after every close."""
    last = {}
    while True:
        try:
            async with websockets.connect(url, proxy=None, open_timeout=2, ping_interval=1, ping_timeout=2) as socket:
                for topic in topics:
                    since = {"since": last[topic]} if topic in last else {}
                    await socket.send(json.dumps({"broker": "subscribe", "topic": topic, "id": topic, **since}))
                async for text in socket:
                    heard(client, json.loads(text), last)
        except (OSError, websockets.WebSocketException, asyncio.TimeoutError):
            pass
        say(client, "", event="disconnected", code=1)
        await asyncio.sleep(0.05 + random.random() * 0.2)


def heard(client, frame, last):
    topic, kind = frame.get("topic"), frame.get("broker")
    if kind == "subscribed":
        resumed = frame.get("recovered") if topic in last else None
        say(client, topic, event="subscribed", resumed=resumed, **split(frame["position"]))
        if resumed is not True:
            last[topic] = frame["position"]
    elif kind == "gap" and "to" in frame:
        say(client, topic, event="gap", **split(frame["to"]))
        last[topic] = frame["to"]
    elif kind == "publication":
        say(client, topic, event="publication", offset=split(frame["position"])["offset"], n=frame["data"]["n"])
        last[topic] = frame["position"]


async def main():
    speak = of_the_package if url.endswith("/connection/websocket") else plain
    clients = [asyncio.create_task(speak(f"{name}-{n}")) for n in range(int(count))]
    await asyncio.gather(*clients)
    await asyncio.Event().wait()


asyncio.run(main())
