// The dashboard of `examples/`: live numbers and ticks in a browser, and what its pages show when something breaks.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startDashboard } from './harness/broker.mjs';
import { artifact, openBrowser } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';

const LIVE_AGAIN_MS = 5_000;
const TOKEN_LIFE_S = 10;

let dashboard, proxy, stable, browser; // `stable` is never cut
before(async () => {
  [dashboard, browser] = await Promise.all([startDashboard({ args: ['--token-life', String(TOKEN_LIFE_S)] }), openBrowser()]);
  [proxy, stable] = await Promise.all([startProxy(dashboard.port), startProxy(dashboard.port)]);
});
after(async () => {
  await browser?.close();
  proxy?.close();
  stable?.close();
  await dashboard?.stop();
});

/** A page behind the proxy, with the frames of its sockets by their path and what went wrong in it. */
async function open(path, through = proxy) {
  const page = await browser.newPage();
  const seen = { sockets: [], troubles: [], elsewhere: [] };
  page.on('pageerror', (error) => seen.troubles.push(error.message));
  page.on('websocket', (socket) => {
    const { pathname, search } = new URL(socket.url());
    const one = { path: pathname, search, frames: [], sent: [] };
    seen.sockets.push(one);
    socket.on('framesent', ({ payload }) => one.sent.push(payload));
    socket.on('framereceived', ({ payload }) => {
      one.frames.push(payload);
      page.emit(`frame of ${pathname}`);
    });
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && url.host !== `127.0.0.1:${through.port}`) seen.elsewhere.push(request.url());
  });
  await page.goto(`http://127.0.0.1:${through.port}${path}`);
  await page.evaluate(() => (window.sameDocument = true));
  return { page, seen };
}

const state = (page, shown, timeout = 15_000) => page.waitForFunction((shown) => document.body.dataset.live === shown, shown, { timeout });
const hop = (page, id, shown, timeout = 15_000) => page.waitForFunction(([id, shown]) => document.getElementById(id).dataset.state === shown, [id, shown], { timeout });
const parsed = (socket) => socket.frames.filter((frame) => frame !== 'pong').map((frame) => JSON.parse(frame));
const isSame = (page) => page.evaluate(() => window.sameDocument === true);

async function pictures(page, view) {
  for (const colorScheme of ['dark', 'light']) {
    for (const [width, size] of [[1280, 'wide'], [390, 'narrow']]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      const path = artifact(`screenshots/dashboard-${view}-${colorScheme}-${size}.png`);
      await mkdir(dirname(path), { recursive: true });
      // Charts follow the width of their cards with the next frame.
      await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
      await page.screenshot({ path, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(over, 0, `${view} is wider than ${width} px`);
    }
  }
}

// Beside one another: what breaks in one does not concern the other.
describe('pages', { concurrency: 2 }, () => {
  describe('dispatch', { concurrency: 1 }, () => {
    test('the first frame is the data and stands in the cards', async () => {
      const { page, seen } = await open('/realtime');
      await state(page, 'live');
      await page.locator('#alerts li, #no-alerts:not([hidden])').first().waitFor();
      const statistics = seen.sockets.find(({ path }) => path === '/api/v1/dispatches/ws/dashboard');
      const first = JSON.parse(statistics.frames[0]);
      assert.ok(first.total_orders > 1000 && first.pending_orders >= 0, statistics.frames[0]);
      assert.equal(JSON.parse(seen.sockets.find(({ path }) => path === '/api/v1/ws/alerts').frames[0]).type, 'alerts');
      for (const id of ['total_orders', 'pending_orders', 'moving_orders', 'delivered_orders', 'late_orders']) assert.match(await page.locator(`#${id}`).textContent(), /^[\d,]+$/, id);
      for (let more = 0; more < 2; more += 1) await once(page, 'frame of /api/v1/dispatches/ws/dashboard', { signal: AbortSignal.timeout(12_000) });
      await pictures(page, 'realtime');
      assert.deepEqual([seen.sockets.length, seen.troubles, seen.elsewhere], [3, [], []]);
      await page.close();
    });

    test('two widgets share one connection, each at a rate of its own', async () => {
      const { page, seen } = await open('/realtime');
      await state(page, 'live');
      const widgets = seen.sockets.filter(({ path }) => path === '/ws');
      assert.equal(widgets.length, 1);
      const count = (topic) => parsed(widgets[0]).filter((frame) => frame.broker === 'publication' && frame.topic === topic).length;
      const before = { pulse: count('widgets:pulse'), machine: count('widgets:machine') };
      while (count('widgets:machine') < before.machine + 3) await once(page, 'frame of /ws', { signal: AbortSignal.timeout(12_000) });
      // Both topics are published four times a second; the machine's widget takes one in two seconds.
      const [pulse, machine] = [count('widgets:pulse') - before.pulse, count('widgets:machine') - before.machine];
      assert.ok(pulse >= 3 * machine, `${pulse} frames of the pulse, ${machine} of the machine`);
      await page.selectOption('[data-topic="widgets:machine"] select', '4');
      const slow = count('widgets:machine');
      const at = Date.now();
      while (count('widgets:machine') < slow + 6) await once(page, 'frame of /ws', { signal: AbortSignal.timeout(12_000) });
      assert.ok(Date.now() - at < 8_000, 'six frames at one in two seconds would take twelve seconds');
      assert.deepEqual(seen.sockets.filter(({ path }) => path === '/ws').length, 1);
      await page.close();
    });

    test('after a cut, and with a second tab, it is live again within five seconds without a reload', async () => {
      const tabs = [await open('/realtime'), await open('/realtime')];
      await Promise.all(tabs.map(({ page }) => state(page, 'live')));
      proxy.cut();
      await Promise.all(tabs.map(async ({ page, seen }) => {
        await page.waitForFunction(() => document.body.dataset.live !== 'live');
        await state(page, 'live', LIVE_AGAIN_MS);
        assert.deepEqual([await isSame(page), seen.sockets.length, seen.troubles], [true, 6, []]);
      }));
      const log = await tabs[0].page.locator('#log').textContent();
      assert.match(log, /closed.*network.*1006/s);
      await Promise.all(tabs.map(({ page }) => page.close()));
    });

    test('a page that is older than its server says so, once it is connected again', async () => {
      const { page } = await open('/realtime');
      await state(page, 'live');
      assert.equal(await page.locator('#banner').isVisible(), false);
      await page.route('**/kit/version', (route) => route.fulfill({ body: '9.9.9 (another build)' }));
      proxy.cut();
      await page.locator('#banner', { hasText: 'This page is older than its server' }).waitFor({ timeout: LIVE_AGAIN_MS });
      await page.close();
    });

    test('a laptop that slept on a dead connection is live again within five seconds', async () => {
      const { page } = await open('/realtime');
      await state(page, 'live');
      proxy.stall();
      const other = await browser.newPage();
      await other.bringToFront();
      await page.bringToFront();
      const at = Date.now();
      await page.evaluate(() => dispatchEvent(new Event('online')));
      await page.waitForFunction(() => document.body.dataset.live !== 'live', null, { timeout: LIVE_AGAIN_MS });
      await state(page, 'live', LIVE_AGAIN_MS);
      assert.ok(Date.now() - at < LIVE_AGAIN_MS + 1_000, `${Date.now() - at} ms`);
      proxy.cut();
      await Promise.all([other.close(), page.close()]);
    });

    test('when the database fails no socket closes, the cards say since when, and the log has one line', async () => {
      const { page, seen } = await open('/realtime');
      await state(page, 'live');
      const mark = dashboard.log().length;
      await page.evaluate(() => fetch('/demo/database', { method: 'POST' }));
      await state(page, 'stale');
      assert.match(await page.locator('.since:visible').first().textContent(), /^stale since \d\d:\d\d:\d\d$/);
      await pictures(page, 'stale');
      await state(page, 'live', 30_000);
      assert.deepEqual([seen.sockets.length, seen.troubles], [3, []]);
      assert.equal(dashboard.log().slice(mark).match(/the statistics cannot be read/g).length, 1);
      await page.close();
    });

    test('a wrong address is told the right one', async () => {
      const { page } = await open('/realtime');
      await state(page, 'live');
      await page.locator('summary', { hasText: 'See what happens' }).click();
      await page.locator('#wrong').click();
      await page.locator('#wrong-answer', { hasText: 'did you mean /api/v1/dispatches/ws/dashboard?' }).waitFor();
      await page.close();
    });
  });

  describe('stocks', { concurrency: 1 }, () => {
    test('ticks come over both hops, a malformed registration is told where and costs nothing', async () => {
      const { page, seen } = await open('/stocks', stable);
      await Promise.all(['hop-exchange', 'hop-bridge', 'hop-page'].map((id) => hop(page, id, 'up')));
      await page.locator('#trades tr:nth-child(4)').waitFor();
      assert.match(await page.locator('.share[data-item="005930"] .price').textContent(), /^₩[\d,]+$/);
      await page.locator('#frames summary').click();
      await page.selectOption('#preset', 'Malformed: four mistakes');
      await page.locator('#sender button').click();
      for (const path of ['$.data[0].item[0]', '$.data[0].item[2]', '$.data[0].type[1]', '$.data[1]']) await page.locator('#answers code', { hasText: path }).first().waitFor();
      await page.locator('.share[data-item="035720"][data-on]').waitFor();
      await page.locator('#connection summary').first().click();
      await pictures(page, 'stocks');
      const sockets = seen.sockets.filter(({ path }) => path === '/api/v1/stocks/ws');
      assert.deepEqual([sockets.length, sockets[0].search, seen.troubles, seen.elsewhere], [1, '', [], []]);
      await page.close();
    });

    test('a token that ends is renewed on the open socket, and one that was let end is told and replaced', async () => {
      const { page, seen } = await open('/stocks', stable);
      await state(page, 'live');
      const sockets = () => seen.sockets.filter(({ path }) => path === '/api/v1/stocks/ws');
      await page.locator('#log td', { hasText: 'renewed on the open socket' }).first().waitFor({ timeout: TOKEN_LIFE_S * 1000 });
      assert.equal(sockets().length, 1);
      await page.evaluate(() => document.getElementById('let-end').click());
      await page.locator('#log tr', { hasText: '3005' }).first().waitFor({ timeout: 2 * TOKEN_LIFE_S * 1000 });
      await page.locator('.toast', { hasText: 'The token has ended' }).waitFor();
      await state(page, 'live', LIVE_AGAIN_MS);
      assert.equal(sockets().length, 2);
      assert.ok(sockets()[1].sent.some((frame) => frame.includes('"REG"')), 'what was registered is registered again');
      await page.close();
    });

    test('the page says which hop is down, and the log of the bridge when and why', async () => {
      const { page } = await open('/stocks', stable);
      await hop(page, 'hop-exchange', 'up');
      await page.evaluate(() => fetch('/demo/exchange-token', { method: 'POST' }));
      await page.locator('#feed-log tr', { hasText: '3005' }).first().waitFor();
      await hop(page, 'hop-exchange', 'up', LIVE_AGAIN_MS);
      await page.evaluate(() => fetch('/demo/exchange', { method: 'POST' }));
      await hop(page, 'hop-exchange', 'down');
      await state(page, 'stale');
      await pictures(page, 'hops');
      assert.match(await page.locator('#feed-log tr').first().textContent(), /exchange → bridge/);
      await page.evaluate(() => fetch('/demo/bridge', { method: 'POST' }));
      await hop(page, 'hop-bridge', 'down');
      await hop(page, 'hop-exchange', 'unknown');
      assert.equal(await page.evaluate(() => document.getElementById('hop-page').dataset.state), 'up');
      await hop(page, 'hop-exchange', 'up', 40_000);
      await state(page, 'live');
      await page.close();
    });
  });
});

test('both pages: a server that stops is found again when it is back', async () => {
  const pages = [await open('/realtime'), await open('/stocks')];
  await Promise.all(pages.map(({ page }) => state(page, 'live')));
  await dashboard.stop();
  await Promise.all(pages.map(({ page }) => state(page, 'reconnecting')));
  await pages[0].page.locator('.since:visible', { hasText: 'stale since' }).first().waitFor();
  await pictures(pages[0].page, 'reconnecting');
  dashboard = await startDashboard({ args: ['--token-life', String(TOKEN_LIFE_S)] });
  proxy.retarget(dashboard.port);
  await Promise.all(pages.map(({ page }) => page.waitForFunction(() => ['live', 'stale'].includes(document.body.dataset.live), null, { timeout: LIVE_AGAIN_MS })));
  await Promise.all(pages.map(async ({ page, seen }) => {
    await state(page, 'live', 20_000); // the bridge of the new server has to come up too
    assert.deepEqual([await isSame(page), seen.troubles], [true, []]);
    await page.close();
  }));
});
