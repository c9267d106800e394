// Starts the real `broker` binary on free ports and ends it by its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 20_000;

/** The binary under test; `cargo xtask e2e` sets it. */
export function brokerBinary() {
  const path = process.env.BROKER_BIN;
  if (!path) throw new Error('BROKER_BIN is not set: run the suites with `cargo xtask e2e`');
  return path;
}

/**
 * Runs `broker serve` with `args` and resolves when both listeners are bound.
 *
 * The addresses come from the lines `listening on http://..` and `internal on http://..` that the server prints.
 */
export async function startBroker({ args = ['--dev'], env = {}, apiKey = 'dev' } = {}) {
  const child = spawn(
    brokerBinary(),
    ['serve', '--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0', ...args],
    { env: { ...withoutBrokerSettings(process.env), ...env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let log = '';
  const exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
  const url = await new Promise((resolve, reject) => {
    const deadline = setTimeout(() => fail('did not say where it listens'), START_TIMEOUT_MS);
    const fail = (why) => {
      clearTimeout(deadline);
      child.kill('SIGKILL');
      reject(new Error(`broker ${why}; it printed:\n${log}`));
    };
    const read = (chunk) => {
      log += chunk;
      const open = /listening on (http:\/\/[\d.:[\]]+)/.exec(log);
      const internal = /internal on (http:\/\/[\d.:[\]]+)/.exec(log);
      if (open && internal) {
        clearTimeout(deadline);
        resolve({ open: open[1], internal: internal[1] });
      }
    };
    child.stdout.setEncoding('utf8').on('data', read);
    child.stderr.setEncoding('utf8').on('data', read);
    child.once('error', (error) => fail(`could not be started: ${error.message}`));
    exited.then(({ code, signal }) => fail(`ended with ${code ?? signal}`));
  });

  const broker = {
    http: url.open,
    internal: url.internal,
    port: Number(new URL(url.open).port),
    pid: child.pid,
    exited,
    log: () => log,
    /** One call of the server API; resolves to the parsed answer. */
    async api(method, body) {
      const answer = await fetch(`${url.open}/api/${method}`, {
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
  return broker;
}

/** The environment without settings of a broker that the caller may have exported. */
function withoutBrokerSettings(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('BROKER_') || name === 'BROKER_BIN'));
}
