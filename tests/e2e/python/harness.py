"""The real `broker` binary, a network that breaks on command, and bounded waiting."""

import asyncio
import base64
import ctypes
import hashlib
import hmac
import http.client
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 20.0
POLL = 0.02
SECRET = "a-secret-of-the-end-to-end-tests-0123456789"
SUBSCRIPTION_SECRET = "of-subscriptions-in-the-end-to-end-tests-0123456789"
API_KEY = "the-key-of-the-end-to-end-tests"


# The parts of every token, ticket and secret that the tests have used, by their beginnings. None of them may be in what a server prints.
_SECRETS = set()
_TELLING = 16


def remember(text):
    """Remembers what must be in no log; answers it."""
    # The first part of a token says how it is signed, which is the same for all.
    for part in text.split(".")[1:] if text.count(".") == 2 else [text]:
        if len(part) >= _TELLING:
            _SECRETS.add(part[:_TELLING])
    return text


for _known in [SECRET, SUBSCRIPTION_SECRET, API_KEY]:
    remember(_known)


def secrets_in(log):
    """The secrets that stand in the text, cut to their beginnings."""
    return {word[:_TELLING] for word in re.findall(r"[A-Za-z0-9_-]{%d,}" % _TELLING, log)} & _SECRETS


_number = itertools.count()


def unique(word):
    """A name that no other test has: servers are shared."""
    return f"{word}{next(_number)}"


def binary(variable="BROKER_BIN"):
    path = os.environ.get(variable)
    assert path, f"{variable} is not set: run the suites with `cargo xtask e2e`"
    return path


def clean_environment(**more):
    """The environment without settings of a broker that the caller may have exported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")} | more


class Server:
    """One process that prints `listen http://..`, ended by its process id."""

    address = r"listen(?:ing on)? +(http://[\d.:\[\]]+)"

    def __init__(self, command, env=None, cwd=None):
        self._log = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            command,
            env=clean_environment(**(env or {})),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.http = self.wait_for_log(self.address).group(1)
        except BaseException:
            self.process.kill()
            raise
        self.ws = self.http.replace("http", "ws", 1)
        self.centrifuge = f"{self.ws}/connection/websocket"
        self.port = int(self.http.rsplit(":", 1)[1])

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self._log.append(line.decode(errors="replace"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def log(self):
        with self._changed:
            return "".join(self._log)

    def lines(self):
        """How many lines it has printed so far."""
        with self._changed:
            return len(self._log)

    async def logs(self, *parts, since=0):
        """Waits for a line, after the first `since`, that has all the parts of text; answers its fields."""
        parts = [json.dumps(part, ensure_ascii=False)[1:-1] for part in parts]
        seen = since

        def found():
            nonlocal seen
            with self._changed:
                new, seen = self._log[seen:], len(self._log)
            return next((line for line in new if line.startswith("{") and all(part in line for part in parts)), None)

        async def ask():
            return found()

        return json.loads(await eventually(ask, bool, f"a line of the log has {parts}"))

    def wait_for_log(self, pattern, timeout=20.0, since=0):
        """The first match of `pattern` in what the server printed after the first `since` lines."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = re.search(pattern, "".join(self._log[since:]))
                if found:
                    return found
                left = end - time.monotonic()
                ended = not self._reader.is_alive()
                assert left > 0 and not ended, f"no {pattern!r} in the log of the server:\n{''.join(self._log[since:][-40:])}"
                self._changed.wait(min(left, 0.5))

    def stop(self):
        """Ends it as an operator would; answers the exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if self.process.poll() is None:
            self.stop()
        if failure is None:
            log = self.log()
            assert not (found := secrets_in(log)), f"secrets are in the log of the server: {found}"
            assert "panicked" not in log, log


class Broker(Server):
    """One `broker serve` on free ports, with its API."""

    def __init__(self, *args, env=None, api_key="dev", cwd=None):
        self.api_key = api_key
        command = [binary(), "serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", *args]
        super().__init__(command, env=env, cwd=cwd)
        self.internal = self.wait_for_log(r"internal(?: on)? +(http://[\d.:\[\]]+)").group(1)

    def post(self, path, body, headers=None):
        """One POST; answers status, headers and the parsed body. A header that is `None` is left out."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-API-Key": self.api_key} | (headers or {})
        headers = {name: value for name, value in headers.items() if value is not None}
        return fetch(urllib.request.Request(self.http + path, data=data, headers=headers))

    def api(self, method, **body):
        """One call of the server API that must succeed; answers its result."""
        status, _, answer = self.post(f"/api/{method}", body)
        assert status == 200 and "result" in answer, f"{method} {body}: {status} {answer}"
        return answer["result"]

    def publish(self, topic, data, **more):
        return self.api("publish", channel=topic, data=data, **more)

    def get(self, path, internal=False, headers=None):
        base = self.internal if internal else self.http
        return fetch(urllib.request.Request(base + path, headers=headers or {}))

    async def metric(self, name):
        """The value of one line of `/metrics`."""
        _, _, text = await asyncio.to_thread(self.get, "/metrics", internal=True)
        [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split(" ")[1])


class Publisher(threading.Thread):
    """Publishes `{"of": topic, "n": 1}`, 2, .. to all of `topics` over the API while the test goes on, one number after the other.

    `begun` is the number that is being published or was last, `answered` the last one that every topic has taken.
    """

    def __init__(self, broker, topics, pause=0.003):
        super().__init__(daemon=True)
        self._broker, self._topics, self._pause = broker, topics, pause
        self._stopping = threading.Event()
        self._failure = None
        self.begun = self.answered = 0

    def run(self):
        host = self._broker.http.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "X-API-Key": self._broker.api_key}
        try:
            while not self._stopping.wait(self._pause):
                self.begun += 1
                commands = [{"publish": {"channel": topic, "data": {"of": topic, "n": self.begun}}} for topic in self._topics]
                connection.request("POST", "/api/batch", json.dumps({"commands": commands}), headers)
                replies = json.loads(connection.getresponse().read())["replies"]
                assert all("publish" in reply for reply in replies), replies
                self.answered = self.begun
        except Exception as failure:
            self._failure = failure
        finally:
            connection.close()

    async def goes_on(self, count=1):
        """Waits until so many numbers were begun from here on, and answered."""
        wanted = self.begun + count
        while self.answered < wanted:
            assert self.is_alive(), self._failure
            await asyncio.sleep(0.001)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self.join(PATIENCE)
        assert self._failure is None, self._failure


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(request, opener=_direct):
    try:
        answer = opener.open(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        try:
            return answer.status, answer.headers, json.loads(text)
        except ValueError:
            return answer.status, answer.headers, text


class Proxy:
    """Forwards TCP to a port until told otherwise. Use as an async context manager."""

    def __init__(self, port):
        self._target = port
        self._pairs = []
        self._refusing = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.cut()
        self._server.close()

    async def _accept(self, near_reader, near):
        if self._refusing:
            near.transport.abort()
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {"near": near, "far": far, "stalled": False}
        self._pairs.append(pair)
        await asyncio.gather(self._forward(pair, near_reader, far), self._forward(pair, far_reader, near))

    async def _forward(self, pair, reader, writer):
        try:
            while data := await reader.read(65536):
                if not pair["stalled"]:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if not pair["stalled"]:
            writer.transport.abort()

    def cut(self):
        """Breaks every open connection on both sides, as a failing network does."""
        for pair in self._pairs:
            pair["near"].transport.abort()
            pair["far"].transport.abort()
        self._pairs.clear()

    def stall(self):
        """Swallows everything on the open connections and tells neither side. New ones work."""
        for pair in self._pairs:
            pair["stalled"] = True

    def refuse(self, on):
        """Whether new connections are broken at once."""
        self._refusing = on


def black_hole(transport):
    """From here on nothing that is sent to this connection arrives, and its kernel acknowledges nothing: as if the cable were pulled. Linux only.

    What the connection itself sends still goes out, so its owner must be one who only answers.
    """
    # One instruction of a packet filter, "return 0": keep no byte of any segment (BPF_RET | BPF_K).
    keep_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(keep_nothing))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_ATTACH_FILTER", 26), program)


def token(secret=SECRET, **claims):
    """A connection token as an application's backend would sign it (HS256)."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + "." + part(json.dumps(claims).encode())
    return remember(signed + "." + part(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()))


class Recorder:
    """Lists that grow, and waiting until something about them holds."""

    def __init__(self):
        self._changed = asyncio.Event()

    def changed(self):
        self._changed.set()

    async def until(self, condition, what):
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {PATIENCE} s in vain until {what}") from None


async def eventually(ask, accept, what):
    """Asks again every `POLL` seconds: for states that nobody announces."""
    end = time.monotonic() + PATIENCE
    while True:
        answer = await ask()
        if accept(answer):
            return answer
        assert time.monotonic() < end, f"waited {PATIENCE} s in vain until {what}; the last answer was {answer!r}"
        await asyncio.sleep(POLL)
