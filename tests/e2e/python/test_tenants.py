"""S21: two tenants and whoever has none, with the same names for everything. On no path does one see, reach or end anything of another."""


import pytest

from harness import SUBSCRIPTION_SECRET, token, unique
from wire import CentrifugeWire, PlainWire, Refused

ALL = ["sub", "pub", "hst", "prs"]


def full(tenant, topic):
    """The name by which the server API knows a topic."""
    return f"tenant:{tenant}/{topic}" if tenant else topic


def proof(tenant, user, **claims):
    return token(sub=user, **({"tenant": tenant} if tenant else {}), **claims)


# Whose secret it is, and who must not learn of it.
PAIRS = [("acme", "other"), ("acme", None), (None, "acme")]


@pytest.fixture(params=PAIRS, ids=[f"{theirs or 'no tenant'} and {ours or 'no tenant'}" for theirs, ours in PAIRS])
def pair(request):
    return request.param


class TestTheSameNames:
    @pytest.mark.parametrize("by", ["client", "api"])
    async def test_what_one_publishes_the_other_reaches_by_no_path(self, guarded, mode, pair, by):
        theirs, ours = pair
        user, group, name = unique("u"), unique("g"), unique("t")
        topic, chosen, closed, opened = f"open:{name}", f"open:{name}.chosen", f"closed:{name}", f"open:{name}.url"
        caps = [{"channels": ["closed:*"], "match": "wildcard", "allow": ALL}]
        claims = {"groups": [group], "channels": [chosen], "caps": caps}
        everywhere = [topic, closed, opened, chosen, f"group:{group}", f"user:{user}"]
        writer = await mode.open(guarded, proof(theirs, user, **claims), [topic, closed, opened])
        reader = await mode.open(guarded, proof(ours, user, **claims), [topic, closed, opened])
        try:
            for place in everywhere:
                if by == "client" and place in (topic, opened, closed, chosen):
                    await writer.publish(place, {"secret": place})
                else:
                    guarded.publish(full(theirs, place), {"secret": place})
                await writer.hears({"secret": place}, place)
                guarded.publish(full(ours, place), {"barrier": place})
                await reader.hears({"barrier": place}, place)
            # Live, by commands, tokens, groups and the user's own topic.
            assert reader.heard() == [{"barrier": place} for place in everywhere]
            assert {event.topic for event in reader.all("publication")} == set(everywhere), "names are local"
            # Read.
            for place in (topic, closed, opened, chosen):
                assert await reader.history(place) == [{"barrier": place}]
                there = await reader.presence(place)
                assert len(there) == 1 and reader.session in str(there) and writer.session not in str(there)
                if mode is CentrifugeWire:
                    assert await reader.presence_stats(place) == {"num_clients": 1, "num_users": 1}
            # Resumed from before everything, by command and while connecting.
            epoch = guarded.publish(full(ours, topic), {"last": topic})["epoch"]
            await reader.unsubscribe(topic)
            await reader.subscribe(topic, (0, epoch))
            await reader.hears({"last": topic}, topic)
            async with await self.resume(guarded, mode, proof(ours, user, **claims), chosen) as again:
                await again.hears({"barrier": chosen}, chosen)
                assert again.heard() == [{"barrier": chosen}]
            assert not any("secret" in event.data for event in reader.all("publication"))
        finally:
            await writer.close()
            await reader.close()

    async def resume(self, broker, mode, proof, topic):
        """A new session that has a topic of its token from the first position that is kept."""
        if mode is PlainWire:
            return await PlainWire.open(broker, proof, [topic], since="0")
        async with await CentrifugeWire.open(broker, proof) as wire:
            _, epoch = wire.positions()[topic]
        return await CentrifugeWire.open(broker, proof, since={topic: (0, epoch)})

    @pytest.mark.parametrize("format", ["raw", "envelope"])
    async def test_urls(self, guarded, pair, format):
        theirs, ours = pair
        user, name = unique("u"), unique("t")
        paths = [{"path": f"/ws/open:{name}"}, {"topics": [f"open:{name}"]}, {"topics": [f"open:{name}"], "since": "0"}]
        guarded.publish(full(theirs, f"open:{name}"), "secret before")
        for options in paths:
            async with await PlainWire.open(guarded, proof(ours, user), format=format, **options) as wire:
                guarded.publish(full(theirs, f"open:{name}"), "secret")
                guarded.publish(full(ours, f"open:{name}"), "barrier")
                await wire.hears("barrier")
                assert set(wire.heard()) == {"barrier"}

    async def test_a_token_of_a_subscription(self, guarded, pair):
        theirs, ours = pair
        user, name = unique("u"), f"closed:{unique('t')}"
        of = lambda tenant, channel: token(secret=SUBSCRIPTION_SECRET, sub=user, channel=channel, **({"tenant": tenant} if tenant else {}))
        async with await CentrifugeWire.open(guarded, proof(ours, user)) as wire:
            for forged in [of(theirs, name), of(theirs, full(theirs, name)), of(theirs, full(ours, name)), of(ours, full("acme", name))]:
                with pytest.raises(Refused) as refusal:
                    await wire.subscribe(name, token=forged)
                assert refusal.value.code == 103, refusal.value
                await guarded.logs(wire.session, "command refused", refusal.value.message)
            await wire.subscribe(name, token=of(ours, name))
            guarded.publish(full(theirs, name), "secret")
            guarded.publish(full(ours, name), "barrier")
            await wire.hears("barrier")
            assert wire.heard() == ["barrier"]


class TestNamesThatLeadOut:
    """The full names are the server's: a client that writes them gets nowhere, with whatever rights."""

    @pytest.mark.parametrize("ours", ["acme", "other", None])
    async def test_each_verb(self, guarded, mode, ours):
        name = unique("t")
        caps = [{"channels": [">", "open:>"], "match": "wildcard", "allow": ALL}]
        guarded.publish(f"tenant:acme/open:{name}", "secret")
        async with await mode.open(guarded, proof(ours, unique("u"), caps=caps)) as wire:
            for topic in [f"tenant:acme/open:{name}", f"tenant:other/open:{name}", "tenant:acme", f"tenant:/open:{name}"]:
                verbs = [wire.subscribe, wire.history, wire.presence, lambda topic: wire.publish(topic, "forged")]
                if mode is CentrifugeWire:
                    verbs += [wire.presence_stats, lambda topic: wire.subscribe(topic, (0, "aaaaaaaa"))]
                for verb in verbs:
                    with pytest.raises(Refused) as refusal:
                        await verb(topic)
                    assert (refusal.value.code, refusal.value.word) == (102, "unknown_topic"), refusal.value
                    await guarded.logs(wire.session, "command refused", refusal.value.message)
        assert [entry["data"] for entry in guarded.api("history", channel=f"tenant:acme/open:{name}", limit=-1)["publications"]] == ["secret"]

    @pytest.mark.parametrize("ours", ["acme", "other", None])
    async def test_urls(self, guarded, ours):
        for topic in ["tenant:acme/open:x", "tenant:other/open:x"]:
            with pytest.raises(Refused) as refusal:
                await PlainWire.open(guarded, proof(ours, unique("u")), [topic])
            assert (refusal.value.status, refusal.value.code) == (404, 102), refusal.value

    @pytest.mark.parametrize(
        "claims",
        [
            {"channels": ["tenant:acme/open:x"]},
            {"subs": {"tenant:acme/open:x": {}}},
            {"caps": [{"channels": ["tenant:acme/open:x"], "allow": ALL}]},
            {"tenant": "acme/open"},
            {"tenant": ""},
        ],
        ids=["channels", "subs", "caps", "slash", "empty"],
    )
    async def test_claims_that_lead_into_a_tenant(self, guarded, mode, claims):
        """Such a token is refused, or means nothing outside its own tenant."""
        guarded.publish("tenant:acme/open:x", "secret")
        try:
            wire = await mode.open(guarded, token(**{"sub": unique("u"), "tenant": "other", **claims}))
        except Refused as refusal:
            assert refusal.close == 3500 or refusal.code in (101, 102), refusal
            return
        async with wire:
            guarded.publish("tenant:acme/open:x", "secret")
            for verb in [wire.history, wire.presence, wire.subscribe]:
                with pytest.raises(Refused) as refusal:
                    await verb("tenant:acme/open:x")
                assert refusal.value.code == 102
            assert wire.heard() == []


class TestActsOfTheServer:
    """The same user and group in two tenants: what the server does to one happens to one."""

    async def test_groups_sends_ends_and_revocations(self, guarded, mode):
        user, group = unique("u"), unique("g")
        tenants = ["acme", "other", None]
        wires = {tenant: await mode.open(guarded, proof(tenant, user, groups=[group])) for tenant in tenants}
        try:
            of_acme = {"user": user, "tenant": "acme"}
            assert guarded.api("group_members", group=group, tenant="acme")["members"] == [{"user": user, "sessions": [wires["acme"].session]}]
            assert guarded.api("connections", **of_acme)["connections"][0]["session"] == wires["acme"].session
            assert guarded.api("send", to=of_acme, data="for acme")["sessions"] == 1
            assert guarded.api("group_join", group=f"{group}.b", **of_acme) == {"sessions": 1}
            guarded.publish(full("acme", f"group:{group}.b"), "joined")
            assert guarded.api("group_leave", group=group, **of_acme) == {"sessions": 1}
            for tenant in tenants:
                guarded.publish(full(tenant, f"group:{group}"), "left")
                guarded.publish(full(tenant, f"user:{user}"), "barrier")
                await wires[tenant].hears("barrier")
            assert {tenant: wire.heard() for tenant, wire in wires.items()} == {
                "acme": ["for acme", "joined", "barrier"],
                "other": ["left", "barrier"],
                None: ["left", "barrier"],
            }
            assert guarded.api("revoke", **of_acme) == {"sessions": 1}
            assert (await wires["acme"].ended()).code == 3500
            assert guarded.api("disconnect", code=4001, reason="bye", user=user, tenant="other") == {"sessions": 1}
            assert (await wires["other"].ended()).code == 4001
            guarded.publish(f"user:{user}", "still here")
            await wires[None].hears("still here")
            async with await mode.open(guarded, proof("other", user, iat=1)) as again:
                assert again.session, "another tenant's user was revoked"
        finally:
            for wire in wires.values():
                await wire.close()
