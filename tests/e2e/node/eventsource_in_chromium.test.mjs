// A page without an SDK: `new EventSource(url)` in headless Chromium, over a network that cuts and a server that restarts.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBroker } from './harness/broker.mjs';
import { openBrowser, servePages } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';
import { SECRET, token } from './harness/token.mjs';

const FOREIGN = 'foreign.example';

let broker, proxy, pages, browser, page;
before(async () => {
  const args = ['--dev', '--token-hmac-secret', SECRET];
  [broker, pages, browser] = await Promise.all([startBroker({ args }), servePages(), openBrowser({ hosts: [FOREIGN] })]);
  proxy = await startProxy(broker.port);
  page = await openPage(pages.url);
});
after(async () => {
  await browser?.close();
  pages?.close();
  proxy?.close();
  await broker?.stop();
});

/** A page that opens streams by name and keeps what they say. */
async function openPage(url) {
  const page = await browser.newPage();
  await page.addInitScript(() => {
    const streams = {};
    window.open_ = (name, url, options) =>
      new Promise((resolve) => {
        const source = new EventSource(url, options);
        const stream = (streams[name] = { source, events: [], opens: 0 });
        const keep = (event) => stream.events.push({ kind: event.type, data: event.data, id: event.lastEventId });
        source.onopen = () => {
          stream.opens += 1;
          resolve('open');
        };
        source.onmessage = keep;
        source.addEventListener('broker', keep);
        source.onerror = () => {
          if (source.readyState === EventSource.CLOSED) resolve('closed');
        };
      });
    window.stream = (name) => ({ opens: streams[name].opens, events: streams[name].events, state: streams[name].source.readyState });
    window.close_ = (name) => streams[name].source.close();
  });
  await page.goto(url);
  return page;
}

const open = (name, path, port = broker.port, options = {}) =>
  page.evaluate(([name, url, options]) => window.open_(name, url, options), [name, `http://127.0.0.1:${port}${path}`, options]);
const stream = (name) => page.evaluate((name) => window.stream(name), name);
const close = (name) => page.evaluate((name) => window.close_(name), name);

/** Waits until the stream is as wanted. */
async function until(name, wanted) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const now = await stream(name);
    if (wanted(now)) return now;
    if (Date.now() > deadline) assert.fail(`the stream stayed ${JSON.stringify(now)}`);
    await page.waitForTimeout(20);
  }
}

async function publish(topic, data) {
  const { result, error } = await broker.api('publish', { channel: topic, data });
  assert.equal(error, undefined);
  return result;
}

const payloads = ({ events }) => events.filter(({ kind }) => kind === 'message').map(({ data }) => JSON.parse(data));
const notices = ({ events }) => events.filter(({ kind }) => kind === 'broker').map(({ data }) => JSON.parse(data));

test('EventSource in Chromium: publications arrive as they were published, from the moment it is open', async () => {
  assert.equal(await open('plain', '/sse/es.plain'), 'open');
  await publish('es.plain', { text: 'line\nbreak\r\nand "quotes"', n: 1 });
  await publish('es.plain', [2]);
  const got = await until('plain', (stream) => stream.events.length === 2);
  assert.deepEqual(payloads(got), [{ text: 'line\nbreak\r\nand "quotes"', n: 1 }, [2]]);
  assert.match(got.events[1].id, /^2@/);
  await close('plain');
});

test('EventSource in Chromium: after a cut it goes on without a gap and without a double, in every topic', async () => {
  assert.equal(await open('cut', '/sse?topic=es.a&topic=es.b', proxy.port), 'open');
  let n = 0;
  for (let round = 0; round < 3; round += 1) {
    await publish('es.a', (n += 1));
    await publish('es.b', (n += 1));
    await until('cut', (stream) => payloads(stream).length === n);
    proxy.refuse(true);
    proxy.cut();
    await publish('es.a', (n += 1));
    await publish('es.b', (n += 1));
    proxy.refuse(false);
    // A browser waits as long as `retry:` said; what it missed comes by itself then.
    await until('cut', (stream) => payloads(stream).length === n);
  }
  const got = await stream('cut');
  // Odd numbers went to one topic, even ones to the other: each has all of its own, once and in order.
  for (const rest of [1, 0]) {
    const own = payloads(got).filter((data) => data % 2 === rest);
    assert.deepEqual(own, Array.from({ length: n / 2 }, (_, at) => 2 * at + (rest || 2)));
  }
  assert.deepEqual(notices(got), []);
  assert.ok(got.opens >= 4, `${got.opens} opens`);
  await close('cut');
});

test('EventSource in Chromium: a restart of the server is said to be one, and when to come back', async () => {
  const first = await startBroker();
  const way = await startProxy(first.port);
  assert.equal(await open('restart', '/sse?topic=es.r&topic=es.s', way.port), 'open');
  const answer = await first.api('publish', { channel: 'es.r', data: 1 });
  assert.equal(answer.error, undefined);
  await until('restart', (stream) => payloads(stream).length === 1);
  const second = await startBroker();
  way.retarget(second.port);
  await first.stop();
  const got = await until('restart', (stream) => notices(stream).filter(({ broker }) => broker === 'gap').length === 2);
  const [closing, ...gaps] = notices(got);
  assert.deepEqual([closing.broker, closing.code], ['closing', 3001]);
  assert.ok(closing.reconnect_after_ms > 0);
  assert.deepEqual(gaps.map(({ topic, reason }) => [topic, reason]).sort(), [['es.r', 'epoch'], ['es.s', 'epoch']]);
  for (const [channel, data] of [['es.s', 2], ['es.r', 3]]) await second.api('publish', { channel, data });
  await until('restart', (stream) => payloads(stream).length === 3);
  // The truth is told once: the id that came with it stands in the new life, and a cut after it is no gap.
  way.refuse(true);
  way.cut();
  await second.api('publish', { channel: 'es.r', data: 4 });
  way.refuse(false);
  const after = await until('restart', (stream) => payloads(stream).length === 4);
  assert.deepEqual(payloads(after), [1, 2, 3, 4]);
  assert.equal(notices(after).length, 3, 'closing, and one gap for each topic');
  await close('restart');
  way.close();
  await second.stop();
});

test('EventSource in Chromium: a refusal ends it for good, and a script can read why with fetch', async () => {
  assert.equal(await open('refused', '/sse/es.plain?token=nonsense'), 'closed');
  const told = await page.evaluate(async (url) => {
    const answer = await fetch(url);
    return [answer.status, (await answer.json()).error.error];
  }, `${broker.http}/sse/es.plain?token=nonsense`);
  assert.deepEqual(told, [401, 'unauthorized']);
});

test('EventSource in Chromium: a token in the URL says who it is, and revoking it ends the stream', async () => {
  const user = await token({ sub: 'es-kim' }, SECRET);
  assert.equal(await open('kim', `/sse/es.kim?format=envelope&token=${user}`), 'open');
  const before = await until('kim', (stream) => notices(stream).some(({ broker }) => broker === 'connected'));
  assert.equal(notices(before).find(({ broker }) => broker === 'connected').user, 'es-kim');
  await broker.api('revoke', { user: 'es-kim' });
  // It comes back by itself, is refused, and stays away.
  const after = await until('kim', (stream) => stream.state === 2);
  assert.equal(notices(after).at(-1).broker, 'closing');
  assert.ok(!broker.log().includes(user), 'no token is logged');
});

test('EventSource in Chromium: a page of a foreign origin gets nothing', async () => {
  const foreign = await openPage(pages.url.replace('127.0.0.1', FOREIGN));
  const opened = await foreign.evaluate((url) => window.open_('foreign', url), `${broker.http}/sse/es.plain`);
  assert.equal(opened, 'closed');
  await foreign.close();
});
