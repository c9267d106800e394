"""Runs `async def` tests, and starts the servers that modules share."""

import asyncio
import inspect
import itertools
import logging
import re

import pytest

from harness import API_KEY, SECRET, SUBSCRIPTION_SECRET, Broker, Server, binary
from wire import MODES

_number = itertools.count()

GUARDED = f"""
[server]
log_level = "debug"
session_log_lines = 100000

[client]
anonymous = true

[client.token]
hmac_secret = "{SECRET}"

[client.subscription_token]
hmac_secret = "{SUBSCRIPTION_SECRET}"

[api]
key = "{API_KEY}"

[namespaces.group]
history_size = 1000
presence = true

[namespaces.user]
history_size = 1000

[namespaces.open]
history_size = 1000
presence = true
allow = ["sub", "pub", "hst", "prs"]

[namespaces.public]
history_size = 1000
presence = true
allow = ["sub"]
allow_anonymous = true

[namespaces.closed]
history_size = 1000
presence = true

[namespaces.rows]
history_size = 100
keyed = true
allow = ["sub", "pub"]
allow_anonymous = true

[namespaces.bare]
allow = ["sub", "pub", "hst", "prs"]
"""

# The debug log of `websockets` holds every frame, so a failure shows what was exchanged; these would repeat it.
for chatty in ["asyncio", "centrifuge", "urllib3"]:
    logging.getLogger(chatty).setLevel(logging.INFO)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def bounded():
        async with asyncio.timeout(60):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


@pytest.fixture(scope="session")
def broker():
    """A dev server that accepts tokens and needs none."""
    with Broker("--dev", "--token-hmac-secret", SECRET) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """A server as it stands in production: nothing is open but what its configuration says."""
    path = tmp_path_factory.mktemp("guarded") / "broker.toml"
    path.write_text(GUARDED)
    with Broker("--config", str(path), api_key=API_KEY) as running:
        yield running


@pytest.fixture(scope="session")
def pinging():
    """A dev server with short deadlines."""
    with Broker("--dev", env={"BROKER_CLIENT__PING_INTERVAL": "1s", "BROKER_CLIENT__PONG_TIMEOUT": "900ms"}) as running:
        yield running


@pytest.fixture(scope="session")
def application():
    """The application of `tests/e2e/application`, which has the hooks that a plain server has not."""
    with Server([binary("APPLICATION_BIN")]) as running:
        yield running


@pytest.fixture(params=MODES.values(), ids=MODES.keys())
def mode(request):
    """Each protocol in turn, behind one interface."""
    return request.param


@pytest.fixture
def topic(request):
    """A topic of this test alone."""
    return f"{re.sub('[^a-z0-9]+', '-', request.node.name)[:80]}.{next(_number)}"
