"""The bridge: takes ticks from the exchange (a WebSocket with a bearer token that ends) and publishes them to the broker over HTTP.

It never gives up: a refused or expired token is replaced, a lost connection is made again after a wait with full jitter, what cannot be published
is tried again while there is room for it. What happens to either hop, when and why, is published too, so that a page can say which one is down.

    EXCHANGE_URL=http://127.0.0.1:4000 BROKER_URL=http://127.0.0.1:3000 BROKER_API_KEY=.. python3 bridge.py

Needs the package `websockets`. Ends with its standard input.
"""

import asyncio
import collections
import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request

EXCHANGE = os.environ["EXCHANGE_URL"].rstrip("/")
BROKER = os.environ["BROKER_URL"].rstrip("/")
API_KEY = os.environ["BROKER_API_KEY"]
NODE = os.environ.get("BRIDGE_NODE", "")
ITEMS = ["005930", "000660", "035420", "005380", "035720", "068270"]

PING_EVERY, PONG_WITHIN = 20, 10  # seconds
LONGEST_WAIT = 4.0
STATE_EVERY = 2.0
RENEW_AT = 0.8  # of a token's life
WAITING_MAX = 2_000  # publications; the oldest go first
BATCH_MAX = 200
HTTP_TIMEOUT = 5

started_at = time.time()


def now_ms():
    return int(time.time() * 1000)


def post(url, body, headers=None):
    """One request with a JSON body; answers its JSON. Blocks."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as answer:
        return json.load(answer)


def told(error):
    """An error in words that hold no secret."""
    if isinstance(error, urllib.error.HTTPError):
        first_line = error.read(200).decode(errors="replace").partition("\n")[0]
        return first_line or f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"unreachable: {error.reason}"
    return str(error) or type(error).__name__


class Outbox:
    """What is to be published, in its order, and how publishing goes."""

    def __init__(self):
        self.waiting = collections.deque()
        self.dropped = 0
        self.wake = asyncio.Event()
        self.failing_since = None

    def publish(self, channel, data):
        if len(self.waiting) >= WAITING_MAX:
            self.waiting.popleft()
            self.dropped += 1
        self.waiting.append({"publish": {"channel": channel, "data": data}})
        self.wake.set()

    def log(self, hop, what, **more):
        entry = {"at_ms": now_ms(), "hop": hop, "what": what, "by": "", "code": None, "why": "", **more}
        print(f"bridge: {hop}: {what} {entry['why']}".rstrip(), file=sys.stderr, flush=True)
        self.publish("feed:log", entry)

    async def run(self):
        tries = 0
        while True:
            await self.wake.wait()
            batch = [self.waiting.popleft() for _ in range(min(BATCH_MAX, len(self.waiting)))]
            try:
                answer = await asyncio.to_thread(post, f"{BROKER}/api/batch", {"commands": batch}, {"X-API-Key": API_KEY})
                refused = next((reply["error"]["message"] for reply in answer.get("replies", []) if "error" in reply), None)
                if "error" in answer or refused:
                    raise ConnectionError(refused or answer["error"]["message"])
            except (OSError, ValueError, KeyError) as error:
                # What came meanwhile is behind it: the order stays, and the oldest go where there is no room.
                room = WAITING_MAX - len(self.waiting)
                self.dropped += max(0, len(batch) - room)
                self.waiting.extendleft(reversed(batch[max(0, len(batch) - room):] if room else []))
                if self.failing_since is None:
                    self.failing_since = time.time()
                    print(f"bridge: publishing fails: {told(error)}", file=sys.stderr, flush=True)
                tries += 1
                await asyncio.sleep(random.random() * min(LONGEST_WAIT, 0.25 * 2 ** min(tries, 6)))
                continue
            tries = 0
            if self.failing_since is not None:
                seconds, self.failing_since = time.time() - self.failing_since, None
                self.log("bridge → broker", "publishing works again", why=f"it failed for {seconds:.1f} s")
            if not self.waiting:
                self.wake.clear()


class Exchange:
    """The hop to the exchange, and its state."""

    def __init__(self, outbox):
        self.outbox = outbox
        self.state, self.since_ms, self.why, self.code = "connecting", now_ms(), "", None
        self.token_ends_at = None
        self.opened_at = self.tick_at = None
        self.ticks = 0

    def report(self):
        exchange = {"state": self.state, "since_ms": self.since_ms, "why": self.why, "code": self.code}
        exchange["token_ends_at_ms"] = self.token_ends_at and int(self.token_ends_at * 1000)
        bridge = {"pid": os.getpid(), "node": NODE, "started_at_ms": int(started_at * 1000)}
        more = {"pace_ms": int(STATE_EVERY * 1000), "ticks": self.ticks, "waiting": len(self.outbox.waiting), "dropped": self.outbox.dropped}
        self.outbox.publish("feed:state", {"at_ms": now_ms(), "exchange": exchange, "bridge": bridge, **more})

    def enter(self, state, why="", code=None):
        if state != self.state:
            self.since_ms = now_ms()
        self.state, self.why, self.code = state, why, code
        self.report()

    async def keep_reporting(self):
        while True:
            self.report()
            await asyncio.sleep(STATE_EVERY)

    async def fresh_token(self):
        answer = await asyncio.to_thread(post, f"{EXCHANGE}/oauth2/token", {"appkey": "demo", "secretkey": "demo"})
        self.token_ends_at = time.time() + answer["expires_in"]
        return answer["token"], answer["expires_in"]

    async def run(self, connect, closed):
        tries = 0
        while True:
            self.opened_at = None
            try:
                token, life = await self.fresh_token()
                headers = {"Authorization": f"Bearer {token}"}
                url = f"{EXCHANGE.replace('http', 'ws', 1)}/websocket"
                async with connect(url, additional_headers=headers, ping_interval=PING_EVERY, ping_timeout=PONG_WITHIN) as socket:
                    self.opened_at, self.tick_at = time.time(), None
                    self.outbox.log("exchange → bridge", "opened", token_left_s=life)
                    self.enter("up")
                    if await self.stream(socket, life * RENEW_AT):
                        tries = 0
                        continue  # for a fresh token: planned, at once
                    error = socket.protocol.close_exc
            except (OSError, ValueError, KeyError, closed, asyncio.TimeoutError) as caught:
                error = caught
            code, why, by = self.reason(error)
            lived = self.opened_at and time.time() - self.opened_at
            ages = {"alive_s": lived, "last_data_s": self.tick_at and time.time() - self.tick_at}
            left = self.token_ends_at and self.token_ends_at - time.time()
            self.outbox.log("exchange → bridge", "closed" if lived else "not opened", by=by, code=code, why=why, token_left_s=left, **ages)
            self.enter("down", why, code)
            tries = 0 if lived and lived > 5 else tries + 1
            # A token that was refused is replaced at once, the first time.
            at_once = code in (3005, 3500, 401) and tries < 2
            await asyncio.sleep(0 if at_once else random.random() * min(LONGEST_WAIT, 0.5 * 2 ** min(tries, 6)))

    @staticmethod
    def reason(error):
        """Code, words and who ended it."""
        received = getattr(error, "rcvd", None)
        if received is not None:
            return received.code, received.reason or "closed", "exchange"
        response = getattr(error, "response", None)
        if response is not None:
            return response.status_code, "the handshake was refused", "exchange"
        if isinstance(error, urllib.error.HTTPError):
            return error.code, f"no token: {told(error)}", "exchange"
        return None, told(error), "network"

    async def stream(self, socket, renew_after):
        """Takes ticks until the socket ends (false), or its token is old (true)."""
        request = {"trnm": "REG", "grp_no": "1", "refresh": "1", "data": [{"item": ITEMS, "type": ["0B", "0D"]}]}
        await socket.send(json.dumps(request))
        try:
            async with asyncio.timeout(renew_after):
                async for text in socket:
                    self.take(json.loads(text))
                return False
        except TimeoutError:
            self.outbox.log("exchange → bridge", "token renewed", by="bridge", why="ahead of its end", alive_s=time.time() - self.opened_at)
            return True

    def take(self, frame):
        if frame.get("trnm") == "REG" and frame.get("return_code"):
            self.outbox.log("exchange → bridge", "registration refused", by="exchange", why=frame.get("return_msg", ""))
        for tick in frame.get("data", []) if frame.get("trnm") == "REAL" else []:
            self.tick_at = time.time()
            self.ticks += 1
            self.outbox.publish(f"ticks:{tick['item']}.{tick['type']}", {"trnm": "REAL", "data": [tick]})


def end_with_input():
    def wait():
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


async def main():
    outbox = Outbox()
    tasks = [outbox.run()]
    try:
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException
    except ImportError:
        why = f"{sys.executable} has no package websockets: {os.path.basename(sys.executable)} -m pip install websockets"
        outbox.log("exchange → bridge", "cannot start", by="bridge", why=why)
        exchange = Exchange(outbox)
        exchange.enter("down", why)
    else:
        exchange = Exchange(outbox)
        tasks.append(exchange.run(connect, WebSocketException))
    await asyncio.gather(*tasks, exchange.keep_reporting())


if __name__ == "__main__":
    end_with_input()
    asyncio.run(main())
