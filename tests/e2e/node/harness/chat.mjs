// The chat of examples/: started on free ports, alone or as two nodes; people who talk to it from pages and from programs.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { program, start } from './broker.mjs';

const PATIENCE_MS = 10_000;
const PASSWORD = 'correct horse';

/** One node, or two behind the kit's balancer. Passwords are hashed with little memory: they are nobody's. */
export async function startChat({ args = [], twoNodes = false } = {}) {
  const words = [...(twoNodes ? ['two-nodes'] : []), '--listen', '127.0.0.1:0', '--password-memory', '64', ...args];
  const server = await start(program('CHAT_BIN'), words, {}, '', [/chat at (http:\/\/[\d.:[\]]+)\//]);
  const pids = [...server.log().matchAll(/^n\d at http:\S+ \(process (\d+)\)$/gm)].map(([, pid]) => Number(pid));
  return Object.assign(server, { nodePids: pids });
}

/** Somebody who talks to the server at `http` without a page. */
export class Person {
  constructor(http, user, token) {
    Object.assign(this, { http, user, token });
  }

  static async signUp(http, name) {
    const { user, token } = await post(`${http}/api/signup`, { name, password: PASSWORD });
    return new Person(http, user, token);
  }

  post(path, body = {}) {
    return post(`${this.http}/api${path}`, body, this.token);
  }

  async get(path) {
    const answer = await fetch(`${this.http}/api${path}`, { headers: { Authorization: `Bearer ${this.token}` } });
    return answer.json();
  }

  say(session, content) {
    return this.post(`/sessions/${session}/messages`, { content });
  }

  /** What the database has of a session, in its order. */
  async stored(session) {
    const { messages } = await this.get(`/sessions/${session}/messages?after=0&limit=200`);
    return messages.map(({ content }) => content);
  }

  listen(session, more = '') {
    return RawClient.open(`${this.http.replace('http', 'ws')}/ws/chat?sessionId=${session}&token=${this.token}${more}`);
  }
}

async function post(url, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${url}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : {};
}

/** A bare WebSocket, and everything it got. */
export class RawClient {
  frames = [];
  #changed = new EventTarget();

  static async open(url) {
    const client = new RawClient();
    client.socket = new WebSocket(url);
    client.socket.onmessage = ({ data }) => {
      client.frames.push(JSON.parse(data));
      client.#changed.dispatchEvent(new Event('frame'));
    };
    await new Promise((resolve, reject) => {
      client.socket.onopen = resolve;
      client.socket.onerror = () => reject(new Error(`${url.replace(/=[^&]*$/, '=..')} does not open`));
    });
    return client;
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  /** Contents of the messages that came live, in their order. */
  said() {
    return this.frames.filter(({ type }) => type === 'message').map(({ content }) => content);
  }

  /** Waits until what came satisfies `test`. */
  async until(test, what) {
    const deadline = AbortSignal.timeout(PATIENCE_MS);
    while (!test(this.frames)) {
      await once(this.#changed, 'frame', { signal: deadline }).catch(() => assert.fail(`${what}; there came ${JSON.stringify(this.frames)}`));
    }
  }

  close() {
    this.socket.close();
  }
}

/** The page of somebody new who signs up, behind `origin`; opens `path` first. Cookies belong to a host: whoever was logged in there is so no more. */
export async function openChat(browser, origin, name, path = '/') {
  await browser.context.clearCookies({ domain: new URL(origin).hostname });
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const troubles = [];
  page.on('pageerror', (error) => troubles.push(error.message));
  await page.goto(`${origin}${path}`);
  await page.fill('#name', name);
  await page.fill('#password', PASSWORD);
  await page.click('#enter');
  await page.waitForFunction(() => document.body.dataset.live === 'live' && document.body.dataset.view === 'talk');
  return Object.assign(new ChatPage(), { page, troubles });
}

/** What the tests do with a page, and read from it. */
export class ChatPage {
  async say(text) {
    await this.page.fill('#text', text);
    await this.page.press('#text', 'Enter');
  }

  /** The texts of the bubbles, from top to bottom. */
  bubbles() {
    return this.page.locator('#messages .bubble .text').allTextContents();
  }

  /** Waits until the bubbles are these. */
  async shows(expected) {
    const found = (expected) => JSON.stringify([...document.querySelectorAll('#messages .bubble .text')].map((text) => text.textContent)) === JSON.stringify(expected);
    await this.page.waitForFunction(found, expected).catch(async () => assert.deepEqual(await this.bubbles(), expected));
  }

  /** Waits until so many bubbles have this state. */
  async has(count, state) {
    const found = ([count, state]) => document.querySelectorAll(`#messages [data-state="${state}"]`).length === count;
    await this.page.waitForFunction(found, [count, state]);
  }

  sessionId() {
    return this.page.evaluate(() => location.hash.slice(1));
  }

  async shareLink() {
    await this.page.click('#share');
    const link = await this.page.inputValue('#share-link');
    await this.page.click('#share-dialog [data-close]');
    return new URL(link).pathname;
  }
}
