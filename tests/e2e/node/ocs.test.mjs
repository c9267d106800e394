// The orders of `examples/ocs`: users on two nodes, what breaks in a hospital's day, and the right state afterwards.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { artifact, openPeople } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';
import { startTwoNodes } from './harness/two_nodes.mjs';

const TOLD_WITHIN_MS = 500;
const LIVE_AGAIN_MS = 5_000;

let ocs;
let ris1; // signed in on the first node from the first test to the last
let people;
const browsers = {}; // one for each person: tabs of a browser share their storage
before(async () => {
  mkdirSync(artifact('screenshots'), { recursive: true });
  [ocs, people] = await Promise.all([startTwoNodes('OCS_BIN', 'ocs', ['--cheap-passwords']), openPeople()]);
});
after(async () => {
  await people?.close();
  await ocs?.stop();
});

const node = (at) => ocs.nodes[at].port;

/** A page of `person`'s browser at a port, with its sockets, frames and troubles. */
async function open(person, port) {
  browsers[person] ??= await people.person();
  const page = await browsers[person].newPage();
  page.seen = { sockets: [], frames: [], troubles: [] };
  page.on('pageerror', (error) => page.seen.troubles.push(error.message));
  page.on('websocket', (socket) => {
    page.seen.sockets.push(socket.url());
    socket.on('framereceived', ({ payload }) => page.seen.frames.push(payload));
  });
  await page.goto(`http://127.0.0.1:${port}/`);
  return page;
}

const live = (page, timeout = 10_000) => page.waitForFunction(() => document.body.dataset.live === 'live', null, { timeout });
const userIs = (page, id, timeout = 5_000) => page.waitForFunction((id) => document.body.dataset.user === id, id, { timeout });
const toasts = (page) => page.locator('.toast > b').allTextContents();
const told = (page, text, timeout = 5_000) => page.locator('.toast', { hasText: text }).first().waitFor({ timeout });
const row = (page, patient) => page.locator('#rows tr', { hasText: patient });
const frames = (page, type) => page.seen.frames.filter((frame) => frame.includes(`"type":"${type}"`));

async function signIn(page, user) {
  await page.fill('#user', user);
  await page.fill('#password', 'demo');
  await page.click('#login-form button[type=submit]');
  await userIs(page, user);
  await live(page);
}

/** A page on which `user` is signed in and sees the orders; tabs of a browser that is signed in are so from the start. */
async function enter(person, user, port) {
  const page = await open(person, port);
  await page.waitForFunction(() => document.body.dataset.view !== 'start');
  if ((await page.evaluate(() => document.body.dataset.user)) !== user) await signIn(page, user);
  await live(page);
  await page.locator('#rows tr[data-order]').first().waitFor();
  return page;
}

/** Calls the API as the page does, with the token that its tab holds. */
const call = (page, path, method = 'GET', body = undefined) =>
  page.evaluate(async ([path, method, body]) => (await import('/session.js')).call(path, { method, body }), [path, method, body]);

/** Asks until it is so. */
async function until(what, ask, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() < deadline, `${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function shoot(page, view) {
  await page.evaluate(() => document.activeElement?.blur());
  for (const scheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    for (const [width, size] of [['wide', { width: 1280, height: 860 }], ['narrow', { width: 390, height: 844 }]]) {
      await page.setViewportSize(size);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `${view} ${width} is wider than the screen`);
      // What moves or changes its colour has come to its end.
      await page.evaluate(() => Promise.allSettled(document.getAnimations().filter(({ effect }) => effect.getComputedTiming().iterations !== Infinity).map(({ finished }) => finished)));
      await page.screenshot({ path: artifact(`screenshots/ocs-${view}-${scheme}-${width}.png`) });
    }
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await page.setViewportSize({ width: 1280, height: 860 });
}

test('ocs: an accept on one node is a toast and a changed row on the other within 500 ms, once, and none for the actor', async (t) => {
  let ris2;
  [ris1, ris2] = await Promise.all([enter('one', 'ris1', node(0)), enter('two', 'ris2', node(1))]);
  const arrived = row(ris2, '홍길동').locator('.tag', { hasText: 'Accepted' }).waitFor().then(() => told(ris2, 'MRI order of 홍길동 was accepted')).then(() => Date.now());
  const accepted = Date.now();
  await ris1.getByRole('button', { name: 'Accept MRI of 홍길동' }).click();
  const took = (await arrived) - accepted;
  t.diagnostic(`told after ${took} ms`);
  assert.ok(took < TOLD_WITHIN_MS, `it took ${took} ms`);
  await row(ris1, '홍길동').locator('.tag', { hasText: 'Accepted' }).waitFor();
  // Another notice behind it: whatever was to come of the first one has come.
  await ris1.getByRole('button', { name: 'Accept CT of 김영희' }).click();
  await told(ris2, 'CT order of 김영희 was accepted');
  assert.equal((await toasts(ris2)).filter((text) => text.includes('홍길동')).length, 1);
  assert.equal(frames(ris2, 'ocs_status_changed').length, 2);
  assert.deepEqual([await toasts(ris1), frames(ris1, 'ocs_status_changed')], [[], []]);
  assert.equal(await ris2.locator('#unread').textContent(), '2');
  assert.ok(ris2.seen.sockets.every((url) => !url.includes('token')), 'no token stands in a URL');
  await shoot(ris2, 'orders');
  await ris2.locator('#bell').click();
  await shoot(ris2, 'bell');
  assert.deepEqual([ris1.seen.troubles, ris2.seen.troubles], [[], []]);
  await ris2.close();
});

test('ocs: out and in as another user in the same tab, and not one message of the old role after it', async () => {
  const page = await open('three', node(1));
  await shoot(page, 'login');
  await signIn(page, 'ris2');
  // A page that forgets to close its socket: the server cuts it.
  const forgotten = await page.evaluate(async () => {
    const { token } = (await import('/session.js')).who();
    const socket = new WebSocket('/ws/ocs/', ['bearer', token]);
    await new Promise((resolve) => (socket.onopen = resolve));
    window.forgotten = { frames: [], closed: null };
    socket.onmessage = ({ data }) => window.forgotten.frames.push(data);
    socket.onclose = ({ code }) => (window.forgotten.closed = code);
    return true;
  });
  assert.ok(forgotten);
  await page.click('#sign-out');
  await userIs(page, '');
  assert.equal(await until('the forgotten socket is cut', () => page.evaluate(() => window.forgotten.closed)), 3500);
  await signIn(page, 'lis1');
  const before = page.seen.frames.length;
  await call(ris1, '7/accept/', 'POST'); // radiology
  await call(ris1, '7/complete/', 'POST');
  const doctor = await enter('four', 'dr_han', node(0));
  await call(doctor, '', 'POST', { patient: '홍길동', exam: 'Glucose', service: 'lis' });
  await told(page, 'New Glucose order for 홍길동');
  assert.deepEqual(page.seen.frames.slice(before).filter((frame) => frame.includes('"service":"ris"')), []);
  assert.deepEqual((await page.evaluate(() => window.forgotten.frames)).filter((frame) => !frame.startsWith('{"broker"')), []);
  assert.equal(await row(page, '강호동').count(), 0, 'the list is the new role’s');
  await shoot(doctor, 'doctor');
  await doctor.close();
  await page.close();
});

test('ocs: a login in one tab moves the others of the browser visibly', async () => {
  const first = await enter('five', 'ris1', ocs.port);
  const second = await open('five', ocs.port);
  await userIs(second, 'ris1');
  await second.click('#sign-out');
  await userIs(first, '');
  await first.getByText(/Signed out in another tab|signed out elsewhere/).waitFor();
  await signIn(second, 'lis1');
  await userIs(first, 'lis1');
  await first.getByText('Signed in as 박지훈 (lis1) in another tab').waitFor();
  await live(first);
  const state = await first.evaluate(async () => ({ mine: (await import('/session.js')).who().token, stored: JSON.parse(localStorage.getItem('ocs.login')).token }));
  assert.equal(state.mine, state.stored);
  await row(first, '정우성').waitFor();
  assert.equal(await row(first, '홍길동').filter({ hasText: 'MRI' }).count(), 0);
  await first.close();
  await second.close();
});

test('ocs: what an admin changes is followed on the open socket within a second', async (t) => {
  const [page, admin] = await Promise.all([enter('six', 'ris2', node(1)), enter('seven', 'admin', node(0))]);
  await admin.getByRole('button', { name: 'Users' }).click();
  const form = admin.locator('form[data-user=ris2]');
  await form.waitFor();
  await shoot(admin, 'users');
  const sockets = page.seen.sockets.length;
  await form.locator('.check', { hasText: 'delivery' }).locator('input').check();
  await form.locator('input:not([type])').fill('ocs_lis');
  const saved = Date.now();
  await form.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('button', { name: 'Delivery' }).waitFor();
  await row(page, '정우성').waitFor();
  const took = Date.now() - saved;
  t.diagnostic(`followed after ${took} ms`);
  assert.ok(took < 1_000, `it took ${took} ms`);
  assert.equal(page.seen.sockets.length, sockets, 'on the same socket');
  await call(ris1, '4/accept/', 'POST'); // radiology: not hers any more
  await row(admin, '박민정').locator('.tag', { hasText: 'Accepted' }).waitFor({ state: 'attached' });
  const lis = await enter('eight', 'lis1', node(0));
  await call(lis, '5/accept/', 'POST');
  await told(page, 'Glucose order of 정우성 was accepted');
  assert.equal(frames(page, 'ocs_status_changed').filter((frame) => frame.includes('박민정')).length, 0);
  await call(admin, 'users/ris2/', 'PATCH', { role: 'radiology' });
  await row(page, '홍길동').first().waitFor();
  await page.reload();
  await live(page);
  await page.locator('#rows tr[data-order]').first().waitFor();
  assert.equal(await row(page, '정우성').count(), 0, 'what was heard in the old role is in no list');
  await Promise.all([page, admin, lis].map((tab) => tab.close()));
});

test('ocs: a list that was asked for in another role is nobody’s when it comes late', async () => {
  const [page, admin] = await Promise.all([enter('late', 'ris2', node(1)), enter('seven', 'admin', node(0))]);
  let release, fetched;
  const released = new Promise((resolve) => (release = resolve));
  const asked = new Promise((resolve) => (fetched = resolve));
  await page.route('**/api/ocs/', async (route) => {
    const response = await route.fetch();
    fetched();
    await released;
    await route.fulfill({ response });
  }, { times: 1 });
  const late = page.evaluate(async () => (await import('/orders.js')).orders.refresh());
  await asked;
  await call(admin, 'users/ris2/', 'PATCH', { role: 'laboratory' });
  await row(page, '정우성').waitFor();
  release();
  await late;
  assert.equal(await row(page, '김영희').count(), 0, 'the list is the new role’s');
  await row(page, '정우성').waitFor();
  await call(admin, 'users/ris2/', 'PATCH', { role: 'radiology' });
  await Promise.all([page, admin].map((tab) => tab.close()));
});

test('ocs: while Redis is down an accept is stored and its notice pending; the toast comes once after the cure', async (t) => {
  const [ris2, operator] = await Promise.all([enter('nine', 'ris2', node(1)), enter('ten', 'operator', node(0))]);
  await operator.getByRole('button', { name: 'Delivery' }).click();
  ocs.redis.refuse(true);
  ocs.redis.cut();
  t.after(() => ocs.redis.refuse(false));
  await ris1.getByRole('button', { name: 'Accept Ultrasound of 최지우' }).click();
  await told(ris1, 'Stored; the notice is pending');
  await row(ris1, '최지우').getByText('notice pending').waitFor();
  assert.equal(frames(ris2, 'ocs_status_changed').length, 0);
  assert.equal(await ris2.evaluate(() => document.body.dataset.live), 'live', 'sockets stay');
  const card = operator.locator('.notice[data-state=pending]');
  await card.waitFor();
  await card.locator('summary').click();
  await card.getByText('it is not sent yet').first().waitFor();
  await shoot(operator, 'pending');
  ocs.redis.refuse(false);
  await told(ris2, 'Ultrasound order of 최지우 was accepted', 10_000);
  await told(ris1, 'The others have been told');
  const sent = operator.locator('.notice[data-state=sent]', { hasText: '최지우' });
  await sent.locator('[data-recipient=ris2][data-how=live]').waitFor({ timeout: 10_000 });
  await sent.getByText('has not been connected').or(sent.getByText('was not connected')).first().waitFor();
  await shoot(operator, 'delivery');
  assert.equal(frames(ris2, 'ocs_status_changed').length, 1);
  await Promise.all([ris2, operator].map((tab) => tab.close()));
});

test('ocs: a network that is cut heals by itself, and what was missed is told', async () => {
  const proxy = await startProxy(node(1));
  const [page, admin] = await Promise.all([enter('eleven', 'ris2', proxy.port), enter('seven', 'admin', node(0))]);
  proxy.refuse(true);
  proxy.cut();
  await page.waitForFunction(() => document.body.dataset.live !== 'live');
  await call(ris1, '4/complete/', 'POST');
  await call(admin, 'users/ris2/', 'PATCH', { menus: ['orders', 'delivery'] });
  proxy.refuse(false);
  const healed = Date.now();
  await live(page, LIVE_AGAIN_MS);
  assert.ok(Date.now() - healed < LIVE_AGAIN_MS);
  await told(page, 'X-ray order of 박민정 was completed');
  await row(page, '박민정').locator('.tag', { hasText: 'Done' }).waitFor();
  await page.getByRole('button', { name: 'Delivery' }).waitFor(); // what an admin changed meanwhile is followed, too
  await call(admin, 'users/ris2/', 'PATCH', { menus: ['orders'] });
  await Promise.all([page, admin].map((tab) => tab.close()));
  proxy.close();
});

test('ocs: a node that is killed costs its pages no more than a moment', async () => {
  const operator = await enter('ten', 'operator', node(0));
  const onSecond = async () => (await call(operator, 'delivery/')).nodes.find(({ name }) => name === 'n2')?.sessions ?? 0;
  const pages = [];
  do pages.push(await enter(`more ${pages.length}`, 'ris2', ocs.port));
  while (pages.length < 6 && (await onSecond()) === 0);
  const lost = await onSecond();
  assert.ok(lost > 0, 'the balancer has put nobody on the second node');
  const sockets = () => pages.reduce((sum, page) => sum + page.seen.sockets.length, 0);
  const before = sockets();
  process.kill(ocs.nodes[1].pid, 'SIGKILL');
  await until('those who were there come back', () => sockets() >= before + lost, LIVE_AGAIN_MS);
  await Promise.all(pages.map((page) => live(page, LIVE_AGAIN_MS)));
  await call(ris1, '1/complete/', 'POST');
  await Promise.all(pages.map((page) => told(page, 'MRI order of 홍길동 was completed', 20_000)));
  await pages[0].locator('#connection summary').click();
  await shoot(pages[0], 'connection');
});
