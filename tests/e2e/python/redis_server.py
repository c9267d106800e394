"""A real `redis-server` of one test: started on a free port, killed, stopped and brought back with its data; and a way to it that is deaf."""

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from harness import Proxy


# Below the ports that kernels give to connections, which come and go in the suites beside this one.
PORTS = range(15_000, 22_000)


def free_port():
    """A port that nobody listens on, for a program that must be told one; it leaves room for the bus of a cluster 10,000 above it."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, socket.socket() as bus, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


class Redis:
    """One server. `REDIS_SERVER` names another binary. With `certificates` (of `topologies.py`) it speaks TLS only."""

    def __init__(self, *options, running=True, certificates=None):
        self._binary = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
        assert self._binary, "redis-server is missing: `cargo xtask e2e` installs it"
        self._directory = tempfile.mkdtemp(prefix="broker-redis-")
        self._options = options
        self._process = None
        self._certificates = certificates
        self.port = free_port()
        self.url = f"{'rediss' if certificates else 'redis'}://127.0.0.1:{self.port}"
        if running:
            self.start()

    def start(self):
        """Starts it with what it had on its disk; answers when it does."""
        command = [self._binary, *self.settings(), "--bind", "127.0.0.1", "--dir", self._directory]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", *self._options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not (self.command("PING") or b"-LOADING").startswith((b"+PONG", b"-NOAUTH")):
            assert self._process.poll() is None and time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)

    def settings(self):
        """Where it listens, and how."""
        port = str(self.port)
        return ["--port", "0", "--tls-port", port, *self._certificates.settings()] if self._certificates else ["--port", port]

    def command(self, *words):
        """The bytes that it answers to one command; `None`: it does not."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain:
                with self._secured(plain) as connection:
                    connection.sendall(" ".join(words).encode() + b"\r\n")
                    return connection.recv(65536)
        except OSError:
            return None

    def _secured(self, connection):
        if not self._certificates:
            return connection
        return ssl.create_default_context(cafile=self._certificates.ca).wrap_socket(connection, server_hostname="127.0.0.1")

    def call(self, *words):
        """The bytes that it answers to one command whose words are any bytes."""
        words = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain:
            with self._secured(plain) as connection:
                connection.sendall(request)
                return connection.recv(65536)

    def kill(self):
        """As a crash does it: what was acknowledged is on the disk."""
        self._process.kill()
        self._process.wait()

    def pause(self):
        """Stops it: its connections stay open, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class DeafProxy(Proxy):
    """While it is `deaf`, Redis takes every subscription through it, and no message of the bus comes through."""

    deaf = False

    async def _forward(self, pair, reader, writer):
        if writer is not pair["near"]:
            return await super()._forward(pair, reader, writer)
        held = b""
        try:
            while data := await reader.read(65536):
                held += data
                passed = b""
                while (end := _frame_end(held, 0)) is not None:
                    frame, held = held[:end], held[end:]
                    is_message = frame.startswith(b">") and b"message\r\n" in frame[:24]
                    if not (self.deaf and is_message):
                        passed += frame
                writer.write(passed)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


def _frame_end(data, at):
    """Where the RESP3 frame ends that begins at `at`; `None`: behind what is there."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, rest = data[at : at + 1], data[at + 1 : line_end]
    at = line_end + 2
    if kind in (b"$", b"=", b"!"):
        at += max(int(rest), -2) + 2
        return at if at <= len(data) else None
    for _ in range(int(rest) * (2 if kind == b"%" else 1) if kind in (b"*", b"~", b">", b"%") else 0):
        at = _frame_end(data, at)
        if at is None:
            return None
    return at
