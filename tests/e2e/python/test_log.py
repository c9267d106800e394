"""What the log holds of text that came from outside: one line for each thing that happened, cut, and nothing that opens a door."""

import json
import re
from urllib.parse import quote, urlencode

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from harness import API_KEY, SECRET, Broker, remember, secrets_in, token
from wire import PlainWire, Refused

CONFIG = f"""
[server]
log_level = "trace"
session_log_lines = 100000
log_format = "{{format}}"
[client]
allowed_origins = ["https://app.test"]
[client.token]
hmac_secret = "{SECRET}"
[api]
key = "{API_KEY}"
[default]
allow = ["sub", "pub"]
"""

FORGED = '{"level":"ERROR","message":"forged"}'
HOSTILE = [f"a\r\n{FORGED}", f"a\n2026-01-01T00:00:00Z ERROR {FORGED}", "a\x1b[2J\x1b[31mforged", "a\u2028\u202e\u0000", 'a","forged":"', "a\tb\x7f"]


@pytest.fixture(params=["json", "text"])
def logging(request, tmp_path):
    path = tmp_path / "broker.toml"
    path.write_text(CONFIG.format(format=request.param))
    with Broker("--config", str(path), api_key=API_KEY) as running:
        running.format = request.param
        # The first line behind what is told at the start.
        running.wait_for_log("broker started")
        yield running


class TestTextFromOutside:
    async def test_each_thing_is_one_line_however_it_is_written(self, logging, mode):
        """S17: users, channels, paths, origins, headers and claims with line breaks, escapes and quotation marks."""
        before = logging.lines()
        for text in HOSTILE:
            for claims in [{"sub": text}, {"sub": "u", "groups": [text]}, {"sub": "u", "channels": [text]}, {"sub": "u", "jti": text}]:
                try:
                    async with await mode.open(logging, token(**claims)) as wire:
                        for verb in [wire.subscribe, wire.history, lambda topic: wire.publish(topic, 1)]:
                            with pytest.raises(Refused):
                                await verb(text)
                except Refused as refusal:
                    assert refusal.close == 3500 or refusal.code in (101, 102), refusal
            paths = [f"/ws/{quote(text)}", f"/{quote(text)}", "/ws?" + urlencode({"topic": text}), "/ws?" + urlencode({"since": text})]
            for path in paths:
                with pytest.raises(InvalidStatus):
                    async with connect(logging.ws + path, proxy=None):
                        pass
            for name in ["X-Forwarded-For", "Authorization", "Cookie"]:
                with pytest.raises(Refused):
                    await PlainWire.open(logging, additional_headers={name: quote(text)})
            logging.post(f"/api/{quote(text)}", {"channel": text})
            logging.post("/api/publish", {"channel": text, "data": text})
            logging.api("group_join", user=text[:1], group="g")
        logging.stop()
        lines = logging.log().splitlines()[before:]
        assert len(lines) > 20
        for line in lines:
            if logging.format == "json":
                fields = json.loads(line)
                assert fields["timestamp"] and fields.get("message") != "forged" and "forged" not in fields
            else:
                assert re.match(r"\d{4}-\d\d-\d\dT\S+ +(TRACE|DEBUG|INFO|WARN|ERROR) ", line), line
            assert line.isprintable(), line

    async def test_long_text_is_cut(self, logging, mode):
        before = logging.lines()
        long = "x" * 4000
        try:
            async with await mode.open(logging, token(sub=long)) as wire:
                assert wire.session
        except Refused as refusal:
            assert refusal.close == 3500 or refusal.status == 401
        async with await mode.open(logging, token(sub="u")) as wire:
            with pytest.raises(Refused):
                await wire.subscribe(long)
        with pytest.raises(InvalidStatus):
            async with connect(f"{logging.ws}/{long}", proxy=None):
                pass
        with pytest.raises(InvalidStatus):
            async with connect(f"{logging.ws}/ws", proxy=None, origin=f"https://{long}.test"):
                pass
        logging.stop()
        for line in logging.log().splitlines()[before:]:
            assert "x" * 129 not in line, line


class TestSecrets:
    """S2: wherever a token or a ticket is put, no log has it. Every server of these suites is looked at when it ends; this one logs everything."""

    async def test_a_token_in_any_place_is_in_no_log(self, logging):
        ticket = remember(logging.api("ticket", user="u")["ticket"])
        unknown = remember("A" * 21 + "B" * 22)
        forged = token(secret="x" * 40, sub="forged")
        tries = 0
        for proof in [token(sub="u"), forged, token(sub="u", exp=1)]:
            for query, headers in [
                (f"?token={proof}", {}),
                (f"?topic=news&%74oken={proof}&topic=b", {}),
                (f"?token={proof}&since=nonsense", {}),
                ("", {"Authorization": f"Bearer {proof}"}),
                ("", {"Authorization": proof}),
                ("", {"Cookie": f"broker_token={proof}"}),
                ("", {"Sec-WebSocket-Protocol": f"bearer, {proof}"}),
            ]:
                for path in ["/ws", "/ws/news", "/nowhere", "/connection/websocket"]:
                    tries += await self.dial(logging, path + query, headers)
        for value in [ticket, ticket, unknown]:
            tries += await self.dial(logging, f"/ws/news?ticket={value}", {})
        assert tries == 3 * 7 * 4 + 3
        logging.stop()
        assert secrets_in(logging.log()) == set()

    async def dial(self, broker, path, headers):
        try:
            async with connect(broker.ws + path, proxy=None, additional_headers=headers):
                pass
        except Exception as refused:
            assert isinstance(refused, InvalidStatus) or "subprotocol" in str(refused), refused
        return 1

    def test_the_counter_counts(self):
        proof = token(sub="the counter counts")
        claims, signature = proof.split(".")[1:]
        assert len(secrets_in(f'{{"path":"/ws?token={proof}"}}')) == 2
        assert secrets_in(f"claims {claims[:20]}") and secrets_in(f'"{signature}"') and secrets_in(f"key={API_KEY}")
        assert secrets_in("nothing to see here") == set()
