// The npm package `centrifuge`, unmodified, in headless Chromium: the bundle that it ships for browsers.

import { after, before, test } from 'node:test';
import { openBrowser, servePages } from './harness/pages.mjs';
import { startWorld } from './harness/world.mjs';
import { scenarios } from './scenarios.mjs';

let world, pages, browser;
before(async () => {
  [world, pages, browser] = await Promise.all([startWorld(), servePages(), openBrowser()]);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await world?.stop();
});

for (const name of Object.keys(scenarios)) {
  test(`centrifuge in Chromium: ${name}`, async () => {
    const page = await browser.newPage();
    try {
      await page.exposeFunction('callWorld', (method, args) => world.calls[method](...args));
      await page.goto(`${pages.url}/sdk`);
      const failure = await page.evaluate(
        async ({ name, facts }) => {
          const { runScenario } = await import('/scenarios.mjs');
          const call = (method, ...args) => window.callWorld(method, args);
          try {
            await runScenario(name, { Centrifuge: window.Centrifuge, WebSocket: window.WebSocket, world: { facts, call } });
            return null;
          } catch (error) {
            return error.message;
          }
        },
        { name, facts: world.facts },
      );
      if (failure) throw new Error(failure);
    } finally {
      await page.close();
    }
  });
}
