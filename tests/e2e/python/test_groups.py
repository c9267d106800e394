"""A role group of a thousand sessions of both protocols in one place, and what the server API says and does about groups (docs/identity.md)."""

import asyncio
import logging
import time
from collections import Counter

import pytest

from harness import token, unique
from wire import CentrifugeWire, PlainWire

EACH = 500
AT_ONCE = 50
# While all come back, an accept goes out whenever so many more are there.
PER_ACCEPT = 25


async def bounded(jobs):
    """Runs all, at most `AT_ONCE` at a time: so many dials at once would wait in the listener's queue."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(job):
        async with room:
            return await job

    return await asyncio.gather(*(one(job) for job in jobs))


def accepts(wire):
    return Counter(data["accept"] for data in wire.heard() if isinstance(data, dict) and "accept" in data)


class TestRoleGroup:
    """`POST /accept` by one radiographer is heard by all the others of the role, each exactly once."""

    async def test_a_thousand_sessions_hear_each_accept_once_and_the_actor_none(self, guarded, caplog):
        # So many frames are more than anybody would read, and writing them down takes longer than sending them.
        caplog.set_level(logging.INFO, logger="websockets")
        group, actor = unique("ocs_ris"), unique("ris")
        others = [unique("ris") for _ in range(EACH - 1)]
        users = [actor, *others] * 2
        proof = {user: token(sub=user, groups=[group]) for user in users}
        wires = await bounded(
            (PlainWire if place < EACH else CentrifugeWire).open(guarded, proof[user]) for place, user in enumerate(users)
        )
        again = {}
        api = lambda method, **body: asyncio.to_thread(guarded.api, method, **body)
        try:
            members = (await api("group_members", group=group))["members"]
            assert len(members) == EACH and all(len(member["sessions"]) == 2 for member in members)

            await api("publish", channel=f"group:{group}", data={"accept": "by topic"}, **{"except": {"user": actor}})
            target = {"any": [{"group": group}, {"user": others[0]}, {"session": wires[1].session}], "except": [{"user": actor}]}
            sent = await api("send", to=target, data={"accept": "by target"})
            assert (sent["sessions"], sent["recoverable"]) == (2 * EACH - 2, False)
            await api("publish", channel=f"group:{group}", data={"accept": "barrier"})
            for wire in wires:
                await wire.until(lambda: accepts(wire)["barrier"], "the barrier arrived")
            for wire, user in zip(wires, users):
                told = {"by topic": 1, "by target": 1, "barrier": 1} if user != actor else {"barrier": 1}
                assert accepts(wire) == told, f"{user} over {wire.mode}"

            # All go and come back, each from where it was, while accepts go on; the actor has none of these either.
            async def reconnect(place):
                await wires[place].close()
                held = wires[place].positions()[f"group:{group}"]
                again[place] = await self.resume(guarded, wires[place], proof[users[place]], f"group:{group}", held)
                progress.set()

            async def accept():
                count = 0
                while not finished.is_set():
                    count += 1
                    await api("publish", channel=f"group:{group}", data={"accept": count}, **{"except": {"user": actor}})
                    back = len(again)
                    while len(again) < back + PER_ACCEPT and not finished.is_set():
                        progress.clear()
                        await progress.wait()
                return count

            finished, progress = asyncio.Event(), asyncio.Event()
            accepting = asyncio.create_task(accept())
            await bounded(reconnect(place) for place in range(2 * EACH))
            finished.set()
            progress.set()
            count = await accepting
            assert count > 20, "accepts went on meanwhile"
            await api("publish", channel=f"group:{group}", data={"accept": "last"})
            for place, user in enumerate(users):
                wire = again[place]
                await wire.until(lambda: accepts(wire)["last"], f"{user} over {wire.mode} is back and heard the last")
                heard = accepts(wires[place]) + accepts(wire)
                wanted = {} if user == actor else dict.fromkeys(["by topic", "by target", *range(1, count + 1)], 1)
                assert heard == {"barrier": 1, "last": 1, **wanted}, f"{user} over {wire.mode}: {heard - Counter(wanted)}"
        finally:
            await bounded(wire.close() for wire in [*wires, *again.values()])

    async def resume(self, broker, wire, proof, topic, held):
        """A new session of the same kind that goes on from the position."""
        if wire.mode == "plain":
            return await PlainWire.open(broker, proof, [topic], since=held)
        return await CentrifugeWire.open(broker, proof, since={topic: held})


class TestTheApiOnGroups:
    async def test_join_and_leave_are_followed_at_once(self, guarded, mode):
        group, user = unique("shift"), unique("u")
        name = f"group:{group}"
        async with await mode.open(guarded, token(sub=user)) as wire, await mode.open(guarded, token(sub=user)) as second:
            assert guarded.api("group_join", group=group, user=user) == {"sessions": 2}
            guarded.publish(name, 1)
            for each in [wire, second]:
                await each.hears(1)
                [told] = each.all("subscribed", name)
                assert told.offset == 0
            assert guarded.api("group_leave", group=group, user=user) == {"sessions": 2}
            guarded.publish(name, 2)
            guarded.publish(f"user:{user}", "barrier")
            for each in [wire, second]:
                await each.hears("barrier")
                assert each.heard(name) == [1]
                assert [over.code for over in each.all("unsubscribed", name)] == [2000]

    async def test_a_session_may_be_joined_alone(self, guarded, mode):
        group, user = unique("shift"), unique("u")
        async with await mode.open(guarded, token(sub=user)) as wire, await mode.open(guarded, token(sub=user)) as second:
            assert guarded.api("group_join", group=group, session=wire.session) == {"sessions": 1}
            guarded.publish(f"group:{group}", 1)
            guarded.publish(f"user:{user}", "barrier")
            for each in [wire, second]:
                await each.hears("barrier")
            assert (wire.heard(), second.heard()) == ([1, "barrier"], ["barrier"])
            assert guarded.api("group_members", group=group) == {"members": [{"user": user, "sessions": [wire.session]}]}

    async def test_a_users_membership_survives_a_reconnect(self, guarded, mode):
        group, user = unique("shift"), unique("u")
        name = f"group:{group}"
        async with await mode.open(guarded, token(sub=user)) as wire:
            guarded.api("group_join", group=group, user=user)
            guarded.publish(name, 1)
            await wire.hears(1)
        guarded.publish(name, 2)
        async with await mode.open(guarded, token(sub=user)) as wire:
            guarded.publish(name, 3)
            await wire.hears(3)
            [told] = wire.all("subscribed", name)
            assert told.offset == 2
            guarded.api("group_leave", group=group, user=user)
        async with await mode.open(guarded, token(sub=user)) as wire:
            guarded.publish(name, 4)
            guarded.publish(f"user:{user}", "barrier")
            await wire.hears("barrier")
            assert wire.heard() == ["barrier"]

    async def test_a_group_of_the_token_that_the_api_took_is_back_with_the_next_connection(self, guarded, mode):
        group, user = unique("shift"), unique("u")
        proof = token(sub=user, groups=[group])
        async with await mode.open(guarded, proof) as wire:
            assert guarded.api("group_leave", group=group, user=user) == {"sessions": 1}
            guarded.publish(f"group:{group}", 1)
            guarded.publish(f"user:{user}", "barrier")
            await wire.hears("barrier")
            assert wire.heard() == ["barrier"]
        async with await mode.open(guarded, proof) as wire:
            guarded.publish(f"group:{group}", 2)
            await wire.hears(2)

    async def test_lists_and_counts_tell_the_truth(self, guarded, mode):
        group, team = unique("shift"), unique("team")
        one, two = unique("u"), unique("u")
        both = token(sub=one, groups=[group, team])
        listed = lambda: {entry["group"]: (entry["sessions"], entry["users"]) for entry in guarded.api("groups")["groups"]}
        async with await mode.open(guarded, both) as first, await mode.open(guarded, both) as second:
            async with await mode.open(guarded, token(sub=two, groups=[group]), [f"open:{group}"]) as third:
                assert (listed()[group], listed()[team]) == ((3, 2), (2, 1))
                [entry] = guarded.api("groups", pattern=f"{team[:-1]}[{team[-1]}]")["groups"]
                assert entry == {"group": team, "sessions": 2, "users": 1}
                members = {member["user"]: set(member["sessions"]) for member in guarded.api("group_members", group=group)["members"]}
                assert members == {one: {first.session, second.session}, two: {third.session}}

                [connection] = guarded.api("connections", session=third.session)["connections"]
                assert connection["user"] == two and connection["groups"] == [group]
                assert set(connection["topics"]) == {f"open:{group}", f"group:{group}", f"user:{two}"}
                assert connection["transport"] == "websocket" and mode.mode in connection["protocol"]
                assert connection["address"].startswith("127.0.0.1:")
                of_group = guarded.api("connections", group=group)["connections"]
                assert {entry["session"] for entry in of_group} == {first.session, second.session, third.session}
                of_user = guarded.api("connections", user=one)["connections"]
                assert {entry["session"] for entry in of_user} == {first.session, second.session}
                guarded.api("group_join", group=team, user=two)
                assert listed()[team] == (3, 2)
            third_is_gone = lambda: listed()[group] == (2, 1) and listed()[team] == (2, 1)
            await asyncio.to_thread(wait_until, third_is_gone)
            guarded.api("group_leave", group=team, session=first.session)
            assert listed()[team] == (1, 1)
        await asyncio.to_thread(wait_until, lambda: group not in listed() and team not in listed())
        assert guarded.api("group_members", group=group) == {"members": []}

    async def test_presence_and_history_of_a_group_are_those_of_its_topic(self, guarded, mode):
        group, user = unique("shift"), unique("u")
        async with await mode.open(guarded, token(sub=user, groups=[group])) as wire:
            guarded.publish(f"group:{group}", 1)
            assert [entry["user"] for entry in guarded.api("presence", channel=f"group:{group}")["presence"].values()] == [user]
            assert guarded.api("presence_stats", channel=f"group:{group}") == {"num_clients": 1, "num_users": 1}
            assert [entry["data"] for entry in guarded.api("history", channel=f"group:{group}", limit=-1)["publications"]] == [1]
            await wire.hears(1)

    async def test_the_sets_of_a_send_mean_each_session_once(self, guarded, mode):
        ris, lis = unique("ris"), unique("lis")
        people = {"a": [ris], "b": [lis], "c": [ris, lis], "d": []}
        users = {name: unique(name) for name in people}
        wires = {name: await mode.open(guarded, token(sub=users[name], groups=groups)) for name, groups in people.items()}
        try:
            for number, (target, reached) in enumerate(
                [
                    ({"any": [{"group": ris}, {"group": lis}]}, "abc"),
                    ({"all": [{"group": ris}, {"group": lis}]}, "c"),
                    ({"any": [{"group": ris}, {"group": lis}], "except": [{"user": users["c"]}]}, "ab"),
                    ({"any": [{"group": lis}, {"user": users["d"]}], "all": [{"channel": f"user:{users['d']}"}]}, "d"),
                    ({"any": [{"all": [{"group": ris}], "except": [{"group": lis}]}, {"session": wires["d"].session}]}, "ad"),
                ]
            ):
                assert guarded.api("send", to=target, data={"to": number})["sessions"] == len(reached)
                for name, wire in wires.items():
                    guarded.publish(f"user:{users[name]}", {"barrier": number})
                    await wire.hears({"barrier": number})
                    assert wire.heard().count({"to": number}) == (name in reached), f"{name}, {target}"
        finally:
            for wire in wires.values():
                await wire.close()


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
