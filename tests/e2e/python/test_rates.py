"""How much a client may do, and from where: rates of sessions, users and addresses, over the wire. Every refusal says how long to wait, and
the log which setting would allow more."""

import re

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from harness import API_KEY, SECRET, Broker, token, unique
from wire import CentrifugeWire, Refused


RATED = f"""
[server]
session_log_lines = 100000
[client]
mistakes_per_minute = 1000
[client.token]
hmac_secret = "{SECRET}"
[api]
key = "{API_KEY}"
[namespaces.open]
history_size = 10
presence = true
allow = ["sub", "pub", "hst", "prs"]
[namespaces.closed]
"""


def rated(folder, rates):
    path = folder / "broker.toml"
    path.write_text(f"{RATED}\n[client.rate]\n{rates}\n")
    return Broker("--config", str(path), api_key=API_KEY)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """So few of each kind that the next one has to wait for an hour. A user may do a little more than one session."""
    rates = """
    commands = "1/h"
    commands_burst = 40
    publishes = "1/h"
    publishes_burst = 5
    subscribes = "1/h"
    subscribes_burst = 3
    errors = "1/h"
    errors_burst = 4
    user_publishes = "1/h"
    user_publishes_burst = 8
    user_subscribes = "off"
    user_commands = "off"
    user_errors = "off"
    """
    with rated(tmp_path_factory.mktemp("few"), rates) as running:
        yield running


async def until_refused(act, most=50):
    """Acts again and again; answers how often that went well, and the refusal."""
    for count in range(most):
        try:
            await act(count)
        except Refused as refusal:
            return count, refusal
    raise AssertionError(f"{most} times and no refusal")


async def check(broker, wire, refusal, what, setting):
    """Both sides know: the client how long to wait, the operator what to set."""
    assert (refusal.code, refusal.word) == (111, "too_many_requests"), refusal
    assert what in refusal.message and "was not executed" in refusal.message, refusal
    waits = int(re.search(r"again in (\d+) ms", refusal.hint)[1])
    assert 3_000_000 < waits <= 3_600_000, refusal
    if wire.mode == "plain":
        assert refusal.retry_after_ms == waits
    line = await broker.logs(wire.session, "command refused", what)
    assert f"raise client.rate.{setting} or client.rate.{setting}_burst" in line["hint"], line


class TestRatesOfASession:
    async def test_publishes(self, few, mode):
        topic = f"open:{unique('t')}"
        async with await mode.open(few, token(sub=unique("u")), [topic]) as wire:
            count, refusal = await until_refused(lambda count: wire.publish(topic, count))
            assert count == 5
            await check(few, wire, refusal, "this session is over its rate of publishes", "publishes")
            # It was not executed, other commands are, and so are the publishes of others.
            few.publish(topic, "barrier")
            await wire.hears("barrier")
            assert wire.heard() == [*range(5), "barrier"]
            assert await wire.history(topic) == [*range(5), "barrier"]
            async with await mode.open(few, token(sub=unique("u"))) as other:
                await other.publish(topic, "another's")
            await wire.hears("another's")

    async def test_subscribes(self, few, mode):
        name = unique("t")
        async with await mode.open(few, token(sub=unique("u"))) as wire:
            count, refusal = await until_refused(lambda count: wire.subscribe(f"open:{name}.{count}"))
            assert count == 3
            await check(few, wire, refusal, "this session is over its rate of subscribes", "subscribes")
            few.publish(f"open:{name}.3", "unheard")
            few.publish(f"open:{name}.0", "heard")
            await wire.hears("heard")
            assert wire.heard() == ["heard"]

    async def test_commands_of_every_kind(self, few, mode):
        topic = f"open:{unique('t')}"
        async with await mode.open(few, token(sub=unique("u")), [topic]) as wire:
            verbs = [lambda: wire.history(topic), lambda: wire.presence(topic)]
            count, refusal = await until_refused(lambda count: verbs[count % 2]())
            # A subscribe of the URL is none of its commands, that of a command is.
            assert count == (39 if mode is CentrifugeWire else 40)
            await check(few, wire, refusal, "this session is over its rate of commands", "commands")
            few.publish(topic, "it still listens")
            await wire.hears("it still listens")

    async def test_errors(self, few, mode):
        topic = f"closed:{unique('t')}"
        async with await mode.open(few, token(sub=unique("u"))) as wire:
            codes = []

            async def mistake(_):
                with pytest.raises(Refused) as refusal:
                    await wire.history(topic)
                codes.append(refusal.value.code)
                if refusal.value.code == 111:
                    raise refusal.value

            count, refusal = await until_refused(mistake)
            assert (count, codes) == (4, [108] * 4 + [111]) or codes == [103] * 4 + [111], codes
            await check(few, wire, refusal, "this session is over its rate of errors", "errors")
            with pytest.raises(Refused) as refusal:
                await wire.publish(f"open:{unique('t')}", "nothing else goes through either")
            assert refusal.value.code == 111

    async def test_a_token_is_renewed_over_every_rate(self, few, mode):
        topic, user = f"open:{unique('t')}", unique("u")
        async with await mode.open(few, token(sub=user)) as wire:
            await until_refused(lambda count: wire.history(topic))
            await wire.refresh(token(sub=user, exp=4_000_000_000))


class TestRatesOfAUser:
    async def test_sessions_of_a_user_share_them_and_others_do_not(self, few, mode):
        topic, user = f"open:{unique('t')}", unique("u")
        proof = token(sub=user)
        async with await mode.open(few, proof, [topic]) as first, await mode.open(few, proof) as second:
            for count in range(5):
                await first.publish(topic, count)
            count, refusal = await until_refused(lambda count: second.publish(topic, 5 + count))
            assert count == 3
            await check(few, second, refusal, "this user is over its rate of publishes", "user_publishes")
            async with await mode.open(few, token(sub=unique("u"))) as other:
                await other.publish(topic, "another's")
            await first.hears("another's")
            assert first.heard() == [*range(8), "another's"]
        # Whoever comes back has nothing new.
        async with await mode.open(few, proof) as again:
            with pytest.raises(Refused) as refusal:
                await again.publish(topic, "again")
            await check(few, again, refusal.value, "this user is over its rate of publishes", "user_publishes")


class TestBytes:
    async def test_what_begins_within_the_rate_passes_and_the_next_waits(self, tmp_path, mode):
        with rated(tmp_path, 'bytes = "1KiB/h"\nbytes_burst = "8KiB"') as broker:
            topic = f"open:{unique('t')}"
            async with await mode.open(broker, token(sub=unique("u")), [topic]) as wire:
                await wire.publish(topic, "x" * 20_000)
                with pytest.raises(Refused) as refusal:
                    await wire.publish(topic, "y")
                told = refusal.value
                assert (told.code, told.word) == (111, "too_many_requests") and "rate of bytes" in told.message
                assert int(re.search(r"again in (\d+) ms", told.hint)[1]) > 3_600_000
                line = await broker.logs(wire.session, "command refused", "rate of bytes")
                assert "client.rate.bytes" in line["hint"]


BEHIND = """
[server]
session_log_lines = 100000
[client]
anonymous = true
{trusted}
[client.rate]
connects_per_address = "1/h"
connects_burst = 1
"""


class TestAddresses:
    def behind(self, folder, trusted):
        path = folder / "broker.toml"
        path.write_text(BEHIND.format(trusted=trusted))
        return Broker("--config", str(path))

    async def test_100_addresses_behind_a_trusted_proxy_each_have_a_rate_of_their_own(self, tmp_path, mode):
        with self.behind(tmp_path, 'trusted_proxies = ["127.0.0.1"]') as broker:
            addresses = [f"203.0.113.{number}" for number in range(100)]
            # Whatever a client itself wrote stands in front of what the proxy adds.
            spoofed = lambda address, number: {"additional_headers": {"X-Forwarded-For": f"198.51.100.{number}, {address}"}}
            for number, address in enumerate(addresses):
                async with await mode.open(broker, **spoofed(address, number)) as wire:
                    line = await broker.logs("session opened", wire.session)
                    assert line["peer"].rsplit(":", 1)[0] == address
            for number, address in enumerate(addresses):
                before = broker.lines()
                with pytest.raises(Refused) as refusal:
                    await mode.open(broker, **spoofed(address, number + 100))
                told = refusal.value
                assert (told.status, told.code, told.word) == (429, 111, "too_many_requests"), told
                assert 3_000_000 < told.retry_after_ms <= 3_600_000, told
            # Of so many refusals the log tells some, each with the setting.
            line = await broker.logs("connections were refused", "client.rate.connects_per_address")
            assert line["client"] in addresses
            assert "198.51.100" not in broker.log()

    async def test_a_client_that_is_no_proxy_cannot_be_somebody_else(self, tmp_path, mode):
        with self.behind(tmp_path, 'trusted_proxies = ["10.0.0.0/8"]') as broker:
            for number in range(5):
                for header in ["X-Forwarded-For", "X-Real-IP"]:
                    async with await mode.open(broker, additional_headers={header: f"203.0.113.{number}"}) as wire:
                        line = await broker.logs("session opened", wire.session)
                        assert line["peer"].startswith("127.0.0.1:")
            assert "203.0.113" not in broker.log()

    async def test_the_header_says_in_seconds_when_to_come_back(self, tmp_path):
        with self.behind(tmp_path, 'trusted_proxies = ["127.0.0.1"]') as broker:
            dial = lambda: connect(f"{broker.ws}/ws", proxy=None, additional_headers={"X-Forwarded-For": "203.0.113.7"})
            async with dial():
                pass
            with pytest.raises(InvalidStatus) as refusal:
                async with dial():
                    pass
            assert 3000 < int(refusal.value.response.headers["Retry-After"]) <= 3600
