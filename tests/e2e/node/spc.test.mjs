// The quality alerts of `examples/spc` (U4): two nodes, two users in a browser, and what they see when something breaks.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { artifact, openBrowser } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';
import { startTwoNodes } from './harness/two_nodes.mjs';

const API_KEY = 'the-key-of-the-quality-alerts';
const LIVE_AGAIN_MS = 5_000;
const SHOTS = [['dark', 'wide', 1280], ['dark', 'narrow', 390], ['light', 'narrow', 390], ['light', 'wide', 1280]];
const TOOL = new URL('../../../examples/spc/tools/alert.py', import.meta.url).pathname;

let world, proxy, browser;
const tokens = {};
before(async () => {
  [world, browser] = await Promise.all([startTwoNodes('SPC_BIN', 'spc', ['--pace', '0', '--quick-passwords', '--api-key', API_KEY]), openBrowser()]);
  proxy = await startProxy(world.nodes[0].port);
  for (const user of ['kim', 'lee', 'admin']) tokens[user] = (await api(0, null, 'POST', 'login', { user, password: user, bearer: true })).body.token;
});
after(async () => {
  await browser?.close();
  proxy?.close();
  await world?.stop();
});

/** One call of the application on one node, as a program does it; resolves to `{ status, body }`. */
async function api(node, user, method, path, body) {
  const headers = { 'Content-Type': 'application/json', ...(user && { Authorization: `Bearer ${tokens[user]}` }) };
  const answer = await fetch(`http://127.0.0.1:${world.nodes[node].port}/api/spc/${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: answer.status, body: await answer.json() };
}

const raise = async (node, { user = 'kim', product = 1, priority = 'high', title = 'Tool worn', path = 'alerts/' } = {}) =>
  await api(node, user, 'POST', path, { product, alert_type: 'TOOL_WEAR', priority, title, message: '공구를 교체하세요' });

/** The page of a user who has logged in. Cookies know hosts and no ports, so two users of one browser come by different names of this machine. */
async function open(user, host, port) {
  const page = await browser.newPage();
  const seen = { frames: [], troubles: [], elsewhere: [] };
  page.on('pageerror', (error) => seen.troubles.push(error.message));
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => seen.frames.push(String(payload))));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.host !== `${host}:${port}`) seen.elsewhere.push(request.url());
  });
  await page.goto(`http://${host}:${port}/`);
  await page.locator(`[data-user=${user}]`).click();
  await live(page);
  await page.locator('#control svg').waitFor();
  return { page, seen };
}

const live = (page, timeout = 10_000) => page.waitForFunction(() => document.body.dataset.live === 'live', null, { timeout });
const alert = (page, id) => page.locator(`#alerts li[data-id="${id}"]`);
const shown = (page, id, timeout = 5_000) => alert(page, id).waitFor({ timeout });
const bell = async (page) => Number((await page.locator('#bell').getAttribute('aria-label')).match(/\d+/)[0]);
const carrying = ({ frames }, id) => frames.filter((frame) => frame.includes('"publication"') && frame.includes(id)).length;

let kim, lee;

test('spc: an alert that is posted on the other node shows in both browsers, once, although two topics bring it', async () => {
  [kim, lee] = await Promise.all([open('kim', '127.0.0.1', proxy.port), open('lee', 'localhost', world.nodes[1].port)]);
  const before = await bell(lee.page);
  const { status, body } = await raise(0);
  assert.equal(status, 201);
  await Promise.all([shown(kim.page, body.id), shown(lee.page, body.id)]);
  const again = await raise(1, { title: 'On the other node' });
  await Promise.all([shown(kim.page, again.body.id), shown(lee.page, again.body.id)]);
  for (const { page, seen } of [kim, lee]) {
    assert.equal(await alert(page, body.id).count(), 1);
    assert.equal(carrying(seen, body.id), 2, 'by the topic of alerts and by that of the product');
    assert.deepEqual([seen.troubles, seen.elsewhere], [[], []]);
  }
  assert.equal(await bell(lee.page), before + 2);
  assert.match(await alert(lee.page, body.id).textContent(), /공구를 교체하세요/);
});

test('spc: the frames of a page that knows nothing but `new WebSocket` work as they stand', async () => {
  const frames = await kim.page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://${location.host}/ws/spc/notifications/`);
        const frames = [];
        socket.onerror = reject;
        socket.onmessage = ({ data }) => {
          frames.push(JSON.parse(data));
          if (frames.length === 1) socket.send(JSON.stringify({ type: 'subscribe_product', product_id: 1 }));
          if (frames.length === 2) socket.send(JSON.stringify({ type: 'unsubscribe_product', product_id: 1 }));
          if (frames.at(-1).status === 'unsubscribed') resolve((socket.close(), frames));
        };
      }),
  );
  assert.equal(frames[0].type, 'connection');
  assert.deepEqual(frames.filter(({ type }) => type === 'subscription').map(({ status, product_id }) => [status, product_id]), [['subscribed', 1], ['unsubscribed', 1]]);
});

test('spc: who may not see a product hears nothing of it, and a rolled-back alert is heard by nobody', async () => {
  const other = await raise(0, { product: 2 });
  const rolledBack = await raise(1, { title: 'Never to be seen', path: 'alerts/?rollback=true' });
  assert.deepEqual([rolledBack.status, rolledBack.body.error.error], [409, 'rolled_back']);
  const marker = await raise(1);
  await Promise.all([shown(kim.page, marker.body.id), shown(lee.page, marker.body.id), shown(kim.page, other.body.id)]);
  assert.equal(carrying(lee.seen, other.body.id), 0);
  for (const { seen } of [kim, lee]) assert.ok(!seen.frames.some((frame) => frame.includes('Never to be seen')));
  const { body } = await api(0, 'kim', 'GET', 'alerts/?limit=200');
  assert.ok(body.alerts.every(({ title }) => title !== 'Never to be seen'));
});

test('spc: the priority that a user wants is a filter of the broker, kept on the server', async () => {
  await lee.page.locator('#min-level label', { hasText: 'High+' }).click();
  await lee.page.waitForFunction(() => [...document.querySelectorAll('#alerts li[data-priority=low]:not([hidden])')].length === 0);
  const kept = async () => (await api(0, 'lee', 'GET', 'me')).body.user.preferences.min_level;
  await eventually(async () => (await kept()) === 3);
  // Both subscriptions are there with the new filter: an alert comes by both of them.
  await eventually(async () => {
    const { body } = await raise(0, { priority: 'critical' });
    await shown(lee.page, body.id);
    return carrying(lee.seen, body.id) === 2;
  });
  const low = await raise(0, { priority: 'low', title: 'Only to know' });
  const high = await raise(0, { priority: 'high', title: 'To look at' });
  await Promise.all([shown(lee.page, high.body.id), shown(kim.page, low.body.id)]);
  assert.equal(carrying(lee.seen, low.body.id), 0);
  await lee.page.locator('#min-level label', { hasText: 'All' }).click();
  await shown(lee.page, low.body.id);
});

test('spc: a reading out of specification is an alert, one within is none; the chart marks what breaks a rule', async () => {
  const measure = async (values) => (await api(1, 'kim', 'POST', 'products/1/measurements', { values })).body;
  const fine = await measure([10, 10.001, 9.999, 10, 10]);
  assert.deepEqual(fine.notices.filter(({ type }) => type === 'measurement'), []);
  const bad = await measure([10.06, 10.055, 10.07, 10.05, 10.06]);
  const kinds = bad.notices.map(({ type }) => type);
  assert.ok(kinds.includes('measurement') && kinds.includes('run_rule_violation'), kinds.join());
  for (const { id } of bad.notices) await shown(kim.page, id);
  await kim.page.locator('#control .mark.outside').first().waitFor();
  assert.match(await kim.page.locator('#newest-at').textContent(), new RegExp(`point ${bad.point.id}$`));
  const analysis = (await api(0, 'kim', 'POST', 'products/1/analysis')).body;
  assert.equal(analysis.type, 'capability');
  await shown(kim.page, analysis.id);
  await kim.page.waitForFunction((cpk) => document.getElementById('cpk').textContent === cpk, analysis.data.cpk.toFixed(2));
});

test('spc: an engineer changes the run rules, and every page that shows the chart follows', async () => {
  await kim.page.bringToFront();
  for (const [rules, name] of [['western_electric', 'Western Electric'], ['nelson', 'Nelson']]) {
    await kim.page.locator('#rules').selectOption(rules);
    await Promise.all([kim, lee].map(({ page }) => page.waitForFunction((name) => document.getElementById('broken-of').textContent.startsWith(name), name)));
  }
});

test('spc: another process raises an alert over the server API; it shows and is remembered', async () => {
  const { stdout } = await promisify(execFile)('python3', [TOOL, '--url', `http://127.0.0.1:${world.nodes[1].port}`, '--key', API_KEY, '--product', '1', '--priority', 'critical', '--title', 'From a terminal']);
  const id = stdout.trim().split(/\s+/).at(-1);
  await Promise.all([shown(kim.page, id), shown(lee.page, id)]);
  assert.equal(await alert(kim.page, id).count(), 1);
  await eventually(async () => (await api(0, 'kim', 'GET', 'alerts/')).body.alerts.some((told) => told.id === id));
});

test('spc: an encrypted alert is read by who has the key, and by nobody else', async () => {
  for (const { page } of [lee, kim]) {
    // What a page shows is drawn at once where it is in front.
    await page.bringToFront();
    await page.evaluate(() => (location.hash = '#settings'));
    await page.locator('#key-1').fill('line seven, night shift');
    await page.locator('#key-1').press('Enter');
    await page.locator('.toast', { hasText: 'Key kept' }).waitFor();
    await page.evaluate(() => (location.hash = '#live'));
  }
  await kim.page.locator('.toast').evaluateAll((toasts) => toasts.forEach((toast) => toast.remove()));
  const form = kim.page.locator('#raise');
  await kim.page.locator('#raise-card > summary').click();
  await form.locator('[name=title]').fill('비밀: supplier changed the alloy');
  await form.getByText('Encrypt title and message').click();
  await form.getByRole('button', { name: 'Raise' }).click();
  await lee.page.locator('#alerts li', { hasText: 'supplier changed the alloy' }).waitFor();
  const { body } = await api(0, 'kim', 'GET', 'alerts/?limit=1');
  assert.equal(body.alerts[0].title, 'Encrypted alert');
  assert.ok(body.alerts[0].sealed.data.length > 40);
  for (const { seen } of [kim, lee]) assert.ok(!seen.frames.some((frame) => frame.includes('alloy')));
});

test('spc: while Redis is away an alert is stored and waits; it shows once after the cure', async () => {
  world.redis.refuse(true);
  world.redis.cut();
  const { status, body } = await raise(0, { title: 'Stored meanwhile' });
  assert.equal(status, 201);
  const outboxes = () => Promise.all([0, 1].map(async (node) => (await api(node, 'kim', 'GET', 'deliveries')).body.outbox));
  // Whichever node has tried says what is wrong.
  await eventually(async () => (await outboxes()).some(({ pending, trouble }) => pending > 0 && trouble));
  assert.equal(carrying(lee.seen, body.id), 0);
  world.redis.refuse(false);
  await Promise.all([shown(kim.page, body.id, 15_000), shown(lee.page, body.id, 15_000)]);
  assert.equal(await alert(lee.page, body.id).count(), 1);
  await eventually(async () => (await outboxes()).every(({ pending, trouble }) => pending === 0 && !trouble));
  await live(kim.page, LIVE_AGAIN_MS);
});

test('spc: after a cut the page is live again, and has what was told meanwhile, once', async () => {
  await kim.page.evaluate(() => (window.sameDocument = true));
  proxy.refuse(true);
  proxy.cut();
  await kim.page.waitForFunction(() => document.body.dataset.live !== 'live');
  const { body } = await raise(1, { title: 'While the network was away' });
  await shown(lee.page, body.id);
  proxy.refuse(false);
  await live(kim.page, LIVE_AGAIN_MS);
  await shown(kim.page, body.id);
  assert.deepEqual([await alert(kim.page, body.id).count(), await kim.page.evaluate(() => window.sameDocument), kim.seen.troubles], [1, true, []]);
});

test('spc: rights that an admin changes hold on the open connection', async () => {
  const { status } = await api(0, 'admin', 'PUT', 'users/lee/rights', { role: 'operator', products: [1, 2] });
  assert.equal(status, 200);
  await lee.page.locator('#products label').nth(1).waitFor();
  const { body } = await raise(0, { product: 2, title: 'Of the new product' });
  await shown(lee.page, body.id);
  await api(1, 'admin', 'PUT', 'users/lee/rights', { role: 'viewer', products: [2] });
  await lee.page.waitForFunction(() => document.querySelectorAll('#products label').length === 1);
  const gone = await raise(0, { title: 'Of the old product' });
  const marker = await raise(0, { product: 2 });
  await shown(lee.page, marker.body.id);
  assert.equal(carrying(lee.seen, gone.body.id), 0);
  assert.equal(await lee.page.locator('#raise-card').isVisible(), false);
  await api(1, 'admin', 'PUT', 'users/lee/rights', { role: 'operator', products: [1] });
  await lee.page.waitForFunction(() => document.querySelector('#products input')?.value === '1');
});

test('spc: who got an alert, and why not, stands in the deliveries', async () => {
  const { body } = await raise(0, { title: 'To be received' });
  await Promise.all([shown(kim.page, body.id), shown(lee.page, body.id)]);
  const recipients = async () => (await api(1, 'kim', 'GET', 'deliveries')).body.deliveries.find(({ id }) => id === body.id).recipients;
  await eventually(async () => (await recipients()).filter(({ received_ms }) => received_ms).length === 2);
  const found = Object.fromEntries((await recipients()).map(({ user, node, why_not }) => [user, node ?? why_not]));
  assert.deepEqual(found, { admin: 'no page has confirmed it', kim: 'n1', lee: 'n2' });
});

test('spc: dark and light, wide and narrow', async () => {
  mkdirSync(artifact('screenshots'), { recursive: true });
  // A stretch that is worth looking at: quiet, then wandering off.
  for (let at = 0; at < 26; at += 1) {
    const wobble = [0.3, -0.9, 0.6, -0.2, 1.1, -0.7, 0.1, 0.8][at % 8];
    await api(0, 'kim', 'POST', 'products/2/measurements', { values: [502 + wobble + Math.max(0, at - 17) * 0.55] });
  }
  await kim.page.locator('#products label').nth(1).click();
  await kim.page.waitForFunction(() => document.getElementById('unit').textContent === 'g');
  await kim.page.locator('.toast').evaluateAll((toasts) => toasts.forEach((toast) => toast.remove()));
  for (const view of ['live', 'history', 'statistics', 'deliveries', 'connections', 'settings']) {
    await kim.page.evaluate((view) => (location.hash = `#${view}`), view);
    await kim.page.locator(`[data-view=${view}]`).waitFor();
    for (const [colorScheme, name, width] of SHOTS) {
      await kim.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await kim.page.setViewportSize({ width, height: 900 });
      await kim.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
      await kim.page.screenshot({ path: artifact(`screenshots/spc-${view}-${colorScheme}-${name}.png`), fullPage: true });
      assert.equal(await kim.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, `${view} ${name}`);
    }
  }
  await kim.page.evaluate(() => (location.hash = '#live'));
});

test('spc: when a node is killed the page is live again on the other, and misses nothing', async () => {
  // From here on by the balancer, as users come.
  proxy.retarget(Number(new URL(world.http).port));
  process.kill(world.nodes[0].pid, 'SIGKILL');
  await kim.page.waitForFunction(() => document.body.dataset.live !== 'live');
  const { body } = await raise(1, { title: 'After the node had died' });
  await live(kim.page, LIVE_AGAIN_MS);
  await Promise.all([shown(kim.page, body.id), shown(lee.page, body.id)]);
  assert.equal(await alert(kim.page, body.id).count(), 1);
  assert.deepEqual([kim.seen.troubles, kim.seen.elsewhere], [[], []]);
});

test('spc: logging out is the act of the server: the socket is closed and nothing of the user is left in the page', async () => {
  await lee.page.getByRole('button', { name: 'Log out' }).click();
  await lee.page.locator('#login').waitFor();
  const heard = lee.seen.frames.length;
  const { body } = await raise(1, { title: 'After the logout' });
  await shown(kim.page, body.id);
  assert.equal(carrying({ frames: lee.seen.frames.slice(heard) }, body.id), 0);
  assert.equal(await lee.page.locator('#alerts li.alert').count(), 0);
  for (const token of Object.values(tokens)) assert.ok(!world.log().includes(token), 'no token in the log');
  assert.ok(!world.log().includes('panicked'), world.log());
});

/** Asks again until it holds. */
async function eventually(holds) {
  const end = Date.now() + 10_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `not within 10 s: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
