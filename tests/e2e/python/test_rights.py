"""Who may do what where, over the wire: every verb by every path, deny by default, and every refusal tells both sides what to do.

The table is the whole truth: what does not stand in a row's `may` must be refused on each path of that verb.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from harness import API_KEY, SECRET, Broker, token, unique
from wire import CentrifugeWire, PlainWire, Refused


def cap(channels, allow, **more):
    return {"channels": channels, "allow": allow.split(), **more}


# Role, what its token has (none: no token), topic, what it may do there. `{t}` is a topic of the test, `{u}` the user.
SUB, PUB, HST, PRS = "sub", "pub", "hst", "prs"
ALL = f"{SUB} {PUB} {HST} {PRS}"
TABLE = [
    ("anonymous", None, "open:{t}", ""),
    ("anonymous", None, "public:{t}", SUB),
    ("anonymous", None, "closed:{t}", ""),
    ("anonymous", None, "{t}", ""),
    ("anonymous", None, "group:{t}", ""),
    ("anonymous", None, "user:{u}", ""),
    ("token without a user", {"sub": ""}, "open:{t}", ""),
    ("user without rights", {}, "closed:{t}", ""),
    ("user without rights", {}, "{t}", ""),
    ("user without rights", {}, "group:{t}", ""),
    ("user without rights", {}, "user:somebody", ""),
    ("user by the namespace", {}, "open:{t}", ALL),
    ("user by the namespace", {}, "public:{t}", SUB),
    ("cap sub", {"caps": [cap(["closed:{t}"], SUB)]}, "closed:{t}", SUB),
    ("cap pub", {"caps": [cap(["closed:{t}"], PUB)]}, "closed:{t}", PUB),
    ("cap hst", {"caps": [cap(["closed:{t}"], HST)]}, "closed:{t}", HST),
    ("cap prs", {"caps": [cap(["closed:{t}"], PRS)]}, "closed:{t}", PRS),
    ("cap of two", {"caps": [cap(["closed:{t}"], SUB), cap(["closed:{t}", "closed:x"], HST)]}, "closed:{t}", f"{SUB} {HST}"),
    ("cap of another topic", {"caps": [cap(["closed:{t}.other"], ALL)]}, "closed:{t}", ""),
    ("cap in capitals", {"caps": [cap(["CLOSED:{t}"], ALL)]}, "closed:{t}", ""),
    ("anonymous with a cap", {"sub": "", "caps": [cap(["closed:{t}"], SUB)]}, "closed:{t}", SUB),
    ("pattern *", {"caps": [cap(["closed:*"], ALL, match="wildcard")]}, "closed:{t}", ALL),
    ("pattern *, deeper", {"caps": [cap(["closed:*"], ALL, match="wildcard")]}, "closed:{t}.deeper", ""),
    ("pattern *, in front", {"caps": [cap(["closed:*.x"], SUB, match="wildcard")]}, "closed:{t}.x", SUB),
    ("pattern >", {"caps": [cap(["closed:>"], f"{SUB} {PUB}", match="wildcard")]}, "closed:{t}.deeper.still", f"{SUB} {PUB}"),
    ("pattern of another namespace", {"caps": [cap(["open:>"], ALL, match="wildcard")]}, "closed:{t}", ""),
    ("pattern, no namespace", {"caps": [cap(["closed:>"], ALL, match="wildcard")]}, "{t}", ""),
    ("in the group", {"groups": ["{t}"]}, "group:{t}", "listens"),
    ("in another group", {"groups": ["{t}.b"]}, "group:{t}", ""),
    ("in the group, with a cap", {"groups": ["{t}"], "caps": [cap(["group:{t}"], HST)]}, "group:{t}", f"listens {HST}"),
    ("the user itself", {}, "user:{u}", "listens"),
    ("topic of the token", {"channels": ["closed:{t}"]}, "closed:{t}", "listens"),
    ("topic of the token", {"subs": {"closed:{t}": {}}}, "closed:{t}", "listens"),
    ("subscribed by the API", {}, "closed:{t}", "api"),
]


@dataclass
class Row:
    """One row with its blanks filled in, and how to open a session as its role."""

    broker: Broker
    mode: type
    user: str
    proof: str | None
    topic: str
    may: set

    async def open(self, **options):
        return await self.mode.open(self.broker, self.proof, **options)

    def listens_already(self):
        return bool(self.may & {"listens", "api"})


def fill(value, **blanks):
    return json.loads(re.sub(r"\{(\w)\}", lambda found: blanks[found[1]], json.dumps(value)))


class TestTable:
    @pytest.mark.parametrize("role, claims, where, may", TABLE, ids=[f"{role}, {where}" for role, _, where, _ in TABLE])
    async def test_each_verb_by_each_path(self, guarded, mode, role, claims, where, may):
        name, user = unique("t"), unique("u")
        claims = None if claims is None else fill({"sub": user, **claims}, t=name, u=user)
        topic = fill(where, t=name, u=user)
        row = Row(guarded, mode, user, token(**claims) if claims is not None else None, topic, set(may.split()))
        guarded_by_default = not topic.startswith(name)
        if guarded_by_default:
            row.since = self.seed(row)
        else:
            row.since = (1, "aaaaaaaa")
        for verb, path in self.paths(row):
            async with await row.open() as wire:
                if "api" in row.may:
                    assert guarded.api("subscribe", client=wire.session, channel=topic) == {"sessions": 1}
                await self.check(row, verb, path, wire)

    def seed(self, row):
        """Something to read that is nobody's business; answers a position before it."""
        row.broker.publish(row.topic, "nothing")
        place = row.broker.publish(row.topic, "secret")
        return (place["offset"] - 1, place["epoch"])

    def paths(self, row):
        """Every way to each verb, as a name and a call with an open session."""
        since = row.since
        yield SUB, lambda wire: wire.subscribe(row.topic)
        yield SUB, lambda wire: wire.subscribe(row.topic, since)
        yield PUB, lambda wire: wire.publish(row.topic, "published")
        yield HST, lambda wire: wire.history(row.topic)
        yield PRS, lambda wire: wire.presence(row.topic)
        if row.mode is CentrifugeWire:
            yield PRS, lambda wire: wire.presence_stats(row.topic)

    async def check(self, row, verb, path, wire):
        if verb in row.may:
            answer = await path(wire)
            if verb == SUB:
                row.broker.publish(row.topic, "live")
                await wire.hears("live", row.topic)
            if verb == HST:
                assert "secret" in answer
            return
        if verb == SUB and row.listens_already():
            with pytest.raises(Refused) as refusal:
                await path(wire)
            assert refusal.value.code in (103, 105)
            row.broker.publish(row.topic, "live")
            await wire.hears("live", row.topic)
            return
        with pytest.raises(Refused) as refusal:
            await path(wire)
        told = refusal.value
        assert (told.code, told.word) == (103, "permission_denied"), told
        assert row.topic in told.message, told
        # Nothing happened, and the session goes on as it was.
        if not row.listens_already():
            assert row.topic not in row.broker.api("connections", client=wire.session)["connections"][0]["topics"]
            assert wire.heard(row.topic) == []
        if verb == PUB and row.since[1] != "aaaaaaaa":
            kept = row.broker.api("history", channel=row.topic, limit=-1)["publications"]
            assert "published" not in [entry["data"] for entry in kept]

    @pytest.mark.parametrize("role, claims, where, may", TABLE, ids=[f"{role}, {where}" for role, _, where, _ in TABLE])
    @pytest.mark.parametrize("path", ["query", "path", "query with since", "raw"])
    async def test_subscribing_by_url(self, guarded, role, claims, where, may, path):
        name, user = unique("t"), unique("u")
        claims = None if claims is None else fill({"sub": user, **claims}, t=name, u=user)
        topic, may = fill(where, t=name, u=user), set(may.split())
        proof = token(**claims) if claims is not None else None
        options = {"topics": [topic]}
        if path == "path":
            options = {"path": "/ws/" + quote(topic, safe=":")}
        elif path == "query with since":
            options["since"] = "0"
        elif path == "raw":
            options["format"] = "raw"
        if may & {SUB, "listens"}:
            async with await PlainWire.open(guarded, proof, **options) as wire:
                guarded.publish(topic, "live")
                await wire.hears("live")
            return
        with pytest.raises(Refused) as refusal:
            await PlainWire.open(guarded, proof, **options)
        told = refusal.value
        assert (told.status, told.code, told.word) == (403, 103, "permission_denied"), told
        assert topic in told.message

    async def test_one_refused_topic_of_several_refuses_the_handshake(self, guarded):
        with pytest.raises(Refused) as refusal:
            await PlainWire.open(guarded, token(sub="u"), [f"open:{unique('t')}", "closed:1"])
        assert refusal.value.code == 103 and "closed:1" in refusal.value.message

    async def test_who_may_only_listen_cannot_publish(self, guarded, mode):
        """reverb #272: a subscriber's publishes went out unchecked."""
        topic = f"public:{unique('t')}"
        async with await mode.open(guarded, topics=[topic]) as listener, await mode.open(guarded, token(sub=unique("u")), [topic]) as wire:
            for data in ["forged", {"event": "client-forged"}, None]:
                with pytest.raises(Refused) as refusal:
                    await wire.publish(topic, data)
                assert refusal.value.word == "permission_denied"
            guarded.publish(topic, "barrier")
            await listener.hears("barrier")
            assert listener.heard() == ["barrier"]

    async def test_a_right_that_ends_with_the_identity_is_gone_at_once(self, guarded):
        topic, user = f"closed:{unique('t')}", unique("u")
        async with await PlainWire.open(guarded, token(sub=user, caps=[cap([topic], ALL)]), [topic]) as wire:
            await wire.publish(topic, 1)
            answer = await wire.refresh(token(sub=user))
            assert answer["left"] == [topic]
            for attempt in [wire.publish(topic, 2), wire.history(topic), wire.presence(topic), wire.subscribe(topic)]:
                with pytest.raises(Refused) as refusal:
                    await attempt
                assert refusal.value.code == 103
            guarded.publish(topic, 3)
            guarded.publish(f"user:{user}", "barrier")
            await wire.hears("barrier")
            assert wire.heard() == [1, "barrier"]


# What is asked, and what the client and the operator are told: number, a part of the message, the client's hint, a part of the log's hint.
ANONYMOUS_HINT = "connect with a token that has a `sub`"
REFUSALS = [
    ("subscribe", "closed:{t}", 103, "subscribing to closed:{t} is not allowed", None, 'add "sub" to namespaces.closed.allow'),
    ("publish", "closed:{t}", 103, "publishing to closed:{t} is not allowed", None, 'add "pub" to namespaces.closed.allow'),
    ("history", "closed:{t}", 103, "reading the history of closed:{t} is not allowed", None, 'add "hst" to namespaces.closed.allow'),
    ("presence", "closed:{t}", 103, "reading the presence of closed:{t} is not allowed", None, 'add "prs" to namespaces.closed.allow'),
    ("subscribe", "{t}", 103, "subscribing to {t} is not allowed", None, 'add "sub" to default.allow'),
    ("subscribe", "group:{t}", 103, "subscribing to group:{t} is not allowed", None, "join the group, or give a capability"),
    ("publish", "group:{t}", 103, "publishing to group:{t} is not allowed", None, "join the group, or give a capability"),
    ("subscribe", "user:else", 103, "subscribing to user:else is not allowed", None, "join the group, or give a capability"),
    ("subscribe", "nowhere:{t}", 102, "there is no namespace `nowhere`", None, "add [namespaces.nowhere]"),
    ("publish", "nowhere:{t}", 102, "there is no namespace `nowhere`", None, "add [namespaces.nowhere]"),
    ("history", "nowhere:{t}", 102, "there is no namespace `nowhere`", None, "add [namespaces.nowhere]"),
    ("presence", "nowhere:{t}", 102, "there is no namespace `nowhere`", None, "add [namespaces.nowhere]"),
    ("history", "bare:{t}", 108, "bare:{t}", None, "namespaces.bare.history_size"),
    ("presence", "bare:{t}", 108, "bare:{t}", None, "namespaces.bare.presence"),
]
ANONYMOUS = [
    ("subscribe", "open:{t}", 103, "subscribing to open:{t} needs a user", ANONYMOUS_HINT, "set namespaces.open.allow_anonymous = true"),
    ("publish", "open:{t}", 103, "publishing to open:{t} needs a user", ANONYMOUS_HINT, "set namespaces.open.allow_anonymous = true"),
    ("history", "open:{t}", 103, "open:{t} needs a user", ANONYMOUS_HINT, "set namespaces.open.allow_anonymous = true"),
    ("presence", "open:{t}", 103, "open:{t} needs a user", ANONYMOUS_HINT, "set namespaces.open.allow_anonymous = true"),
]


class TestEveryRefusalTells:
    async def both_are_told(self, broker, mode, proof, rows):
        async with await mode.open(broker, proof) as wire:
            for action, topic, code, message, hint, rule in rows:
                topic, message = (fill(text, t=unique("t")) if "{" in text else text for text in (topic, message))
                message = message if "{" not in message else message
                more = ["x"] if action == "publish" else []
                with pytest.raises(Refused) as refusal:
                    await getattr(wire, action)(topic, *more)
                told = refusal.value
                assert told.code == code and told.word, told
                assert message in told.message, told
                assert told.hint == hint, told
                line = await broker.logs(wire.session, "command refused", told.message)
                assert rule in line["hint"], line
            assert not wire.all("closed")

    @pytest.mark.parametrize("rows, proof", [(REFUSALS, True), (ANONYMOUS, False)], ids=["user", "anonymous"])
    async def test_what_was_refused_and_which_setting_would_change_it(self, guarded, mode, rows, proof):
        name = unique("t")
        filled = [tuple(fill(part, t=name) for part in row) for row in rows]
        await self.both_are_told(guarded, mode, token(sub=unique("u")) if proof else None, filled)

    async def test_names_that_are_no_topics_are_told_by_their_byte(self, guarded, mode):
        async with await mode.open(guarded, token(sub=unique("u"))) as wire:
            for name, what in [("with blank", "byte 4"), ("x" * 256, "255"), ("ünïcode", "byte 0"), ("open:*", "byte 5 of the topic is a wildcard"), ("open:a.>", "byte 7 of the topic is a wildcard")]:
                with pytest.raises(Refused) as refusal:
                    await wire.subscribe(name)
                assert (refusal.value.code, refusal.value.word) == (107, "bad_request")
                assert what in refusal.value.message, refusal.value
                await guarded.logs(wire.session, "command refused", refusal.value.message[:80])

    async def test_a_second_subscribe_is_told(self, guarded, mode):
        topic = f"open:{unique('t')}"
        async with await mode.open(guarded, token(sub=unique("u")), [topic]) as wire:
            with pytest.raises(Refused) as refusal:
                await wire.subscribe(topic)
            assert refusal.value.code == 105 and topic in refusal.value.message

    async def test_the_129th_subscription_is_told_with_its_bound(self, guarded, mode):
        name = unique("t")
        async with await mode.open(guarded, token(sub=unique("u"), caps=[cap([f"closed:{name}.*"], SUB, match="wildcard")])) as wire:
            with pytest.raises(Refused) as refusal:
                for number in range(200):
                    await wire.subscribe(f"closed:{name}.{number}")
            assert refusal.value.code == 106 and "128" in refusal.value.message, refusal.value
            line = await guarded.logs(wire.session, refusal.value.message)
            assert "client.subscriptions_max" in line["hint"]

    async def test_the_reserved_key_is_told(self, guarded, mode):
        topic = f"open:{unique('t')}"
        async with await mode.open(guarded, token(sub=unique("u"))) as wire:
            with pytest.raises(Refused) as refusal:
                await wire.publish(topic, {"broker": "closing"})
            assert refusal.value.code == 107 and "broker" in refusal.value.message

    @pytest.mark.parametrize(
        "claims, what",
        [
            ({"caps": [{"channels": ["a"], "allow": ["sub", "write"]}]}, "caps[0].allow[1]"),
            ({"caps": [{"channels": ["a"], "allow": ["sub"], "match": "regex"}]}, "caps[0].match"),
            ({"caps": [{"channels": ["closed:*"], "allow": ["sub"]}]}, "caps[0].channels[0]"),
            ({"groups": "ocs_ris"}, "groups"),
            ({"channels": ["with blank"]}, "channels[0]"),
            ({"tenant": 7}, "tenant"),
            ({"sub": 7}, "sub"),
            ({"exp": "soon"}, "exp"),
        ],
    )
    async def test_a_claim_that_cannot_be_read_refuses_the_token_and_is_named(self, guarded, mode, claims, what):
        before = guarded.lines()
        with pytest.raises(Refused) as refusal:
            await mode.open(guarded, token(**{"sub": "u", **claims}))
        assert refusal.value.close == 3500 or (refusal.value.status, refusal.value.code) == (401, 101)
        assert what in refusal.value.message, refusal.value
        await guarded.logs("session closed", what, since=before)

    async def test_no_token_where_one_is_needed(self, mode):
        with Broker("--token-hmac-secret", SECRET, "--api-key", API_KEY) as strict:
            with pytest.raises(Refused) as refusal:
                await mode.open(strict)
            assert refusal.value.close in (3500, 3501) or (refusal.value.status, refusal.value.code) == (401, 101), refusal.value
            assert "token" in refusal.value.message, refusal.value
            assert "client.anonymous" in (await strict.logs("connecting needs a token", "hint"))["hint"]

    async def test_a_refused_url_is_in_the_log_with_its_rule(self, guarded):
        topic = f"closed:{unique('t')}"
        with pytest.raises(Refused):
            await PlainWire.open(guarded, token(sub=unique("u")), [topic])
        line = await guarded.logs("session closed", f"subscribing to {topic} is not allowed")
        assert (line["code"], line["hint"]) == (3507, 'add "sub" to namespaces.closed.allow')

    async def test_in_dev_mode_the_client_is_told_the_rule_too(self, broker, mode):
        async with await mode.open(broker, token(sub=unique("u"))) as wire:
            with pytest.raises(Refused) as refusal:
                await wire.subscribe(f"group:{unique('t')}")
            line = await broker.logs(wire.session, "command refused", refusal.value.message)
            assert "join the group" in line["hint"]
            # A Centrifuge client is told a text and no more, the same in production and in dev mode.
            assert mode is CentrifugeWire or "join the group" in refusal.value.hint
