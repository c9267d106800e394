// broker.js as a page imports it: served by the broker, from another origin, in headless Chromium.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { scenarios } from './broker_js_scenarios.mjs';
import { startBrokerJsWorld } from './harness/broker_js.mjs';
import { openBrowser, servePages } from './harness/pages.mjs';

const HOST = 'broker.test';
const FOREIGN = 'foreign.example';

let world, pages, browser, module;
before(async () => {
  [world, pages, browser] = await Promise.all([startBrokerJsWorld(), servePages(), openBrowser({ hosts: [HOST, FOREIGN] })]);
  module = await readFile(new URL('broker_js_scenarios.mjs', import.meta.url), 'utf8');
});
after(async () => {
  await browser?.close();
  pages?.close();
  await world?.stop();
});

/** A page that can call the world and import the scenarios. */
async function openPage(url = pages.url) {
  const page = await browser.newPage();
  await page.exposeFunction('callWorld', (method, args) => world.calls[method](...args));
  await page.route('**/broker_js_scenarios.mjs', (route) => route.fulfill({ contentType: 'text/javascript', body: module }));
  await page.goto(url);
  return page;
}

for (const name of Object.keys(scenarios)) {
  test(`broker.js in Chromium: ${name}`, async () => {
    const page = await openPage();
    try {
      const facts = { ...world.facts, module: `${world.broker().http}/broker.js` };
      const failure = await page.evaluate(
        async ({ name, facts }) => {
          const [{ connect }, { runScenario }] = await Promise.all([import(facts.module), import('/broker_js_scenarios.mjs')]);
          const call = (method, ...args) => window.callWorld(method, args);
          return runScenario(name, { connect, facts, call }).then(() => null, (error) => error.message);
        },
        { name, facts },
      );
      assert.equal(failure, null);
    } finally {
      await page.close();
    }
  });
}

test('broker.js in Chromium: the quick start of its page shows what is published', async () => {
  const text = await readFile(new URL('../../../docs/clients/broker-js.md', import.meta.url), 'utf8');
  const [, html] = /```html\n([^]*?)```/.exec(text);
  assert.ok(html.includes('//127.0.0.1:8000/'));
  const own = await servePages({ '/start': html.replace('127.0.0.1:8000', new URL(world.broker().http).host) });
  const page = await browser.newPage();
  try {
    await page.goto(`${own.url}/start`);
    await world.calls.api('publish', { channel: 'news', data: { hello: 'world' } });
    assert.equal(await page.locator('#news li').first().textContent(), '{"hello":"world"}');
    assert.equal(await page.locator('#state').textContent(), 'connected');
  } finally {
    await page.close();
    own.close();
  }
});

/** A page with a client at `window.client`, its states at `window.states`, whose next try is far away. */
async function waitingPage(url) {
  const page = await openPage();
  await page.evaluate(
    async ({ module, url }) => {
      const { connect } = await import(module);
      window.client = connect({ url, firstDelayMs: 1e9, longestDelayMs: 1e9 });
      window.states = [];
      window.client.on('state', (state) => window.states.push(state));
    },
    { module: `${world.broker().http}/broker.js`, url },
  );
  await inState(page, 'connected');
  world.calls.refuse('broker', true);
  world.calls.cut('broker');
  await inState(page, 'waiting');
  world.calls.refuse('broker', false);
  return page;
}

const inState = (page, state) => page.waitForFunction((state) => window.client.state.state === state, state);

test('broker.js in Chromium: a page that imports it from its own server needs no address', async () => {
  const page = await browser.newPage();
  try {
    await page.goto(world.broker().http);
    const user = await page.evaluate(async () => {
      const { connect } = await import('/broker.js');
      const client = connect();
      const user = await new Promise((resolve) => client.on('state', ({ state }) => state === 'connected' && resolve(client.user)));
      client.close();
      return user;
    });
    assert.equal(user, '');
  } finally {
    await page.close();
  }
});

test('broker.js in Chromium: a page of a foreign origin may not import it', async () => {
  const page = await openPage(`http://${FOREIGN}:${pages.port}`);
  try {
    const imported = await page.evaluate((module) => import(module).then(() => true, () => false), `${world.broker().http}/broker.js`);
    assert.equal(imported, false);
  } finally {
    await page.close();
  }
});

test('broker.js in Chromium: the second import asks whether it has changed, and it has not', async () => {
  const page = await browser.newPage();
  const devtools = await page.context().newCDPSession(page);
  const [asked, statuses] = [new Set(), new Map()];
  let answered;
  // Which of the two is told first is not said.
  const told = (id) => asked.has(id) && statuses.has(id) && answered(statuses.get(id));
  devtools.on('Network.requestWillBeSent', ({ requestId, request }) => {
    if (request.url.endsWith('/broker.js')) asked.add(requestId);
    told(requestId);
  });
  devtools.on('Network.responseReceivedExtraInfo', ({ requestId, statusCode }) => {
    statuses.set(requestId, statusCode);
    told(requestId);
  });
  await devtools.send('Network.enable');
  const open = async () => {
    const status = new Promise((resolve) => (answered = resolve));
    await page.goto(world.broker().http);
    await page.evaluate(() => import('/broker.js'));
    return await status;
  };
  try {
    await open();
    assert.equal(await open(), 304);
  } finally {
    await page.close();
  }
});

for (const [what, event] of [['is visible', 'visibilitychange'], ['was frozen and is resumed', 'resume']]) {
  test(`broker.js in Chromium: tries as soon as the page ${what}`, async () => {
    const page = await waitingPage(world.facts.broker);
    try {
      await page.evaluate((event) => document.dispatchEvent(new Event(event)), event);
      await inState(page, 'connected');
    } finally {
      await page.close();
    }
  });
}

test('broker.js in Chromium: waits without a time while the browser is offline, and tries as soon as it is online', async () => {
  const page = await waitingPage(world.facts.broker.replace('127.0.0.1', HOST));
  try {
    await page.context().setOffline(true);
    await page.waitForFunction(() => window.client.state.retryInMs === null);
    await page.evaluate(() => window.client.retry());
    assert.deepEqual(await page.evaluate(() => [window.client.state.state, window.client.state.reason]), ['waiting', 'the browser is offline']);
    await page.context().setOffline(false);
    await inState(page, 'connected');
  } finally {
    await page.context().setOffline(false);
    await page.close();
  }
});

test('broker.js in Chromium: a page with a client rests in the back/forward cache, and is live again when it is shown', async () => {
  const resting = await openBrowser({ backForwardCache: true });
  try {
    const page = await resting.newPage();
    await page.goto(pages.url);
    await page.evaluate(
      async ({ module, url }) => {
        const { connect } = await import(module);
        window.client = connect({ url });
        window.states = [];
        window.client.on('state', ({ state, code }) => window.states.push(`${state} ${code}`));
        addEventListener('pageshow', ({ persisted }) => (window.wasCached = persisted));
      },
      { module: `${world.broker().http}/broker.js`, url: world.facts.broker },
    );
    await inState(page, 'connected');
    await page.goto(`${pages.url}/sdk`);
    await page.goBack({ waitUntil: 'commit' });
    await page.waitForFunction(() => window.client?.state.state === 'connected' && window.wasCached);
    assert.deepEqual(await page.evaluate(() => window.states), ['connecting 0', 'connected 0', 'waiting 1001', 'connecting 1001', 'connected 0']);
  } finally {
    await resting.close();
  }
});
