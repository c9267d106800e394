"""`curl` against the server API and the health pages: what a backend without a client library does."""

import json
import pathlib
import re
import subprocess

import pytest

from harness import Broker

README = pathlib.Path(__file__).parents[3] / "README.md"


def curl(*arguments, stdin=None):
    """Runs curl; answers status, headers (lower-case names) and the parsed body."""
    run = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--dump-header", "/dev/stderr", *arguments],
        input=stdin,
        capture_output=True,
        check=True,
    )
    head = run.stderr.decode().replace("\r", "").strip().split("\n\n")[-1].split("\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    body = run.stdout.decode()
    try:
        body = json.loads(body)
    except ValueError:
        pass
    return int(head[0].split(" ")[1]), headers, body


def post(broker, method, body, *more, key="dev"):
    text = body if isinstance(body, str) else json.dumps(body)
    return curl("-X", "POST", f"{broker.http}/api/{method}", "-H", f"X-API-Key: {key}", "-d", "@-", *more, stdin=text.encode())


def test_the_curl_line_of_the_readme_publishes(broker):
    [line] = re.findall(r"^curl .*/api/publish$", README.read_text(), re.MULTILINE)
    line = line.replace("http://127.0.0.1:8000", broker.http)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=20)
    assert json.loads(done.stdout)["result"]["offset"] >= 1, done


def test_a_publish_answers_the_position_as_json(broker, topic):
    status, headers, body = post(broker, "publish", {"channel": topic, "data": {"n": 1}})
    assert (status, body["result"]["offset"]) == (200, 1)
    assert body["result"]["epoch"]
    assert headers["content-type"].startswith("application/json")


def test_every_method_answers(broker, topic):
    calls = {
        "publish": {"channel": topic, "data": 1},
        "broadcast": {"channels": [topic], "data": 1},
        "history": {"channel": topic, "limit": 10},
        "presence": {"channel": topic},
        "presence_stats": {"channel": topic},
        "channels": {},
        "info": {},
        "history_remove": {"channel": topic},
    }
    for method, body in calls.items():
        status, _, answer = post(broker, method, body)
        assert (status, "result" in answer) == (200, True), (method, answer)
    status, _, answer = post(broker, "batch", {"commands": [{method: body} for method, body in calls.items()]})
    assert status == 200
    assert [list(reply) for reply in answer["replies"]] == [[method] for method in calls]


def test_the_key_may_come_as_authorization(broker):
    url = f"{broker.http}/api/info"
    assert curl("-X", "POST", url, "-H", "Authorization: apikey dev", "-d", "{}")[0] == 200
    for wrong in ["apikey wrong", "Bearer dev", "dev", "apikey "]:
        assert curl("-X", "POST", url, "-H", f"Authorization: {wrong}", "-d", "{}")[0] == 401


def test_without_the_key_nothing_is_done(broker, topic):
    for key in ["wrong", "", "de", "devv", "DEV"]:
        status, _, body = post(broker, "publish", {"channel": topic, "data": 1}, key=key)
        assert (status, body["error"]["code"]) == (401, 101), key
    assert post(broker, "history", {"channel": topic, "limit": 10})[2]["result"]["publications"] == []


@pytest.mark.parametrize("body", ["", "{", "not JSON", '{"channel":"a","data":1}}', "[]", '"text"'])
def test_what_is_not_a_json_object_is_400(broker, body):
    status, _, answer = post(broker, "publish", body)
    assert (status, answer["error"]["code"]) == (400, 107)
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "body", "named"),
    [
        ("publish", {"channel": 7, "data": 1}, "channel"),
        ("publish", {"data": 1}, "channel"),
        ("publish", {"channel": "a"}, "data"),
        ("publish", {"channel": "a", "data": 1, "tags": "red"}, "tags"),
        ("publish", {"channel": "a", "data": 1, "tags": {"k": 7}}, "tags"),
        ("publish", {"channel": "a", "data": 1, "idempotency_key": 7}, "idempotency_key"),
        ("publish", {"channel": "a", "b64data": "not base64!"}, "b64data"),
        ("broadcast", {"channels": "a", "data": 1}, "channels"),
        ("history", {"channel": "a", "limit": "ten"}, "limit"),
        ("history", {"channel": "a", "since": 7}, "since"),
        ("batch", {"commands": {}}, "commands"),
    ],
)
def test_a_wrong_type_is_named(broker, method, body, named):
    status, _, answer = post(broker, method, body)
    assert (status, answer["error"]["code"]) == (200, 107)
    assert named in answer["error"]["message"]


def test_unknown_fields_are_ignored(broker, topic):
    status, _, answer = post(broker, "publish", {"channel": topic, "data": 1, "colour": "blue"})
    assert (status, "result" in answer) == (200, True)


def test_an_unknown_method_is_404(broker):
    status, _, answer = post(broker, "publisch", {"channel": "a", "data": 1})
    assert status == 404
    assert answer["error"]["code"] == 104


def test_a_body_that_is_too_large_is_413(broker, topic):
    status, _, _ = post(broker, "publish", {"channel": topic, "data": "x" * (1 << 20)})
    assert status == 413
    status, _, _ = post(broker, "publish", {"channel": topic, "data": "x" * (1 << 20)}, "-H", "Transfer-Encoding: chunked")
    assert status == 413


def test_get_is_not_a_way_to_call_the_api(broker):
    status, headers, _ = curl(f"{broker.http}/api/info", "-H", "X-API-Key: dev")
    assert status == 405
    assert "post" in headers["allow"].lower()


def test_health_and_ready(broker):
    for path in ["/health", "/ready"]:
        assert curl(broker.http + path)[0] == 200


def test_metrics_are_on_the_internal_listener_only(broker, topic):
    post(broker, "publish", {"channel": topic, "data": 1})
    status, headers, text = curl(f"{broker.internal}/metrics")
    assert status == 200
    assert headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    for word in ["sessions", "subscriptions", "publish", "deliver", "backlog", "drop", "close"]:
        assert word in text, f"nothing about {word} in:\n{text}"
    assert "deliveries" in text or "delivered" in text
    assert curl(f"{broker.http}/metrics")[0] == 404


def test_the_key_is_needed_where_one_was_given():
    with Broker("--dev", "--api-key", "a-key-of-my-own-choice", api_key="a-key-of-my-own-choice") as own:
        assert post(own, "info", {})[0] == 401
        assert post(own, "info", {}, key="a-key-of-my-own-choice")[0] == 200
        assert "a-key-of-my-own-choice" not in own.log()
