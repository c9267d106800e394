// Starts the real `broker` binary on free ports and ends it by its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 20_000;
const LINGER_MS = 25_000;

// A character behind the address, so that half a line is not taken for a whole one.
const OPEN = /listen(?:ing on)? +(http:\/\/[\d.:[\]]+)[^\d.:[\]]/;
const INTERNAL = /internal(?: on)? +(http:\/\/[\d.:[\]]+)[^\d.:[\]]/;

// What is left open after the last test would keep its process for ever: it is named, and left.
after(() => {
  setTimeout(() => {
    console.error(`still open after the last test: ${process.getActiveResourcesInfo().join(', ')}`);
    process.exit();
  }, LINGER_MS).unref();
});

/** The program that an environment variable names; `cargo xtask e2e` sets it. */
export function program(variable) {
  const path = process.env[variable];
  if (!path) throw new Error(`${variable} is not set: run the suites with \`cargo xtask e2e\``);
  return path;
}

/**
 * Runs `broker serve` with `args` and resolves when both listeners are bound.
 *
 * The addresses come from the lines `listen http://..` and `internal http://..` of what the server prints at its start.
 */
export function startBroker({ args = ['--dev'], env = {}, apiKey = 'dev' } = {}) {
  const bound = ['serve', '--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0', ...args];
  return start(program('BROKER_BIN'), bound, env, apiKey, [OPEN, INTERNAL]);
}

/** Runs the application of `tests/e2e/application`, which has the hooks that a plain server has not. */
export function startApplication() {
  return start(program('APPLICATION_BIN'), [], {}, '', [OPEN]);
}

/** Runs the dashboard of `examples/`; its bridge runs in the Python of the suites. */
export function startDashboard({ listen = '127.0.0.1:0', args = [] } = {}) {
  const bridge = process.env.E2E_PYTHON ? ['--python', process.env.E2E_PYTHON] : [];
  return start(program('DASHBOARD_BIN'), ['--listen', listen, ...bridge, ...args], {}, '', [/dashboard at (http:\/\/[\d.:[\]]+)\//]);
}

/** Runs a program and resolves when its output has matched each of `addresses`, the first groups of which are `http` and `internal`. */
export async function start(path, args, env, apiKey, addresses) {
  const child = spawn(path, args, { env: { ...withoutBrokerSettings(process.env), ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  const exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  const [open, internal] = await new Promise((resolve, reject) => {
    const deadline = setTimeout(() => fail('did not say where it listens'), START_TIMEOUT_MS);
    const fail = (why) => {
      clearTimeout(deadline);
      child.kill('SIGKILL');
      reject(new Error(`broker ${why}; it printed:\n${log}`));
    };
    const read = (chunk) => {
      log += chunk;
      const found = addresses.map((address) => address.exec(log)?.[1]);
      if (found.every(Boolean)) {
        clearTimeout(deadline);
        resolve(found);
      }
    };
    child.stdout.setEncoding('utf8').on('data', read);
    child.stderr.setEncoding('utf8').on('data', read);
    child.once('error', (error) => fail(`could not be started: ${error.message}`));
    exited.then(({ code, signal }) => fail(`ended with ${code ?? signal}`));
  });

  return {
    http: open,
    internal,
    port: Number(new URL(open).port),
    pid: child.pid,
    exited,
    log: () => log,
    /** One call of the server API; resolves to the parsed answer. */
    async api(method, body) {
      const answer = await fetch(`${open}/api/${method}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-API-Key': apiKey },
        body: JSON.stringify(body),
      });
      return await answer.json();
    },
    /** Asks the process to end and resolves to how it ended; kills it when it does not. */
    async stop() {
      child.kill('SIGTERM');
      const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      const ended = await exited;
      clearTimeout(deadline);
      return ended;
    },
  };
}

/** The environment without settings of a broker that the caller may have exported. */
function withoutBrokerSettings(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('BROKER_')));
}
