// Headless Chromium and a small server for the pages that the tests open in it.

import { createServer } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { chromium } from 'playwright-core';

const here = new URL('..', import.meta.url);
const require = createRequire(import.meta.url);

const FLAGS = [
  '--no-sandbox', // tests run as root in containers
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Opens Chromium with an empty profile. `hosts` maps names to 127.0.0.1; without `backForwardCache` each visit to a page is a new one. */
export async function openBrowser({ hosts = [], backForwardCache = false } = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'broker-e2e-'));
  const rules = hosts.map((host) => `MAP ${host} 127.0.0.1`).join(', ');
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    // A suite that takes too long is told to end: the browser ends with it, as its pipe does, and nobody waits for the page that hangs.
    handleSIGTERM: false,
    ignoreDefaultArgs: backForwardCache ? ['--disable-back-forward-cache'] : [],
    args: rules ? [...FLAGS, `--host-resolver-rules=${rules}`] : FLAGS,
    viewport: { width: 1200, height: 800 },
  });
  return {
    context,
    newPage: () => context.newPage(),
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Opens one Chromium for several people: each `person()` is a browser of its own to the pages, with its own storage, which its tabs share. */
export async function openPeople() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
  return {
    person: () => browser.newContext({ viewport: { width: 1280, height: 860 } }),
    close: () => browser.close(),
  };
}

/** Serves an empty page, the scenarios, the SDK's own browser bundle, and `more`: texts of HTML pages by their path. */
export async function servePages(more = {}) {
  const bundle = join(require.resolve('centrifuge'), '../../dist/centrifuge.js');
  const files = {
    '/': ['text/html', '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Test</title>'],
    '/sdk': ['text/html', '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>SDK</title><script src="/centrifuge.js"></script>'],
    '/centrifuge.js': ['text/javascript', await readFile(bundle)],
    '/scenarios.mjs': ['text/javascript', await readFile(new URL('scenarios.mjs', here))],
    ...Object.fromEntries(Object.entries(more).map(([path, html]) => [path, ['text/html', html]])),
  };
  const server = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', null];
    response.writeHead(body === null ? 404 : 200, { 'Content-Type': `${type}; charset=utf-8` }).end(body ?? 'not found');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The folder where screenshots are kept; `cargo xtask e2e` names it. */
export function artifact(name) {
  return join(process.env.E2E_ARTIFACTS ?? tmpdir(), name);
}
