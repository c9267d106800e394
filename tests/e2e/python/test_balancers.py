"""Two nodes behind nginx and behind haproxy, with the very files of docs/operations/load-balancers.md."""

import asyncio
import http.client
import json
import os
import socket
import time
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from balancers import BALANCERS
from harness import API_KEY, Broker, Publisher, Recorder, Server, binary, eventually, fetch, remember, token
from redis_server import Redis
from sdk import listen, sdk
from test_doctor import doctor, know_each_other, of
from wire import PlainWire

SECRET_OF_NODES = "of-both-nodes-in-the-tests-of-balancers-0123456789"
# What the files say is 60 s, against pings after 25 s.
IDLE = 3.0
SETTINGS = f"""
[client]
anonymous = true
trusted_proxies = ["127.0.0.1"]
ping_interval = "1s"

[client.token]
hmac_secret = "{SECRET_OF_NODES}"

[api]
key = "{API_KEY}"

[default]
history_size = 10000
allow = ["sub", "pub", "hst"]
allow_anonymous = true
"""
remember(SECRET_OF_NODES)


class Site:
    """Two nodes on one Redis behind one balancer."""

    def __init__(self, balancer, redis, settings, changes, env):
        self._make, self._changes = balancer, changes
        self._redis, self._settings, self._env = redis, settings, env

    def __enter__(self):
        self.nodes = [self.node(), self.node()]
        self.front = self._make([node.port for node in self.nodes], self._changes)
        # The SDK, `websockets` and `doctor` trust whom the system trusts.
        self._before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.front.certificate)
        return self

    def node(self):
        return Broker("--config", str(self._settings), "--redis", self._redis.url, api_key=API_KEY, env=self._env)

    def again(self, node):
        """One that has ended, under its old address."""
        command = [binary(), "serve", "--config", str(self._settings), "--redis", self._redis.url, "--internal-listen", "127.0.0.1:0"]
        back = Server([*command, "--listen", f"127.0.0.1:{node.port}"], env=self._env)
        back.get = lambda path: fetch(urllib.request.Request(back.http + path))
        return back

    def __exit__(self, *failure):
        if self._before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = self._before
        self.front.__exit__(*failure)
        for node in self.nodes:
            node.__exit__(*failure)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("nodes") / "broker.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(params=BALANCERS, ids=[balancer.name for balancer in BALANCERS])
def balancer(request):
    return request.param


@pytest.fixture
def open_site(balancer, settings):
    """Two nodes behind each balancer in turn, on a Redis of their own: no test sees the nodes of another one."""

    @contextmanager
    def open_site(changes=None, env=None):
        changes = balancer.idle(f"{IDLE:.0f}s") if changes is None else changes
        with Redis() as redis, Site(balancer, redis, settings, changes, env or {}) as site:
            yield site

    return open_site


class Events(Recorder):
    """A stream of events, read in a thread of its own; `data` is what came."""

    def __init__(self, front, path):
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._connection = http.client.HTTPSConnection("127.0.0.1", front.port, context=front.tls, timeout=30)
        self._path = path
        self.data, self.has_ended = [], False

    async def __aenter__(self):
        await asyncio.to_thread(self._open)
        self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        return self

    def _open(self):
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("GET", self._path, headers={"Accept": "text/event-stream"})
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def _read(self):
        try:
            for line in self.answer:
                if line.startswith(b"data: "):
                    self._loop.call_soon_threadsafe(self._add, json.loads(line[6:]))
        except (OSError, http.client.HTTPException):
            pass
        self.has_ended = True

    def _add(self, data):
        self.data.append(data)
        self.changed()

    async def hears(self, data):
        await self.until(lambda: data in self.data, f"{data!r} arrived in the stream")

    async def __aexit__(self, *_):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        await self._reading


@contextmanager
def held_open(node):
    """A client of one node, without a balancer, that does not go when it is sent away: the node drains for as long as it may."""
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        head = "GET /ws/held HTTP/1.1\r\nHost: broker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        connection.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 101 ")
        yield


async def test_sockets_streams_and_calls_go_through_and_idle_ones_outlive_the_timeouts(open_site, topic):
    with open_site() as site:
        await know_each_other(*site.nodes)
        secret = token(SECRET_OF_NODES, sub="ris1")
        async with (
            await PlainWire.open(site.front, secret, topics=[topic]) as plain,
            sdk(site.front.centrifuge) as client,
            Events(site.front, f"/sse/{topic}") as events,
        ):
            subscription = await listen(client, topic)
            status, _, answer = await asyncio.to_thread(site.front.post, "/api/publish", body(topic, {"n": 1}), API_KEY)
            assert status == 200, answer
            await plain.hears({"n": 1})
            await events.hears({"n": 1})
            # Longer than the balancer waits, with nothing but pings on the way.
            await asyncio.sleep(2 * IDLE)
            await asyncio.to_thread(site.nodes[0].publish, topic, {"n": 2})
            await plain.hears({"n": 2})
            await events.hears({"n": 2})
            await subscription.events.until(lambda: len(subscription.events.got()) == 2, "both arrived at the SDK")
            assert plain.heard() == events.data == subscription.events.got() == [{"n": 1}, {"n": 2}]
            assert not plain.all("closed") and not events.has_ended and len(client.events.all("connected")) == 1
        printed = site.front.printed()
        assert "/api/publish" in printed, "it writes what it is asked for"
        assert secret not in printed and "token" not in printed


async def test_without_pings_in_time_idle_connections_are_cut(open_site, topic):
    with open_site(env={"BROKER_CLIENT__PING_INTERVAL": "25s"}) as site:
        begun = time.monotonic()
        async with await PlainWire.open(site.front, topics=[topic]) as wire:
            assert (await wire.ended()).code == 1006
            assert IDLE - 1 < time.monotonic() - begun < IDLE + 3


async def test_the_address_of_the_client_arrives_and_not_what_it_makes_up(open_site, topic):
    with open_site() as site:
        made_up = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
        options = {"additional_headers": made_up, "local_addr": ("127.0.0.2", 0)}
        async with await PlainWire.open(site.front, token(SECRET_OF_NODES, sub="ris1"), topics=[topic], **options):
            found = await asyncio.to_thread(site.nodes[0].api, "connections", user="ris1")
            assert '"address": "127.0.0.2:' in json.dumps(found), found


async def test_what_is_too_large_is_refused_by_the_broker_in_its_own_words(open_site, topic):
    with open_site() as site:
        status, _, answer = await asyncio.to_thread(site.front.post, "/api/publish", body(topic, "x" * 1_200_000), API_KEY)
        assert status in (413, 429) and answer["error"]["code"] == 106, (status, answer)
        status, _, answer = await asyncio.to_thread(site.front.get, f"/ws/{topic}?token={'x' * 12_000}", {"Connection": "close"})
        assert status in (401, 426), (status, answer)


async def test_a_node_that_drains_gets_no_new_clients_and_its_old_ones_miss_nothing(open_site, topic):
    with open_site(env={"BROKER_SERVER__DRAIN_TIMEOUT": "30s"}) as site:
        going, staying = site.nodes
        await know_each_other(going, staying)
        async with many(site.front, topic) as clients:
            with Publisher(staying, [topic]) as publisher:
                await publisher.goes_on(20)
                with held_open(going):
                    going.process.terminate()
                    await eventually(status_of(going), lambda status: status == 503, "the node drains")
                    # Programs and pages: these are told a refusal over the socket, where no balancer reads it, but not by a node that drains.
                    for origin in [None, "http://127.0.0.1:8080"] * 5:
                        async with await PlainWire.open(site.front, topics=[topic], origin=origin) as wire:
                            assert wire.session and not wire.all("closed")
                    assert await status_of(going)() == 503, "it drained all the time"
                    await publisher.goes_on(50)
                await asyncio.to_thread(going.process.wait, 20)
                await publisher.goes_on(50)
            await nothing_is_missing(clients, publisher.answered)
            moved = [client for client, _ in clients if len(client.events.all("connected")) > 1]
            assert moved, "some of the clients were on the node that went"


async def test_the_clients_of_a_killed_node_go_on_at_the_other_one(open_site, topic):
    with open_site() as site:
        killed, staying = site.nodes
        await know_each_other(killed, staying)
        async with many(site.front, topic) as clients:
            with Publisher(staying, [topic]) as publisher:
                await publisher.goes_on(20)
                killed.process.kill()
                killed.process.wait()
                for _ in range(10):
                    async with await PlainWire.open(site.front, topics=[topic]):
                        pass
                await publisher.goes_on(50)
            await nothing_is_missing(clients, publisher.answered)
            assert [client for client, _ in clients if len(client.events.all("connected")) > 1]
            with site.again(killed) as back:
                node = (await asyncio.to_thread(back.get, "/ready"))[2]["node"]

                async def answering():
                    return (await asyncio.to_thread(site.front.get, "/ready"))[2].get("node")

                await eventually(answering, lambda answer: answer == node, "the node that came back gets requests")


class TestDoctor:
    """`broker doctor` as an operator calls it, with the balancer's address."""

    async def test_is_content_with_the_settings_of_the_docs(self, open_site, tmp_path):
        with open_site() as site:
            await know_each_other(*site.nodes)
            code, findings = await doctor("--api-key", API_KEY, site.front.http, cwd=tmp_path, quick=False)
            assert code == 0, findings
            assert of(findings, "upgrade", "ok") and of(findings, "idle", "ok") and of(findings, "nodes", "ok"), findings

    async def test_says_what_is_missing_where_no_upgrade_gets_through(self, open_site, balancer, tmp_path):
        with open_site(changes=balancer.without_upgrade) as site:
            await know_each_other(*site.nodes)
            code, findings = await doctor("--api-key", API_KEY, site.front.ws, cwd=tmp_path, quick=False)
            assert code == 1, findings
            [told] = [finding for finding in findings if finding["check"] == "upgrade"]
            assert told["severity"] == "error" and "proxy_set_header Upgrade" in told["cure"], told

    async def test_says_that_idle_connections_are_cut_before_the_ping(self, open_site, tmp_path):
        with open_site(env={"BROKER_CLIENT__PING_INTERVAL": "25s"}) as site:
            await know_each_other(*site.nodes)
            code, findings = await doctor("--api-key", API_KEY, site.front.ws, cwd=tmp_path, quick=False)
            assert code == 1, findings
            [told] = [finding for finding in findings if finding["check"] == "idle"]
            assert told["severity"] == "error" and "proxy_read_timeout" in told["cure"] and "timeout tunnel" in told["cure"], told


def body(topic, data):
    return json.dumps({"channel": topic, "data": data}).encode()


def status_of(node):
    async def ask():
        return (await asyncio.to_thread(node.get, "/ready"))[0]

    return ask


@asynccontextmanager
async def many(front, topic):
    """Clients of the SDK, so many that both nodes have some, each with its subscription."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(sdk(front.centrifuge, expect_errors=True)) for _ in range(12)]
        yield [(client, await listen(client, topic)) for client in clients]


async def nothing_is_missing(clients, count):
    """Each has heard every number, once, in their order."""
    for _, subscription in clients:
        heard = subscription.events
        await heard.until(lambda heard=heard: len(heard.got()) >= count, f"all {count} arrived")
        assert [data["n"] for data in heard.got()] == list(range(1, count + 1))
