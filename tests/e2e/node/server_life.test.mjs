// What clients see when the server stops, dies and comes back.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import { WebSocket } from 'ws';
import { startBroker } from './harness/broker.mjs';
import { startProxy } from './harness/proxy.mjs';

const websocket = (port) => `ws://127.0.0.1:${port}/connection/websocket`;

/** A connected client with one subscription, and lists of what they were told. */
async function listen(port, topic) {
  const client = new Centrifuge(websocket(port), { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 100 });
  const connecting = [];
  const subscribed = [];
  const got = [];
  client.on('connecting', (context) => connecting.push(context));
  const subscription = client.newSubscription(topic);
  subscription.on('subscribed', (context) => subscribed.push(context));
  subscription.on('publication', ({ data }) => got.push(data));
  subscription.subscribe();
  client.connect();
  await once(subscription, 'subscribed');
  return { client, subscription, connecting, subscribed, got };
}

test('server life: a stop is told with 3001, exits with 0, and the next server is found', async () => {
  const first = await startBroker();
  const proxy = await startProxy(first.port);
  const { client, subscription, connecting, subscribed } = await listen(proxy.port, 'life.stop');
  let second;
  try {
    await first.api('publish', { channel: 'life.stop', data: 1 });
    const told = once(client, 'connecting');
    const stopping = first.stop();
    await told;
    assert.equal(connecting[1].code, 3001);
    assert.deepEqual(await stopping, { code: 0, signal: null });

    second = await startBroker();
    proxy.retarget(second.port);
    await once(subscription, 'subscribed');
    assert.deepEqual([subscribed[1].wasRecovering, subscribed[1].recovered], [true, false], 'a restart is a new epoch');
    const arrived = once(subscription, 'publication');
    await second.api('publish', { channel: 'life.stop', data: 'again' });
    assert.equal((await arrived)[0].data, 'again');
  } finally {
    client.disconnect();
    proxy.close();
    await second?.stop();
  }
});

test('server life: a server that is killed is replaced without an act of the application', async () => {
  const first = await startBroker();
  const proxy = await startProxy(first.port);
  const { client, subscription, subscribed } = await listen(proxy.port, 'life.kill');
  let second;
  try {
    process.kill(first.pid, 'SIGKILL');
    await first.exited;
    second = await startBroker();
    proxy.retarget(second.port);
    await once(subscription, 'subscribed');
    assert.equal(subscribed[1].recovered, false);
  } finally {
    client.disconnect();
    proxy.close();
    await second?.stop();
  }
});

test('server life: a stop with a thousand clients is quick and tells each of them', async () => {
  const broker = await startBroker();
  const sockets = await Promise.all(
    Array.from({ length: 1000 }, async () => {
      const socket = new WebSocket(`${broker.http.replace('http', 'ws')}/ws/life.crowd`);
      await once(socket, 'open');
      return { closed: once(socket, 'close').then(([code]) => code) };
    }),
  );
  const { code } = await broker.stop();
  assert.equal(code, 0);
  assert.deepEqual([...new Set(await Promise.all(sockets.map(({ closed }) => closed)))], [3001]);
});

test('server life: ended clients leave nothing behind', async () => {
  const broker = await startBroker();
  try {
    const before = await sessions(broker);
    for (let round = 0; round < 5; round += 1) {
      const listeners = await Promise.all(Array.from({ length: 20 }, () => listen(broker.port, 'life.churn')));
      for (const { client } of listeners) client.disconnect();
    }
    const deadline = Date.now() + 10_000;
    let now;
    do now = await sessions(broker);
    while ((now.listeners > 0 || now.clients > before.clients) && Date.now() < deadline);
    assert.deepEqual(now, before);
  } finally {
    await broker.stop();
  }
});

/** How many sessions the node has, and how many listen to the topic of the last test. */
async function sessions(broker) {
  const { result: info } = await broker.api('info', {});
  const { result: stats } = await broker.api('presence_stats', { channel: 'life.churn' });
  return { clients: info.nodes[0].num_clients ?? 0, listeners: stats.num_clients };
}
