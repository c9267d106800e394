// A page without an SDK: `new WebSocket(url)` against the plain protocol, in headless Chromium.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { startBroker } from './harness/broker.mjs';
import { openBrowser, servePages } from './harness/pages.mjs';

const FOREIGN = 'foreign.example';

let broker, pages, browser, page;
before(async () => {
  [broker, pages, browser] = await Promise.all([startBroker(), servePages(), openBrowser({ hosts: [FOREIGN] })]);
  page = await openPage(pages.url);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await broker?.stop();
});

/** A page with `open(path)`, `take(n)` and `ended()` around bare WebSockets. */
async function openPage(url) {
  const page = await browser.newPage();
  await page.addInitScript((ws) => {
    window.openSocket = (path) =>
      new Promise((resolve) => {
        const frames = [];
        const waiting = [];
        const socket = new WebSocket(ws + path);
        const settle = () => waiting.splice(0).forEach((check) => check());
        window.socket = {
          send: (text) => socket.send(text),
          close: () => socket.close(),
          take: (count) =>
            new Promise((done, fail) => {
              const late = setTimeout(() => fail(new Error(`${frames.length} of ${count} frames: ${frames}`)), 10_000);
              const check = () => {
                if (frames.length < count) return waiting.push(check);
                clearTimeout(late);
                done(frames.splice(0, count));
              };
              check();
            }),
          ended: null,
        };
        window.socket.ended = new Promise((done) => {
          socket.onclose = ({ code, reason, wasClean }) => {
            resolve('closed');
            done({ code, reason, wasClean });
          };
        });
        socket.onopen = () => resolve('open');
        socket.onmessage = (event) => {
          // Who comes and goes may stand anywhere among the frames of an envelope.
          if (/^\{"broker":"(join|leave)"/.test(event.data)) return;
          frames.push(event.data instanceof Blob ? 'a binary frame' : event.data);
          settle();
        };
      });
  }, broker.http.replace('http', 'ws'));
  await page.goto(url);
  return page;
}

const open = (path) => page.evaluate((path) => window.openSocket(path), path);
const send = (frame) => page.evaluate((text) => window.socket.send(text), typeof frame === 'string' ? frame : JSON.stringify(frame));
const take = (count) => page.evaluate((count) => window.socket.take(count), count);
const takeJson = async (count) => (await take(count)).map((text) => JSON.parse(text));
const ended = () => page.evaluate(() => window.socket.ended);
const close = () => page.evaluate(() => window.socket.close());

async function publish(topic, data) {
  const { result, error } = await broker.api('publish', { channel: topic, data });
  assert.equal(error, undefined);
  return result;
}

test('WebSocket in Chromium: a raw socket receives payloads exactly as they were published', async () => {
  assert.equal(await open('/ws/chromium.raw'), 'open');
  await publish('chromium.raw', { n: 1, text: '한국어 😀' });
  await publish('chromium.raw', 'text');
  assert.deepEqual(await take(2), ['{"n":1,"text":"한국어 😀"}', '"text"']);
  await close();
});

test('WebSocket in Chromium: an envelope tells topic and position', async () => {
  await open('/ws/chromium.envelope?format=envelope');
  const { offset, epoch } = await publish('chromium.envelope', { n: 1 });
  const [connected, subscribed, publication] = await takeJson(3);
  assert.equal(connected.broker, 'connected');
  assert.ok(connected.session);
  assert.equal(subscribed.broker, 'subscribed');
  assert.equal(publication.broker, 'publication');
  assert.deepEqual([publication.topic, publication.position, publication.data], ['chromium.envelope', `${offset}@${epoch}`, { n: 1 }]);
  await close();
});

test('WebSocket in Chromium: a page publishes and hears itself', async () => {
  await open('/ws/chromium.publish');
  await send({ broker: 'publish', id: 1, topic: 'chromium.publish', data: { hello: 'world' } });
  const frames = await takeJson(2);
  assert.deepEqual(frames.find((frame) => !frame.broker), { hello: 'world' });
  const ok = frames.find((frame) => frame.broker);
  assert.deepEqual([ok.broker, ok.id, ok.topic], ['ok', 1, 'chromium.publish']);
  await close();
});

test('WebSocket in Chromium: a new socket resumes from the last position', async () => {
  await open('/ws/chromium.resume?format=envelope');
  await publish('chromium.resume', 1);
  const [, , first] = await takeJson(3);
  await close();
  await ended();
  await publish('chromium.resume', 2);
  await publish('chromium.resume', 3);
  await open(`/ws/chromium.resume?format=envelope&since=${encodeURIComponent(first.position)}`);
  const [, subscribed, ...missed] = await takeJson(4);
  assert.equal(subscribed.recovered, true);
  assert.deepEqual(missed.map(({ data }) => data), [2, 3]);
  await close();
});

test('WebSocket in Chromium: the bare text ping is answered with pong', async () => {
  await open('/ws/chromium.ping');
  await send('ping');
  assert.deepEqual(await take(1), ['pong']);
  await close();
});

test('WebSocket in Chromium: a mistake is answered and the socket lives', async () => {
  await open('/ws/chromium.mistake');
  await send('{"broker":"subscribe","id":7,"topic":');
  await send({ broker: 'dance', id: 8 });
  await send({ broker: 'publish', id: 9, topic: 'chromium.mistake', data: 'still here' });
  const frames = (await take(4)).map((text) => JSON.parse(text));
  const words = frames.filter((frame) => frame.broker === 'error').map(({ error }) => error);
  assert.deepEqual(words, ['bad_request', 'unknown_action']);
  assert.ok(frames.includes('still here'));
  await close();
});

test('WebSocket in Chromium: a refused handshake tells the page why', async () => {
  await open('/ws/chromium.refused?since=nonsense');
  const [error] = await takeJson(1);
  assert.deepEqual([error.broker, error.error, error.code], ['error', 'bad_request', 107]);
  const { code, reason } = await ended();
  assert.equal(code, 3501);
  assert.ok(reason.length > 0);
});

test('WebSocket in Chromium: a wrong path tells the page what was meant', async () => {
  await open('/wss/news');
  const [error] = await takeJson(1);
  assert.deepEqual([error.broker, error.error], ['error', 'unknown_topic']);
  assert.match(JSON.stringify(error), /did you mean .*\/ws\//i);
  assert.equal((await ended()).code, 3507);
});

test('WebSocket in Chromium: a page of a foreign origin is turned away', async () => {
  const own = page;
  page = await openPage(`http://${FOREIGN}:${pages.port}`);
  try {
    assert.equal(await open('/ws/chromium.foreign'), 'closed');
    assert.equal((await ended()).code, 1006);
  } finally {
    await page.close();
    page = own;
  }
});

test('WebSocket in Chromium: the page of the README shows what is published', async () => {
  const readme = await readFile(new URL('../../../README.md', import.meta.url), 'utf8');
  const [, html] = /```html\n([^]*?)```/.exec(readme);
  assert.ok(html.includes('//127.0.0.1:8000/'));
  const own = await servePages({ '/readme': html.replace('127.0.0.1:8000', new URL(broker.http).host) });
  const reader = await browser.newPage();
  try {
    await reader.goto(`${own.url}/readme`);
    await publish('news', { hello: 'world' });
    assert.equal(await reader.locator('#news li').first().textContent(), '{"hello":"world"}');
  } finally {
    await reader.close();
    own.close();
  }
});

test('WebSocket in Chromium: the page is told when the server stops', async () => {
  const last = await startBroker();
  const second = await browser.newPage();
  await second.goto(pages.url);
  const closed = second.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        const frames = [];
        socket.onopen = () => window.ready?.();
        window.isReady = new Promise((ready) => (window.ready = ready));
        socket.onmessage = ({ data }) => frames.push(JSON.parse(data));
        socket.onclose = ({ code }) => resolve({ code, frames });
      }),
    `${last.http.replace('http', 'ws')}/ws/chromium.stop`,
  );
  await second.waitForFunction(() => window.isReady);
  await second.evaluate(() => window.isReady);
  const end = await last.stop();
  const { code, frames } = await closed;
  assert.deepEqual([code, frames.at(-1)?.broker, end.code], [3001, 'closing', 0]);
  await second.close();
});
