// A WebSocket whose server is the test, and a page whose events the test makes: broker.js without a network and without a browser.

import { mock } from 'node:test';

/** Sockets in the order in which they were made. */
export const sockets = [];

export class FakeSocket {
  closed = false;
  sent = [];

  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
    sockets.push(this);
  }

  send(text) {
    if (this.closed) throw new Error('a socket that was given up is used');
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  // ---- what the server does ----

  say(frame) {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
  }

  accept(user = '') {
    this.say({ broker: 'connected', session: `s${sockets.indexOf(this)}`, user });
  }

  end(code = 1006, reason = '') {
    this.onclose?.({ code, reason });
  }

  /** The newest command of this kind. */
  asked(word) {
    return this.sent.findLast(({ broker }) => broker === word);
  }

  /** Answers a subscribe. */
  subscribed(topic, rest = {}) {
    const { id } = this.sent.findLast((frame) => frame.broker === 'subscribe' && frame.topic === topic);
    this.say({ broker: 'subscribed', id, topic, ...rest });
  }

  /** Says that everything has come that was on its way. */
  arrived() {
    const { id, topic } = this.asked('unsubscribe');
    this.say({ broker: 'unsubscribed', id, topic, code: 2000, reason: 'client unsubscribe' });
  }

  publish(topic, position, data = position) {
    this.say({ broker: 'publication', topic, position, data, time: 0 });
  }
}

export const socket = () => sockets.at(-1);

/** Lets everything run that waits for nothing but promises. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Time passes, and what it sets off runs. */
export async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

/** A page with `fire(type)`, `show(visible)` and `online`; the globals that a browser has, until `remove()`. */
export function fakePage() {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const navigator = { onLine: true };
  const signals = [];
  const heard = (target) => (type, listener, options) => {
    signals.push(options.signal);
    EventTarget.prototype.addEventListener.call(target, type, listener, options);
  };
  document.addEventListener = heard(document);
  const globals = { document, navigator, addEventListener: heard(window) };
  const before = Object.keys(globals).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
  return {
    /** Listeners that were added and not removed. */
    listeners: () => signals.filter(({ aborted }) => !aborted).length,
    fire: (type) => window.dispatchEvent(new Event(type)),
    resume: () => document.dispatchEvent(new Event('resume')),
    show(visible) {
      document.visibilityState = visible ? 'visible' : 'hidden';
      document.dispatchEvent(new Event('visibilitychange'));
    },
    network(on) {
      navigator.onLine = on;
      window.dispatchEvent(new Event(on ? 'online' : 'offline'));
    },
    remove() {
      for (const [name, descriptor] of before) {
        if (descriptor) Object.defineProperty(globalThis, name, descriptor);
        else delete globalThis[name];
      }
    },
  };
}

/** Chance that is the same each time. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
