// Two nodes of an example behind its balancer, with a Redis that can be taken away from them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { start, program } from './broker.mjs';
import { startProxy } from './proxy.mjs';

/** A port that is free at the moment. */
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts `redis-server`, which keeps nothing on disk, and ends it by its process id. */
async function startRedis() {
  const port = await freePort();
  const child = spawn(process.env.REDIS_SERVER ?? 'redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let log = '';
  await new Promise((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      log += chunk;
      if (log.includes('Ready to accept connections')) resolve();
    });
    child.once('error', reject).once('exit', (code) => reject(new Error(`redis-server ended with ${code}:\n${log}`)));
  });
  return { port, stop: () => child.kill('SIGTERM') };
}

/**
 * Runs `<program> two-nodes`: `variable` names the program, `name` is what it calls itself.
 *
 * `redis` is a proxy in front of Redis: `redis.refuse(true)` and `redis.cut()` take it away from both nodes. `nodes` have `name`, `port`, `pid`.
 */
export async function startTwoNodes(variable, name, args = []) {
  const server = await startRedis();
  const redis = await startProxy(server.port);
  const balancer = new RegExp(`^${name} at (http://[\\d.:]+)/ \\(two nodes`, 'm');
  const node = (id) => new RegExp(`^${id} at http://127\\.0\\.0\\.1:(\\d+)/ \\(process \\d+\\)`, 'm');
  const url = `redis://127.0.0.1:${redis.port}`;
  const bound = ['two-nodes', '--listen', '127.0.0.1:0', '--redis', url, ...args];
  const running = await start(program(variable), bound, {}, '', [balancer, node('n1'), node('n2')]);
  const nodes = ['n1', 'n2'].map((id) => {
    const [, port, pid] = new RegExp(`^${id} at http://127\\.0\\.0\\.1:(\\d+)/ \\(process (\\d+)\\)`, 'm').exec(running.log());
    return { name: id, port: Number(port), pid: Number(pid) };
  });
  return {
    ...running,
    nodes,
    redis,
    async stop() {
      await running.stop();
      redis.close();
      server.stop();
    },
  };
}
