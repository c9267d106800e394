"""The PyPI package `centrifuge-python` with a record of every callback."""

from contextlib import asynccontextmanager

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler

from harness import Recorder


class Events(ClientEventHandler, SubscriptionEventHandler, Recorder):
    """Records every callback of a client or a subscription."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.errors = []
        self.of_subscriptions = []

    def _note(self, name, ctx):
        self.calls.append((name, ctx))
        self.changed()

    async def on_connecting(self, ctx):
        self._note("connecting", ctx)

    async def on_connected(self, ctx):
        self._note("connected", ctx)

    async def on_disconnected(self, ctx):
        self._note("disconnected", ctx)

    async def on_subscribing(self, ctx):
        self._note("subscribing", ctx)

    async def on_subscribed(self, ctx):
        self._note("subscribed", ctx)

    async def on_unsubscribed(self, ctx):
        self._note("unsubscribed", ctx)

    async def on_publication(self, ctx):
        self._note("publication", ctx)

    async def on_join(self, ctx):
        self._note("join", ctx)

    async def on_leave(self, ctx):
        self._note("leave", ctx)

    async def on_error(self, ctx):
        self.errors.append(ctx)
        self._note("error", ctx)

    def all(self, name):
        return [ctx for called, ctx in self.calls if called == name]

    def got(self):
        return [ctx.pub.data for ctx in self.all("publication")]


@asynccontextmanager
async def sdk(url, expect_errors=False, **options):
    """A connected client with its events. Afterwards none of its error callbacks has fired."""
    options.setdefault("max_reconnect_delay", 0.5)
    client = Client(url, events=Events(), proxy=None, **options)
    await client.connect()
    await client.ready(10)
    try:
        yield client
        errors = client.events.errors + [error for events in client.events.of_subscriptions for error in events.errors]
        assert expect_errors or errors == []
    finally:
        await client.disconnect()


async def subscribe(client, topic, **options):
    """A subscription; its `events` record."""
    events = Events()
    subscription = client.new_subscription(topic, events=events, **options)
    subscription.events = events
    client.events.of_subscriptions.append(events)
    await subscription.subscribe()
    return subscription


async def listen(client, topic, **options):
    """A subscription that is subscribed."""
    subscription = await subscribe(client, topic, **options)
    await subscription.events.until(lambda: subscription.events.all("subscribed"), f"{topic} is subscribed")
    subscription.events.topic = topic
    return subscription
