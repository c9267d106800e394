"""`broker doctor` as a program: its exit code and its findings. What it should find stands in the tests."""

import asyncio
import json
import subprocess

from harness import binary, clean_environment


async def doctor(*arguments, cwd, quick=True, env=None):
    """Its exit code and findings; `quick` without waiting for a ping."""

    def run():
        command = [binary(), "doctor", "--json", *(["--quick"] if quick else []), *arguments]
        return subprocess.run(command, env=clean_environment(**(env or {})), cwd=cwd, capture_output=True, text=True, timeout=40)

    done = await asyncio.to_thread(run)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert (done.returncode == 0) == answer["well"], done
    return done.returncode, answer["findings"]


def of(findings, check, severity):
    """The messages of one check with one severity."""
    return [finding["message"] for finding in findings if (finding["check"], finding["severity"]) == (check, severity)]
