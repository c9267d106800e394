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
  test(`centrifuge in Node: ${name}`, async () => {
    const call = (method, ...args) => world.calls[method](...args);
    await runScenario(name, { Centrifuge, WebSocket, world: { facts: world.facts, call } });
  });
}
