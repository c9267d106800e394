"""The dashboard of `examples/` by plain WebSockets: statistics at their old address, and both hops of the stock ticks, frame by frame."""

import asyncio
import base64
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import PATIENCE, Server, binary, eventually, remember, secrets_in

STATISTICS = "/api/v1/dispatches/ws/dashboard"
STOCKS = "/api/v1/stocks/ws"
KEY = remember("the-key-of-the-dashboard-tests-0123456789")


class Dashboard(Server):
    address = r"dashboard at (http://[\d.:]+)/"

    def __init__(self, *args):
        command = [binary("DASHBOARD_BIN"), "--listen", "127.0.0.1:0", "--python", sys.executable, *args]
        super().__init__(command, env={"DASHBOARD_API_KEY": KEY})
        self.exchange = self.wait_for_log(r"exchange on (http://[\d.:]+)").group(1)

    def post(self, path, body=None, base=None, headers=None):
        request = urllib.request.Request((base or self.http) + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json", **(headers or {})})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def token(self):
        return remember(self.post("/api/v1/stocks/token")["token"])

    def open(self, path, token=None, **options):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return connect(self.ws + path, proxy=None, additional_headers=headers, **{"ping_interval": None, **options})


@pytest.fixture(scope="module")
def dashboard():
    with Dashboard() as running:
        yield running
    assert not secrets_in(running.log())


async def take(socket, of=lambda frame: True, within=PATIENCE):
    """The next frame of which this holds."""
    async with asyncio.timeout(within):
        while True:
            frame = json.loads(await socket.recv())
            if of(frame):
                return frame


def frame(trnm, items, refresh="1", group="1"):
    return json.dumps({"trnm": trnm, "grp_no": group, "refresh": refresh, "data": [{"item": items, "type": ["0B"]}]})


def is_answer(frame):
    return frame.get("trnm") != "REAL" and "broker" not in frame


def is_tick_of(item):
    return lambda frame: frame.get("trnm") == "REAL" and any(tick["item"] == item for tick in frame["data"])


async def test_first_frame_is_the_data_within_one_round_trip(dashboard):
    async with dashboard.open(STATISTICS) as warm:
        await take(warm)
    async with dashboard.open(STATISTICS) as socket:
        opened = time.monotonic()
        first = await take(socket)
        took = time.monotonic() - opened
        assert first["total_orders"] > 1000 and first["pending_orders"] >= 0
        # The frame travels behind the handshake's answer: nobody waits for the pace of 5 s.
        assert took < 0.5
        # And then at the pace of 5 s, or sooner.
        later = await take(socket, lambda frame: frame["at_ms"] > first["at_ms"], within=6)
        assert later["pace_ms"] == 5000


async def test_wrong_address_is_told_the_right_one(dashboard):
    with pytest.raises(InvalidStatus) as refused:
        await dashboard.open("/api/v1/ws/ws/dashboard")
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["error"]["hint"] == f"did you mean {STATISTICS}?"


async def test_registrations_as_the_exchange_has_them(dashboard):
    async with dashboard.open(STOCKS, dashboard.token()) as socket:
        await socket.send('{"trnm":"REG","grp_no":"1","refresh":"1","data":[{"item":["005930"],"type":["0B"]}]}')
        answer = await take(socket, is_answer)
        assert answer == {"trnm": "REG", "return_code": 0, "return_msg": "", "grp_no": "1", "data": [{"item": "005930", "type": "0B"}], "errors": []}
        tick = await take(socket, is_tick_of("005930"))
        assert tick["data"][0]["name"] == "삼성전자" and tick["data"][0]["values"]["price"] > 0

        # "1" keeps what was registered, "0" drops it, REMOVE ends it.
        await socket.send(frame("REG", ["000660"]))
        assert (await take(socket, is_answer))["return_code"] == 0
        await take(socket, is_tick_of("000660"))
        await take(socket, is_tick_of("005930"))
        await socket.send(frame("REG", ["035420"], refresh="0"))
        assert (await take(socket, is_answer))["return_code"] == 0
        seen = {tick["item"] for _ in range(4) for tick in (await take(socket, lambda frame: "data" in frame))["data"]}
        assert seen == {"035420"}
        await socket.send(frame("REMOVE", ["035420"]))
        assert (await take(socket, is_answer))["trnm"] == "REMOVE"
        await socket.send("ping")
        async with asyncio.timeout(PATIENCE):
            while await socket.recv() != "pong":
                pass


MALFORMED = {
    "REG 005930": ["$"],
    "[]": ["$"],
    "{}": ["$.trnm", "$.grp_no", "$.data"],
    '{"trnm":"REG","grp_no":1,"refresh":1,"data":{}}': ["$.refresh", "$.grp_no", "$.data"],
    frame("REG", ["5930", "005930", 7]): ["$.data[0].item[0]", "$.data[0].item[2]"],
    frame("REMOVE", []): ["$.data[0].item"],
}


async def test_each_bad_element_is_named_and_the_socket_lives_on(dashboard):
    async with dashboard.open(STOCKS, dashboard.token()) as socket:
        for text, paths in MALFORMED.items():
            await socket.send(text)
            answer = await take(socket, is_answer)
            assert (answer["return_code"], [mistake["path"] for mistake in answer["errors"]]) == (1, paths), text
            assert all(mistake["message"] for mistake in answer["errors"])
        # The good element of a bad frame counts.
        await take(socket, is_tick_of("005930"))


async def test_a_client_that_pings_every_20_s_and_gives_up_after_10_is_answered(dashboard):
    async with dashboard.open(STATISTICS, ping_interval=20, ping_timeout=10) as socket:
        started = time.monotonic()
        latency = await asyncio.wait_for(await socket.ping(), 10)
        assert latency < 10
        # `websockets` sends its own ping after 20 s; without an answer it would close after 30.
        while time.monotonic() - started < 21:
            await take(socket)
        async with asyncio.timeout(9):
            await (await socket.ping())
        assert socket.latency > 0


def ends_at(token):
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]


async def test_a_token_that_ends_is_told_and_can_be_renewed_on_the_open_socket():
    with Dashboard("--token-life", "5", "--no-bridge") as dashboard:
        old = dashboard.token()

        async def another():
            return dashboard.token()

        async with dashboard.open(STOCKS, old) as kept, dashboard.open(STOCKS, old) as left:
            expiring = await take(kept, lambda frame: frame.get("broker") == "expiring")
            assert expiring["in_ms"] <= 5000
            fresh = await eventually(another, lambda token: ends_at(token) > ends_at(old), "a token that ends later")
            await kept.send(json.dumps({"broker": "authenticate", "id": 1, "token": fresh}))
            assert (await take(kept, lambda frame: frame.get("broker") == "identity"))["id"] == 1
            with pytest.raises(ConnectionClosed) as closed:
                await take(left, lambda frame: False)
            assert closed.value.rcvd.code == 3005
            await kept.send(frame("REG", ["005930"]))
            assert (await take(kept, is_answer))["return_code"] == 0
        assert not secrets_in(dashboard.log())


@pytest.mark.parametrize("wrong", [None, "wrong.wrong.wrong"])
async def test_without_a_good_token_nobody_is_let_in_and_is_told_where_to_get_one(dashboard, wrong):
    with pytest.raises(InvalidStatus) as refused:
        await dashboard.open(STOCKS, wrong)
    assert refused.value.response.status_code == 401
    assert "/api/v1/stocks/token" in json.loads(refused.value.response.body)["error"]["hint"]


async def test_both_hops_tell_their_state_and_why_they_broke(dashboard):
    state, log = [], []

    async def follow():
        async with dashboard.open("/ws?format=envelope") as socket:
            for topic in ["feed:state", "feed:log"]:
                await socket.send(json.dumps({"broker": "subscribe", "topic": topic, "since": "0"}))
            async for text in socket:
                told = json.loads(text)
                if told["broker"] == "publication":
                    (state if told["topic"] == "feed:state" else log).append(told["data"])

    async def is_up():
        return state[-1]["exchange"] if state else None

    async def whys():
        return [(event["hop"], event["what"], event["code"]) for event in log]

    following = asyncio.create_task(follow())
    try:
        await eventually(is_up, lambda one: one and one["state"] == "up", "the exchange is up")
        dashboard.post("/demo/exchange-token")
        await eventually(whys, lambda seen: ("exchange → bridge", "closed", 3005) in seen, "the token's end is told")
        await eventually(is_up, lambda one: one["state"] == "up", "a fresh token is taken")
        dashboard.post("/demo/exchange")
        await eventually(is_up, lambda one: one["state"] == "down", "the exchange is down")
        assert next(event for event in log if event["code"] == 4002)["by"] == "exchange"
        dashboard.post("/demo/bridge")
        await eventually(whys, lambda seen: any(what == "bridge ended" for _, what, _ in seen), "the end of the bridge is told")
    finally:
        following.cancel()
    assert not re.search(r"Bearer|eyJ", dashboard.log())


async def test_who_publishes_over_http_needs_the_key(dashboard):
    body = {"channel": "feed:log", "data": {}}
    with pytest.raises(urllib.error.HTTPError) as refused:
        dashboard.post("/api/publish", body, headers={"X-API-Key": "wrong"})
    assert refused.value.code == 401
    assert "result" in dashboard.post("/api/publish", body, headers={"X-API-Key": KEY})


class TwoNodes(Dashboard):
    """Two nodes on one Redis behind their balancer: address and process id of each."""

    def __init__(self, *args):
        super().__init__("two-nodes", *args)
        told = {name: self.wait_for_log(rf"{name} at (http://[\d.:]+)/ \(process (\d+)\)") for name in ["n1", "n2"]}
        self.nodes = {name: (found.group(1).replace("http", "ws", 1), int(found.group(2))) for name, found in told.items()}


async def test_when_a_node_is_killed_the_other_takes_over_what_only_one_may_do():
    with TwoNodes() as both:
        told = {name: [] for name in both.nodes}

        async def follow(name):
            async with connect(f"{both.nodes[name][0]}/ws?format=envelope", proxy=None, ping_interval=None) as socket:
                for topic in ["feed:state", "feed:log", "dispatch:statistics"]:
                    await socket.send(json.dumps({"broker": "subscribe", "topic": topic}))
                async for text in socket:
                    frame = json.loads(text)
                    if frame["broker"] == "publication":
                        told[name].append((frame["topic"], frame["data"]))

        async def bridges(name):
            return [data["bridge"]["node"] for topic, data in told[name] if topic == "feed:state" and data["exchange"]["state"] == "up"]

        async def ends(name):
            return [data for topic, data in told[name] if topic == "feed:log" and data["code"] == 3005]

        async def statistics(name):
            return [data for topic, data in told[name] if topic == "dispatch:statistics"]

        following = [asyncio.create_task(follow(name)) for name in both.nodes]
        try:
            # What the bridge publishes at one node is heard at both.
            for name in both.nodes:
                first = (await eventually(lambda: bridges(name), bool, "the bridge is up"))[-1]
            other = next(name for name in both.nodes if name != first)
            # A failure that is asked of one node happens wherever it belongs.
            both.post("/demo/exchange-token", base=both.nodes[other][0].replace("ws", "http", 1))
            await eventually(lambda: ends(other), bool, "the token's end is told")
            os.kill(both.nodes[first][1], signal.SIGKILL)
            await eventually(lambda: bridges(other), lambda nodes: other in nodes, "the bridge runs at the other node")
            before = len(await statistics(other))
            await eventually(lambda: statistics(other), lambda seen: len(seen) > before, "the other node publishes the statistics")
            async with both.open(STATISTICS) as viewer:
                assert (await take(viewer))["total_orders"] > 1000
        finally:
            for task in following:
                task.cancel()
