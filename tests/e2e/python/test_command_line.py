"""The binary as an operator meets it: start, configure, check, publish and subscribe from a terminal."""

import json
import re
import signal
import subprocess
import time
import tomllib

import pytest

from harness import PATIENCE, Broker, binary, clean_environment


def run(*arguments, cwd=None, env=None, stdin=None):
    """Runs `broker` to its end; answers code, standard output and standard error."""
    done = subprocess.run(
        [binary(), *arguments],
        cwd=cwd,
        env=clean_environment(**(env or {})),
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_of_every_command_has_an_example():
    code, text, _ = run("--help")
    assert code == 0
    for command in ["serve", "init", "check", "config", "pub", "sub", "completions"]:
        assert command in text
        code, of_command, _ = run(command, "--help")
        assert code == 0 and of_command, command


def test_without_a_file_it_serves_on_loopback_with_secrets_made_up():
    with Broker(api_key="") as own:
        assert own.http.startswith("http://127.0.0.1:")
        assert own.get("/health")[0] == 200
        assert own.post("/api/info", {})[0] == 401


def test_beyond_loopback_without_authentication_it_refuses_to_start():
    code, out, err = run("serve", "--listen", "0.0.0.0:0", "--internal-listen", "127.0.0.1:0")
    assert code != 0
    assert re.search(r"hmac_secret|token-hmac-secret", out + err), "the line to add is printed"


def test_dev_mode_beyond_loopback_must_be_told_twice():
    code, out, err = run("serve", "--dev", "--listen", "0.0.0.0:0", "--internal-listen", "127.0.0.1:0")
    assert code != 0
    assert "--dev twice" in out + err


def test_the_start_block_of_dev_mode_says_how_to_go_on():
    with Broker("--dev") as own:
        own.wait_for_log(r"ws://127\.0\.0\.1:\d+")
        own.wait_for_log(r"curl ")
        lines = own.log()
        assert re.search(r"\d+\.\d+\.\d+", lines), "the version"
        # The curl line that is printed works as it stands.
        command = re.search(r"(curl .*/api/publish.*)", lines)
        assert command, "a curl line that publishes"
        done = subprocess.run(["sh", "-c", re.sub(r"\x1b\[[0-9;]*m", "", command.group(1))], capture_output=True, text=True, timeout=20)
        assert "result" in done.stdout, done


def test_an_interrupt_ends_it_with_code_zero():
    with Broker("--dev") as own:
        own.process.send_signal(signal.SIGINT)
        assert own.process.wait(20) == 0


def test_a_taken_port_is_told():
    with Broker("--dev") as own:
        code, out, err = run("serve", "--dev", "--listen", f"127.0.0.1:{own.port}", "--internal-listen", "127.0.0.1:0")
        assert code != 0
        assert str(own.port) in out + err


def test_init_writes_a_file_that_works_unedited(tmp_path):
    code, _, err = run("init", cwd=tmp_path)
    assert code == 0, err
    [file] = tmp_path.iterdir()
    tomllib.loads(file.read_text())
    assert file.read_text().count("#") > 5, "it is commented"
    assert run("check", "--config", str(file), cwd=tmp_path)[0] == 0
    with Broker("--config", str(file), cwd=tmp_path) as own:
        assert own.get("/health")[0] == 200
    code, _, err = run("init", cwd=tmp_path)
    assert code != 0 and file.name in err, "an existing file is left alone"


def test_check_names_all_mistakes_with_their_place_and_cure(tmp_path):
    file = tmp_path / "broker.toml"
    file.write_text('[client]\nping_intervall = "25s"\nmessage_max = "64 apples"\n\n[namespaces.news]\nhistory_size = "many"\n')
    code, out, err = run("check", "--config", str(file))
    text = out + err
    assert code == 2
    for wanted in ["ping_intervall", "did you mean", "ping_interval", "message_max", "history_size", "^", "broker.toml:2", "broker.toml:3", "broker.toml:6"]:
        assert wanted in text, f"no {wanted!r} in:\n{text}"


def test_serve_refuses_a_wrong_file(tmp_path):
    file = tmp_path / "broker.toml"
    file.write_text("[client]\nping_intervall = 3\n")
    code, out, err = run("serve", "--config", str(file), "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0")
    assert code == 2
    assert "ping_interval" in out + err


def test_config_default_prints_every_setting_and_is_a_valid_file(tmp_path):
    code, text, _ = run("config", "default")
    assert code == 0
    tomllib.loads(text)
    for setting in ["ping_interval", "message_max", "allowed_origins", "hmac_secret", "history_size", "slow_consumer"]:
        assert setting in text
    file = tmp_path / "broker.toml"
    file.write_text(text)
    assert run("check", "--config", str(file))[0] == 0


def test_config_show_tells_the_origin_of_each_value_and_masks_secrets(tmp_path):
    file = tmp_path / "broker.toml"
    file.write_text('[client]\nping_interval = "7s"\n[client.token]\nhmac_secret = "0123456789abcdef0123456789abcdef"\n')
    code, text, _ = run("config", "show", "--config", str(file), env={"BROKER_CLIENT__PONG_TIMEOUT": "3s"})
    assert code == 0
    [ping] = [line for line in text.splitlines() if "ping_interval" in line]
    [pong] = [line for line in text.splitlines() if "pong_timeout" in line]
    assert "7s" in ping and "broker.toml" in ping
    assert "3s" in pong and "BROKER_CLIENT__PONG_TIMEOUT" in pong
    assert "0123456789abcdef" not in text


def test_a_wrong_environment_variable_is_told():
    code, out, err = run("check", env={"BROKER_CLIENT__PING_INTERVAL": "soon"})
    assert code == 2
    assert "BROKER_CLIENT__PING_INTERVAL" in out + err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    code, text, _ = run("completions", shell)
    assert code == 0
    assert "serve" in text


def test_pub_and_sub_talk_to_each_other(broker, topic):
    listener = subprocess.Popen(
        [binary(), "sub", topic, "--url", broker.centrifuge],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        end = time.monotonic() + PATIENCE
        while broker.api("presence_stats", channel=topic)["num_clients"] == 0:
            assert listener.poll() is None, "sub ended"
            assert time.monotonic() < end, "sub does not subscribe"
        code, _, err = run("pub", topic, '{"n":1}', "--url", broker.centrifuge)
        assert code == 0, err
        assert json.loads(listener.stdout.readline()) == {"n": 1}
    finally:
        listener.terminate()
        listener.wait(10)
