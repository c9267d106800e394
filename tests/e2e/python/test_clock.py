"""A clock of the wall that is set an hour ahead or back while the server runs, as a bad time server or a thawed machine does. Nothing but the times of
tokens, and the times that are shown, may follow it: deadlines, pings, ttl, retries and rates count time that really passed.

The server runs with libfaketime, which shifts the clock of the wall by what a file says, and leaves the monotonic one alone.
"""

import asyncio
import json
import os
import time
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import connect

from harness import API_KEY, SECRET, Broker, Publisher, black_hole, remember, token, unique
from wire import Refused

HOUR = 3600
# Forty clients of this one process must have answered within the second.
PING_INTERVAL, PONG_TIMEOUT = 2.0, 1.5
LEEWAY = 5
CLIENTS = 40
# What a busy machine may add to a deadline.
TOLERANCE = 2.0

SETTINGS = f"""
[server]
session_log_lines = 100000
[client]
ping_interval = "{PING_INTERVAL:.0f}s"
pong_timeout = "{PONG_TIMEOUT * 1000:.0f}ms"
[client.token]
hmac_secret = "{SECRET}"
leeway = "{LEEWAY}s"
[client.rate]
publishes = "1/h"
publishes_burst = 2
[api]
key = "{API_KEY}"
[namespaces.kept]
history_size = 10000
history_ttl = "10m"
allow = ["sub", "pub", "hst"]
"""

JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])


class Shifted(Broker):
    """A server whose clock of the wall can be set."""

    def __init__(self, folder):
        library = os.environ.get("LIBFAKETIME")
        assert library, "LIBFAKETIME is not set: run the suite with `cargo xtask e2e clock`"
        self._shift = folder / "shift"
        self.set_clock(0)
        path = folder / "broker.toml"
        path.write_text(SETTINGS)
        faked = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(self._shift), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        super().__init__("--config", str(path), env=faked, api_key=API_KEY)

    def set_clock(self, seconds):
        """Moves the clock so far away from the true time, at once."""
        # Replaced in one step: a half-written file would be another time.
        new = self._shift.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._shift)
        self.shift = seconds

    def clock(self):
        """The time of the server's clock, as a publication shows it."""
        topic = f"kept:{unique('clock')}"
        self.publish(topic, 0)
        [shown] = self.api("history", channel=topic, limit=1)["publications"]
        return shown["time"] / 1000

    def now(self):
        """What the server's clock should say."""
        return time.time() + self.shift


@pytest.fixture
def shifted(tmp_path):
    with Shifted(tmp_path) as running:
        yield running


def lasting(**claims):
    """A token that no jump of the clock ends."""
    return token(sub=unique("u"), exp=4_000_000_000, **claims)


@JUMPS
async def test_a_clock_that_is_set_disconnects_nobody_and_nothing_is_lost(shifted, mode, jump):
    topic = f"kept:{unique('t')}"
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await mode.open(shifted, lasting(), [topic])) for _ in range(CLIENTS)]
        with Publisher(shifted, [topic], pause=0.05) as publisher:
            await publisher.goes_on(5)
            left = await mode.open(shifted, lasting(), [topic])
            await publisher.goes_on(2)
            await left.until(lambda: left.positions()[topic][0] > 1, "it has heard something")
            place = left.positions()[topic]
            await left.close()

            assert abs(await asyncio.to_thread(shifted.clock) - time.time()) < 2
            shifted.set_clock(jump)
            assert abs(await asyncio.to_thread(shifted.clock) - time.time() - jump) < 2, "the clock was not set"

            # Whoever came before the jump resumes after it.
            back = await stack.enter_async_context(await mode.open(shifted, lasting(), [topic], since=place if mode.mode == "plain" else {topic: place}))
            await back.until(lambda: back.all("subscribed", topic), "it is subscribed")
            assert back.all("subscribed", topic)[0].frame["recovered"] is True
            # Pings are neither late nor all at once: one whose network goes is noticed as before, and nobody else.
            lost = wires.pop()
            black_hole(lost.transport)
            began = time.monotonic()
            line = await shifted.logs("session closed", lost.session)
            assert line["cause"] == "no_pong"
            assert time.monotonic() - began <= PING_INTERVAL + PONG_TIMEOUT + TOLERANCE
            assert line.get("last_heard_s", 0) <= line["alive_s"] < 60, line
            lost.transport.abort()
            # And it may be set right again.
            shifted.set_clock(0)
            await asyncio.sleep(PING_INTERVAL + PONG_TIMEOUT)
            await publisher.goes_on(5)
        last = publisher.answered
        for wire in [*wires, back]:
            await wire.until(lambda: wire.heard() and wire.heard()[-1]["n"] == last, f"{last} arrived")
            assert not wire.all("closed") and not wire.all("gap") and not wire.all("unsubscribed")
        for wire in wires:
            assert [data["n"] for data in wire.heard()] == list(range(1, last + 1))
        heard = [event.offset for event in back.all("publication")]
        assert heard == list(range(place[0] + 1, heard[-1] + 1))
        ends = [json.loads(line)["cause"] for line in shifted.log().splitlines() if line.startswith("{") and "session closed" in line]
        assert sorted(ends) == ["client_left", "no_pong"], ends


async def refused(shifted, mode, proof):
    with pytest.raises(Refused) as refusal:
        await mode.open(shifted, proof, [f"kept:{unique('t')}"])
    return refusal.value


async def let_in(shifted, mode, proof):
    async with await mode.open(shifted, proof, [f"kept:{unique('t')}"]) as wire:
        assert wire.session


@pytest.mark.parametrize("jump", [0, HOUR, -HOUR], ids=["true", "ahead", "back"])
async def test_tokens_begin_and_end_by_the_clock_of_the_wall_and_the_leeway(shifted, mode, jump):
    shifted.set_clock(jump)
    now = int(shifted.now())
    await let_in(shifted, mode, token(sub="u", exp=now + 60))
    await let_in(shifted, mode, token(sub="u", exp=now - LEEWAY + 3))
    ended = await refused(shifted, mode, token(sub="u", exp=now - LEEWAY - 2))
    assert (ended.code, ended.word) == (109, "token_expired") or ended.close == 3005, ended
    await let_in(shifted, mode, token(sub="u", nbf=now + LEEWAY - 1, exp=now + 60))
    early = await refused(shifted, mode, token(sub="u", nbf=now + LEEWAY + 10, exp=now + 60))
    assert (early.code, early.word) == (101, "unauthorized") or early.close == 3500, early
    # A token of the true time means another one to a clock that is wrong.
    half_an_hour = token(sub="u", exp=int(time.time()) + HOUR // 2)
    if jump > 0:
        ended = await refused(shifted, mode, half_an_hour)
        assert (ended.code, ended.word) == (109, "token_expired") or ended.close == 3005, ended
    else:
        await let_in(shifted, mode, half_an_hour)


@JUMPS
async def test_a_session_lasts_as_long_as_its_token_said_when_it_came(shifted, mode, jump):
    lasts = 3
    async with await mode.open(shifted, token(sub="u", exp=int(time.time()) + lasts)) as wire:
        began = time.monotonic()
        shifted.set_clock(jump)
        end = await wire.ended()
        after = time.monotonic() - began
        # A token says whole seconds.
        assert lasts - 1 + LEEWAY - 0.5 <= after <= lasts + LEEWAY + TOLERANCE, after
        assert end.code == 3005


@JUMPS
async def test_what_counts_time_that_passes_does_not_follow_the_clock(shifted, mode, jump):
    topic = f"kept:{unique('t')}"
    first = shifted.publish(topic, "once", idempotency_key="k")
    shifted.publish(topic, "stays ten minutes")
    shifted.publish(topic, "goes after a second", ttl="1s")
    went = time.monotonic() + 1
    async with await mode.open(shifted, lasting(), [topic]) as wire:
        await wire.publish(topic, "a")
        await wire.publish(topic, "b")
        shifted.set_clock(jump)
        # A rate gives nothing back for an hour that did not pass, and takes nothing for one that did not come.
        with pytest.raises(Refused) as over:
            await wire.publish(topic, "c")
        assert over.value.code == 111
        # A retry is stored once for five minutes, what is kept is kept for ten, and what is over is over.
        assert shifted.publish(topic, "again", idempotency_key="k") == first
        await asyncio.sleep(max(0, went + 0.5 - time.monotonic()))
        assert await wire.history(topic) == ["once", "stays ten minutes", "a", "b"]


@JUMPS
async def test_a_ticket_holds_for_its_time_whatever_the_clock_says(shifted, jump):
    ticket = remember(shifted.api("ticket", user="u")["ticket"])
    shifted.set_clock(jump)
    async with connect(f"{shifted.ws}/ws?ticket={ticket}&format=envelope", proxy=None) as client:
        assert json.loads(await client.recv())["user"] == "u"


class TestRevocation:
    """Who came before a revocation is meant by it, whatever the clock said at either moment."""

    @JUMPS
    async def test_a_session_whose_credentials_say_no_time_of_their_own_is_ended(self, shifted, mode, jump):
        user = unique("u")
        shifted.set_clock(jump)
        async with await mode.open(shifted, token(sub=user, exp=4_000_000_000), [f"kept:{unique('t')}"]) as wire:
            shifted.set_clock(0)
            shifted.api("revoke", user=user)
            end = await wire.ended()
            assert end.code in (3006, 3500), end
