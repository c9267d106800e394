// broker.js in Node against the real server, and with the headers of a page, so that refusals are said over the socket.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { connect } from '../../../broker-http/assets/broker.js';
import { runScenario, scenarios } from './broker_js_scenarios.mjs';
import { startBrokerJsWorld } from './harness/broker_js.mjs';

class PageSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: 'http://127.0.0.1' });
  }
}

let world;
before(async () => {
  world = await startBrokerJsWorld();
});
after(() => world?.stop());

const call = async (method, ...args) => world.calls[method](...args);

for (const name of Object.keys(scenarios)) {
  test(`broker.js in Node: ${name}`, () => runScenario(name, { connect, WebSocket: PageSocket, facts: world.facts, call }));
}

test('broker.js in Node: without an origin a refused handshake has no reason, and a fresh token is asked for now and then', async () => {
  const bad = await call('token', { sub: 'ris1' }, 'a-secret-of-somebody-else-0123456789abcdef');
  const good = await call('token', { sub: 'ris1' });
  let asked = 0;
  const client = connect({ url: world.facts.broker, WebSocket, firstDelayMs: 1, getToken: () => ((asked += 1) === 1 ? bad : good) });
  try {
    await new Promise((resolve) => client.on('state', ({ state }) => state === 'connected' && resolve()));
    assert.deepEqual([client.user, client.state.attempt, asked], ['ris1', 5, 2]);
  } finally {
    client.close();
  }
});
