// A TCP proxy that breaks connections on command: what happens to a client on a bad network.

import net from 'node:net';
import { once } from 'node:events';

/** Forwards to `127.0.0.1:port` until told otherwise. */
export async function startProxy(port) {
  const pairs = new Set();
  const state = { target: port, refusing: false };

  const server = net.createServer((near) => {
    if (state.refusing) return near.resetAndDestroy();
    const far = net.connect(state.target, '127.0.0.1');
    const pair = { near, far, stalled: false };
    pairs.add(pair);
    near.setNoDelay(true);
    far.setNoDelay(true);
    forward(pair, near, far);
    forward(pair, far, near);
  });

  function forward(pair, from, to) {
    from.on('data', (bytes) => {
      if (!pair.stalled) to.write(bytes);
    });
    from.on('end', () => {
      if (!pair.stalled) to.end();
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      // The far side of a stalled connection hears nothing of its end: `cut` ends it.
      if (pair.stalled) return;
      to.destroy();
      pairs.delete(pair);
    });
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    /** Connections that are forwarded at present. */
    connections: () => pairs.size,
    /** Resets every open connection on both sides, as a failing network does. */
    cut() {
      for (const { near, far } of pairs) {
        near.resetAndDestroy();
        far.resetAndDestroy();
      }
      pairs.clear();
    },
    /** Swallows everything on the open connections and tells neither side. New ones work. */
    stall() {
      for (const pair of pairs) pair.stalled = true;
    },
    /** Whether the clients of the open connections read nothing: what the server writes fills the buffers on the way, then waits for them. */
    hold(on) {
      for (const { far } of pairs) {
        if (on) far.pause();
        else far.resume();
      }
    },
    /** Whether new connections are reset at once. */
    refuse(on) {
      state.refusing = on;
    },
    /** Sends new connections to another port. */
    retarget(next) {
      state.target = next;
    },
    close() {
      this.cut();
      server.close();
    },
  };
}
