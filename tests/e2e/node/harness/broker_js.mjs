// The servers that broker.js is tried against, behind a proxy, and what its scenarios may ask of them.

import { startApplication, startBroker } from './broker.mjs';
import { startProxy } from './proxy.mjs';
import { SECRET, token } from './token.mjs';

/** A broker that accepts tokens and needs none, and the application with hooks. `host` is how pages call this machine. */
export async function startBrokerJsWorld(host = '127.0.0.1') {
  const env = { BROKER_NAMESPACES__GROUP__HISTORY_SIZE: '100', BROKER_NAMESPACES__USER__HISTORY_SIZE: '100' };
  const start = () => startBroker({ args: ['--dev', '--token-hmac-secret', SECRET], env });
  let broker;
  const application = await startApplication();
  broker = await start();
  const proxies = { broker: await startProxy(broker.port), application: await startProxy(application.port) };
  return {
    facts: {
      broker: `http://${host}:${proxies.broker.port}/ws`,
      application: `http://${host}:${proxies.application.port}/ws`,
      module: `${broker.http}/broker.js`,
    },
    broker: () => broker,
    /** Arguments and answers are JSON. */
    calls: {
      api: (method, body) => broker.api(method, body),
      token: (claims, secret) => token(claims, secret ?? SECRET),
      cut: (server) => proxies[server].cut(),
      stall: (server) => proxies[server].stall(),
      refuse: (server, on) => proxies[server].refuse(on),
      /** Another server takes over, then the old one is told to stop. */
      async restart() {
        const old = broker;
        broker = await start();
        proxies.broker.retarget(broker.port);
        await old.stop();
      },
    },
    async stop() {
      for (const proxy of Object.values(proxies)) proxy.close();
      await Promise.all([broker.stop(), application.stop()]);
    },
  };
}
