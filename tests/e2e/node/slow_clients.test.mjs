// Clients that read slowly, or want less than everything, over real sockets.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { startBroker } from './harness/broker.mjs';
import { startProxy } from './harness/proxy.mjs';

/** More than the buffers between a server and a client that reads nothing take: those of the kernel grow to some megabytes. */
const COUNT = 600;
const FILLER = 'x'.repeat(48 * 1024);

let broker;
let proxy;
before(async () => {
  const namespaces = {
    ALL: { SLOW_CONSUMER: 'catch_up', HISTORY_SIZE: 2 * COUNT, HISTORY_BYTES: '64MiB', HISTORY_TTL: '1h' },
    NEWEST: { SLOW_CONSUMER: 'latest' },
    TAGGED: { FILTER: true },
  };
  const env = { BROKER_CLIENT__BACKLOG_MAX: '256KiB' };
  for (const [name, settings] of Object.entries(namespaces)) {
    for (const [key, value] of Object.entries({ ALLOW: '["sub"]', ALLOW_ANONYMOUS: true, ...settings })) env[`BROKER_NAMESPACES__${name}__${key}`] = String(value);
  }
  broker = await startBroker({ env });
  proxy = await startProxy(broker.port);
});
after(async () => {
  proxy?.close();
  await broker?.stop();
});

/** An open connection of the plain protocol, and the frames that it got. */
async function listen(path, port = broker.port) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  const frames = [];
  socket.on('message', (data) => frames.push({ at: performance.now(), ...JSON.parse(data) }));
  await once(socket, 'open');
  const got = () => frames.filter(({ broker: word }) => word === 'publication');
  /** Resolves when the condition holds. */
  const until = async (condition) => {
    while (!condition()) await once(socket, 'message', { signal: AbortSignal.timeout(20_000) });
  };
  return { socket, frames, got, until, of: (word) => frames.filter(({ broker: told }) => told === word) };
}

async function publish(channel, data, more = {}) {
  const answer = await broker.api('publish', { channel, data, ...more });
  assert.equal(answer.error, undefined, JSON.stringify(answer));
}

const numbers = (listener) => listener.got().map(({ data }) => data.n);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test('slow clients: who stops reading gets everything later where the namespace catches up', async () => {
  const slow = await listen('/ws/all:a?format=envelope', proxy.port);
  const healthy = await listen('/ws/all:a?format=envelope');
  proxy.hold(true);
  for (const n of range(1, COUNT)) await publish('all:a', { n, filler: FILLER });
  await healthy.until(() => healthy.got().length === COUNT);
  assert.ok(slow.got().length < COUNT, 'it does not read');
  const metrics = await (await fetch(`${broker.internal}/metrics`)).text();
  assert.match(metrics, /^broker_catch_ups_total [1-9]/m);
  proxy.hold(false);
  await slow.until(() => numbers(slow).at(-1) === COUNT);
  assert.deepEqual(numbers(slow), range(1, COUNT));
  await publish('all:a', { n: COUNT + 1 });
  await slow.until(() => numbers(slow).at(-1) === COUNT + 1);
  assert.deepEqual([slow.of('gap'), slow.of('unsubscribed')], [[], []]);
  slow.socket.terminate();
  healthy.socket.terminate();
});

test('slow clients: who stops reading gets the newest of each key where the namespace says so', async () => {
  const slow = await listen('/ws/newest:a?format=envelope', proxy.port);
  proxy.hold(true);
  for (const n of range(1, COUNT)) await publish('newest:a', { n, filler: FILLER }, { key: `k${n % 3}` });
  proxy.hold(false);
  await slow.until(() => numbers(slow).at(-1) === COUNT);
  const heard = numbers(slow);
  assert.ok(heard.length < COUNT, 'older ones of a key are left out');
  assert.deepEqual(heard, heard.toSorted((a, b) => a - b));
  assert.deepEqual(heard.slice(-3), [COUNT - 2, COUNT - 1, COUNT], 'the newest of each key');
  assert.deepEqual([slow.of('gap'), slow.of('closing')], [[], []]);
  slow.socket.terminate();
});

test('slow clients: a rate in the URL brings the first at once, the newest always, and no more than it says', async () => {
  const paced = await listen('/ws/prices?format=envelope&rate=5');
  for (const n of range(1, 200)) await publish('prices', { n });
  await paced.until(() => numbers(paced).at(-1) === 200);
  const heard = paced.got();
  assert.equal(heard[0].data.n, 1);
  assert.ok(heard.length < 200);
  // Between one and the next stand 200 ms; the network may bring two of them nearer to one another.
  assert.ok(heard.at(-1).at - heard[0].at >= (heard.length - 1) * 200 - 100, JSON.stringify(heard));
  paced.socket.terminate();
});

test('slow clients: a subscribe may have a rate and a filter', async () => {
  const client = await listen('/ws?format=envelope');
  const filter = { key: 'class', cmp: 'eq', val: 'a' };
  client.socket.send(JSON.stringify({ broker: 'subscribe', id: 1, topic: 'tagged:a', rate: 5, filter }));
  await client.until(() => client.of('subscribed').length === 1);
  for (const n of range(1, 50)) await publish('tagged:a', { n }, { tags: { class: n % 2 ? 'a' : 'b' } });
  await client.until(() => numbers(client).at(-1) === 49);
  const heard = numbers(client);
  assert.equal(heard[0], 1);
  assert.ok(heard.length < 25 && heard.every((n) => n % 2 === 1), String(heard));
  client.socket.send(JSON.stringify({ broker: 'subscribe', id: 2, topic: 'prices', filter }));
  await client.until(() => client.of('error').length === 1);
  assert.deepEqual([client.of('error')[0].id, client.of('error')[0].error], [2, 'not_available']);
  client.socket.terminate();
});
