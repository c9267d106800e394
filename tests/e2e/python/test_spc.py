"""The quality alerts of `examples/spc` (U4) with Python `websockets`, on two nodes: the frames and steps that its clients know."""

import asyncio
import json
import re
import subprocess
import threading
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import PATIENCE, Proxy, binary, clean_environment, eventually, fetch, remember, secrets_in

API_KEY = remember("the-key-of-the-quality-alerts-in-python")
STARTED = re.compile(r"^(n1|n2|spc) at (http://127\.0\.0\.1:\d+)/", re.MULTILINE)


class Spc:
    """Two nodes on one Redis behind the balancer of the example, with nothing that measures by itself."""

    def __init__(self):
        command = [binary("SPC_BIN"), "two-nodes", "--listen", "127.0.0.1:0", "--pace", "0", "--quick-passwords", "--api-key", API_KEY]
        self.process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._log, self._started = [], threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._started.wait(30), self.log()
        self.urls = dict(STARTED.findall(self.log()))
        self._tokens = {}

    def _read(self):
        for line in self.process.stdout:
            self._log.append(line)
            if line.startswith("spc at "):
                self._started.set()

    def log(self):
        return "".join(self._log)

    def call(self, method, path, body=None, *, user="kim", node="spc"):
        """One call of the application; answers status and body."""
        headers = {"Content-Type": "application/json"}
        if user:
            headers["Authorization"] = f"Bearer {self.token(user)}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        status, _, answer = fetch(urllib.request.Request(f"{self.urls[node]}/api/spc/{path}", data=data, headers=headers, method=method))
        return status, answer

    def token(self, user):
        if user not in self._tokens:
            status, answer = self.call("POST", "login", {"user": user, "password": user, "bearer": True}, user=None)
            assert status == 200, answer
            self._tokens[user] = remember(answer["token"])
        return self._tokens[user]

    async def raise_alert(self, title, *, product=1, priority="high", node="spc", **more):
        body = {"product": product, "alert_type": "TOOL_WEAR", "priority": priority, "title": title, "message": "공구 마모", **more}
        status, answer = await asyncio.to_thread(self.call, "POST", "alerts/", body, node=node)
        assert status == 201, answer
        return answer["id"]

    def open(self, path, *, user="kim", node="spc", url=None):
        headers = {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        return connect((url or self.urls[node].replace("http", "ws")) + path, proxy=None, additional_headers=headers)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self._reader.join(5)
        log = self.log()
        assert not (found := secrets_in(log)), f"secrets are in the log: {found}"
        assert "panicked" not in log, log


@pytest.fixture(scope="module")
def spc():
    running = Spc()
    yield running
    running.stop()


async def frame(socket):
    async with asyncio.timeout(PATIENCE):
        return json.loads(await socket.recv())


async def until(socket, wanted):
    """The first frame for which `wanted` holds, and those before it."""
    before = []
    while not wanted(found := await frame(socket)):
        before.append(found)
    return found, before


def is_alert(id):
    return lambda found: found.get("id") == id


async def test_the_first_frame_is_the_connection_and_alerts_of_any_node_follow(spc):
    for node in ["n1", "n2"]:
        async with spc.open("/ws/spc/notifications/", node=node) as socket:
            first = await frame(socket)
            assert first["type"] == "connection" and first["message"] and first["products"] == [1, 2, 3]
            for raised_on in ["n1", "n2"]:
                id = await spc.raise_alert("Tool worn", node=raised_on)
                found = await frame(socket)
                assert (found["type"], found["id"], found["product_id"]) == ("alert", id, 1)
                assert (found["alert_type"], found["priority"], found["title"], found["message"]) == ("TOOL_WEAR", "high", "Tool worn", "공구 마모")


async def test_a_product_is_subscribed_and_unsubscribed_by_frames(spc):
    async with spc.open("/ws/spc/notifications/", user="lee") as socket:
        assert (await frame(socket))["products"] == [1]
        await socket.send('{"type":"subscribe_product","product_id":1}')
        found = await frame(socket)
        assert (found["type"], found["status"], found["product_id"]) == ("subscription", "subscribed", 1)
        id = await spc.raise_alert("By two topics")
        assert [(await frame(socket))["id"] for _ in range(2)] == [id, id]
        # Asked again it is answered again, and nothing comes three times.
        await socket.send('{"type":"subscribe_product","product_id":1}')
        assert (await frame(socket))["status"] == "subscribed"
        await socket.send('{"type":"unsubscribe_product","product_id":1}')
        found, _ = await until(socket, lambda found: found.get("type") == "subscription")
        assert found["status"] == "unsubscribed"
        first, second = await spc.raise_alert("By one topic"), await spc.raise_alert("The next")
        found, before = await until(socket, is_alert(second))
        assert [other["id"] for other in before if "id" in other] == [first]


async def test_the_socket_of_a_product_greets_and_hears_of_that_product_alone(spc):
    async with spc.open("/ws/spc/product/2/", node="n1") as socket:
        assert (await frame(socket))["type"] == "connection"
        assert await frame(socket) == {"type": "subscription", "status": "subscribed", "product_id": 2, "message": "subscribed to product 2"}
        await spc.raise_alert("Of another product", product=1, node="n2")
        id = await spc.raise_alert("Of this one", product=2, node="n2")
        assert (await frame(socket))["id"] == id


async def test_measurements_out_of_specification_run_rules_and_capability(spc):
    async def measure(values):
        status, taken = await asyncio.to_thread(spc.call, "POST", "products/3/measurements", {"values": values}, node="n2")
        assert status == 200, taken
        return taken["notices"]

    async with spc.open("/ws/spc/product/3/", node="n1") as socket:
        await until(socket, lambda found: found["type"] == "subscription")
        assert [notice["type"] for notice in await measure([118.0])] == []
        notices = await measure([80.0])
        assert [notice["type"] for notice in notices][:2] == ["measurement", "run_rule_violation"]
        found = await frame(socket)
        assert (found["type"], found["alert_type"], found["data"]["lsl"], found["data"]["usl"]) == ("measurement", "OUT_OF_SPEC", 100.0, None)
        found = await frame(socket)
        assert (found["type"], found["data"]["rule"], found["data"]["span"]) == ("run_rule_violation", "N1", 1)
        status, _ = await asyncio.to_thread(spc.call, "POST", "products/3/analysis")
        assert status == 200
        found, _ = await until(socket, lambda found: found["type"] == "capability")
        # There is a lower limit alone: no width to compare with.
        assert found["data"]["cp"] is None and found["data"]["cpk"] > 0 and found["data"]["ppk"] > 0


@pytest.mark.parametrize(
    "sent, said",
    [
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ("{}", "`$.type` is missing"),
        ('{"type":"subscribe"}', "`$.type` is `subscribe`"),
        ('{"type":"subscribe_product"}', "`$.product_id` is missing"),
        ('{"type":"subscribe_product","product_id":"1"}', "`$.product_id` must be a whole number"),
        ('{"type":"received","ids":1}', "in `received`"),
        (b"\x00\x01", "binary"),
    ],
)
async def test_a_malformed_frame_is_named_and_the_socket_lives(spc, sent, said):
    async with spc.open("/ws/spc/notifications/") as socket:
        await frame(socket)
        await socket.send(sent)
        error = await frame(socket)
        assert error["broker"] == "error" and error["error"] == "bad_request" and said in error["message"] and error["hint"]
        await socket.send('{"type":"ping"}')
        assert (await frame(socket))["type"] == "pong"


async def test_a_product_of_others_is_refused_by_frame_by_path_and_over_http(spc):
    async with spc.open("/ws/spc/notifications/", user="lee") as socket:
        await frame(socket)
        await socket.send('{"type":"subscribe_product","product_id":2}')
        error = await frame(socket)
        assert error["error"] == "permission_denied" and "product 2 is not one of yours" in error["message"]
        id = await spc.raise_alert("Of the own product")
        assert (await frame(socket))["id"] == id
    with pytest.raises(InvalidStatus) as refused:
        await spc.open("/ws/spc/product/2/", user="lee").__aenter__()
    assert refused.value.response.status_code == 403
    status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/", {"product": 2, "alert_type": "X", "priority": "low", "title": "t"}, user="lee")
    assert (status, answer["error"]["error"]) == (403, "permission_denied")
    status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/", {"product": 2, "alert_type": "X", "priority": "low", "title": "t"}, user="choi")
    assert status == 403 and "needs the role operator" in answer["error"]["message"]


async def test_who_is_nobody_comes_nowhere(spc):
    for path in ["/ws/spc/notifications/", "/ws/spc/product/1/", "/ws/spc/live/"]:
        with pytest.raises(InvalidStatus) as refused:
            await spc.open(path, user=None).__aenter__()
        assert refused.value.response.status_code == 401
        assert b"login" in refused.value.response.body
    status, answer = await asyncio.to_thread(spc.call, "GET", "alerts/", user=None)
    assert (status, answer["error"]["error"]) == (401, "unauthorized")


async def test_recent_alerts_come_on_request(spc):
    ids = [await spc.raise_alert(f"Recent {n}", product=2, priority=priority) for n, priority in enumerate(["low", "critical", "medium"])]
    async with spc.open("/ws/spc/notifications/", node="n2") as socket:
        await frame(socket)
        await socket.send('{"type":"get_recent_alerts","limit":3,"product":2}')
        found = await frame(socket)
        assert found["type"] == "recent_alerts" and [alert["id"] for alert in found["alerts"]] == ids[::-1]
        await socket.send('{"type":"get_recent_alerts","limit":1,"product":2,"min_level":4}')
        assert [alert["id"] for alert in (await frame(socket))["alerts"]] == [ids[1]]


async def test_the_history_has_pages_without_holes(spc):
    ids = [await spc.raise_alert(f"Page {n}", product=2, alert_type="PAGES") for n in range(5)]
    seen, before = [], ""
    while len(seen) < 5:
        _, answer = await asyncio.to_thread(spc.call, "GET", f"alerts/?product=2&limit=2{before}")
        seen += [alert["id"] for alert in answer["alerts"]]
        before = f"&before={seen[-1]}"
    assert seen[:5] == ids[::-1]


async def test_a_wrong_address_is_told_the_right_one(spc):
    for wrong, right in [("/ws/spc/notification/", "/ws/spc/notifications"), ("/ws/spc/products/1/", "/ws/spc/product/{id}")]:
        with pytest.raises(InvalidStatus) as refused:
            await spc.open(wrong).__aenter__()
        assert refused.value.response.status_code == 404
        assert f"did you mean {right}?".encode() in refused.value.response.body


async def test_the_same_address_speaks_events_and_greets(spc):
    headers = {"Authorization": f"Bearer {spc.token('lee')}", "Accept": "text/event-stream"}
    request = urllib.request.Request(f"{spc.urls['n2']}/ws/spc/notifications/", headers=headers)
    with await asyncio.to_thread(urllib.request.urlopen, request, timeout=PATIENCE) as stream:

        def next_data():
            while not (line := stream.readline()).startswith(b"data: "):
                pass
            return json.loads(line[6:])

        assert (await asyncio.to_thread(next_data))["type"] == "connection"
        id = await spc.raise_alert("As an event", node="n1")
        assert (await asyncio.to_thread(next_data))["id"] == id


async def test_a_filter_leaves_lower_priorities_to_others(spc):
    async with spc.open("/ws/spc/live/") as socket:
        await frame(socket)
        command = {"broker": "subscribe", "id": 1, "topic": "alerts:product.1", "filter": {"key": "level", "cmp": "gte", "val": "3"}}
        await socket.send(json.dumps(command))
        assert (await frame(socket))["broker"] == "subscribed"
        await spc.raise_alert("Too low", priority="medium", node="n1")
        id = await spc.raise_alert("High enough", priority="high", node="n2")
        assert (await frame(socket))["id"] == id


async def test_what_is_rolled_back_is_never_heard_and_a_retry_is_stored_once(spc):
    async with spc.open("/ws/spc/notifications/") as socket:
        await frame(socket)
        body = {"product": 1, "alert_type": "X", "priority": "critical", "title": "Rolled back"}
        status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/?rollback=true", body, node="n1")
        assert (status, answer["error"]["error"]) == (409, "rolled_back")
        id = await spc.raise_alert("Told once", node="n1", id="a-name-of-my-own")
        body = {"product": 1, "alert_type": "TOOL_WEAR", "priority": "high", "title": "Told once", "id": id}
        status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/", body, node="n2")
        assert (status, answer) == (200, {"id": id, "stored": False})
        marker = await spc.raise_alert("The next")
        assert [(await frame(socket))["id"] for _ in range(2)] == [id, marker]


async def test_bad_bodies_are_named_by_their_path(spc):
    good = {"product": 1, "alert_type": "X", "priority": "low", "title": "t"}
    for change, said in [
        ({"product": "one"}, "$.product"),
        ({"priority": "urgent"}, "$.priority"),
        ({"title": ""}, "$.title"),
        ({"alert_type": "a b"}, "$.alert_type"),
        ({"id": "x"}, "$.id"),
    ]:
        status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/", good | change)
        assert status == 400 and said in answer["error"]["message"], answer
    status, answer = await asyncio.to_thread(spc.call, "POST", "alerts/", b"{")
    assert status == 400 and "no JSON" in answer["error"]["message"]
    status, answer = await asyncio.to_thread(spc.call, "POST", "products/1/measurements", {"values": [10.0]})
    assert status == 400 and "must be 5 readings" in answer["error"]["message"]


async def test_too_many_alerts_of_one_user_are_refused_with_a_time_to_wait(spc):
    good = {"product": 2, "alert_type": "FLOOD", "priority": "low", "title": "t"}
    answers = [await asyncio.to_thread(spc.call, "POST", "alerts/", good, user="admin", node="n1") for _ in range(40)]
    assert [status for status, _ in answers].count(429) >= 5
    status, answer = answers[-1]
    assert status == 429 and answer["error"]["error"] == "too_many_requests" and answer["error"]["hint"]


async def test_after_a_break_recent_alerts_fill_the_hole(spc):
    port = int(spc.urls["n1"].rsplit(":", 1)[1])
    async with Proxy(port) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}"
        socket = await spc.open("/ws/spc/notifications/", url=url)
        await frame(socket)
        proxy.cut()
        with pytest.raises(ConnectionClosed):
            await frame(socket)
        id = await spc.raise_alert("While nobody listened", node="n2")
        async with spc.open("/ws/spc/notifications/", url=url) as again:
            assert (await frame(again))["type"] == "connection"
            await again.send('{"type":"get_recent_alerts","limit":1}')
            assert (await frame(again))["alerts"][0]["id"] == id


async def test_logging_out_closes_the_sockets_of_that_login(spc):
    status, answer = await asyncio.to_thread(spc.call, "POST", "login", {"user": "choi", "password": "choi", "bearer": True}, user=None)
    assert status == 200
    headers = {"Authorization": f"Bearer {remember(answer['token'])}"}
    async with connect(spc.urls["n2"].replace("http", "ws") + "/ws/spc/notifications/", proxy=None, additional_headers=headers) as socket:
        await frame(socket)
        request = urllib.request.Request(f"{spc.urls['n1']}/api/spc/logout", method="POST", headers=headers)
        status, _, answer = await asyncio.to_thread(fetch, request)
        assert (status, answer) == (200, {"closed": 1})
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await frame(socket)
        assert closed.value.rcvd.code == 3500


async def test_metrics_and_connections_are_for_the_admin(spc):
    async with spc.open("/ws/spc/notifications/", user="lee", node="n2") as socket:
        await frame(socket)

        async def seen():
            status, answer = await asyncio.to_thread(spc.call, "GET", "connections", user="admin", node="n1")
            assert status == 200, answer
            return [(one["user"], one["node"]) for one in answer["connections"]]

        await eventually(seen, lambda found: ("lee", "n2") in found, "the admin sees the connection on the other node")
        status, answer = await asyncio.to_thread(spc.call, "GET", "connections", user="choi")
        assert (status, answer["connections"]) == (200, [])
    request = urllib.request.Request(f"{spc.urls['n1']}/metrics", headers={"Authorization": f"Bearer {spc.token('admin')}"})
    status, _, text = await asyncio.to_thread(fetch, request)
    assert status == 200 and re.search(r'^spc_alerts\{priority="high"\} \d+$', text, re.MULTILINE)
    request = urllib.request.Request(f"{spc.urls['n1']}/metrics", headers={"Authorization": f"Bearer {spc.token('lee')}"})
    assert (await asyncio.to_thread(fetch, request))[0] == 403
