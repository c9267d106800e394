// What an application does with the published SDK, written once and run in Node and in a browser.
//
// This module imports nothing, so that a page can load it. A scenario gets the tools below; it passes when it returns,
// and when none of the SDK's error callbacks fired that it did not announce with `t.expectErrors()`.

const PATIENCE_MS = 20_000;
const POLL_MS = 20;

/** Fails a scenario; `frames` of its clients are added by `runScenario`. */
export class Failure extends Error {}

function show(value) {
  return JSON.stringify(value);
}

/** Compares by JSON text with sorted keys. */
function same(actual, expected, what) {
  const sorted = (value) =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
      : Array.isArray(value)
        ? value.map(sorted)
        : value;
  if (show(sorted(actual)) !== show(sorted(expected))) throw new Failure(`${what}: got ${show(actual)}, expected ${show(expected)}`);
}

function holds(condition, what) {
  if (!condition) throw new Failure(what);
}

/** Rejects with the SDK's error object, which becomes the answer. */
async function refused(promise, what) {
  try {
    const result = await promise;
    throw new Failure(`${what}: was not refused but answered ${show(result)}`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    return error;
  }
}

/** Everything that a scenario needs: clients that record, calls to the world, bounded waiting. */
class Tools {
  constructor({ Centrifuge, WebSocket, world, name }) {
    this.Centrifuge = Centrifuge;
    this.WebSocket = WebSocket;
    this.world = world;
    this.name = name;
    this.clients = [];
    this.errors = [];
    this.frames = [];
    this.waiting = new Set();
    this.errorsExpected = null;
  }

  /** A topic of this scenario alone. */
  topic(suffix = 'a') {
    return `${this.name.replace(/[^a-z0-9]+/gi, '-')}.${suffix}-${Math.random().toString(36).slice(2, 10)}`;
  }

  expectErrors(pattern) {
    this.errorsExpected = pattern;
  }

  /** An SDK client; its frames, states and errors are recorded. Not connected yet. */
  client(options = {}, where = 'open') {
    const frames = this.frames;
    const tools = this;
    const label = `c${this.clients.length + 1}`;
    class Watched extends this.WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener('open', () => frames.push(`${label} -- open`));
        this.addEventListener('message', (event) => {
          frames.push(`${label} <- ${event.data}`);
          tools.changed();
        });
        this.addEventListener('close', (event) => frames.push(`${label} -- close ${event.code} ${event.reason}`));
      }
      send(data) {
        frames.push(`${label} -> ${data}`);
        return super.send(data);
      }
    }
    const client = new this.Centrifuge(this.world.facts.urls[where], {
      websocket: Watched,
      minReconnectDelay: 50,
      maxReconnectDelay: 500,
      ...options,
    });
    client.label = label;
    client.transitions = [];
    for (const event of ['connecting', 'connected', 'disconnected']) {
      client.on(event, (context) => {
        client.transitions.push({ event, ...context });
        this.changed();
      });
    }
    // What happens in topics that the server chose.
    client.chosen = { subscribed: [], publication: [], unsubscribed: [] };
    for (const [event, list] of Object.entries(client.chosen)) {
      client.on(event, (context) => {
        list.push(context);
        this.changed();
      });
    }
    client.on('error', (context) => {
      this.errors.push(`${label} client error: ${show(context)}`);
      this.changed();
    });
    this.clients.push(client);
    return client;
  }

  /** A client that is connected. */
  async connected(options, where) {
    const client = this.client(options, where);
    client.connect();
    await client.ready(PATIENCE_MS);
    return client;
  }

  /** A subscription that records what reaches it. Waits for `subscribed`. */
  async listen(client, topic, options = {}) {
    const subscription = client.newSubscription(topic, options);
    this.record(client, subscription);
    subscription.subscribe();
    await this.until(() => subscription.answers.length > 0, `${topic} is subscribed`);
    return subscription;
  }

  record(client, subscription) {
    subscription.got = [];
    subscription.publications = [];
    subscription.answers = [];
    subscription.endings = [];
    subscription.joins = [];
    subscription.leaves = [];
    const into = (list, pick = (context) => context) => (context) => {
      list.push(pick(context));
      this.changed();
    };
    subscription.on('publication', into(subscription.publications));
    subscription.on('publication', into(subscription.got, (context) => context.data));
    subscription.on('subscribed', into(subscription.answers));
    subscription.on('unsubscribed', into(subscription.endings));
    subscription.on('join', into(subscription.joins, (context) => context.info.client));
    subscription.on('leave', into(subscription.leaves, (context) => context.info.client));
    subscription.on('error', (context) => {
      this.errors.push(`${client.label} subscription error: ${show(context)}`);
      this.changed();
    });
  }

  /** A subscription to a topic's rows that records what reaches it. Waits for the first ones. */
  async map(client, topic, options = {}) {
    const map = client.newMapSubscription(topic, options);
    Object.assign(map, { rows: new Map(), syncs: 0, updates: [], answers: [], endings: [] });
    map.on('sync', ({ entries }) => {
      map.syncs += 1;
      map.rows = new Map(entries.map(({ key, data }) => [key, data]));
      this.changed();
    });
    map.on('update', ({ key, data, removed, offset }) => {
      map.updates.push(removed ? `${key} gone at ${offset}` : `${key} ${show(data)} at ${offset}`);
      if (removed) map.rows.delete(key);
      else map.rows.set(key, data);
      this.changed();
    });
    for (const [event, list] of [['subscribed', map.answers], ['unsubscribed', map.endings]]) {
      map.on(event, (context) => {
        list.push(context);
        this.changed();
      });
    }
    map.on('error', (context) => this.errors.push(`${client.label} subscription error: ${show(context)}`));
    map.subscribe();
    await this.until(() => map.syncs + map.endings.length > 0, `${topic} is subscribed`);
    return map;
  }

  /** A token for `application`, which believes what stands in it. */
  plainToken(claims) {
    return JSON.stringify(claims);
  }

  /** What a client was told of a topic that the server chose: `subscribed`, `publication` or `unsubscribed`. */
  chosen(client, event, topic) {
    return client.chosen[event].filter(({ channel }) => channel === topic);
  }

  /** The server API; fails the scenario on an error unless `raw`. */
  async api(method, body, server = 'open') {
    const answer = await this.world.call('api', server, method, body);
    if (answer.error) throw new Failure(`API ${method}: ${show(answer.error)}`);
    return answer.result;
  }

  publish(topic, data, more = {}) {
    return this.api('publish', { channel: topic, data, ...more });
  }

  changed() {
    for (const check of [...this.waiting]) check();
  }

  /** Waits until `condition` holds; it is looked at again whenever something was recorded. */
  until(condition, what) {
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearTimeout(deadline);
        this.waiting.delete(check);
        settle(value);
      };
      const check = () => {
        try {
          if (condition()) end(resolve);
        } catch (error) {
          end(reject, error);
        }
      };
      const deadline = setTimeout(() => end(reject, new Failure(`waited ${PATIENCE_MS} ms in vain until ${what}`)), PATIENCE_MS);
      this.waiting.add(check);
      check();
    });
  }

  /** Asks again every `POLL_MS` until `accept` likes the answer: for states that nobody announces. */
  async eventually(ask, accept, what) {
    const end = Date.now() + PATIENCE_MS;
    let answer;
    do {
      answer = await ask();
      if (accept(answer)) return answer;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    } while (Date.now() < end);
    throw new Failure(`waited ${PATIENCE_MS} ms in vain until ${what}; the last answer was ${show(answer)}`);
  }

  framesIn(client) {
    return this.frames.filter((line) => line.startsWith(`${client.label} <- `)).map((line) => line.slice(client.label.length + 4));
  }

  framesOut(client) {
    return this.frames.filter((line) => line.startsWith(`${client.label} -> `)).map((line) => line.slice(client.label.length + 4));
  }
}

/** Runs one scenario; rejects with a text that tells the frames exchanged. */
export async function runScenario(name, parts) {
  const tools = new Tools({ ...parts, name });
  try {
    await scenarios[name](tools);
    const unexpected = tools.errors.filter((line) => !tools.errorsExpected?.test(line));
    holds(unexpected.length === 0, `error callbacks fired: ${unexpected.join('; ')}`);
  } catch (error) {
    const frames = tools.frames.slice(-40).map((line) => (line.length > 400 ? `${line.slice(0, 400)}…` : line));
    const errors = tools.errors.length > 0 ? `\nerror callbacks:\n  ${tools.errors.join('\n  ')}` : '';
    const shown = error instanceof Failure ? error.message : (error.stack ?? error.message ?? show(error));
    throw new Error(`${shown}${errors}\nframes:\n  ${frames.join('\n  ')}`);
  } finally {
    for (const client of tools.clients) client.disconnect();
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => ({ n: from + index }));

export const scenarios = {
  async 'connects and learns its session'(t) {
    const client = await t.connected();
    const [{ event }, connected] = client.transitions;
    same([event, connected.event], ['connecting', 'connected'], 'transitions');
    holds(UUID.test(connected.client), `session id ${show(connected.client)} is not a UUID`);
    same(connected.transport, 'websocket', 'transport');
  },

  async 'subscribes and learns the position'(t) {
    const client = await t.connected();
    const subscription = await t.listen(client, t.topic());
    const [answer] = subscription.answers;
    same([answer.recoverable, answer.positioned, answer.wasRecovering, answer.recovered], [true, true, false, false], 'flags');
    same(answer.streamPosition.offset, 0, 'offset of an empty topic');
    holds(answer.streamPosition.epoch.length > 0, 'the epoch is empty');
  },

  async 'a publish of a client reaches everyone, itself too, in order'(t) {
    const [one, two] = [await t.connected(), await t.connected()];
    const topic = t.topic();
    const [heardByOne, heardByTwo] = [await t.listen(one, topic), await t.listen(two, topic)];
    for (const item of numbers(1, 20)) await (item.n % 2 ? one : two).publish(topic, item);
    for (const heard of [heardByOne, heardByTwo]) {
      await t.until(() => heard.got.length >= 20, 'all 20 publications arrived');
      same(heard.got, numbers(1, 20), 'publications');
      same(heard.publications.map((publication) => publication.offset), numbers(1, 20).map((item) => item.n), 'offsets');
    }
    const publisher = one.transitions.at(-1).client;
    same(heardByTwo.publications[0].info.client, publisher, 'the session that published');
  },

  async 'a publish without waiting for the last keeps its order'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await Promise.all(numbers(1, 100).map((item) => client.publish(topic, item)));
    await t.until(() => heard.got.length >= 100, 'all 100 publications arrived');
    same(heard.got, numbers(1, 100), 'publications');
  },

  async 'a publish of the API reaches the subscriber with offset and tags'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    const result = await t.publish(topic, { price: 17.5 }, { tags: { kind: 'tick' } });
    await t.until(() => heard.got.length === 1, 'the publication arrived');
    const [publication] = heard.publications;
    same(publication.data, { price: 17.5 }, 'data');
    same(publication.offset, result.offset, 'offset');
    same(publication.tags, { kind: 'tick' }, 'tags');
    same(result.epoch, heard.answers[0].streamPosition.epoch, 'epoch');
    holds(publication.info === undefined, 'a publish of the API has no session');
  },

  async 'payloads arrive as they were published'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    const payloads = [
      {},
      [],
      null,
      0,
      -1.5e-7,
      true,
      '',
      'line\nbreak, "quotes", \\ and \u0000',
      '검사 결과 이상 없음 — 😀',
      { deep: { er: [{ still: [[[]]] }] } },
      { channel: 'push', push: { pub: { data: 1 } } },
      { text: 'x'.repeat(50_000) },
    ];
    for (const payload of payloads) await client.publish(topic, payload);
    for (const payload of payloads) await t.publish(topic, payload);
    await t.until(() => heard.got.length >= 2 * payloads.length, 'all payloads arrived');
    same(heard.got, [...payloads, ...payloads], 'payloads');
  },

  async 'publishes without being subscribed'(t) {
    const [publisher, listener] = [await t.connected(), await t.connected()];
    const topic = t.topic();
    const heard = await t.listen(listener, topic);
    await publisher.publish(topic, 'hello');
    await t.until(() => heard.got.length === 1, 'the publication arrived');
  },

  async 'reads history by limit, position and direction'(t) {
    const client = await t.connected();
    const topic = t.topic();
    for (const item of numbers(1, 10)) await t.publish(topic, item);
    const top = await client.history(topic, { limit: 0 });
    same([top.publications, top.offset], [[], 10], 'position only');
    const data = (page) => page.publications.map((publication) => publication.data);
    same(data(await client.history(topic, { limit: 3 })), numbers(1, 3), 'the first three');
    same(data(await client.history(topic, { limit: -1 })), numbers(1, 10), 'everything');
    same(data(await client.history(topic, { limit: 2, reverse: true })), [{ n: 10 }, { n: 9 }], 'the last two');
    const since = { offset: 7, epoch: top.epoch };
    same(data(await client.history(topic, { limit: 100, since })), numbers(8, 10), 'since a position');
    const page = await client.history(topic, { limit: 1 });
    same(page.publications[0].offset, 1, 'offset in history');
    const subscription = await t.listen(client, topic);
    same(data(await subscription.history({ limit: 1 })), [{ n: 1 }], 'through the subscription');
  },

  async 'sees who is present'(t) {
    const topic = t.topic();
    const named = await t.connected({ token: await t.world.call('token', { sub: 'ris1', info: { name: 'Kim' } }) });
    const other = await t.connected();
    const subscription = await t.listen(named, topic);
    await t.listen(other, topic);
    const [sessionNamed, sessionOther] = [named, other].map((client) => client.transitions.at(-1).client);
    const { clients } = await t.eventually(
      () => subscription.presence(),
      ({ clients }) => Object.keys(clients).length === 2,
      'both are present',
    );
    same(Object.keys(clients).sort(), [sessionNamed, sessionOther].sort(), 'sessions');
    same(clients[sessionNamed].user, 'ris1', 'user');
    same(clients[sessionNamed].connInfo, { name: 'Kim' }, 'info of the token');
    const stats = await named.presenceStats(topic);
    same([stats.numClients, stats.numUsers], [2, 2], 'presence stats');
    other.disconnect();
    await t.eventually(() => named.presenceStats(topic), ({ numClients }) => numClients === 1, 'the other one is gone');
  },

  async 'hears joins and leaves'(t) {
    const topic = t.topic();
    const watcher = await t.connected();
    const watched = await t.listen(watcher, topic, { joinLeave: true });
    const guest = await t.connected();
    const session = guest.transitions.at(-1).client;
    await t.listen(guest, topic);
    await t.until(() => watched.joins.includes(session), 'the join is heard');
    guest.disconnect();
    await t.until(() => watched.leaves.includes(session), 'the leave is heard');
  },

  async 'recovers what it missed after the socket was cut'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await t.publish(topic, { n: 1 });
    await t.until(() => heard.got.length === 1, 'the first publication arrived');
    await t.world.call('refuse', 'open', true);
    try {
      await t.world.call('cut', 'open');
      await t.until(() => client.state === 'connecting', 'the client noticed the cut');
      for (const item of numbers(2, 6)) await t.publish(topic, item);
      // While connections are refused the SDK's attempts fail, which it reports.
      t.expectErrors(/"type":"transport"/);
    } finally {
      await t.world.call('refuse', 'open', false);
    }
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    const answer = heard.answers[1];
    same([answer.wasRecovering, answer.recovered, answer.hasRecoveredPublications], [true, true, true], 'flags');
    await t.publish(topic, { n: 7 });
    await t.until(() => heard.got.length >= 7, 'everything arrived');
    same(heard.got, numbers(1, 7), 'publications');
  },

  async 'a cut socket comes back without an error'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await t.world.call('cut', 'open');
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    const connecting = client.transitions.filter(({ event }) => event === 'connecting');
    same(connecting.length, 2, 'times that it connected');
    const answer = heard.answers[1];
    same([answer.wasRecovering, answer.recovered, answer.hasRecoveredPublications], [true, true, false], 'flags');
  },

  async 'loses and doubles nothing under repeated cuts'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    // A cut during an attempt to connect is an attempt that failed.
    t.expectErrors(/"type":"(transport|connect)"|"code":(1|2|11)[,}]/);
    for (const item of numbers(1, 200)) {
      await t.publish(topic, item);
      if (item.n % 50 === 25) await t.world.call('cut', 'open');
    }
    await t.until(() => heard.got.length >= 200, 'all 200 publications arrived');
    same(heard.got, numbers(1, 200), 'publications');
    holds(heard.answers.slice(1).every((answer) => answer.recovered), 'every resume recovered');
  },

  async 'is told when more was missed than history keeps'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await t.publish(topic, { n: 0 });
    await t.until(() => heard.got.length === 1, 'the first publication arrived');
    await t.world.call('refuse', 'open', true);
    try {
      await t.world.call('cut', 'open');
      await t.until(() => client.state === 'connecting', 'the client noticed the cut');
      for (let sent = 0; sent < 310; sent += 31) {
        await t.api('broadcast', { channels: Array(31).fill(topic), data: { n: 'missed' } });
      }
      t.expectErrors(/"type":"transport"/);
    } finally {
      await t.world.call('refuse', 'open', false);
    }
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    const answer = heard.answers[1];
    same([answer.wasRecovering, answer.recovered], [true, false], 'flags');
    await t.publish(topic, { n: 'live' });
    await t.until(() => heard.got.at(-1).n === 'live', 'live publications arrive');
    same(heard.got.length, 2, 'publications');
  },

  async 'all its subscriptions come back'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topics = Array.from({ length: 20 }, (_, index) => t.topic(String(index)));
    const heard = await Promise.all(topics.map((topic) => t.listen(client, topic)));
    await t.world.call('cut', 'open');
    await t.until(() => heard.every((subscription) => subscription.answers.length === 2), 'all 20 are subscribed again');
    for (const topic of topics) await t.publish(topic, topic);
    await t.until(() => heard.every((subscription) => subscription.got.length === 1), 'each has its publication');
    same(heard.map((subscription) => subscription.got[0]), topics, 'publications');
  },

  async 'unsubscribes and subscribes again'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    for (let round = 1; round <= 5; round += 1) {
      await t.publish(topic, { round });
      await t.until(() => heard.got.length === round, 'the publication arrived');
      heard.unsubscribe();
      await t.until(() => heard.endings.length === round, 'it is unsubscribed');
      await t.eventually(() => client.presenceStats(topic), ({ numClients }) => numClients === 0, 'nobody is present');
      heard.subscribe();
      await t.until(() => heard.answers.length === round + 1, 'it is subscribed again');
    }
    same(heard.got.map(({ round }) => round), [1, 2, 3, 4, 5], 'publications');
  },

  async 'hears nothing after it unsubscribed'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    heard.unsubscribe();
    await t.publish(topic, 'not for you');
    await client.history(topic, { limit: 0 });
    same(heard.got, [], 'publications');
  },

  async 'resumes from a position that the application kept'(t) {
    const client = await t.connected();
    const topic = t.topic();
    await t.publish(topic, { n: 1 });
    const { offset, epoch } = await t.publish(topic, { n: 2 });
    for (const item of numbers(3, 5)) await t.publish(topic, item);
    const heard = await t.listen(client, topic, { since: { offset, epoch } });
    await t.until(() => heard.got.length === 3, 'the missed publications arrived');
    same(heard.got, numbers(3, 5), 'publications');
    same([heard.answers[0].wasRecovering, heard.answers[0].recovered], [true, true], 'flags');
  },

  async 'a position of another epoch is not recovered'(t) {
    const client = await t.connected();
    const topic = t.topic();
    await t.publish(topic, { n: 1 });
    const heard = await t.listen(client, topic, { since: { offset: 1, epoch: 'elsewhen' } });
    same([heard.answers[0].wasRecovering, heard.answers[0].recovered], [true, false], 'flags');
    same(heard.got, [], 'publications');
  },

  async 'answers every command of one frame'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const before = t.framesOut(client).length;
    client.startBatching();
    const results = [client.publish(topic, 1), client.publish(topic, 2), client.history(topic, { limit: -1 }), client.presenceStats(topic)];
    client.stopBatching();
    const [, , history, stats] = await Promise.all(results);
    same(t.framesOut(client).length - before, 1, 'frames sent');
    same(history.publications.map(({ data }) => data), [1, 2], 'history');
    same(stats.numClients, 0, 'presence stats');
  },

  async 'a bad subscribe is refused and leaves the connection alone'(t) {
    const client = await t.connected();
    const good = await t.listen(client, t.topic());
    for (const [topic, what] of [['x'.repeat(256), 'too long'], ['with blank', 'a blank'], ['ünïcode', 'not ASCII']]) {
      const bad = client.newSubscription(topic);
      t.record(client, bad);
      bad.subscribe();
      await t.until(() => bad.endings.length === 1, `the name with ${what} is refused`);
      same(bad.endings[0].code, 107, `code for ${what}`);
      holds(bad.endings[0].reason.length > 0, `no reason for ${what}`);
    }
    same(client.state, 'connected', 'state');
    await t.publish(good.channel, 'still here');
    await t.until(() => good.got.length === 1, 'the good subscription goes on');
  },

  async 'publishing to a bad name is refused'(t) {
    const client = await t.connected();
    const error = await refused(client.publish('with blank', 1), 'publish');
    same(error.code, 107, 'code');
    same(client.state, 'connected', 'state');
  },

  async 'rpc without a handler is refused'(t) {
    const client = await t.connected();
    const error = await refused(client.rpc('nothing', {}), 'rpc');
    same(error.code, 108, 'code');
    same(client.state, 'connected', 'state');
  },

  async 'rpc is answered by the application'(t) {
    const client = await t.connected({}, 'application');
    same((await client.rpc('echo', { n: 1 })).data, { n: 1 }, 'answer');
    same((await client.rpc('echo', null)).data ?? null, null, 'answer to null');
    same((await refused(client.rpc('no such method', {}), 'rpc')).code, 104, 'code of an unknown method');
  },

  async 'stays connected through pings'(t) {
    const client = await t.connected({ maxServerPingDelay: 1000 }, 'pinging');
    const pings = () => t.framesIn(client).filter((frame) => frame === '{}').length;
    await t.until(() => pings() >= 3, 'three pings arrived');
    same(client.transitions.length, 2, 'transitions');
    // The pong to the third may be on its way: two are certain.
    holds(t.framesOut(client).filter((frame) => frame === '{}').length >= 2, 'pings were not answered');
  },

  async 'notices a stalled network and comes back'(t) {
    const client = await t.connected({ maxServerPingDelay: 500 }, 'pinging through the proxy');
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await t.world.call('stall', 'pinging');
    await t.api('publish', { channel: topic, data: 'missed' }, 'pinging');
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    const again = client.transitions.filter(({ event }) => event === 'connecting')[1];
    same(again.code, 2, 'the code for a missing ping');
    await t.until(() => heard.got.length === 1, 'what was missed arrived');
    const stats = () => client.presenceStats(topic);
    await t.eventually(stats, ({ numClients }) => numClients === 1, 'the server let the silent session go');
  },

  async 'a token names the user'(t) {
    const client = await t.connected({ token: await t.world.call('token', { sub: 'lis1' }) });
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await heard.publish('mine');
    await t.until(() => heard.got.length === 1, 'the publication arrived');
    same(heard.publications[0].info.user, 'lis1', 'user');
  },

  async 'a wrong token ends the attempt for good with 3500'(t) {
    for (const token of [await t.world.call('token', { sub: 'lis1' }, 'the secret of somebody else 0123456789'), 'nonsense', 'a.b.c']) {
      const client = t.client({ token });
      client.connect();
      await t.until(() => client.state === 'disconnected', 'the client gave up');
      const end = client.transitions.at(-1);
      same(end.code, 3500, `code for ${token.slice(0, 12)}`);
      holds(end.reason.length > 0, 'the reason is empty');
    }
  },

  async 'an expired token is replaced and the client connects'(t) {
    t.expectErrors(/"type":"connect".*"code":109/);
    let asked = 0;
    const client = t.client({
      token: await t.world.call('token', { sub: 'lis1', exp: t.world.facts.now - 60 }),
      getToken: async () => {
        asked += 1;
        return await t.world.call('token', { sub: 'lis1', exp: t.world.facts.now + 3600 });
      },
    });
    client.connect();
    await t.until(() => client.state === 'connected', 'the client is connected');
    same(asked, 1, 'times that a token was asked for');
  },

  async 'a token that ends while connected is renewed on the same connection'(t) {
    let asked = 0;
    const issue = (seconds) => t.world.call('token', { sub: 'lis1', exp: Math.floor(Date.now() / 1000) + seconds });
    const client = await t.connected({
      // The SDK asks 25 s before the end, so the server has long to wait for it.
      token: await issue(27),
      getToken: async () => {
        asked += 1;
        const token = await issue(3600);
        t.changed();
        return token;
      },
    });
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await t.until(() => asked === 1, 'a fresh token was asked for');
    await t.until(() => t.framesIn(client).some((frame) => frame.includes('"refresh"')), 'the refresh was answered');
    await t.publish(topic, 'still here');
    await t.until(() => heard.got.length === 1, 'the publication arrived');
    same(client.transitions.length, 2, 'transitions');
  },

  async 'fifty clients hear the same in the same order'(t) {
    const topic = t.topic();
    // All in one thread: whoever is last has waited for the others.
    const clients = await Promise.all(Array.from({ length: 50 }, () => t.connected({ timeout: 20_000 })));
    const heard = await Promise.all(clients.map((client) => t.listen(client, topic)));
    await Promise.all(numbers(1, 50).map((item) => t.publish(topic, item)));
    await t.until(() => heard.every(({ got }) => got.length === 50), 'everyone has all 50');
    for (const { got } of heard) same(got, heard[0].got, 'order');
    const offsets = heard[0].publications.map(({ offset }) => offset);
    same(offsets, numbers(1, 50).map(({ n }) => n), 'offsets');
  },

  async 'a filter on tags holds live and after a cut'(t) {
    const client = await t.connected({}, 'open through the proxy');
    const topic = `tagged:${t.topic()}`;
    const tagsFilter = { op: 'and', nodes: [{ key: 'class', cmp: 'in', vals: ['a', 'b'] }, { key: 'size', cmp: 'gt', val: '10' }] };
    const heard = await t.listen(client, topic, { tagsFilter });
    const publish = (n, tags) => t.publish(topic, n, { tags });
    await publish(1, { class: 'a', size: '11' });
    await publish(2, { class: 'c', size: '11' });
    await publish(3, { class: 'b', size: '9' });
    await publish(4, { class: 'b', size: '100' });
    await t.until(() => heard.got.length === 2, 'what passes arrived');
    await t.world.call('refuse', 'open', true);
    try {
      await t.world.call('cut', 'open');
      await t.until(() => client.state === 'connecting', 'the client noticed the cut');
      await publish(5, { class: 'a', size: '10' });
      await publish(6, { class: 'a', size: '12' });
      t.expectErrors(/"type":"transport"/);
    } finally {
      await t.world.call('refuse', 'open', false);
    }
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    same([heard.answers[1].wasRecovering, heard.answers[1].recovered], [true, true], 'flags');
    await publish(7, {});
    await publish(8, { class: 'b', size: '13' });
    await t.until(() => heard.got.length === 4, 'the rest arrived');
    same(heard.got, [1, 4, 6, 8], 'what passes');
    const page = await heard.history({ limit: 10 });
    same(page.publications.map(({ data }) => data), [1, 4, 6, 8], 'history');
  },

  async 'a filter where the namespace has none is refused'(t) {
    const client = await t.connected();
    const subscription = client.newSubscription(t.topic(), { tagsFilter: { key: 'class', cmp: 'eq', val: 'a' } });
    t.record(client, subscription);
    subscription.subscribe();
    await t.until(() => subscription.endings.length === 1, 'the subscription is refused');
    same(subscription.endings[0].code, 108, 'code');
  },

  async 'disconnects and connects again'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    client.disconnect();
    await t.publish(topic, 'while away');
    client.connect();
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    await t.until(() => heard.got.length === 1, 'what was missed arrived');
    const sessions = client.transitions.filter(({ event }) => event === 'connected').map((connected) => connected.client);
    holds(sessions[0] !== sessions[1], 'a new connection has a new session');
  },

  async 'a map has the rows of a topic, then their changes; clients set and remove keys'(t) {
    const topic = `rows:${t.topic()}`;
    for (const key of ['a', 'b', 'c', 'd', 'a']) await t.publish(topic, `first ${key}`, { key });
    await t.api('publish', { channel: topic, key: 'b', removed: true });
    const client = await t.connected();
    const map = await t.map(client, topic);
    same([...map.rows], [['c', 'first c'], ['d', 'first d'], ['a', 'first a']], 'rows');
    same([map.answers[0].recoverable, map.answers[0].wasRecovering, map.updates], [true, false, []], 'the answer');
    const other = await t.connected();
    await map.publish('c', { by: 'a subscriber' });
    await other.mapPublish(topic, 'e', { by: 'another' });
    await other.mapRemove(topic, 'd');
    await map.remove('a');
    await t.until(() => map.updates.length === 4, 'the changes arrived');
    same(map.updates, ['c {"by":"a subscriber"} at 7', 'e {"by":"another"} at 8', 'd gone at 9', 'a gone at 10'], 'changes');
    const late = await t.map(other, topic);
    same([...late.rows], [...map.rows], 'rows of a late comer');
    same((await t.api('state', { channel: topic })).rows.map(({ key }) => key), ['c', 'e'], 'rows of the server');
    same((await refused(client.mapPublish(topic, 'k'.repeat(256), 1), 'a long key')).code, 107, 'code of a long key');
  },

  async 'a map goes on over a cut with changes alone, and where they are not kept with all rows'(t) {
    const topic = `rows:${t.topic()}`;
    for (const key of ['a', 'b']) await t.publish(topic, 0, { key });
    const client = await t.connected({}, 'open through the proxy');
    const map = await t.map(client, topic);
    const missing = async (work) => {
      await t.world.call('refuse', 'open', true);
      try {
        await t.world.call('cut', 'open');
        await t.until(() => client.state === 'connecting', 'the client noticed the cut');
        await work();
        t.expectErrors(/"type":"transport"/);
      } finally {
        await t.world.call('refuse', 'open', false);
      }
    };
    for (let round = 1; round <= 2; round += 1) {
      await missing(async () => {
        await t.publish(topic, round, { key: 'a' });
        await t.api('publish', { channel: topic, key: 'b', removed: true });
        await t.publish(topic, round, { key: 'b' });
      });
      await t.until(() => map.updates.length === 3 * round, 'what was missed arrived');
    }
    same(map.updates, ['a 1 at 3', 'b gone at 4', 'b 1 at 5', 'a 2 at 6', 'b gone at 7', 'b 2 at 8'], 'each change once, in order');
    same([map.syncs, map.answers.slice(1).map(({ recovered }) => recovered)], [1, [true, true]], 'resumes');
    await missing(async () => {
      await t.api('publish', { channel: topic, key: 'a', removed: true });
      for (const key of ['c', 'd', 'e', 'b']) await t.publish(topic, 3, { key });
    });
    await t.until(() => map.syncs === 2, 'all rows came again');
    same([...map.rows], [['c', 3], ['d', 3], ['e', 3], ['b', 3]], 'rows, without the one that is gone');
    await t.publish(topic, 4, { key: 'c' });
    await t.until(() => map.updates.length === 7, 'a change afterwards');
    same(map.endings, [], 'ends');
  },

  async 'a map of more rows than fit into one page is whole, each row once'(t) {
    const topic = `rows:${t.topic()}`;
    const filler = 'x'.repeat(20_000);
    const keys = Array.from({ length: 100 }, (_, n) => `k${n}`);
    for (const key of keys) await t.publish(topic, { key, filler }, { key });
    const client = await t.connected();
    const map = await t.map(client, topic);
    const first = map.rows.size;
    holds(first > 0 && first < keys.length, `${first} rows came with the answer, and more are kept`);
    await t.until(() => map.rows.size === keys.length, 'the others arrived');
    same([...map.rows.keys()], keys, 'keys, oldest first');
    same([map.syncs, map.updates.length], [1, keys.length - first], 'rows that came as changes');
    await t.publish(topic, 'last', { key: 'k0' });
    await t.until(() => map.rows.get('k0') === 'last', 'a change afterwards');
  },

  async 'a map of a topic without rows is refused with the reason'(t) {
    const client = await t.connected();
    const topic = t.topic();
    const map = await t.map(client, topic);
    same([map.endings[0].code, map.endings[0].reason], [108, `state by key is off for ${topic} - subscribe to it as a stream`], 'the end');
    const removed = await refused(client.mapRemove(topic, 'a'), 'a removal');
    same(removed.code, 108, 'code of a removal');
  },

  async 'a stream tells the key of a publication, and that it is gone, in its tags'(t) {
    const topic = `rows:${t.topic()}`;
    await t.publish(topic, 1, { key: 'a', tags: { kind: 'row' } });
    const client = await t.connected();
    const subscription = await t.listen(client, topic);
    await client.mapPublish(topic, 'b', 2);
    await client.mapRemove(topic, 'a');
    await client.publish(topic, 3);
    await t.until(() => subscription.publications.length === 4, 'all arrived');
    same(subscription.publications.map(({ data, tags }) => [data, tags]), [
      [1, { kind: 'row', broker_key: 'a' }],
      [2, { broker_key: 'b' }],
      [null, { broker_key: 'a', broker_removed: 'true' }],
      [3, undefined],
    ], 'data and tags');
  },

  async 'topics that the server chose arrive with the connect and are recovered after a cut'(t) {
    const group = t.topic('night');
    const topic = `group:${group}`;
    const token = t.plainToken({ user: 'ris1', groups: [group] });
    const client = await t.connected({ token }, 'application through the proxy');
    const told = (event) => t.chosen(client, event, topic);
    await t.until(() => told('subscribed').length === 1, 'the group is told');
    same([told('subscribed')[0].recoverable, told('subscribed')[0].wasRecovering], [true, false], 'flags at first');
    const other = await t.connected({ token: t.plainToken({ user: 'ris2', groups: [group] }) }, 'application');
    await other.publish(topic, { n: 1 });
    await t.until(() => told('publication').length === 1, 'the first publication arrived');
    await t.world.call('refuse', 'application', true);
    try {
      await t.world.call('cut', 'application');
      await t.until(() => client.state === 'connecting', 'the client noticed the cut');
      for (const item of numbers(2, 4)) await other.publish(topic, item);
      t.expectErrors(/"type":"transport"/);
    } finally {
      await t.world.call('refuse', 'application', false);
    }
    await t.until(() => told('subscribed').length === 2, 'the group is told again');
    same([told('subscribed')[1].wasRecovering, told('subscribed')[1].recovered], [true, true], 'flags after the cut');
    await other.publish(topic, { n: 5 });
    await t.until(() => told('publication').length >= 5, 'everything arrived');
    same(told('publication').map(({ data }) => data), numbers(1, 5), 'publications');
    same(told('unsubscribed'), [], 'ends');
  },

  async 'the server subscribes and unsubscribes a session that is connected'(t) {
    const group = t.topic('night');
    const topic = `group:${group}`;
    const client = await t.connected({ token: t.plainToken({ user: 'ris1' }) }, 'application');
    same((await client.rpc('join', group)).data, 1, 'sessions that joined');
    await t.until(() => t.chosen(client, 'subscribed', topic).length === 1, 'the group is told');
    await client.publish(topic, 'hello');
    await t.until(() => t.chosen(client, 'publication', topic).length === 1, 'the publication arrived');
    same((await client.rpc('leave', group)).data, 1, 'sessions that left');
    await t.until(() => t.chosen(client, 'unsubscribed', topic).length === 1, 'the end is told');
    same(client.transitions.length, 2, 'transitions');
  },

  async 'what is sent to one session arrives in its own topic'(t) {
    const client = await t.connected({}, 'application');
    const topic = `session:${client.transitions.at(-1).client}`;
    same((await client.rpc('send', { for: 'you' })).data, 1, 'sessions that it was sent to');
    await t.until(() => t.chosen(client, 'publication', topic).length === 1, 'the publication arrived');
    same(t.chosen(client, 'publication', topic)[0].data, { for: 'you' }, 'data');
    same(t.chosen(client, 'subscribed', topic).length, 1, 'times that the topic was told');
  },

  async 'a token that is renewed in place moves the session between groups'(t) {
    const [before, after] = [t.topic('ris'), t.topic('lis')];
    const client = await t.connected(
      {
        token: t.plainToken({ user: 'ris1', groups: [before], ttl: 1 }),
        getToken: async () => t.plainToken({ user: 'ris1', groups: [after], ttl: 3600 }),
      },
      'application',
    );
    const heard = await t.listen(client, t.topic());
    await t.until(() => t.chosen(client, 'subscribed', `group:${after}`).length === 1, 'the new group is told');
    await t.until(() => t.framesIn(client).some((frame) => frame.includes('"refresh":{"client"')), 'the refresh was answered');
    same(t.chosen(client, 'unsubscribed', `group:${before}`).length, 1, 'ends of the old group');
    await client.publish(`group:${after}`, 'hello');
    await t.until(() => t.chosen(client, 'publication', `group:${after}`).length === 1, 'the publication arrived');
    await client.publish(heard.channel, 'still here');
    await t.until(() => heard.got.length === 1, 'the subscription of the client goes on');
    same(client.transitions.length, 2, 'transitions');
  },

  async 'a token of another user brings the client back as that user'(t) {
    let asked = 0;
    const client = await t.connected(
      {
        token: t.plainToken({ user: 'ris1', ttl: 1 }),
        getToken: async () => {
          asked += 1;
          return t.plainToken({ user: 'lis1', ttl: 3600 });
        },
      },
      'application',
    );
    const topic = t.topic();
    const heard = await t.listen(client, topic);
    await client.publish(topic, { n: 1 });
    same([heard.got.length, heard.publications[0]?.info.user], [1, 'ris1'], 'publications of the first user');
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    const again = client.transitions.filter(({ event }) => event === 'connecting')[1];
    same([again.code, again.reason], [3014, 'state invalidated'], 'why it connected again');
    same([heard.answers[1].wasRecovering, heard.answers[1].recovered], [true, false], 'nothing is resumed from the other user');
    await client.publish(topic, { n: 2 });
    await t.until(() => heard.got.length === 2, 'the publication arrived');
    same(heard.publications[1].info.user, 'lis1', 'user');
    same(asked, 2, 'times that a token was asked for: for the renewal, and for the new connection');
  },

  async 'a subscription token is renewed before it ends'(t) {
    const client = await t.connected({}, 'application');
    let asked = 0;
    const heard = await t.listen(client, t.topic(), {
      getToken: async () => {
        asked += 1;
        return t.plainToken({ ttl: asked === 1 ? 1 : 3600 });
      },
    });
    await t.until(() => t.framesIn(client).some((frame) => frame.includes('"sub_refresh":{"expires":true')), 'the renewal was answered');
    same(asked, 2, 'times that a token was asked for');
    await client.publish(heard.channel, 'still here');
    await t.until(() => heard.got.length === 1, 'the publication arrived');
    same([heard.answers.length, heard.endings.length], [1, 0], 'subscribes and ends');
  },

  async 'a subscription that expired is made again with a fresh token and recovers'(t) {
    const client = await t.connected({}, 'application');
    const isOver = () => t.framesIn(client).some((frame) => frame.includes('"unsubscribe":{"code":2501'));
    const topic = t.topic();
    let asked = 0;
    const heard = await t.listen(client, topic, {
      getToken: async () => {
        asked += 1;
        // The renewal comes too late.
        if (asked === 2) await t.until(isOver, 'the subscription is over');
        return t.plainToken({ ttl: asked === 1 ? 1 : 3600 });
      },
    });
    await t.until(() => heard.answers.length === 2, 'it is subscribed again');
    same([heard.answers[1].wasRecovering, heard.answers[1].recovered], [true, true], 'flags');
    await client.publish(topic, 'after');
    await t.until(() => heard.got.length === 1, 'the publication arrived');
    same(client.transitions.length, 2, 'transitions');
  },

  async 'a disconnect of the server has its code and text'(t) {
    const client = await t.connected({}, 'application');
    // The call may be cut off by what it does.
    client.rpc('disconnect', { code: 4321, reason: 'moved' }).catch(() => {});
    await t.until(() => client.transitions.length === 4, 'the client came back');
    const again = client.transitions[2];
    same([again.event, again.code, again.reason], ['connecting', 4321, 'moved'], 'why it connected again');
    client.rpc('disconnect', { code: 4900, reason: 'game over' }).catch(() => {});
    await t.until(() => client.state === 'disconnected', 'the client gave up');
    const end = client.transitions.at(-1);
    same([end.code, end.reason], [4900, 'game over'], 'why it is over');
  },
};
