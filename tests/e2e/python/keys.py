"""Keys made by `openssl`, tokens signed with them, and an issuer that publishes them and counts who asks."""

import base64
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import remember


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True, check=True).stdout


def base64url(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def written(header, claims):
    """What is signed of a token; text stands as it is."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    return ".".join(base64url(part.encode()) for part in parts)


class RsaKey:
    """A key pair in a folder."""

    def __init__(self, folder, name):
        self.private = folder / f"{name}.private.pem"
        self.public = folder / f"{name}.pem"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.private)
        openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    def der(self):
        return openssl("pkey", "-pubin", "-in", self.public, "-outform", "DER")

    def jwk(self, **more):
        modulus = openssl("rsa", "-pubin", "-in", self.public, "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
        return {"kty": "RSA", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB", **more}

    def sign(self, header, claims):
        signed = written(header, claims)
        signature = openssl("dgst", "-sha256", "-sign", self.private, "-binary", given=signed.encode())
        return remember(f"{signed}.{base64url(signature)}")


class Answers:
    """An HTTP server on a free port that answers as `answer(path, body)` says, (status, headers, body), and remembers the paths that were asked."""

    def __init__(self, answer):
        self.asked = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append(self.path)
                status, headers, text = answer(self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.http = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
