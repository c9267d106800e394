"""Tokens that must open nothing, over the wire: forged, confused, unfinished, and floods of names of keys that nobody has (docs/tokens.md)."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import struct
import time
from collections import Counter

import pytest

from harness import API_KEY, SECRET, Broker, remember, token
from keys import Answers, RsaKey, base64url, written
from wire import Refused

FLOOD = 10_000
AT_ONCE = 200


@pytest.fixture(scope="module")
def rsa(tmp_path_factory):
    """The key of the issuer, one that it publishes, and one of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: RsaKey(folder, name) for name in ("fixed", "published", "foreign")}


@pytest.fixture(scope="module")
def issuer(rsa):
    """Publishes one key; counts who asks, and for what."""
    keys = json.dumps({"keys": [rsa["published"].jwk(kid="k1", alg="RS256", use="sig")]}).encode()
    with Answers(lambda *_: (200, {"Content-Type": "application/json"}, keys)) as answers:
        yield answers


@pytest.fixture(scope="module")
def keyed(rsa, issuer, tmp_path_factory):
    """A server that has keys of every kind at once: a shared secret, a public key, and fetched ones."""
    path = tmp_path_factory.mktemp("keyed") / "broker.toml"
    path.write_text(
        f"""
        [server]
        log_level = "debug"
        session_log_lines = 100000
        [client.token]
        hmac_secret = "{SECRET}"
        public_keys = ["{rsa["fixed"].public}"]
        [client.token.jwks.main]
        url = "{issuer.http}/keys"
        [api]
        key = "{API_KEY}"
        """
    )
    with Broker("--config", str(path), api_key=API_KEY) as running:
        yield running


def hashed(header, claims, key=SECRET.encode(), hash=hashlib.sha256):
    signed = written(header, claims)
    return remember(f"{signed}.{base64url(hmac.new(key, signed.encode(), hash).digest())}")


def tampered(good):
    """The claims of an administrator under the signature of somebody else."""
    header, _, signature = good.split(".")
    return remember(f"{header}.{base64url(json.dumps({'sub': 'admin'}).encode())}.{signature}")


HS256 = {"alg": "HS256", "typ": "JWT"}
ADMIN = {"sub": "admin"}

# What a setting has to do with a token that is refused; nothing would make the others good.
SETTINGS = {"does not match": "client.token", "too short": "client.token", "HS512": "client.token", "8192": "client.token.max"}

# Each kind: how it is made from the keys, and what is said about it.
BAD = {
    "none": lambda rsa: (written({"alg": "none"}, ADMIN) + ".", "the token is not signed"),
    "none in another case": lambda rsa: (written({"alg": "nOnE"}, ADMIN) + ".", "the token is not signed"),
    "none with a signature": lambda rsa: (hashed({"alg": "none"}, ADMIN), "the token is not signed"),
    "another secret": lambda rsa: (hashed(HS256, ADMIN, b"x" * 40), "the token's signature does not match"),
    "no secret": lambda rsa: (hashed(HS256, ADMIN, b""), "the token's signature does not match"),
    "other claims": lambda rsa: (tampered(token(sub="u")), "the token's signature does not match"),
    "no signature": lambda rsa: (token(sub="admin").rsplit(".", 1)[0] + ".", "the token's signature does not match"),
    "half a signature": lambda rsa: (token(sub="admin")[:-3], "the token's signature does not match"),
    "one part": lambda rsa: ("administrator", "the token has 1 parts"),
    "five parts": lambda rsa: (f"{token(sub='admin')}.a.b", "the token has 5 parts"),
    "padding": lambda rsa: (token(sub="admin") + "=", "not base64url without padding"),
    "a hash that the secret is too short for": lambda rsa: (hashed({"alg": "HS512"}, ADMIN, hash=hashlib.sha512), "HS512"),
    "an unknown algorithm": lambda rsa: (hashed({"alg": "<script>"}, ADMIN), "names an unknown algorithm"),
    "crit": lambda rsa: (hashed({**HS256, "crit": ["exp"]}, ADMIN), "the token's header has `crit`"),
    "crit that is empty": lambda rsa: (hashed({**HS256, "crit": []}, ADMIN), "the token's header has `crit`"),
    "two algorithms": lambda rsa: (hashed('{"alg":"none","alg":"HS256"}', ADMIN), "the token's header is not a JSON object with `alg`"),
    "two users": lambda rsa: (hashed(HS256, '{"sub":"u","sub":"admin"}'), "not an object that has each name once"),
    "no object": lambda rsa: (hashed(HS256, '["admin"]'), "not an object that has each name once"),
    "a user that is a number": lambda rsa: (hashed(HS256, {"sub": 7}), "the token's claim `sub` must be a string"),
    "not yet": lambda rsa: (hashed(HS256, {**ADMIN, "nbf": int(time.time()) + 100}), "the token holds only in"),
    "milliseconds": lambda rsa: (hashed(HS256, {**ADMIN, "exp": int(time.time()) * 1000}), "beyond the year 9999"),
    "too long": lambda rsa: (hashed(HS256, {**ADMIN, "info": "x" * 8192}), "at most 8192 are allowed"),
    "RS256 of somebody else": lambda rsa: (rsa["foreign"].sign({"alg": "RS256"}, ADMIN), "the token's signature does not match"),
    "a public key as the secret, PEM": lambda rsa: (hashed(HS256, ADMIN, rsa["fixed"].public.read_bytes()), "does not match"),
    "a public key as the secret, PEM trimmed": lambda rsa: (hashed(HS256, ADMIN, rsa["fixed"].public.read_bytes().strip()), "does not match"),
    "a public key as the secret, DER": lambda rsa: (hashed(HS256, ADMIN, rsa["fixed"].der()), "does not match"),
    "a public key as the secret, base64": lambda rsa: (hashed(HS256, ADMIN, base64.b64encode(rsa["fixed"].der())), "does not match"),
    "a fetched key as the secret": lambda rsa: (hashed({**HS256, "kid": "k1"}, ADMIN, rsa["published"].der()), "does not match"),
    "a long kid": lambda rsa: (rsa["published"].sign({"alg": "RS256", "kid": "k" * 129}, ADMIN), "kid"),
}


class TestBadTokens:
    @pytest.mark.parametrize("kind", BAD)
    async def test_it_opens_nothing_and_both_sides_are_told_why(self, keyed, rsa, mode, kind):
        bad, message = BAD[kind](rsa)
        before = keyed.lines()
        with pytest.raises(Refused) as refusal:
            # A long one would not fit everywhere; in a header it does.
            await mode.open(keyed, bad)
        told = refusal.value
        assert message in told.message, told
        if mode.mode == "plain":
            assert (told.status, told.code, told.word) == (401, 101, "unauthorized"), told
        else:
            assert (told.close, told.code) == (3500, None), told
        closed = await keyed.logs("session closed", message, since=before)
        assert (closed["code"], closed["user"], closed["connected"]) == (3500, "", False)
        for text, setting in SETTINGS.items():
            if text in message:
                assert setting in (await keyed.logs(message, "hint", since=before))["hint"]

    async def test_an_ended_one_asks_for_another(self, keyed, mode):
        before = keyed.lines()
        with pytest.raises(Refused) as refusal:
            await mode.open(keyed, token(sub="u", exp=int(time.time()) - 35))
        assert (refusal.value.code, refusal.value.word) == (109, "token_expired")
        assert "client.token.leeway" in (await keyed.logs("the token ended 3", "hint", since=before))["hint"]

    async def test_the_keys_themselves_open(self, keyed, rsa, mode):
        for good in [
            token(sub="u"),
            rsa["fixed"].sign({"alg": "RS256"}, {"sub": "u"}),
            rsa["published"].sign({"alg": "RS256", "kid": "k1"}, {"sub": "u"}),
        ]:
            async with await mode.open(keyed, good) as wire:
                assert wire.session


class TestHeadersOfTokens:
    async def test_keys_that_a_token_brings_or_names_are_not_looked_at(self, keyed, rsa, mode):
        """jku, x5u, jwk and x5c would let whoever writes a token choose its key."""
        foreign = rsa["foreign"]
        with Answers(lambda *_: (200, {}, json.dumps({"keys": [foreign.jwk(kid="k1")]}).encode())) as elsewhere:
            for more in [
                {"jku": f"{elsewhere.http}/keys"},
                {"x5u": f"{elsewhere.http}/certificate"},
                {"jwk": foreign.jwk()},
                {"jwk": foreign.jwk(kid="k1"), "kid": "k1"},
                {"x5c": [base64.b64encode(foreign.der()).decode()]},
            ]:
                before = keyed.lines()
                with pytest.raises(Refused) as refusal:
                    await mode.open(keyed, foreign.sign({"alg": "RS256", **more}, ADMIN))
                assert (refusal.value.status or refusal.value.close) in (401, 3500), refusal.value
                assert "client.token" in (await keyed.logs(refusal.value.message.removeprefix("invalid token: "), "hint", since=before))["hint"]
            assert elsewhere.asked == []


class TestFlood:
    """S4: whoever makes up names of keys does not make the server fetch them."""

    async def test_10000_names_of_keys_cost_two_fetches(self, rsa, tmp_path):
        published = rsa["published"]
        keys = json.dumps({"keys": [published.jwk(kid="k1")]}).encode()
        path = tmp_path / "broker.toml"
        with Answers(lambda *_: (200, {}, keys)) as issuer:
            path.write_text(f'[client.token.jwks.main]\nurl = "{issuer.http}/keys"\n[api]\nkey = "{API_KEY}"\n')
            with Broker("--config", str(path), api_key=API_KEY) as broker:
                good = published.sign({"alg": "RS256", "kid": "k1"}, {"sub": "u"})
                room, started = asyncio.Semaphore(AT_ONCE), time.monotonic()

                async def forged(number):
                    bad = written({"alg": "RS256", "kid": f"made-up-{number}"}, ADMIN) + "." + base64url(os.urandom(256))
                    async with room:
                        return await (plain, centrifuge)[number % 2](broker, bad)

                answers = await asyncio.gather(*(forged(number) for number in range(FLOOD)))
                took = time.monotonic() - started
                # The first are told that nobody has their key; when it may not be asked for, that this is not known yet.
                for mode, final, temporary in [(0, b"HTTP/1.1 401 ", b"HTTP/1.1 503 "), (1, struct.pack("!H", 3500), b'"code":100')]:
                    of_mode = answers[mode::2]
                    told = Counter("final" if final in answer else "temporary" if temporary in answer else answer for answer in of_mode)
                    assert set(told) <= {"final", "temporary"}, told
                    assert all(b"retry" in answer.lower() for answer in answers[0::2] if temporary in answer)
                # Two in 30 s: one at the start, and one when the first of these came.
                most = 2 * (1 + int(took // 30))
                assert 1 <= len(issuer.asked) <= most, f"{issuer.asked} in {took:.1f} s"
                # Who has a key that is there was not held up, and is not now.
                assert b" 101 " in await plain(broker, good)
                assert len(issuer.asked) <= most
                await broker.logs("session closed", "key")


def request(path, more=""):
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    ).encode()


def frame(opcode, payload):
    """A frame of a client, masked with nothing."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


async def exchange(broker, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    try:
        writer.write(sent)
        answer = b""
        while (more := await reader.read(65536)) and b'"error"' not in answer + more:
            answer += more
        return answer + more
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


async def plain(broker, proof):
    return await exchange(broker, request("/ws", f"Authorization: Bearer {proof}\r\n") + frame(8, b""))


async def centrifuge(broker, proof):
    connect = json.dumps({"id": 1, "connect": {"token": proof}}).encode()
    return await exchange(broker, request("/connection/websocket") + frame(1, connect))
