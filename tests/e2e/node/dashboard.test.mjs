// The dashboard of `examples/`: a browser that shows live numbers, and what it shows when something breaks.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { startDashboard } from './harness/broker.mjs';
import { artifact, openBrowser } from './harness/pages.mjs';
import { startProxy } from './harness/proxy.mjs';

const LIVE_AGAIN_MS = 5_000;

let dashboard, proxy, browser;
before(async () => {
  [dashboard, browser] = await Promise.all([startDashboard(), openBrowser()]);
  proxy = await startProxy(dashboard.port);
});
after(async () => {
  await browser?.close();
  proxy?.close();
  await dashboard?.stop();
});

/** The open dashboard behind the proxy, with its frames and what went wrong in it. */
async function openDashboard() {
  const page = await browser.newPage();
  const seen = { sockets: 0, frames: [], troubles: [], elsewhere: [] };
  page.on('pageerror', (error) => seen.troubles.push(error.message));
  page.on('websocket', (socket) => {
    seen.sockets += 1;
    socket.on('framereceived', ({ payload }) => {
      seen.frames.push(payload);
      page.emit('frame');
    });
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:' && url.host !== `127.0.0.1:${proxy.port}`) seen.elsewhere.push(request.url());
  });
  await page.goto(`http://127.0.0.1:${proxy.port}/`);
  return { page, seen };
}

const state = (page, shown, timeout = 10_000) => page.waitForFunction((shown) => document.body.dataset.state === shown, shown, { timeout });

test('dashboard: the first frame is the data and stands in the cards', async () => {
  const { page, seen } = await openDashboard();
  await state(page, 'live');
  const first = JSON.parse(seen.frames[0]);
  assert.ok(first.statistics.cpu.cores.length > 0, seen.frames[0]);
  for (const id of ['cpu', 'memory', 'load', 'network']) assert.match(await page.locator(`#${id}`).textContent(), /^[\d.,]+$/, id);
  assert.ok((await page.locator('#processes tr').count()) > 0);
  await page.screenshot({ path: artifact('dashboard.png'), fullPage: true });
  assert.deepEqual([seen.sockets, seen.troubles, seen.elsewhere], [1, [], []]);
  await page.close();
});

test('dashboard: numbers keep coming, in a second tab too', async () => {
  const tabs = [await openDashboard(), await openDashboard()];
  await Promise.all(
    tabs.map(async ({ page }) => {
      await state(page, 'live');
      for (let more = 0; more < 2; more += 1) await once(page, 'frame', { signal: AbortSignal.timeout(12_000) });
      await page.close();
    }),
  );
});

test('dashboard: after a cut it is live again within five seconds, without a reload', async () => {
  const { page, seen } = await openDashboard();
  await state(page, 'live');
  await page.evaluate(() => (window.sameDocument = true));
  proxy.cut();
  await page.waitForFunction(() => document.body.dataset.state !== 'live');
  await state(page, 'live', LIVE_AGAIN_MS);
  assert.deepEqual([await page.evaluate(() => window.sameDocument), seen.sockets, seen.troubles], [true, 2, []]);
  await page.close();
});

test('dashboard: a server that stops is found again when it is back', async () => {
  const { page, seen } = await openDashboard();
  await state(page, 'live');
  await page.evaluate(() => (window.sameDocument = true));
  await dashboard.stop();
  await state(page, 'reconnecting');
  await page.locator('.since', { hasText: 'stale since' }).first().waitFor();
  await page.screenshot({ path: artifact('dashboard-reconnecting.png'), fullPage: true });
  dashboard = await startDashboard();
  proxy.retarget(dashboard.port);
  await state(page, 'live', LIVE_AGAIN_MS);
  assert.deepEqual([await page.evaluate(() => window.sameDocument), seen.troubles], [true, []]);
  await page.close();
});

test('dashboard: when reading fails no socket closes and the cards say since when', async () => {
  const { page, seen } = await openDashboard();
  await state(page, 'live');
  await page.locator('details.connection summary').click();
  await page.locator('#outage').click();
  await state(page, 'stale');
  assert.match(await page.locator('.since').first().textContent(), /^stale since \d/);
  await page.screenshot({ path: artifact('dashboard-stale.png'), fullPage: true });
  await state(page, 'live', 40_000);
  assert.deepEqual([seen.sockets, seen.troubles], [1, []]);
  await page.close();
});

test('dashboard: fits a phone and the dark', async () => {
  const { page } = await openDashboard();
  await page.setViewportSize({ width: 375, height: 700 });
  await page.emulateMedia({ colorScheme: 'dark' });
  await state(page, 'live');
  await page.screenshot({ path: artifact('dashboard-phone-dark.png'), fullPage: true });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
  await page.close();
});
