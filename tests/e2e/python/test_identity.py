"""Credentials over the wire: renewed, changed, ended and revoked while publications flow, in every protocol (docs/identity.md)."""

import asyncio
import math
import random
import time
from contextlib import AsyncExitStack

import pytest
from centrifuge import ClientState

from harness import SECRET, SUBSCRIPTION_SECRET, Broker, Publisher, Recorder, token, unique
from sdk import listen, sdk
from wire import CentrifugeWire, PlainWire, Refused

# A cut may be a second after the end of the credentials; what is more is the time it takes to see it here.
CUT = 1.0
SEEN = 0.8
# The wall clock is set while the server counts on a clock that is not: the two may part by so much within a few seconds, and a busy machine looks at one of
# them a moment after the other.
DRIFT = 0.25
# So many seconds before the end the SDK asks for a fresh token after one of them, and whatever holds it up has the others.
AT_ONCE = 26

KINDS = ["raw", "envelope", "centrifuge"]


def soon(seconds):
    """A moment for claims: whole seconds from now."""
    return int(time.time()) + seconds


async def open_as(kind, broker, token=None, topics=(), **options):
    if kind == "centrifuge":
        return await CentrifugeWire.open(broker, token, topics, **options)
    return await PlainWire.open(broker, token, topics, format=kind, **options)


async def until_second(moment):
    """Waits for a moment of the wall clock, which credentials are measured by."""
    while (left := moment - time.time()) > 0:
        await asyncio.sleep(left)


def numbers(events, topic):
    return [event.data["n"] for event in events if event.kind == "publication" and event.data["of"] == topic]


def assert_contiguous(got, what, last=None):
    assert got, f"{what}: nothing came"
    assert got == list(range(got[0], got[0] + len(got))), f"{what}: {got}"
    assert last is None or got[-1] == last, f"{what}: ends at {got[-1]}, published were {last}"


class TestRefresh:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_five_refreshes_in_place_lose_nothing(self, guarded, topic, kind):
        user, group = unique("u"), unique("g")
        topics = [f"open:{topic}", f"group:{group}", f"user:{user}"]
        fresh = lambda: token(sub=user, groups=[group], iat=soon(0), exp=soon(4))
        async with await open_as(kind, guarded, fresh(), [f"open:{topic}"]) as wire:
            with Publisher(guarded, topics) as publisher:
                for _ in range(5):
                    before, started = len(wire.heard()), time.monotonic()
                    await wire.until(lambda: len(wire.heard()) > before + 30 and time.monotonic() - started > 1, "publications flow")
                    answer = await wire.refresh(fresh())
                    if kind == "centrifuge":
                        assert answer["expires"] and 1 <= answer["ttl"] <= 2
                    else:
                        assert (answer["user"], answer["left"], answer["joined"]) == (user, [], [])
            for name in topics:
                await wire.hears({"of": name, "n": publisher.answered})
                assert_contiguous(numbers(wire.events, name), name, publisher.answered)
            assert not wire.all("closed") and not wire.all("unsubscribed")
            if kind != "centrifuge":
                assert all(0 < told.frame["in_ms"] <= 4000 for told in wire.all("expiring"))
                assert len(wire.all("expiring")) >= 5, "the end of each token is told"

    async def test_the_sdk_refreshes_by_itself_and_loses_nothing(self, guarded, topic):
        asked = Recorder()
        asked.times = 0
        user, name = unique("u"), f"open:{topic}"

        async def fresh():
            asked.times += 1
            asked.changed()
            return token(sub=user, iat=soon(0), exp=soon(AT_ONCE))

        async with sdk(guarded.centrifuge, token=token(sub=user, exp=soon(AT_ONCE)), get_token=fresh) as client:
            subscription = await listen(client, name)
            with Publisher(guarded, [name]) as publisher:
                await asked.until(lambda: asked.times == 5, "five tokens were asked for")
            await subscription.events.until(lambda: subscription.events.got()[-1]["n"] == publisher.answered, "all arrived")
            assert_contiguous([data["n"] for data in subscription.events.got()], name, publisher.answered)
            assert len(client.events.all("connecting")) == 1, "the connection stayed"
            assert len(subscription.events.all("subscribed")) == 1

    @pytest.mark.parametrize("left", [2, 10, 25, 26, 27, 60, 3600])
    async def test_the_ttl_is_25_s_short_of_the_end_and_at_least_one(self, guarded, left):
        end = soon(left)
        proof = token(sub=unique("u"), exp=end)
        asked = time.time()
        async with await CentrifugeWire.open(guarded, proof) as wire:
            assert wire.connected["expires"] is True
            assert wire.connected["ttl"] in self.ttls(end, asked, time.time())
            asked = time.time()
            answer = await wire.refresh(proof)
            assert answer["ttl"] in self.ttls(end, asked, time.time())

    def ttls(self, end, asked, answered):
        """What may be told at some moment between the two: whole seconds, 25 before the end, at least one."""
        least, most = math.floor(end - answered - DRIFT), math.ceil(end - asked + DRIFT)
        return range(max(least - 25, 1), max(most - 25, 1) + 1)

    @pytest.mark.parametrize("kind", ["raw", "envelope"])
    async def test_the_end_is_told_30_s_ahead(self, guarded, kind):
        async with await open_as(kind, guarded, token(sub=unique("u"), exp=soon(32))) as wire:
            await wire.until(lambda: wire.all("expiring"), "the end is told")
            [told] = wire.all("expiring")
            assert 29_000 <= told.frame["in_ms"] <= 30_000

    async def test_credentials_without_an_end_say_so(self, guarded):
        async with await CentrifugeWire.open(guarded, token(sub=unique("u"))) as wire:
            assert "expires" not in wire.connected and "ttl" not in wire.connected

    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_cut_comes_at_most_a_second_after_the_end(self, guarded, kind):
        ends = [soon(left) for left in (3, 4, 5) for _ in range(8)]

        async def cut(end):
            async with await open_as(kind, guarded, token(sub=unique("u"), exp=end)) as wire:
                closed = await wire.ended()
                assert closed.code == 3005, closed
                assert -DRIFT <= closed.at - end <= CUT + SEEN, f"{closed.at - end:.3f} s after the end"
                if kind != "centrifuge":
                    assert [told.code for told in wire.all("closing")] == [3005]
                    assert wire.all("expiring")

        await asyncio.gather(*(cut(end) for end in ends))

    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_leeway_is_added_to_the_end(self, kind, tmp_path):
        path = tmp_path / "broker.toml"
        path.write_text(f'[client.token]\nhmac_secret = "{SECRET}"\nleeway = "3s"\n')
        with Broker("--config", str(path)) as broker:
            async with await open_as(kind, broker, token(sub="u", exp=(end := soon(0)))) as wire:
                closed = await wire.ended()
            assert closed.code == 3005
            assert 3 - DRIFT <= closed.at - end <= 3 + CUT + SEEN, f"{closed.at - end:.3f} s after the end"
            # Whoever comes within the leeway is let in for what is left of it.
            async with await open_as(kind, broker, token(sub="u", exp=(end := soon(-1)))) as wire:
                closed = await wire.ended()
            assert 3 - DRIFT <= closed.at - end <= 3 + CUT + SEEN, f"{closed.at - end:.3f} s after the end"
            with pytest.raises(Refused) as refusal:
                await open_as(kind, broker, token(sub="u", exp=soon(-4)))
            assert refusal.value.code == 109

    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_ended_token_is_told_apart_from_a_bad_one(self, guarded, kind):
        ended, forged = token(sub="u", exp=soon(-1)), token(secret="x" * 40, sub="u")
        with pytest.raises(Refused) as refusal:
            await open_as(kind, guarded, ended)
        assert (refusal.value.code, refusal.value.word) == (109, "token_expired")
        with pytest.raises(Refused) as refusal:
            await open_as(kind, guarded, forged)
        assert (refusal.value.close or refusal.value.status) == (3500 if kind == "centrifuge" else 401)
        assert refusal.value.message

    @pytest.mark.parametrize("kind", ["raw", "envelope"])
    async def test_a_bad_token_leaves_the_session_as_it_was(self, guarded, topic, kind):
        user = unique("u")
        async with await open_as(kind, guarded, token(sub=user, groups=[user]), [f"open:{topic}"]) as wire:
            for bad, word in [
                (token(secret="x" * 40, sub="other"), "unauthorized"),
                ("a.b.c", "unauthorized"),
                (token(sub="other", exp=soon(-5)), "token_expired"),
                (token(sub=7), "unauthorized"),
            ]:
                with pytest.raises(Refused) as refusal:
                    await wire.refresh(bad)
                assert refusal.value.word == word and refusal.value.message
            for name in [f"open:{topic}", f"group:{user}", f"user:{user}"]:
                guarded.publish(name, {"of": name})
                await wire.hears({"of": name})
            [connection] = guarded.api("connections", user=user)["connections"]
            assert connection["groups"] == [user]


class TestSubscriptionTokens:
    def token(self, user, channel, end):
        return token(secret=SUBSCRIPTION_SECRET, sub=user, channel=channel, iat=soon(0), exp=end)

    async def test_a_renewed_one_loses_nothing_and_an_ended_one_is_cut(self, guarded, topic):
        user, name = unique("u"), f"closed:{topic}"
        async with await CentrifugeWire.open(guarded, token(sub=user)) as wire:
            answer = await wire.subscribe(name, token=self.token(user, name, soon(3)))
            assert (answer["expires"], answer["ttl"]) == (True, 1)
            with Publisher(guarded, [name]) as publisher:
                for _ in range(2):
                    await wire.until(lambda: time.time() - answer_at(wire) > 1, "a second has passed")
                    end = soon(3)
                    renewed = await wire.sub_refresh(name, self.token(user, name, end))
                    assert (renewed["expires"], renewed["ttl"]) == (True, 1)
                await wire.until(lambda: wire.all("unsubscribed"), "the subscription is over")
                [over] = wire.all("unsubscribed")
                assert (over.topic, over.code) == (name, 2501)
                assert -DRIFT <= over.at - end <= CUT + SEEN, f"{over.at - end:.3f} s after the end"
                await publisher.goes_on(10)
            await self.still_alive(wire)
            got = numbers(wire.events, name)
            assert_contiguous(got, name)
            assert wire.events.index(over) > max(place for place, event in enumerate(wire.events) if event.kind == "publication")
            # It may come back with another token, from where it was.
            last = [event for event in wire.all("publication") if event.topic == name][-1]
            await wire.subscribe(name, (last.offset, over_epoch(wire, name)), self.token(user, name, soon(30)))
            await wire.hears({"of": name, "n": publisher.answered})
            assert_contiguous(numbers(wire.events, name), name, publisher.answered)

    async def still_alive(self, wire):
        with pytest.raises(Refused) as refusal:
            await wire.history("closed:anything")
        assert refusal.value.code == 103

    async def test_the_sdk_renews_them_by_itself(self, guarded, topic):
        user, name = unique("u"), f"closed:{topic}"
        asked = Recorder()
        asked.times = 0

        async def fresh(_):
            asked.times += 1
            asked.changed()
            return self.token(user, name, soon(AT_ONCE))

        async with sdk(guarded.centrifuge, token=token(sub=user)) as client:
            subscription = await listen(client, name, get_token=fresh)
            with Publisher(guarded, [name]) as publisher:
                await asked.until(lambda: asked.times == 4, "four tokens were asked for")
            await subscription.events.until(lambda: subscription.events.got()[-1]["n"] == publisher.answered, "all arrived")
            assert_contiguous([data["n"] for data in subscription.events.got()], name, publisher.answered)
            assert len(subscription.events.all("subscribed")) == 1

    async def test_it_is_good_for_its_user_and_topic_alone(self, guarded, topic):
        user, name = unique("u"), f"closed:{topic}"
        async with await CentrifugeWire.open(guarded, token(sub=user)) as wire:
            for wrong, code in [
                (None, 103),
                (self.token("other", name, soon(60)), 103),
                (self.token(user, f"{name}.2", soon(60)), 103),
                (token(sub=user, channel=name), 103),
                (self.token(user, name, soon(-1)), 109),
            ]:
                with pytest.raises(Refused) as refusal:
                    await wire.subscribe(name, token=wrong)
                assert refusal.value.code == code and refusal.value.message, refusal.value
            guarded.publish(name, "secret")
            await wire.subscribe(name, token=self.token(user, name, soon(60)))
            guarded.publish(name, "heard")
            await wire.hears("heard")
            assert wire.heard() == ["heard"]


def answer_at(wire):
    return wire.all("answer")[-1].at


def over_epoch(wire, name):
    return wire.all("subscribed", name)[-1].epoch


class TestChangeOfUser:
    """One socket goes on as somebody else while publications to everybody flow."""

    USERS = 4
    SOCKETS = 4
    CHANGES = 50

    @pytest.mark.parametrize("kind", ["raw", "envelope"])
    async def test_200_changes_hear_nothing_of_the_old_user_and_all_of_the_new(self, guarded, kind):
        users = [unique("u") for _ in range(self.USERS)]
        topics = [name for user in users for name in self.of(user)]
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(await open_as(kind, guarded, self.proof(users[0]))) for _ in range(self.SOCKETS)]
            with Publisher(guarded, topics) as publisher:
                changes = await asyncio.gather(*(self.change(wire, users, publisher, seed) for seed, wire in enumerate(wires)))
                await publisher.goes_on()
            assert sum(map(len, changes)) == 200
            for wire, of_wire in zip(wires, changes):
                for name in self.of(of_wire[-1][0]):
                    await wire.hears({"of": name, "n": publisher.answered})
                self.check(kind, wire.events, of_wire, publisher.answered)

    def of(self, user):
        """What the user hears and nobody else."""
        return [f"group:of_{user}", f"user:{user}"]

    def proof(self, user):
        return token(sub=user, groups=[f"of_{user}"], iat=soon(0), exp=soon(60))

    async def change(self, wire, users, publisher, seed):
        """Changes the user at random moments; answers whose turn it was, the acknowledgement, and the number that was begun then."""
        chance, user, changes = random.Random(seed), users[0], []
        for _ in range(self.CHANGES):
            wanted = chance.choice([other for other in users if other != user])
            if chance.random() < 0.2:
                with pytest.raises(Refused):
                    await wire.refresh(token(secret="x" * 40, sub=wanted, groups=[f"of_{wanted}"]))
            answer = await wire.refresh(self.proof(wanted))
            assert (answer["user"], answer["left"], answer["joined"]) == (wanted, [f"group:of_{user}"], [f"group:of_{wanted}"])
            changes.append((wanted, next(event for event in wire.all("identity") if event.frame is answer), publisher.begun))
            more = len(wire.heard()) + chance.randrange(0, 6)
            await wire.until(lambda: len(wire.heard()) >= more, "publications flow")
            user = wanted
        return changes

    def check(self, kind, events, changes, last):
        places = {id(event): place for place, event in enumerate(events)}
        bounds = [0, *(places[id(acknowledged)] for _, acknowledged, _ in changes), len(events)]
        for number, (user, _, begun) in enumerate(changes):
            before, at, end = bounds[number : number + 3]
            # What the next user hears may come shortly before its acknowledgement.
            following = changes[number + 1][0] if number + 1 < len(changes) else user
            others = {event.data["of"] for event in events[at:end] if event.kind == "publication"} - {*self.of(user), *self.of(following)}
            assert not others, f"after change {number} to {user} came {others}"
            for name in self.of(user):
                start = before
                if kind == "envelope" and name.startswith("group:"):
                    [start] = [place for place in range(before, at) if (events[place].kind, events[place].topic) == ("subscribed", name)]
                got = numbers(events[start:end], name)
                if got or user == following:
                    assert_contiguous(got, f"{name} after change {number}", last if user == following else None)
                    assert got[0] <= begun + 1, f"{name}: the first after change {number} is {got[0]}, {begun} was begun"
                    if start != before:
                        assert got[0] == events[start].offset + 1, f"{name}: subscribed at {events[start].offset}, then {got[0]}"

    async def test_topics_of_the_url_that_the_new_user_may_not_hear_are_left(self, guarded, topic):
        allowed = [{"channels": [f"closed:{topic}"], "allow": ["sub"]}]
        both, mine = f"open:{topic}", f"closed:{topic}"
        async with await PlainWire.open(guarded, token(sub=unique("u"), caps=allowed), [both, mine]) as wire:
            answer = await wire.refresh(token(sub=unique("u")))
            assert (answer["left"], answer["joined"]) == ([mine], [])
            guarded.publish(mine, "secret")
            guarded.publish(both, "for all")
            await wire.hears("for all")
            assert wire.heard() == ["for all"]

    async def test_a_centrifuge_client_is_sent_away_to_come_back_as_the_new_user(self, guarded):
        old, new = unique("u"), unique("u")
        async with await CentrifugeWire.open(guarded, self.proof(old)) as wire:
            with Publisher(guarded, self.of(old) + self.of(new)):
                await wire.until(lambda: len(wire.heard()) > 10, "publications flow")
                with pytest.raises(Refused) as refusal:
                    await wire.refresh(self.proof(new))
                closed = await wire.ended()
            assert refusal.value.close == closed.code == 3014
            assert closed.reason == "state invalidated"
            assert {data["of"] for data in wire.heard()} == set(self.of(old))

    async def test_200_changes_of_centrifuge_clients_that_come_back(self, guarded):
        """Whoever is sent away hears nothing more as the old user, and all of the new one as soon as it is back."""
        users = [unique("u") for _ in range(self.USERS)]
        topics = [name for user in users for name in self.of(user)]

        async def change(publisher, seed):
            chance, user, changes = random.Random(seed), users[0], 0
            wire = await CentrifugeWire.open(guarded, self.proof(user))
            for _ in range(self.CHANGES):
                wanted = chance.choice([other for other in users if other != user])
                more = len(wire.heard()) + chance.randrange(1, 6)
                await wire.until(lambda: len(wire.heard()) >= more, "publications flow")
                with pytest.raises(Refused):
                    await wire.refresh(self.proof(wanted))
                assert (await wire.ended()).code == 3014
                await wire.close()
                self.whole(wire, user)
                begun = publisher.begun
                wire, user, changes = await CentrifugeWire.open(guarded, self.proof(wanted)), wanted, changes + 1
                for name in self.of(user):
                    await wire.until(lambda: numbers(wire.events, name), f"{name} is heard")
                    assert begun <= numbers(wire.events, name)[0] <= publisher.begun
            return wire, user, changes

        with Publisher(guarded, topics) as publisher:
            last = await asyncio.gather(*(change(publisher, seed) for seed in range(self.SOCKETS)))
            await publisher.goes_on()
        assert sum(changes for *_, changes in last) == 200
        for wire, user, _ in last:
            for name in self.of(user):
                await wire.hears({"of": name, "n": publisher.answered})
            await wire.close()
            self.whole(wire, user, publisher.answered)

    def whole(self, wire, user, last=None):
        assert {data["of"] for data in wire.heard()} <= set(self.of(user))
        for name in self.of(user):
            if got := numbers(wire.events, name):
                assert_contiguous(got, name, last)
                [subscribed] = wire.all("subscribed", name)
                first = next(event for event in wire.all("publication", name))
                assert first.offset == subscribed.offset + 1, f"{name}: subscribed at {subscribed.offset}, then {first.offset}"

    async def test_the_sdk_comes_back_as_the_new_user(self, guarded):
        old, new = unique("u"), unique("u")

        async def fresh():
            return self.proof(new)

        ending = token(sub=old, groups=[f"of_{old}"], exp=soon(AT_ONCE))
        with Publisher(guarded, [f"group:of_{old}", f"group:of_{new}"]) as publisher:
            async with sdk(guarded.centrifuge, token=ending, get_token=fresh) as client:
                await client.events.until(lambda: len(client.events.all("connecting")) == 2, "it was sent away")
                started = time.monotonic()
                await client.events.until(lambda: len(client.events.all("connected")) == 2, "it came back")
                assert time.monotonic() - started < 5
                assert client.events.all("connecting")[1].code == 3014
                session = client.events.all("connected")[1].client
                [connection] = guarded.api("connections", client=session)["connections"]
                assert (connection["user"], connection["groups"]) == (new, [f"of_{new}"])
                want = publisher.begun + 1
                await publisher.goes_on(10)
                back = [name for name, _ in client.events.calls].index("connected", 3)
                after = [ctx for name, ctx in client.events.calls[back:] if name == "publication"]
                assert {ctx.channel for ctx in after} == {f"group:of_{new}"}
                got = [ctx.pub.data["n"] for ctx in after]
                assert_contiguous(got, "the new user")
                assert got[0] <= want <= got[-1]


class TestRevoke:
    """When `revoke` has answered, nothing more is written to the sessions, and old credentials open nothing."""

    CASES = 200
    AT_ONCE = 25

    async def test_200_cases_hear_nothing_after_the_answer(self, guarded):
        cases = [(("user", "token_id", "group")[case % 3], KINDS[case // 3 % 3]) for case in range(self.CASES)]
        for at in range(0, self.CASES, self.AT_ONCE):
            names = [unique("r") for _ in cases[at : at + self.AT_ONCE]]
            # The credentials are of this second, and so is the revocation where it is quick.
            with Publisher(guarded, [f"{of}:{name}" for name in names for of in ("open", "user", "group")], pause=0) as publisher:
                batch = zip(names, cases[at : at + self.AT_ONCE])
                await asyncio.gather(*(self.case(guarded, publisher, name, *case) for name, case in batch))
            await self.old_and_new(guarded, zip(names, cases[at : at + self.AT_ONCE]))

    def proof(self, name, iat):
        return token(sub=name, groups=[name], jti=name, iat=iat, exp=iat + 300)

    async def case(self, broker, publisher, name, of, kind):
        wire = await open_as(kind, broker, self.proof(name, soon(0)), [f"open:{name}"])
        try:
            await wire.until(lambda: len(wire.heard()) >= 3, "publications flow")
            begun, answer = await asyncio.to_thread(lambda: (broker.api("revoke", **{of: name}), publisher.begun)[::-1])
            assert answer["sessions"] == 1
            for topic in [f"open:{name}", f"user:{name}", f"group:{name}"]:
                await asyncio.to_thread(broker.publish, topic, {"of": topic, "n": "barrier"})
            closed = await wire.ended()
            assert closed.code == 3500 and "revoked" in closed.reason, closed
            late = [data for data in wire.heard() if data["n"] == "barrier" or data["n"] > begun]
            assert late == [], f"{kind}, revoke of the {of}: {late} came after the answer"
            if kind != "centrifuge":
                assert [told.code for told in wire.all("closing")] == [3500]
        finally:
            await wire.close()

    async def old_and_new(self, broker, cases):
        revoked_in = soon(0)
        cases = list(cases)
        for name, (of, kind) in cases:
            with pytest.raises(Refused) as refusal:
                await open_as(kind, broker, self.proof(name, revoked_in - 10))
            told = refusal.value
            assert "revoked" in told.message, told
            if kind == "centrifuge":
                assert told.close == 3500
            else:
                assert (told.status, told.code, told.word) == (401, 101, "unauthorized")
        await until_second(revoked_in + 1)
        for name, (of, kind) in cases:
            # A new token has a new id; the old one's is burnt.
            fresh = token(sub=name, groups=[name], jti=f"{name}.2", iat=soon(0))
            async with await open_as(kind, broker, fresh, [f"open:{name}"]) as wire:
                await asyncio.to_thread(broker.publish, f"open:{name}", {"of": "new", "n": 0})
                await wire.hears({"of": "new", "n": 0})

    @pytest.mark.parametrize("kind", ["raw", "envelope"])
    async def test_a_revoked_token_does_not_renew_another_session(self, guarded, kind):
        name = unique("r")
        guarded.api("revoke", token_id=name)
        async with await open_as(kind, guarded, token(sub=name, jti="another")) as wire:
            with pytest.raises(Refused) as refusal:
                await wire.refresh(self.proof(name, soon(-5)))
            assert refusal.value.word == "unauthorized" and "revoked" in refusal.value.message
            guarded.publish(f"user:{name}", "still here")
            await wire.hears("still here")


class TestDisconnect:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("code, reason", [(4321, "lunch break"), (3501, "nobody asked for this"), (4999, "점심시간")])
    async def test_the_servers_code_and_reason_arrive(self, guarded, kind, code, reason):
        user = unique("u")
        async with await open_as(kind, guarded, token(sub=user)) as wire:
            assert guarded.api("disconnect", user=user, code=code, reason=reason, reconnect_after_ms=1234) == {"sessions": 1}
            closed = await wire.ended()
            assert (closed.code, closed.reason) == (code, reason)
            if kind != "centrifuge":
                [told] = wire.all("closing")
                assert told.frame == {"broker": "closing", "code": code, "reason": reason, "reconnect_after_ms": 1234}

    async def test_the_sdk_gives_up_or_comes_back_as_the_code_says(self, guarded):
        for code, back in [(4321, True), (4500, False), (3011, True), (3503, False)]:
            user = unique("u")
            async with sdk(guarded.centrifuge, token=token(sub=user)) as client:
                guarded.api("disconnect", user=user, code=code, reason="for a reason")
                if back:
                    await client.events.until(lambda: len(client.events.all("connected")) == 2, "it came back")
                    assert (client.events.all("connecting")[1].code, client.events.all("connecting")[1].reason) == (code, "for a reason")
                else:
                    await client.events.until(lambda: client.events.all("disconnected"), "it gave up")
                    assert (client.events.all("disconnected")[0].code, client.state) == (code, ClientState.DISCONNECTED)
