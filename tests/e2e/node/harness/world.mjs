// The servers and the broken networks that the scenarios run against, behind calls that a page can make too.

import { startApplication, startBroker } from './broker.mjs';
import { startProxy } from './proxy.mjs';
import { SECRET, token } from './token.mjs';

const websocket = (port) => `ws://127.0.0.1:${port}/connection/websocket`;

/**
 * Starts the servers: `open` for everything and `pinging` with short deadlines, which accept tokens and need none, and `application` with hooks,
 * to which a token is plain JSON: `{"user":"ris1","groups":["night"],"ttl":2}`.
 */
export async function startWorld() {
  const args = ['--dev', '--token-hmac-secret', SECRET];
  const [open, pinging, application] = await Promise.all([
    startBroker({
      args,
      env: {
        BROKER_NAMESPACES__TAGGED__ALLOW: '["sub", "hst"]',
        BROKER_NAMESPACES__TAGGED__ALLOW_ANONYMOUS: 'true',
        BROKER_NAMESPACES__TAGGED__FILTER: 'true',
        BROKER_NAMESPACES__TAGGED__HISTORY_SIZE: '100',
        BROKER_NAMESPACES__ROWS__ALLOW: '["sub", "pub", "hst"]',
        BROKER_NAMESPACES__ROWS__ALLOW_ANONYMOUS: 'true',
        BROKER_NAMESPACES__ROWS__KEYED: 'true',
        BROKER_NAMESPACES__ROWS__HISTORY_SIZE: '3',
      },
    }),
    startBroker({ args, env: { BROKER_CLIENT__PING_INTERVAL: '1s', BROKER_CLIENT__PONG_TIMEOUT: '500ms' } }),
    startApplication(),
  ]);
  const servers = { open, pinging, application };
  const proxies = {
    open: await startProxy(open.port),
    pinging: await startProxy(pinging.port),
    application: await startProxy(application.port),
  };

  return {
    servers,
    /** Plain values for the scenarios. */
    facts: {
      urls: {
        open: websocket(open.port),
        pinging: websocket(pinging.port),
        'open through the proxy': websocket(proxies.open.port),
        'pinging through the proxy': websocket(proxies.pinging.port),
        application: websocket(application.port),
        'application through the proxy': websocket(proxies.application.port),
      },
      now: Math.floor(Date.now() / 1000),
    },
    /** What scenarios may ask of the world; arguments and answers are JSON. */
    calls: {
      api: (server, method, body) => servers[server].api(method, body),
      token: (claims, secret) => token(claims, secret ?? SECRET),
      cut: (server) => proxies[server].cut(),
      stall: (server) => proxies[server].stall(),
      refuse: (server, on) => proxies[server].refuse(on),
    },
    async stop() {
      for (const proxy of Object.values(proxies)) proxy.close();
      return await Promise.all(Object.values(servers).map((server) => server.stop()));
    },
  };
}
