// The chat of `examples/`: two users in Chromium and programs beside them, on networks that break.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, beforeEach, test } from 'node:test';
import { Person, RawClient, openChat, startChat } from './harness/chat.mjs';
import { artifact, openBrowser } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';

const LIVE_AGAIN_MS = 5_000;
const KOREAN = 'MRI order of 홍길동 was accepted';

let chat, proxy, browser;
before(async () => {
  [chat, browser] = await Promise.all([startChat(), openBrowser({ hosts: ['localhost'] })]);
  proxy = await startProxy(chat.port);
  await mkdir(artifact('screenshots'), { recursive: true });
});
beforeEach(() => proxy.refuse(false));
after(async () => {
  await browser?.close();
  proxy?.close();
  await chat?.stop();
});

// Cookies belong to a host, whatever the port: two names are two users. One is behind the proxy that breaks.
const breakable = () => `http://127.0.0.1:${proxy.port}`;
const steady = () => `http://localhost:${chat.port}`;
let number = 0;
const unique = (name) => `${name} ${(number += 1)}`;

/** Two users in the session that the first one's page made on entry, and a program. */
async function twoUsers(names = ['김민서', 'Dana', 'Program'].map(unique)) {
  const first = await openChat(browser, breakable(), names[0]);
  const link = await first.shareLink();
  const second = await openChat(browser, steady(), names[1], link);
  const program = await Person.signUp(chat.http, names[2]);
  await program.post(`/invites/${link.split('/').at(-1)}`);
  return { first, second, program, session: await first.sessionId() };
}

async function done(...pages) {
  for (const { page, troubles } of pages) {
    assert.deepEqual(troubles, []);
    await page.close();
  }
}

test('chat: a session is made on entry, shared by its link, and who joins later sees what was said', async () => {
  const first = await openChat(browser, breakable(), unique('김민서'));
  await first.page.locator('#nothing').waitFor();
  await first.say(KOREAN);
  await first.shows([KOREAN]);
  const second = await openChat(browser, steady(), unique('Dana'), await first.shareLink());
  await second.shows([KOREAN]);
  assert.equal(new URL(second.page.url()).pathname, '/');
  await second.say('On my way');
  await first.shows([KOREAN, 'On my way']);
  await first.has(1, 'seen');
  assert.match(await first.page.locator('#presence').textContent(), /^2 members · Dana \d+ here now$/);
  await done(first, second);
});

test('chat: what is written stands there at once and becomes the message that everybody gets', async () => {
  const { first, second, program, session } = await twoUsers();
  let release;
  const held = new Promise((resolve) => (release = resolve));
  // The server stores it; its answer is lost after everybody was told.
  await first.page.route('**/messages', async (route) => {
    if (route.request().method() !== 'POST') return route.continue();
    await route.fetch();
    await held;
    await route.abort('connectionreset').catch(() => {}); // the page may be done with it
  });
  await first.page.evaluate(() => {
    window.bubble = new Promise((resolve) => new MutationObserver((_, observer) => {
      const row = document.querySelector('#messages .mine');
      if (row) { observer.disconnect(); resolve(row.dataset.state); window.row = row; }
    }).observe(document.querySelector('#messages'), { childList: true }));
  });
  await first.say('optimistic');
  assert.equal(await first.page.evaluate(() => window.bubble), 'sending');
  await second.shows(['optimistic']);
  await first.page.waitForFunction(() => ['sent', 'seen'].includes(window.row.dataset.state));
  assert.ok(await first.page.evaluate(() => window.row.isConnected), 'it is the same bubble');
  release();
  await first.page.unroute('**/messages');
  await first.say('next');
  await second.shows(['optimistic', 'next']);
  await first.shows(['optimistic', 'next']);
  assert.deepEqual(await program.stored(session), ['optimistic', 'next']);
  await done(first, second);
});

test('chat: answers that are lost again and again double nothing', async () => {
  const { first, second, program, session } = await twoUsers();
  let lost = 0;
  await first.page.route('**/messages', async (route) => {
    if (route.request().method() !== 'POST' || lost >= 3) return route.continue();
    lost += 1;
    await route.fetch();
    // Without its socket the page learns of nothing but the lost answer.
    proxy.cut();
    await route.abort('connectionreset');
  });
  await first.say('once');
  await first.say('and then');
  await first.shows(['once', 'and then']);
  await first.page.waitForFunction(() => !document.querySelector('[data-state="sending"], [data-state="waiting"]'));
  await second.shows(['once', 'and then']);
  assert.deepEqual(await program.stored(session), ['once', 'and then']);
  assert.ok(lost > 0);
  await done(first, second);
});

test('chat: what the server refuses says why, and can be sent again', async () => {
  const first = await openChat(browser, breakable(), unique('김민서'));
  await first.page.route('**/messages', (route) => {
    if (route.request().method() !== 'POST') return route.continue();
    const error = { code: 103, error: 'permission_denied', message: 'you are not a member of this session', hint: 'open its share link' };
    return route.fulfill({ status: 403, contentType: 'application/json', body: JSON.stringify({ error }) });
  });
  await first.say('refused');
  await first.page.locator('.failure', { hasText: 'you are not a member of this session: open its share link' }).waitFor();
  // What waits behind it is not held up.
  await first.page.unroute('**/messages');
  await first.say('accepted');
  await first.has(1, 'sent');
  await first.page.screenshot({ path: artifact('screenshots/chat-failed-light-wide.png') });
  await first.page.click('.failure button:has-text("Try again")');
  await first.shows(['accepted', 'refused']);
  await first.has(2, 'sent');
  await done(first);
});

test('chat: offline and back, everything is there in order and what was typed meanwhile is sent once', async () => {
  const { first, second, program, session } = await twoUsers();
  await first.say('before');
  await second.shows(['before']);
  proxy.refuse(true);
  proxy.cut();
  await first.page.locator('#offline:visible').waitFor();
  for (const text of ['typed one', 'typed two', 'typed three']) await first.say(text);
  await first.has(3, 'waiting');
  await second.say('meanwhile one');
  await program.say(session, 'meanwhile two');
  await second.shows(['before', 'meanwhile one', 'meanwhile two']);
  await first.page.screenshot({ path: artifact('screenshots/chat-offline-light-wide.png') });
  proxy.refuse(false);
  const all = ['before', 'meanwhile one', 'meanwhile two', 'typed one', 'typed two', 'typed three'];
  const back = Date.now();
  await first.shows(all);
  await first.page.locator('#offline').waitFor({ state: 'hidden' });
  assert.ok(Date.now() - back < LIVE_AGAIN_MS, `live again after ${Date.now() - back} ms`);
  await second.shows(all);
  assert.deepEqual(await program.stored(session), all);
  // Nothing waits in the browser any more.
  await first.has(0, 'waiting');
  assert.equal(await first.page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith('chat.unsent')).length), 0);
  await done(first, second);
});

test('chat: after a break that is longer than the history, the rest is read from the database', async () => {
  const { first, second, program, session } = await twoUsers();
  await first.say('before');
  await second.shows(['before']);
  proxy.refuse(true);
  proxy.cut();
  await first.page.locator('#offline:visible').waitFor();
  const missed = Array.from({ length: 560 }, (_, at) => `missed ${at}`);
  // Two sockets, so that neither sends more often than it may.
  const sockets = [await program.listen(session), await program.listen(session)];
  for (let at = 0; at < missed.length; at += 40) {
    const socket = sockets[(at / 40) % 2];
    const sent = () => socket.frames.filter(({ type }) => type === 'sent').length;
    const before = sent();
    for (const content of missed.slice(at, at + 40)) socket.send({ type: 'message', content });
    await socket.until(() => sent() === before + 40, 'forty more are stored');
  }
  proxy.refuse(false);
  await first.shows(['before', ...missed]);
  await done(first, second);
});

test('chat: typing, presence and unread counts', async () => {
  const { first, second } = await twoUsers();
  await first.page.locator('#faces .avatar').first().waitFor();
  await second.page.type('#text', 'I am wri');
  await first.page.locator('#typing', { hasText: /^Dana \d+ is writing…$/ }).waitFor();
  await second.page.fill('#text', '');
  // The second one looks at another session meanwhile.
  await second.page.click('#new');
  await second.page.fill('#session-title', 'Elsewhere');
  await second.page.press('#session-title', 'Enter');
  await second.page.locator('#title', { hasText: 'Elsewhere' }).waitFor();
  await first.say('one');
  await first.say('two');
  const line = second.page.locator('#sessions a', { hasText: 'session' });
  await line.locator('.count', { hasText: /^2/ }).waitFor();
  assert.match(await second.page.title(), /^\(2\) /);
  await line.click();
  await second.page.locator('.messages .unread').waitFor({ state: 'detached' });
  await second.shows(['one', 'two']);
  await line.locator('.count').waitFor({ state: 'detached' });
  await first.has(2, 'seen');
  await second.page.close();
  await first.page.waitForFunction(() => document.querySelectorAll('#faces .avatar').length === 0);
  await done(first);
});

test('chat: a program connects with the ticket of the dialog, once, and a bad link is explained', async () => {
  const { first, second, program } = await twoUsers();
  await first.page.click('#connect');
  await first.page.waitForFunction(() => document.querySelector('#ticket-url').value !== '');
  const url = await first.page.inputValue('#ticket-url');
  assert.match(url, /^ws:\/\/127\.0\.0\.1:\d+\/ws\/chat\?sessionId=[\w-]+&ticket=[\w-]{43}$/);
  await first.page.click('#connect-dialog [data-close]');
  const raw = await RawClient.open(url);
  await raw.until(([frame]) => frame?.type === 'history', 'what was said comes first');
  raw.send({ type: 'message', content: 'from a terminal' });
  await first.shows(['from a terminal']);
  await second.shows(['from a terminal']);
  await first.page.locator('.mine .text', { hasText: 'from a terminal' }).waitFor();
  await assert.rejects(RawClient.open(url), 'a ticket opens one connection');
  raw.close();
  await done(first, second);
  await browser.context.clearCookies();
  const page = await browser.newPage();
  await page.goto(`${steady()}/join/none`);
  await page.locator('#entry-notice', { hasText: 'this share link leads nowhere: ask a member for the link again' }).waitFor();
  await page.close();
});

test('chat: a login that ends elsewhere ends here, and what was not sent waits for the next one', async () => {
  const first = await openChat(browser, breakable(), unique('김민서'));
  const other = await browser.newPage();
  await other.goto(breakable());
  await other.waitForFunction(() => document.body.dataset.live === 'live');
  await other.click('#logout');
  await first.page.locator('#entry-notice', { hasText: 'You are logged out' }).waitFor();
  await other.close();
  await done(first);
});

test('chat: a node that is killed costs nobody a message', async () => {
  const nodes = await startChat({ twoNodes: true });
  try {
    assert.equal(nodes.nodePids.length, 2);
    const first = await openChat(browser, nodes.http, unique('김민서'));
    const session = await first.sessionId();
    const program = await Person.signUp(nodes.http, unique('Program'));
    await program.post(`/invites/${(await first.shareLink()).split('/').at(-1)}`);
    // One socket on each node at least: the balancer takes turns.
    const sockets = [await program.listen(session), await program.listen(session)];
    await first.say('before');
    for (const socket of sockets) await socket.until(() => socket.said().includes('before'), 'both nodes tell');
    process.kill(nodes.nodePids[0], 'SIGKILL');
    const texts = Array.from({ length: 10 }, (_, at) => `during ${at}`);
    for (const text of texts) await first.say(text);
    await first.shows(['before', ...texts]);
    await first.page.waitForFunction(() => !document.querySelector('[data-state="sending"], [data-state="waiting"]'));
    await first.page.waitForFunction(() => document.body.dataset.live === 'live');
    assert.deepEqual(await program.stored(session), ['before', ...texts]);
    const after = await program.listen(session);
    await program.say(session, 'after');
    await first.shows(['before', ...texts, 'after']);
    await after.until(() => after.said().includes('after'), 'the node that is left tells');
    await done(first);
  } finally {
    await nodes.stop();
  }
});

test('chat: looks right, wide and narrow, in the light and in the dark', async () => {
  await browser.context.clearCookies();
  const entry = await browser.newPage();
  await entry.goto(`${breakable()}/`);
  await entry.locator('#enter:visible').waitFor();
  await everyWay(entry, (way) => shot(entry, 'entry', way));
  await entry.close();
  const { first, second, program, session } = await twoUsers(['김민서', 'Dana Fischer', '박서준']);
  await first.page.locator('#nothing').waitFor();
  await shot(first.page, 'empty', 'light-wide');
  const lines = [
    [program, 'Good evening. Two patients are waiting for MRI.'],
    [program, KOREAN],
    [first, '확인했습니다. 지금 시작할게요.'],
    [second, 'Thanks! I will prepare room 3. The contrast agent is in the second drawer, and the protocol for the knee is the short one: T1, T2 and proton density, fifteen minutes altogether.'],
    [first, 'Perfect'],
    [first, '15분 후에 끝납니다.'],
  ];
  const all = [];
  for (const [who, text] of lines) {
    await (who === program ? program.say(session, text) : who.say(text));
    await first.shows([...all, text]);
    all.push(text);
  }
  await first.page.click('#new');
  await first.page.fill('#session-title', 'Weekend rota');
  await first.page.press('#session-title', 'Enter');
  await first.page.locator('#title', { hasText: 'Weekend rota' }).waitFor();
  await program.say(session, 'Room 3 is ready');
  const line = first.page.locator('#sessions a', { hasText: 'session' });
  await line.locator('.count').waitFor();
  await everyWay(first.page, async (way) => {
    if (!way.endsWith('narrow')) return;
    await first.page.click('#back');
    await shot(first.page, 'list', way);
    await first.page.locator('#sessions a', { hasText: 'Weekend' }).click();
  });
  await line.click();
  await everyWay(first.page, async (way) => {
    await shot(first.page, 'talk', way);
    if (['light-wide', 'dark-narrow'].includes(way)) {
      await first.page.click('#share');
      await shot(first.page, 'share', way);
      await first.page.click('#share-dialog [data-close]');
    }
    if (['light-narrow', 'dark-wide'].includes(way)) {
      await first.page.click('#connect');
      await first.page.waitForFunction(() => document.querySelector('#ticket-url').value !== '');
      await shot(first.page, 'connect', way);
      await first.page.click('#connect-dialog [data-close]');
    }
  });
  await done(first, second);
});

/** Does it with a wide and a narrow window, in the light and in the dark. */
async function everyWay(page, act) {
  for (const colorScheme of ['light', 'dark']) {
    for (const [width, viewport] of [['wide', { width: 1200, height: 800 }], ['narrow', { width: 390, height: 844 }]]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await act(`${colorScheme}-${width}`);
    }
  }
  await page.setViewportSize({ width: 1200, height: 800 });
}

async function shot(page, name, way) {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, `${name} ${way} is wider than the window`);
  await page.screenshot({ path: artifact(`screenshots/chat-${name}-${way}.png`) });
}
