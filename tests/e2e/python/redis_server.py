"""A real `redis-server` of one test: started on a free port, killed, stopped and brought back with its data."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time


# Below the ports that kernels give to connections, which come and go in the suites beside this one.
PORTS = range(15_000, 32_000)


def free_port():
    """A port that nobody listens on, for a program that must be told one."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Redis:
    """One server. `REDIS_SERVER` names another binary."""

    def __init__(self, *options, running=True):
        self._binary = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
        assert self._binary, "redis-server is missing: `cargo xtask e2e` installs it"
        self._directory = tempfile.mkdtemp(prefix="broker-redis-")
        self._options = options
        self._process = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        if running:
            self.start()

    def start(self):
        """Starts it with what it had on its disk; answers when it does."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", *self._options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not (self.command("PING") or b"-LOADING").startswith((b"+PONG", b"-NOAUTH")):
            assert self._process.poll() is None and time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)

    def command(self, *words):
        """The bytes that it answers to one command; `None`: it does not."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(" ".join(words).encode() + b"\r\n")
                return connection.recv(65536)
        except OSError:
            return None

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
