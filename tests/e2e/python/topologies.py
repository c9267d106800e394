"""Redis as operators arrange it: one server, a primary that sentinels watch, a cluster; each over TCP or TLS. One server lives in `redis_server.py`."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from redis_server import Redis, free_port

# What docs/operations/redis.md has an operator set: for one server and what sentinels watch, and for a cluster.
USER = "app"
PASSWORD = "s3cret-of/the:app@redis"
RIGHTS = "~broker:* &broker:* +info +@scripting +@read +@write +@fast +@pubsub"
RIGHTS_IN_A_CLUSTER = f"{RIGHTS} +cluster|slots"
SENTINEL_USER = "watcher"
SENTINEL_PASSWORD = "s3cret-of-the-watchers"
RIGHTS_ON_SENTINELS = "&+switch-master +@connection +subscribe +sentinel|get-master-addr-by-name +sentinel|master"
# Both in a URL.
CREDENTIALS = "app:s3cret-of%2Fthe%3Aapp%40redis@"

SLOTS = 16384


def user(rights):
    """The settings of a server that let the broker's user in, also after a restart."""
    return ["--user", USER, "on", f">{PASSWORD}", *rights.split()]


def until(what, holds):
    """Servers tell nobody when they agree: they are asked again and again."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.02)


class Certificates:
    """An authority of its own, and a certificate for this machine that it has signed."""

    def __init__(self):
        self._directory = Path(tempfile.mkdtemp(prefix="broker-redis-tls-"))
        self.ca = str(self._directory / "ca.pem")
        (self._directory / "openssl.cnf").write_text(
            "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\n"
            "[own]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n"
        )
        self._make("ca", "-subj", "/CN=authority of a test", "-extensions", "ca")
        self._make("own", "-subj", "/CN=localhost", "-extensions", "own", "-CA", "ca.pem", "-CAkey", "ca-key.pem")

    def _make(self, name, *more):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-config", "openssl.cnf", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", *more]
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory)

    def settings(self):
        """What a server is told: whoever connects needs no certificate, and servers speak TLS among themselves too."""
        path = {name: str(self._directory / f"{name}.pem") for name in ("own", "own-key", "ca")}
        settings = ["--tls-cert-file", path["own"], "--tls-key-file", path["own-key"], "--tls-ca-cert-file", path["ca"]]
        return [*settings, "--tls-auth-clients", "no", "--tls-replication", "yes"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self._directory, ignore_errors=True)


class Topology:
    """Servers that belong together. `url`: as the broker is told; `env`: what it needs besides."""

    def __init__(self, certificates):
        self._ends = contextlib.ExitStack()
        self._certificates = certificates
        self.env = {"BROKER_BACKPLANE__CA": certificates.ca} if certificates else {}
        self.servers = []
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise

    @property
    def _scheme(self):
        return "rediss" if self._certificates else "redis"

    def _server(self, *options):
        server = self._ends.enter_context(Redis(*options, certificates=self._certificates))
        self.servers.append(server)
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ends.close()


class OneServer(Topology):
    """Its default user is off."""

    def _start(self):
        server = self._server(*user(RIGHTS), "--user", "default", "off")
        self.url = server.url.replace("//", f"//{CREDENTIALS}")


class Sentinels(Topology):
    """A primary, a replica, and three sentinels that fail over after half a second."""

    def _start(self):
        options = [*user(RIGHTS), "--repl-diskless-sync-delay", "0"]
        primary = self._server(*options)
        replica = self._server(*options, "--replicaof", f"127.0.0.1 {primary.port}")
        until("the replica follows", lambda: b"master_link_status:up" in (replica.command("INFO", "replication") or b""))
        self.sentinels = [self._ends.enter_context(Sentinel(primary.port, self._certificates)) for _ in range(3)]
        for sentinel in self.sentinels:
            until("the sentinels know each other and the replica", sentinel.knows_all)
        addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        of_sentinels = f"sentinel_user={SENTINEL_USER}&sentinel_password={SENTINEL_PASSWORD}"
        self.url = f"{self._scheme}+sentinel://{CREDENTIALS}{addresses}/main?{of_sentinels}"


class Sentinel(Redis):
    """One sentinel of the primary at a port, which it knows as `main`."""

    def __init__(self, primary, certificates):
        self._primary = primary
        super().__init__(certificates=certificates)

    def start(self):
        lines = [" ".join(setting) for setting in zip(*[iter(self.settings())] * 2, strict=True)]
        lines = [line.removeprefix("--") for line in lines]
        lines += ["bind 127.0.0.1", f"dir {self._directory}", f"sentinel monitor main 127.0.0.1 {self._primary} 2"]
        lines += [f"user {SENTINEL_USER} on >{SENTINEL_PASSWORD} {RIGHTS_ON_SENTINELS}"]
        lines += ["sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 3000"]
        path = os.path.join(self._directory, "sentinel.conf")
        Path(path).write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [self._binary, path, "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until("the sentinel serves", lambda: self.command("PING"))

    def knows_all(self):
        return b"slaves=1,sentinels=3" in (self.command("INFO", "sentinel") or b"")


class Cluster(Topology):
    """Three primaries."""

    def _start(self):
        options = [*user(RIGHTS_IN_A_CLUSTER), "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000"]
        if self._certificates:
            options += ["--tls-cluster", "yes"]
        for place in range(3):
            server = self._server(*options)
            assert server.command("CLUSTER", "SET-CONFIG-EPOCH", str(place + 1)) == b"+OK\r\n"
            first, next_one = place * SLOTS // 3, (place + 1) * SLOTS // 3
            assert server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(next_one - 1)) == b"+OK\r\n"
        for server in self.servers[1:]:
            assert server.command("CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port)) == b"+OK\r\n"
        for server in self.servers:
            until("the cluster is whole", lambda server=server: self._is_whole(server))
        addresses = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        self.url = f"{self._scheme}+cluster://{CREDENTIALS}{addresses}"

    def _is_whole(self, server):
        info = server.command("CLUSTER", "INFO") or b""
        return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info

    def topic_at(self, server, word):
        """A topic whose names this server has."""
        for number in range(1000):
            topic = f"{word}.{number}"
            slot = int(re.search(rb":(\d+)", self.servers[0].command("CLUSTER", "KEYSLOT", "{%s}" % topic)).group(1))
            if slot * 3 // SLOTS == self.servers.index(server):
                return topic
        raise AssertionError("no topic is there")
