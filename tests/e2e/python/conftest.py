"""Runs `async def` tests, and starts the servers that modules share."""

import asyncio
import inspect
import itertools
import logging
import re

import pytest

from harness import SECRET, Broker, Server, binary

_number = itertools.count()

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
        assert "panicked" not in running.log()


@pytest.fixture(scope="session")
def pinging():
    """A dev server with short deadlines."""
    with Broker("--dev", env={"BROKER_CLIENT__PING_INTERVAL": "1s", "BROKER_CLIENT__PONG_TIMEOUT": "500ms"}) as running:
        yield running


@pytest.fixture(scope="session")
def application():
    """The application of `tests/e2e/application`, which has the hooks that a plain server has not."""
    with Server([binary("APPLICATION_BIN")]) as running:
        yield running


@pytest.fixture
def topic(request):
    """A topic of this test alone."""
    return f"{re.sub('[^a-z0-9]+', '-', request.node.name)[:80]}.{next(_number)}"
