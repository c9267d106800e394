"""`curl -N` and a few lines of Python against server-sent events: what a backend or a terminal does."""

import http.client
import json
import subprocess

import pytest

from harness import PATIENCE, remember, unique


class Stream:
    """A stream of events over `http.client`, which comes back with the last id as a browser does."""

    def __init__(self, broker, path):
        self._broker, self._path, self.id = broker, path, None
        self.open()

    def open(self):
        self._connection = http.client.HTTPConnection("127.0.0.1", self._broker.port, timeout=PATIENCE)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.id} if self.id else {})
        self._connection.request("GET", self._path, headers=headers)
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def close(self):
        self._connection.close()

    def block(self):
        """The next lines up to an empty one."""
        lines = []
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line == "\n":
                return lines
            lines.append(line.rstrip("\n"))

    def next(self):
        """The next event: its kind and its data."""
        while True:
            fields = [line.split(": ", 1) for line in self.block() if not line.startswith(":")]
            self.id = dict(fields).get("id", self.id)
            data = [value for name, value in fields if name == "data"]
            if data:
                return dict(fields).get("event", "message"), "\n".join(data)


def test_a_stream_goes_on_where_it_was_left(broker, topic):
    stream = Stream(broker, f"/sse/{topic}")
    assert stream.answer.getheader("Content-Type") == "text/event-stream"
    assert stream.block()[0].startswith("retry: ")
    broker.publish(topic, {"n": 1})
    kind, data = stream.next()
    assert (kind, json.loads(data)) == ("message", {"n": 1})
    assert stream.id.startswith("1@")
    stream.close()
    for n in (2, 3):
        broker.publish(topic, n)
    stream.open()
    assert [stream.next(), stream.next()] == [("message", "2"), ("message", "3")]
    stream.close()


def test_an_id_of_another_server_is_told_as_a_gap(broker, topic):
    stream = Stream(broker, f"/sse?topic={topic}&topic={topic}.b")
    stream.close()
    stream.id = "1763712000000-0"
    stream.open()
    told = [stream.next() for _ in range(2)]
    assert {kind for kind, _ in told} == {"broker"}
    assert [json.loads(data)["reason"] for _, data in told] == ["unreadable", "unreadable"]
    stream.close()


@pytest.mark.parametrize("path, status, word", [("/sse", "400", "bad_request"), ("/sse/a/b", "404", "unknown_topic"), ("/sse/a?since=x", "400", "bad_request")])
def test_curl_reads_why_it_is_refused(broker, path, status, word):
    command = ["curl", "--silent", "--noproxy", "*", "--max-time", "10", "--write-out", "\n%{http_code}", broker.http + path]
    body, found = subprocess.run(command, capture_output=True, check=True, text=True).stdout.rsplit("\n", 1)
    assert (found, json.loads(body)["error"]["error"]) == (status, word)
    assert json.loads(body)["error"]["hint"]


def test_curl_shows_a_stream_as_it_comes(broker, topic):
    command = ["curl", "--silent", "--no-buffer", "--noproxy", "*", "--max-time", "20", f"{broker.http}/sse/{topic}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout.readline().startswith("retry: ")
        assert curl.stdout.readline() == "\n"
        assert curl.stdout.readline().startswith("id: 0@")
        broker.publish(topic, "hello")
        lines = [curl.stdout.readline() for _ in range(4)]
        assert lines[1].startswith("id: 1@") and lines[2] == 'data: "hello"\n', lines
        curl.terminate()


def test_a_ticket_opens_one_stream_and_is_spent(guarded):
    """A browser that comes back by itself with the same URL is refused: it needs a token, a cookie, or a new `EventSource`."""
    user, name = unique("u"), unique("t")
    ticket = remember(guarded.api("ticket", user=user, groups=["nurses"])["ticket"])
    path = f"/sse/open:{name}?format=envelope&ticket={ticket}"
    stream = Stream(guarded, path)
    kind, data = stream.next()
    assert (kind, json.loads(data)["user"]) == ("broker", user)
    guarded.publish("group:nurses", "shift")
    while (event := stream.next())[0] != "message":
        pass
    assert json.loads(event[1])["data"] == "shift"
    stream.close()
    status, _, body = guarded.get(path)
    assert (status, body["error"]["error"]) == (401, "unauthorized"), body
