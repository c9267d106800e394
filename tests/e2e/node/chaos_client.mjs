// Clients of the npm package `centrifuge` that say in lines of JSON what they are told: `node chaos_client.mjs URL NAME COUNT TOPIC..`.

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [url, name, count, ...topics] = process.argv.slice(2);

function say(client, topic, event) {
  process.stdout.write(`${JSON.stringify({ client, topic, ...event })}\n`);
}

for (let n = 0; n < Number(count); n += 1) {
  const client = `${name}-${n}`;
  const centrifuge = new Centrifuge(url, { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 500, timeout: 2000, maxServerPingDelay: 2000 });
  for (const topic of topics) {
    const subscription = centrifuge.newSubscription(topic, { recoverable: true, positioned: true, minResubscribeDelay: 50, maxResubscribeDelay: 500 });
    subscription.on('subscribed', ({ wasRecovering, recovered, streamPosition }) => {
      const { epoch = '', offset = 0 } = streamPosition ?? {};
      say(client, topic, { event: 'subscribed', epoch, offset, resumed: wasRecovering ? recovered : null });
    });
    subscription.on('publication', ({ offset, data }) => say(client, topic, { event: 'publication', offset, n: data.n }));
    subscription.subscribe();
  }
  centrifuge.on('connecting', ({ code }) => {
    if (code > 0) say(client, '', { event: 'disconnected', code });
  });
  centrifuge.on('disconnected', ({ code }) => say(client, '', { event: 'disconnected', code }));
  centrifuge.connect();
}
