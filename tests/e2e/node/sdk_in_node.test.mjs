// The npm package `centrifuge`, unmodified, in Node.

import { after, before, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import { WebSocket } from 'ws';
import { startWorld } from './harness/world.mjs';
import { runScenario, scenarios } from './scenarios.mjs';

let world;
before(async () => {
  world = await startWorld();
});
after(() => world?.stop());

for (const name of Object.keys(scenarios)) {
  const skip = name.startsWith('rpc is answered') && !process.env.BROKER_RPC_URL && 'BROKER_RPC_URL is not set';
  test(`centrifuge in Node: ${name}`, { skip }, async () => {
    const call = (method, ...args) => world.calls[method](...args);
    await runScenario(name, { Centrifuge, WebSocket, world: { facts: world.facts, call } });
  });
}
