// The envelope of the plain protocol with a few lines of a page's own, over a network that cuts and a server that restarts: nothing is missing, or told.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBroker } from './harness/broker.mjs';
import { openBrowser, servePages } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';
import { SECRET, token } from './harness/token.mjs';

const TOPICS = ['rc.a', 'rc.b', 'group:nurses', 'user:kim'];

const start = () =>
  startBroker({
    args: ['--dev', '--token-hmac-secret', SECRET],
    env: { BROKER_NAMESPACES__GROUP__HISTORY_SIZE: '100', BROKER_NAMESPACES__USER__HISTORY_SIZE: '100' },
  });

let broker, proxy, pages, browser, page;
before(async () => {
  [broker, pages, browser] = await Promise.all([start(), servePages(), openBrowser()]);
  proxy = await startProxy(broker.port);
});
after(async () => {
  await browser?.close();
  pages?.close();
  proxy?.close();
  await broker?.stop();
});

/** A page with the client: two topics in the URL, a group and the user's own topic by the token. `heard` has what it was told. */
async function openPage() {
  const kim = await token({ sub: 'kim', groups: ['nurses'] }, SECRET);
  page = await browser.newPage();
  await page.goto(pages.url);
  await page.evaluate((url) => {
    window.heard = [];
    window.opens = 0;
    const positions = new Map();
    const connect = () => {
      const resume = [...positions].map(([topic, position]) => `&resume=${encodeURIComponent(`${topic},${position}`)}`);
      const socket = new WebSocket(url + resume.join(''));
      socket.onclose = () => setTimeout(connect, 20);
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (['join', 'leave', 'connected'].includes(frame.broker)) return;
        window.heard.push(frame);
        // Begun anew: where the answer says. Otherwise what follows moves the position.
        if (frame.broker === 'subscribed' && frame.recovered === undefined) positions.set(frame.topic, frame.position);
        if (frame.broker === 'publication') positions.set(frame.topic, frame.position);
        if (frame.broker === 'gap' && frame.to) positions.set(frame.topic, frame.to);
      };
      socket.onopen = () => (window.opens += 1);
    };
    connect();
  }, `ws://127.0.0.1:${proxy.port}/ws?topic=rc.a&topic=rc.b&format=envelope&token=${kim}`);
  await until((heard) => heard.filter(({ broker }) => broker === 'subscribed').length === TOPICS.length);
}

const heard = () => page.evaluate(() => window.heard);

async function until(wanted) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const now = await heard();
    if (wanted(now)) return now;
    if (Date.now() > deadline) assert.fail(`the page was told ${JSON.stringify(now)}`);
    await page.waitForTimeout(20);
  }
}

async function publish(server, data) {
  for (const channel of TOPICS) {
    const { error } = await server.api('publish', { channel, data });
    assert.equal(error, undefined);
  }
}

const of = (heard, topic, word) => heard.filter((frame) => frame.topic === topic && frame.broker === word);
const count = (heard, word) => heard.filter(({ broker }) => broker === word).length;

/** Opens, cuts and publishes meanwhile; answers how much was published. */
async function cuts(server, rounds, sent = 0) {
  for (let round = 0; round < rounds; round += 1) {
    const before = await page.evaluate(() => window.opens);
    proxy.refuse(true);
    proxy.cut();
    for (let n = 0; n < 3; n += 1) await publish(server, (sent += 1));
    proxy.refuse(false);
    await page.waitForFunction((before) => window.opens > before, before);
    await publish(server, (sent += 1));
    await until((heard) => count(heard, 'publication') === sent * TOPICS.length);
  }
  return sent;
}

test('envelope in Chromium: after a cut it goes on without a gap and without a double, also in topics that the server chose', async () => {
  await openPage();
  const sent = await cuts(broker, 4);
  const told = await heard();
  assert.equal(count(told, 'gap'), 0);
  for (const topic of TOPICS) {
    const publications = of(told, topic, 'publication');
    assert.deepEqual(publications.map(({ data }) => data), Array.from({ length: sent }, (_, at) => at + 1), topic);
    assert.deepEqual(publications.map(({ position }) => Number(position.split('@')[0])), publications.map((_, at) => at + 1), topic);
    const answers = of(told, topic, 'subscribed').map(({ recovered }) => recovered);
    assert.deepEqual([answers[0], answers.slice(1).every((recovered) => recovered === true), answers.length >= 5], [undefined, true, true], topic);
  }
  await page.close();
});

test('envelope in Chromium: a restart of the server is told once for each topic, and what follows is whole', async () => {
  const first = await start();
  proxy.retarget(first.port);
  await openPage();
  await publish(first, 'before');
  await until((heard) => count(heard, 'publication') === TOPICS.length);
  const second = await start();
  proxy.retarget(second.port);
  await first.stop();
  const after = await until((heard) => count(heard, 'gap') === TOPICS.length);
  for (const topic of TOPICS) {
    assert.equal(of(after, topic, 'subscribed').at(-1).recovered, false, topic);
    assert.deepEqual(of(after, topic, 'gap').map(({ reason }) => reason), ['epoch'], topic);
  }
  assert.deepEqual(after.filter(({ broker }) => broker === 'closing').map(({ code }) => code), [3001]);
  await publish(second, 'after');
  await until((heard) => count(heard, 'publication') === 2 * TOPICS.length);
  proxy.cut();
  await publish(second, 'after a cut');
  const told = await until((heard) => count(heard, 'publication') === 3 * TOPICS.length);
  for (const topic of TOPICS) {
    assert.deepEqual(of(told, topic, 'publication').map(({ data }) => data), ['before', 'after', 'after a cut'], topic);
    assert.equal(of(told, topic, 'gap').length, 1, `${topic}: told once`);
    assert.equal(of(told, topic, 'subscribed').at(-1).recovered, true, topic);
  }
  await page.close();
  proxy.retarget(broker.port);
  await second.stop();
});
