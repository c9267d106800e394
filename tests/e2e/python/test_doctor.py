"""`broker doctor`: what is wrong with nodes and their Redis, in words and for programs (docs/operations/redis.md)."""

import asyncio
import json
import time

import pytest

from doctor import doctor, of
from harness import Broker, eventually, token
from redis_server import Redis

SECRET_OF_NODES = "of-both-nodes-in-the-tests-of-doctor-0123456789"


async def know_each_other(*nodes):
    for node in nodes:

        async def ask(node=node):
            return (await asyncio.to_thread(node.get, "/ready"))[2]

        await eventually(ask, lambda ready: ready["nodes"] == len(nodes), f"{node.http} knows the others")


def node(redis, secret=SECRET_OF_NODES):
    return Broker("--dev", "--redis", redis.url, "--token-hmac-secret", secret)


class RoundRobin:
    """A balancer: each connection goes to the next port."""

    def __init__(self, *ports):
        self._ports = ports
        self._next = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _accept(self, near_reader, near):
        self._next += 1
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._ports[self._next % len(self._ports)])
        await asyncio.gather(self._forward(near_reader, far), self._forward(far_reader, near))

    async def _forward(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


async def test_two_whole_nodes_are_well_and_redis_may_be_set_better(tmp_path):
    with Redis() as redis, node(redis) as one, node(redis) as other:
        await know_each_other(one, other)
        code, findings = await doctor("--dev", "--redis", redis.url, one.http, cwd=tmp_path)
        assert code == 0, findings
        assert of(findings, "pairs", "ok") == ["2 nodes, and each hears what each publishes: 4 ways"]
        assert of(findings, "settings", "ok")
        redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        _, findings = await doctor("--dev", "--redis", redis.url, one.http, cwd=tmp_path)
        told = [finding for finding in findings if finding["check"] == "redis" and "allkeys-lru" in finding["message"]]
        assert told and "noeviction" in told[0]["cure"], findings


async def test_nodes_with_different_secrets_are_told_apart_without_showing_them(tmp_path):
    with Redis() as redis, node(redis) as one, node(redis, "another-secret-than-that-of-the-first-node-01") as other:
        await know_each_other(one, other)
        code, findings = await doctor("--dev", one.http, cwd=tmp_path)
        assert code == 1
        [told] = of(findings, "settings", "error")
        assert "client.token" in told and SECRET_OF_NODES not in json.dumps(findings)


async def test_two_nodes_with_a_memory_of_their_own_behind_one_balancer_are_found(tmp_path):
    with Broker("--dev") as one, Broker("--dev") as other:
        async with RoundRobin(one.port, other.port) as balancer:
            code, findings = await doctor("--dev", balancer.url, cwd=tmp_path)
    assert code == 1
    [told] = of(findings, "nodes", "error")
    assert told.startswith("2 nodes answer under this address, and 2 of them know fewer")


async def test_a_redis_that_is_gone_is_told_with_its_cure(tmp_path):
    with Redis(running=False) as redis, node(redis) as broker:
        code, findings = await doctor("--dev", "--redis", redis.url, broker.http, cwd=tmp_path)
    assert code == 1
    assert of(findings, "redis", "error") and of(findings, "ready", "error"), findings
    assert all(finding["cure"] for finding in findings if finding["severity"] == "error" and finding["check"] in ("redis", "ready"))


async def test_without_a_key_the_pairs_are_left_out_and_said_so(tmp_path):
    with Broker("--dev", "--api-key", "the-key-of-doctor-0123") as broker:
        code, findings = await doctor(broker.http, cwd=tmp_path)
        assert code == 0 and of(findings, "pairs", "skipped"), findings
        code, findings = await doctor(broker.http, "--api-key", "another-key-of-doctor-01", cwd=tmp_path)
        assert code == 1 and of(findings, "pairs", "error") == ["the API key is refused"]


ORIGIN = "https://app.example.com"
OPEN_TO_A_PAGE = f"""
[client]
anonymous = true
allowed_origins = ["{ORIGIN}"]

[client.token]
hmac_secret = "{SECRET_OF_NODES}"
"""


async def test_an_origin_and_a_token_are_asked_about_and_refusals_have_their_cure(tmp_path):
    path = tmp_path / "broker.toml"
    path.write_text(OPEN_TO_A_PAGE)
    good, forged, old = (
        token(SECRET_OF_NODES, sub="kim"),
        token("another-secret-than-that-of-the-nodes-0123456789", sub="kim"),
        token(SECRET_OF_NODES, sub="kim", exp=int(time.time()) - 3600),
    )
    with Broker("--config", str(path)) as broker:
        code, findings = await doctor(broker.http, "--origin", ORIGIN, "--token", good, cwd=tmp_path)
        assert code == 0, findings
        assert of(findings, "origin", "ok") == [f"pages of {ORIGIN} are let in"]
        assert of(findings, "token", "ok") == ["the token is taken: user kim"]
        for bad, why in [(forged, "signature"), (old, "ended")]:
            code, findings = await doctor(broker.http, "--origin", "https://app.example.com.evil", cwd=tmp_path, env={"BROKER_TOKEN": bad})
            assert code == 1
            told = {finding["check"]: finding for finding in findings if finding["severity"] == "error"}
            assert "client.allowed_origins" in told["origin"]["cure"], findings
            assert why in told["token"]["message"] and "broker token verify" in told["token"]["cure"], findings
            assert bad not in json.dumps(findings)


async def test_names_that_lead_nowhere_are_told(tmp_path):
    code, findings = await doctor("ws://broker.invalid:8000", "--dev", "--redis", "redis://redis.invalid", cwd=tmp_path)
    assert code == 1
    told = [finding for finding in findings if finding["check"] == "dns"]
    assert [finding["message"].split(" ")[0] for finding in told] == ["broker.invalid", "redis.invalid"]
    assert all(finding["severity"] == "error" and "name service" in finding["cure"] for finding in told)
    with Broker("--dev") as broker:
        code, findings = await doctor("--dev", f"http://localhost:{broker.port}", cwd=tmp_path)
        assert code == 0 and any("localhost is 127.0.0.1" in message for message in of(findings, "dns", "ok")), findings


RIGHTS = "+@scripting +@read +@write +@fast +@pubsub"
# What is wrong with the way to Redis: what is set up there, the URL's beginning, and words of the cure.
MISTAKES = {
    "a wrong password": (["ACL SETUSER ann on >secret-of-ann allcommands allkeys allchannels"], "redis://ann:secret-of-bob@", "correct user and password"),
    "a password in place of the user": (["CONFIG SET requirepass secret-of-ann"], "redis://secret-of-ann@", "redis://:password@host"),
    "no right to INFO": ([f"ACL SETUSER ann on >secret-of-ann ~broker:* &broker:* {RIGHTS}"], "redis://ann:secret-of-ann@", "+info"),
    "the keys of another prefix": ([f"ACL SETUSER ann on >secret-of-ann ~other:* &other:* +info {RIGHTS}"], "redis://ann:secret-of-ann@", "~PREFIX:*"),
    "a replica": (["REPLICAOF 127.0.0.1 1"], "redis://", "name the primary"),
    "a full Redis": (["CONFIG SET maxmemory 1"], "redis://", "raise maxmemory"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
async def test_what_redis_refuses_makes_a_node_not_ready_and_is_told_with_its_cure(mistake, tmp_path):
    setup, scheme, cure = mistake
    with Redis() as redis:
        for command in setup:
            assert redis.command(*command.split(" ")) == b"+OK\r\n"
        url = redis.url.replace("redis://", scheme)
        with Broker("--dev", "--redis", url) as broker:

            async def problems():
                _, _, ready = await asyncio.to_thread(broker.get, "/ready")
                return ready.get("problems", [])

            # Its first words are that it has not been able to do anything yet.
            await eventually(problems, lambda told: any(": " in problem for problem in told), "the node says what is wrong")
            code, findings = await doctor("--dev", "--redis", url, broker.http, cwd=tmp_path)
        assert code == 1
        assert of(findings, "ready", "error") and all(finding["cure"] for finding in findings if finding["severity"] == "error"), findings
        everything = json.dumps(findings)
        assert "secret-of" not in everything and cure in everything


async def test_two_nodes_as_in_the_readme_are_well(tmp_path):
    """Dev mode makes a secret of its own on each node: worth a word, and no error."""
    with Redis() as redis, Broker("--dev", "--redis", redis.url) as one, Broker("--dev", "--redis", redis.url) as other:
        await know_each_other(one, other)
        code, findings = await doctor("--dev", "--redis", redis.url, one.http, cwd=tmp_path)
        assert code == 0 and of(findings, "pairs", "ok") and of(findings, "settings", "warning"), findings
        code, findings = await doctor(one.http, cwd=tmp_path)
        assert code == 0 and "none" in of(findings, "redis", "skipped")[0], findings
