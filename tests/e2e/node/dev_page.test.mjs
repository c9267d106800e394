// The page that a dev server shows at `/`: what a newcomer sees first.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startBroker } from './harness/broker.mjs';
import { artifact, openBrowser } from './harness/pages.mjs';

let broker, browser;
before(async () => {
  [broker, browser] = await Promise.all([startBroker(), openBrowser()]);
});
after(async () => {
  await browser?.close();
  await broker?.stop();
});

/** The open page, with what went wrong in it. */
async function openDevPage() {
  const page = await browser.newPage();
  const troubles = [];
  const elsewhere = [];
  page.on('pageerror', (error) => troubles.push(error.message));
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.host !== new URL(broker.http).host) elsewhere.push(request.url());
  });
  await page.goto(broker.http);
  return { page, troubles, elsewhere };
}

test('dev page: subscribes, publishes and shows the frame', async () => {
  const { page, troubles, elsewhere } = await openDevPage();
  await page.getByRole('textbox', { name: /topic/i }).first().fill('dev.page');
  await page.getByRole('button', { name: /^subscribe/i }).click();
  await page.getByRole('status').filter({ hasText: /live/i }).waitFor();
  await page.getByLabel('Topic', { exact: true }).fill('dev.page');
  await page.getByRole('textbox', { name: /data/i }).first().fill('{"hello":"from the page"}');
  await page.getByRole('button', { name: /^publish/i }).click();
  await page.getByText('from the page').last().waitFor();
  await broker.api('publish', { channel: 'dev.page', data: { hello: 'from the API' } });
  await page.getByText('from the API').first().waitFor();
  await page.screenshot({ path: artifact('dev-page.png'), fullPage: true });
  assert.deepEqual({ troubles, elsewhere }, { troubles: [], elsewhere: [] });
  await page.close();
});

test('dev page: fits a phone and the dark', async () => {
  const { page } = await openDevPage();
  await page.setViewportSize({ width: 375, height: 700 });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: artifact('dev-page-phone-dark.png'), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, 'the page scrolls sideways');
  await page.close();
});

test('dev page: can be used with the keyboard, and every control has a name', async () => {
  const { page } = await openDevPage();
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll('input, textarea, select, button')]
      .filter((control) => !control.labels?.length && !control.getAttribute('aria-label') && !control.textContent.trim())
      .map((control) => control.outerHTML),
  );
  assert.deepEqual(unnamed, []);
  await page.keyboard.press('Tab');
  assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
  await page.close();
});

test('dev page: says when the server is gone', async () => {
  const own = await startBroker();
  const page = await browser.newPage();
  await page.goto(own.http);
  await page.getByRole('status').filter({ hasText: /live/i }).waitFor();
  await own.stop();
  await page.getByRole('status').filter({ hasText: /reconnecting|offline|closed/i }).waitFor();
  await page.close();
});

test('dev page: is served in dev mode only, fresh, with an ETag', async () => {
  const page = await fetch(broker.http);
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type'), /text\/html/);
  assert.match(page.headers.get('cache-control'), /no-cache/);
  const etag = page.headers.get('etag');
  assert.ok(etag);
  const again = await fetch(broker.http, { headers: { 'If-None-Match': etag } });
  assert.equal(again.status, 304);
  const plain = await startBroker({ args: [] });
  try {
    assert.equal((await fetch(plain.http)).status, 404);
  } finally {
    await plain.stop();
  }
});
