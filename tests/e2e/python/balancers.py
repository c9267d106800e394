"""nginx and haproxy of one test, with the files of `docs/operations`: only addresses, ports, paths and times differ. Never a service of the system."""

import os
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from harness import fetch
from redis_server import free_port

DOCS = Path(__file__).resolve().parents[3] / "docs/operations"


class Balancer:
    """One balancer before some ports of this machine; `changes` are texts of its file and what stands in their place.

    Trusting its certificate is a matter of the environment: `SSL_CERT_FILE` must be `certificate`.
    """

    name = file = None

    def __init__(self, ports, changes=()):
        self._directory = Path(tempfile.mkdtemp(prefix="broker-balancer-"))
        # The processes that nginx starts for its work belong to another user.
        self._directory.chmod(0o755)
        self.certificate = self._directory / "certificate.pem"
        self._make_certificate()
        self.port = free_port()
        self.http, self.ws = f"https://127.0.0.1:{self.port}", f"wss://127.0.0.1:{self.port}"
        self.centrifuge = f"{self.ws}/connection/websocket"
        text = (DOCS / self.file).read_text()
        nodes = zip(["10.0.0.11:8000", "10.0.0.12:8000"], [f"127.0.0.1:{port}" for port in ports], strict=True)
        for old, new in [*self._places(), *nodes, *changes]:
            assert old in text, f"{old!r} is not in {self.file}"
            text = text.replace(old, new)
        self._settings = self._directory / self.file
        self._settings.write_text(text)
        self._output = (self._directory / "output").open("wb")
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, cwd=self._directory
        )
        self._wait()

    def _make_certificate(self):
        """One for this machine, and its key: apart, and both in `both.pem`."""
        extensions = "[req]\ndistinguished_name = dn\n[dn]\n[own]\nsubjectAltName = DNS:localhost,IP:127.0.0.1\nbasicConstraints = critical,CA:FALSE\n"
        (self._directory / "openssl.cnf").write_text(extensions)
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-config", "openssl.cnf"]
        command += ["-extensions", "own", "-keyout", "key.pem", "-out", self.certificate.name]
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory)
        both = self.certificate.read_text() + (self._directory / "key.pem").read_text()
        (self._directory / "both.pem").write_text(both)

    def _wait(self):
        end = time.monotonic() + 10
        while True:
            try:
                status = self.get("/ready")[0]
            except OSError:
                status = None
            if status == 200:
                return
            assert self._process.poll() is None and time.monotonic() < end, f"{self.name} does not serve: {status}\n{self.printed()}"
            time.sleep(0.05)

    @property
    def tls(self):
        """What trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def get(self, path, headers=None):
        return self._send(urllib.request.Request(self.http + path, headers=headers or {}))

    def post(self, path, body, key):
        headers = {"Content-Type": "application/json", "X-API-Key": key}
        return self._send(urllib.request.Request(self.http + path, data=body, headers=headers))

    def _send(self, request):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls))
        return fetch(request, opener)

    def printed(self):
        """All that it has printed, or written to its logs."""
        return "".join(path.read_text(errors="replace") for path in [self._directory / "output", *self._directory.glob("*.log")])

    def _places(self):
        """Texts of the file that hold for a whole machine, and what stands in their place."""
        raise NotImplementedError

    def _command(self):
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class Nginx(Balancer):
    name, file = "nginx", "nginx.conf"

    def _places(self):
        return [
            ("listen 443 ", f"listen 127.0.0.1:{self.port} "),
            ("/etc/nginx/broker.pem", str(self.certificate)),
            ("/etc/nginx/broker.key", str(self._directory / "key.pem")),
            ("/var/log/nginx", str(self._directory)),
            ("/run/nginx.pid", str(self._directory / "pid")),
            # The limit of open files, and as many processes as cores, are the machine's.
            ("worker_rlimit_nofile 131072;", ""),
            ("worker_connections 65536;", "worker_connections 256;"),
            ("worker_processes auto;", "worker_processes 2;"),
        ]

    def _command(self):
        return [found("nginx"), "-p", str(self._directory), "-c", str(self._settings), "-g", "daemon off;"]

    @staticmethod
    def idle(duration):
        """The changes that make it give up idle connections after so long."""
        return [("proxy_read_timeout 60s", f"proxy_read_timeout {duration}"), ("proxy_send_timeout 60s", f"proxy_send_timeout {duration}")]

    without_upgrade = [
        ("proxy_set_header Upgrade $http_upgrade;", ""),
        ("proxy_set_header Connection $connection_upgrade;", 'proxy_set_header Connection "";'),
    ]


class Haproxy(Balancer):
    name, file = "haproxy", "haproxy.cfg"

    def _places(self):
        return [
            ("bind :443 ", f"bind 127.0.0.1:{self.port} "),
            ("/etc/haproxy/broker.pem", str(self._directory / "both.pem")),
            ("maxconn 60000", "maxconn 256"),
        ]

    def _command(self):
        return [found("haproxy"), "-db", "-f", str(self._settings)]

    @staticmethod
    def idle(duration):
        """The changes that make it give up idle connections after so long."""
        return [(f"timeout {what} 60s", f"timeout {what} {duration}") for what in ("client", "server", "tunnel")]

    without_upgrade = [("http-request del-header Forwarded", "http-request del-header Upgrade\n    http-request del-header Forwarded")]


def found(program):
    """Its path; `/usr/sbin` is not among the places where a user's programs are."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert path, f"{program} is missing: `cargo xtask e2e` installs it"
    return path


BALANCERS = [Nginx, Haproxy]
