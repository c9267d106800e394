"""What stands between the broker and the application's backend: the key of the server API, and hooks that misbehave (docs/protocols/server-api.md,
docs/protocols/hooks.md)."""

import asyncio
import json
import subprocess
import threading

import pytest

from harness import API_KEY, SECRET, Broker, binary, clean_environment, remember, token, unique
from keys import Answers
from wire import Refused


METHODS = [
    *["publish", "broadcast", "send", "subscribe", "unsubscribe", "disconnect", "refresh", "revoke", "group_join", "group_leave", "group_members"],
    *["groups", "connections", "presence", "presence_stats", "history", "history_remove", "channels", "info", "batch", "ticket", "rpc"],
]


class TestTheKeyOfTheApi:
    """S15: who has no key learns nothing, not even which methods there are."""

    WRONG = {
        "none": {},
        "empty": {"X-API-Key": ""},
        "another": {"X-API-Key": remember("quite-another-key-of-the-tests-00000")},
        "its beginning": {"X-API-Key": API_KEY[:-1]},
        "one letter more": {"X-API-Key": API_KEY + "x"},
        "in another case": {"X-API-Key": API_KEY.upper()},
        "as a bearer": {"Authorization": f"Bearer {API_KEY}"},
        "another, as an apikey": {"Authorization": "apikey quite-another-key-of-the-tests-00000"},
        "in a cookie": {"Cookie": f"X-API-Key={API_KEY}"},
        "a token of a client": {"Authorization": f"Bearer {token(sub='admin')}"},
    }

    @pytest.mark.parametrize("what", WRONG)
    def test_without_it_every_method_is_401(self, guarded, what):
        headers = self.WRONG[what]
        before = guarded.lines()
        for method in [*METHODS, "no_such_method", ""]:
            for body in [b"{}", b"not json", json.dumps({"channel": "open:x", "data": 1}).encode()]:
                status, answered, answer = guarded.post(f"/api/{method}", body, self.only(headers))
                assert (status, answer["error"]["code"], answer["error"]["error"]) == (401, 101, "unauthorized"), f"{method}: {answer}"
                assert answered["WWW-Authenticate"] == "apikey"
                assert API_KEY not in json.dumps(answer)
        assert (answer["error"].get("hint") is not None) == (what in ("none", "as a bearer", "in a cookie", "a token of a client"))
        guarded.wait_for_log(r"server api request refused.*api\.key", since=before)

    def only(self, headers):
        # The caller's own key would be sent with an empty one in its place.
        return {"X-API-Key": None, **headers}

    def test_a_key_in_the_query_is_no_key_and_is_in_no_log(self, guarded):
        status, _, answer = guarded.post(f"/api/info?X-API-Key={API_KEY}&api_key={API_KEY}", {}, self.only({}))
        assert (status, answer["error"]["code"]) == (401, 101)

    def test_both_ways_to_send_it_work(self, guarded):
        for headers in [{"X-API-Key": API_KEY}, {"Authorization": f"apikey {API_KEY}"}]:
            assert guarded.post("/api/info", {}, self.only(headers))[0] == 200

    def test_where_none_is_configured_a_random_one_is_needed(self):
        with Broker(env={"BROKER_CLIENT__ANONYMOUS": "true"}) as running:
            for key in ["", "dev", "admin", "changeme"]:
                assert running.post("/api/info", {}, {"X-API-Key": key})[0] == 401

    def test_secrets_are_masked_where_the_configuration_is_shown(self, tmp_path):
        path = tmp_path / "broker.toml"
        path.write_text(f'[api]\nkey = "{API_KEY}"\n[client.token]\nhmac_secret = "{SECRET}"\n[hooks]\nheaders = ["X-Hook-Key: {SECRET}"]\n')
        show = [binary(), "config", "show", "--config", str(path)]
        shown = subprocess.run(show, env=clean_environment(), capture_output=True, text=True, timeout=20)
        assert shown.returncode == 0, shown
        assert not any(secret in shown.stdout + shown.stderr for secret in (API_KEY, SECRET)), shown
        assert "key = " in shown.stdout and "hmac_secret = " in shown.stdout


@pytest.fixture(scope="module")
def elsewhere():
    """Where nobody should be led to."""
    with Answers(lambda *_: (200, {}, b'{"result":{}}')) as answers:
        yield answers


@pytest.fixture(scope="module")
def hooked(elsewhere, tmp_path_factory):
    """A server whose application does what the name of the channel says."""
    ended = threading.Event()

    def answer(_, body):
        what = json.loads(body)["channel"].split(".")[0].removeprefix("asked:")
        if what == "hang":
            ended.wait(30)
        if what.startswith("status"):
            return int(what[6:]), {}, b'{"result":{}}'
        places = {"loopback": f"{elsewhere.http}/x", "metadata": "http://169.254.169.254/latest/meta-data", "file": "file:///etc/passwd"}
        code, _, place = what.partition("-")
        if place:
            return int(code), {"Location": places[place]}, b""
        if what == "large":
            return 200, {}, json.dumps({"result": {"data": "x" * 20_000}}).encode()
        if what == "nonsense":
            return 200, {}, b"<html>yes</html>"
        return 200, {}, b'{"result":{}}'

    with Answers(answer) as application:
        path = tmp_path_factory.mktemp("hooked") / "broker.toml"
        path.write_text(
            f"""
            [server]
            session_log_lines = 100000
            [client.token]
            hmac_secret = "{SECRET}"
            [api]
            key = "{API_KEY}"
            [hooks]
            answer_max = "4KiB"
            failures_max = 10000
            headers = ["X-Hook-Key: {remember("hooks-of-the-end-to-end-tests-0123456789")}"]
            [hooks.subscribe]
            url = "{application.http}/subscribe"
            timeout = "1s"
            [namespaces.asked]
            allow = ["pub"]
            hooks = ["subscribe"]
            """
        )
        with Broker("--config", str(path), api_key=API_KEY) as running:
            yield running
            ended.set()


# What the application does, what the client is told, and what the operator.
MISBEHAVES = [
    *[(f"{code}-{place}", 100, "the answer is a redirect") for code in (301, 302, 303, 307, 308) for place in ("loopback", "metadata", "file")],
    ("hang", 100, "no answer within 1s"),
    ("large", 100, "the answer is longer than 4096 bytes"),
    ("nonsense", 100, "the answer is not JSON"),
    ("status500", 100, "the answer has status 500"),
    ("status401", 101, "the answer has status 401"),
    ("status403", 103, "the answer has status 403"),
]


class TestHooks:
    """S16: an answer that is none allows nothing, and leads nowhere."""

    @pytest.mark.parametrize("what, code, why", MISBEHAVES, ids=[what for what, _, _ in MISBEHAVES])
    async def test_what_is_no_answer_allows_nothing_and_both_sides_are_told(self, hooked, elsewhere, mode, what, code, why):
        topic = f"asked:{what}.{unique('t')}"
        async with await mode.open(hooked, token(sub=unique("u"))) as wire:
            with pytest.raises(Refused) as refusal:
                await wire.subscribe(topic)
            told = refusal.value
            assert told.code == code, told
            assert ("try again" in told.message) == (code == 100)
            # What the application did is the operator's business alone.
            assert why not in told.message
            line = await hooked.logs(wire.session, "command refused", why)
            assert "see hooks.subscribe" in line["hint"], line
            hooked.publish(topic, "unheard")
            # The session goes on, and the next one is asked about anew.
            await wire.subscribe(f"asked:yes.{unique('t')}")
            assert wire.heard() == []
        assert elsewhere.asked == []

    async def test_the_log_says_once_in_a_while_how_to_put_it_right(self, hooked, mode):
        async with await mode.open(hooked, token(sub=unique("u"))) as wire:
            with pytest.raises(Refused):
                await wire.subscribe(f"asked:302-loopback.{unique('t')}")
        line = await hooked.logs("a hook gave no usable answer")
        assert line["hook"] == "subscribe" and "hooks." in line["hint"]

    async def test_a_hang_holds_up_nobody_else(self, hooked, mode):
        async with await mode.open(hooked, token(sub=unique("u"))) as stuck, await mode.open(hooked, token(sub=unique("u"))) as other:
            waiting = asyncio.create_task(stuck.subscribe(f"asked:hang.{unique('t')}"))
            topic = f"asked:yes.{unique('t')}"
            await other.subscribe(topic)
            await asyncio.to_thread(hooked.publish, topic, "live")
            await other.hears("live")
            assert not waiting.done(), "others are served before the hang is given up"
            with pytest.raises(Refused) as refusal:
                await waiting
            assert refusal.value.code == 100
