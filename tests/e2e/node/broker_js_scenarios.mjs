// What an application does with broker.js, written once and run in Node and in a page.
//
// This module imports nothing, so that a page can load it. A scenario gets the tools below and passes when it returns.

const PATIENCE_MS = 20_000;

/** Compares by JSON text. */
function same(actual, expected, what) {
  const [got, wanted] = [actual, expected].map((value) => JSON.stringify(value));
  if (got !== wanted) throw new Error(`${what}: got ${got}, expected ${wanted}`);
}

class Tools {
  constructor({ connect, WebSocket, facts, call, name }) {
    Object.assign(this, { connect, WebSocket: WebSocket ?? globalThis.WebSocket, facts, call, name });
    this.clients = [];
    this.story = [];
    this.waiting = new Set();
  }

  /** A topic of this scenario alone. */
  topic() {
    return `${this.name.replace(/[^a-z0-9]+/gi, '-')}.${Math.random().toString(36).slice(2, 10)}`;
  }

  /** A client whose states are kept in `client.states`. */
  client(options = {}, url = this.facts.broker) {
    const tools = this;
    const label = `c${this.clients.length + 1}`;
    class Watched extends this.WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener('message', ({ data }) => {
          if (data.startsWith('{"broker":"pong"')) client.pongs += 1;
          tools.tell(`${label} <- ${data.slice(0, 200)}`);
        });
      }
    }
    const client = this.connect({ url, WebSocket: Watched, firstDelayMs: 50, longestDelayMs: 400, ...options });
    Object.assign(client, { states: [], pongs: 0 });
    client.on('state', (state) => {
      client.states.push(state);
      this.tell(`${label} ${state.state} ${state.code} ${state.reason}`);
    });
    client.on('identity', ({ user }) => this.tell(`${label} is ${user}`));
    this.clients.push(client);
    return client;
  }

  /** A subscription whose data and gaps are kept in `got`, what it was told in `told`. */
  listen(client, topic, options) {
    const subscription = client.subscribe(topic, options);
    Object.assign(subscription, { got: [], gaps: [], told: [] });
    subscription.on('publication', ({ data }) => subscription.got.push(data));
    subscription.on('snapshot', ({ data }) => subscription.got.push(data));
    subscription.on('gap', (gap) => subscription.gaps.push(gap));
    for (const word of ['subscribed', 'unsubscribed', 'error', 'gap', 'publication', 'snapshot']) {
      subscription.on(word, (event) => {
        subscription.told.push({ word, ...event });
        this.tell(`${topic} ${word} ${event.word ?? event.reason ?? ''}`);
      });
    }
    return subscription;
  }

  tell(line) {
    this.story.push(line);
    for (const check of [...this.waiting]) check();
  }

  /** Resolves as soon as something happened after which `holds()`. */
  until(what, holds) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.waiting.delete(check);
        reject(new Error(`did not happen: ${what}`));
      }, PATIENCE_MS);
      const check = () => {
        if (!holds()) return;
        clearTimeout(late);
        this.waiting.delete(check);
        resolve();
      };
      this.waiting.add(check);
      check();
    });
  }

  connected(client) {
    return this.until('connected', () => client.state.state === 'connected');
  }

  subscribed(subscription) {
    return this.until('subscribed', () => subscription.status === 'subscribed');
  }

  async publish(topic, data) {
    const { error } = await this.call('api', 'publish', { channel: topic, data });
    if (error) throw new Error(JSON.stringify(error));
  }

  now() {
    return Math.floor(Date.now() / 1000);
  }
}

export async function runScenario(name, means) {
  const t = new Tools({ ...means, name });
  try {
    await scenarios[name](t);
  } catch (error) {
    throw new Error(`${error.message}\n${t.story.join('\n')}`);
  } finally {
    for (const client of t.clients) client.close();
  }
}

export const scenarios = {
  async 'a publication comes with its position, a publish with its answer'(t) {
    const client = t.client();
    const topic = t.topic();
    const subscription = t.listen(client, topic);
    await t.subscribed(subscription);
    const { position } = await client.publish(topic, { n: 1 }, { key: 'k' });
    await t.until('the publication', () => subscription.got.length === 1);
    same([subscription.got, subscription.position, subscription.told.at(-1).key], [[{ n: 1 }], position, 'k'], 'the publication');
    const { publications, position: top } = await subscription.history({ limit: 10 });
    same([publications.map(({ data }) => data), top], [[{ n: 1 }], position], 'the history');
    same(Object.keys(await subscription.presence()), [client.session], 'presence');
    await subscription.unsubscribe();
    same([subscription.status, Object.keys(await client.presence(topic))], ['unsubscribed', []], 'after the end');
  },

  async 'a refusal says what was wrong and how to put it right'(t) {
    const client = t.client();
    await t.connected(client);
    const error = await client.publish('a b', 1).then(() => null, (error) => error);
    same([error.code, error.word, typeof error.at], [107, 'bad_request', 'number'], 'the error');
    const subscription = t.listen(client, 'news.*');
    await t.until('refused', () => subscription.status === 'refused');
    same([client.state.state, client.states.length], ['connected', 2], 'the connection');
  },

  async 'several topics resume over cuts, without a gap and without a double'(t) {
    const client = t.client();
    const topics = [t.topic(), t.topic(), t.topic()];
    const subscriptions = topics.map((topic) => t.listen(client, topic));
    for (const subscription of subscriptions) await t.subscribed(subscription);
    let sent = 0;
    const publish = async (count) => {
      for (let index = 0; index < count; index += 1, sent += 1) for (const topic of topics) await t.publish(topic, sent);
    };
    for (let round = 0; round < 4; round += 1) {
      await publish(3);
      await t.call('refuse', 'broker', true);
      await t.call('cut', 'broker');
      await t.until('the cut is seen', () => client.state.state !== 'connected');
      await publish(3);
      await t.call('refuse', 'broker', false);
      await t.until('live again', () => subscriptions.every(({ got }) => got.length === sent));
    }
    const expected = Array.from({ length: sent }, (_, index) => index);
    for (const { got, gaps, told } of subscriptions) {
      same([got, gaps], [expected, []], 'what arrived');
      same(told.filter(({ word }) => word === 'subscribed').slice(1).map(({ recovered }) => recovered), [true, true, true, true], 'each resume');
    }
  },

  async 'topics that the server chose resume over cuts and are told of a restart, heard here or subscribed to'(t) {
    const groups = [`a${t.topic()}`, `b${t.topic()}`];
    const user = t.topic().replaceAll('.', '-'); // a dot in the name of a user is encoded in its topic
    const [heard, listened, own] = [`group:${groups[0]}`, `group:${groups[1]}`, `user:${user}`];
    const client = t.client({ token: await t.call('token', { sub: user, groups }) });
    const told = [];
    for (const word of ['publication', 'gap', 'unsubscribed']) {
      client.on(word, ({ topic, data, reason }) => {
        told.push([topic, data ?? reason]);
        t.tell(`${topic} ${word} ${data ?? reason}`);
      });
    }
    const subscription = t.listen(client, listened);
    await t.connected(client);
    await t.subscribed(subscription);
    let sent = 0;
    const publish = async (count) => {
      for (let index = 0; index < count; index += 1, sent += 1) for (const topic of [heard, listened, own]) await t.publish(topic, sent);
    };
    const of = (topic) => told.filter((one) => one[0] === topic).map(([, what]) => what);
    const all = () => Array.from({ length: sent }, (_, index) => index);
    // The first cut comes before anything was published: where each topic stands is known from the beginning.
    for (let round = 0; round < 3; round += 1) {
      await t.call('refuse', 'broker', true);
      await t.call('cut', 'broker');
      await t.until('the cut is seen', () => client.state.state !== 'connected');
      await publish(3);
      await t.call('refuse', 'broker', false);
      await t.until('live again', () => [of(heard), of(own), subscription.got].every(({ length }) => length >= sent));
      await publish(2);
      await t.until('all live', () => [of(heard), of(own), subscription.got].every(({ length }) => length >= sent));
    }
    for (const got of [of(heard), of(own), subscription.got]) same(got, all(), 'what arrived');
    same(subscription.gaps, [], 'gaps');
    await t.call('restart');
    await t.until('the gaps', () => subscription.gaps.length === 1 && of(heard).length > sent && of(own).length > sent);
    same([subscription.gaps[0].reason, of(heard).at(-1), of(own).at(-1)], ['epoch', 'epoch', 'epoch'], 'reasons');
    await t.publish(heard, 'after');
    await t.until('the first after it', () => of(heard).at(-1) === 'after');
    same(of(heard).slice(sent), ['epoch', 'after'], 'what followed');
  },

  async 'a late joiner reads all that is kept, in order, with for await'(t) {
    const topic = t.topic();
    for (let index = 0; index < 5; index += 1) await t.publish(topic, index);
    const got = [];
    for await (const { broker, data } of t.client().subscribe(topic, { since: 0 })) {
      got.push(`${broker} ${data}`);
      if (got.length === 5) break;
    }
    same(got, [0, 1, 2, 3, 4].map((data) => `publication ${data}`), 'what arrived');
  },

  async 'a restart of the server is told as a gap, and life goes on'(t) {
    const client = t.client();
    const topic = t.topic();
    const subscription = t.listen(client, topic);
    await t.subscribed(subscription);
    await t.publish(topic, 'before');
    await t.until('the first', () => subscription.got.length === 1);
    await t.call('restart');
    await t.until('the gap', () => subscription.gaps.length === 1);
    same(subscription.gaps.map(({ reason }) => reason), ['epoch'], 'the gap');
    const stopped = client.states.find(({ state }) => state === 'waiting');
    same([stopped.code, stopped.reason], [3001, 'shutdown'], 'why');
    if (stopped.retryInMs < 500) throw new Error(`the server's advice was not followed: ${stopped.retryInMs} ms`);
    await t.publish(topic, 'after');
    await t.until('the second', () => subscription.got.length === 2);
    await t.call('cut', 'broker');
    await t.until('resumed', () => subscription.told.filter(({ word }) => word === 'subscribed').length === 3);
    same([subscription.got, subscription.gaps.length, subscription.told.at(-1).recovered], [['before', 'after'], 1, true], 'after the gap');
  },

  async 'a network that swallows everything is noticed, and nothing is missing'(t) {
    const client = t.client({ pingAfterMs: 300, pongWithinMs: 300 });
    const topic = t.topic();
    const subscription = t.listen(client, topic);
    await t.subscribed(subscription);
    await t.publish(topic, 1);
    await t.until('the first', () => subscription.got.length === 1);
    await t.call('stall', 'broker');
    await t.publish(topic, 2);
    await t.until('the second', () => subscription.got.length === 2);
    const silent = client.states.find(({ state }) => state === 'waiting');
    same([silent.code, silent.reason, subscription.gaps], [1006, 'the other side fell silent', []], 'why');
    await t.call('cut', 'broker');
  },

  async 'a quiet connection lives on its pings'(t) {
    const client = t.client({ pingAfterMs: 50, pongWithinMs: 5_000 });
    await t.connected(client);
    const session = client.session;
    await t.until('it was pinged', () => client.pongs >= 5);
    same([client.session, client.states.map(({ state }) => state)], [session, ['connecting', 'connected']], 'the connection');
  },

  async 'a token that ends is renewed in place, again and again'(t) {
    let asked = 0;
    const getToken = () => {
      asked += 1;
      return t.call('token', { sub: 'ris1', exp: t.now() + 3, n: asked });
    };
    const client = t.client({ getToken });
    const topic = t.topic();
    const subscription = t.listen(client, topic);
    let renewed = 0;
    client.on('identity', () => {
      renewed += 1;
      t.tell('renewed');
    });
    await t.subscribed(subscription);
    const session = client.session;
    await t.until('it was renewed', () => renewed >= 3);
    await t.publish(topic, 'still here');
    await t.until('the publication', () => subscription.got.length === 1);
    same([client.session, client.user, client.states.map(({ state }) => state)], [session, 'ris1', ['connecting', 'connected']], 'the session');
  },

  async 'a token that ended is replaced, one that stays bad ends it with the reason'(t) {
    const tokens = [
      await t.call('token', { sub: 'ris1', exp: t.now() - 60 }),
      await t.call('token', { sub: 'ris1', exp: t.now() + 60 }),
    ];
    const client = t.client({ getToken: () => tokens.shift() });
    await t.connected(client);
    same([client.user, client.states.map(({ state }) => state)], ['ris1', ['connecting', 'waiting', 'connecting', 'connected']], 'the fresh one');
    same([client.states[1].code, client.states[1].error.word], [3005, 'token_expired'], 'why');

    let asked = 0;
    const getToken = () => {
      asked += 1;
      return t.call('token', { sub: 'ris1', exp: t.now() + 60 }, 'a-secret-of-somebody-else-0123456789abcdef');
    };
    const bad = t.client({ getToken });
    await t.until('closed', () => bad.state.state === 'closed');
    same([bad.state.code, bad.state.error.word, asked], [3500, 'unauthorized', 2], 'the bad one');
    if (bad.state.reason.includes('eyJ')) throw new Error('the reason has the token');
  },

  async 'another user on the same socket: topics follow, and stay so over a cut'(t) {
    const client = t.client({ token: await t.call('token', { sub: 'ris1', groups: ['ocs_ris'], exp: t.now() + 60 }) });
    const heard = [];
    client.on('publication', ({ topic, data }) => {
      heard.push([topic, data]);
      t.tell('heard');
    });
    await t.connected(client);
    const session = client.session;
    await t.publish('group:ocs_ris', 'for ris');
    await t.until('the first', () => heard.length === 1);
    const token = await t.call('token', { sub: 'lis1', groups: ['ocs_lis'], exp: t.now() + 60 });
    const { user, left, joined } = await client.authenticate(token);
    same([user, left, joined, client.session], ['lis1', ['group:ocs_ris'], ['group:ocs_lis'], session], 'the answer');
    await t.publish('group:ocs_ris', 'not for lis');
    await t.publish('group:ocs_lis', 'for lis');
    await t.until('the second', () => heard.length === 2);
    await t.call('cut', 'broker');
    await t.until('back', () => client.state.state === 'connected' && client.session !== session);
    same(client.user, 'lis1', 'the user after the cut');
    await t.publish('group:ocs_ris', 'not for lis');
    await t.publish('group:ocs_lis', 'again for lis');
    await t.until('the third', () => heard.length === 3);
    same(heard.map(([, data]) => data), ['for ris', 'for lis', 'again for lis'], 'what was heard');
    const refused = await client.authenticate('bad').then(() => null, (error) => error.word);
    same([refused, client.user, client.state.state], ['unauthorized', 'lis1', 'connected'], 'a bad token');
  },

  async 'a first answer that takes long is waited for'(t) {
    const client = t.client({ pingAfterMs: 100, pongWithinMs: 2_000, answerTimeoutMs: 300 }, t.facts.application);
    const subscription = t.listen(client, `slow:${t.topic()}`);
    await t.connected(client);
    // Pings and commands are answered meanwhile.
    for (let round = 0; round < 4; round += 1) {
      await t.until('a pong', () => client.pongs > round);
      same([await client.call('echo', round), subscription.status], [round, 'subscribing'], 'meanwhile');
    }
    await client.call('release');
    await t.until('the first data', () => subscription.got.length === 1);
    same([subscription.got, client.states.length, subscription.told.map(({ word }) => word)], [['first'], 2, ['subscribed', 'snapshot']], 'the data');
  },

  async 'the application turns a client away for good, or for a while'(t) {
    const client = t.client({}, t.facts.application);
    await t.connected(client);
    client.call('disconnect', { code: 4001, reason: 'moved' }).catch(() => {});
    await t.until('away', () => client.states.some(({ code }) => code === 4001));
    await t.connected(client);
    client.call('disconnect', { code: 4501, reason: 'banned' }).catch(() => {});
    await t.until('closed', () => client.state.state === 'closed');
    same([client.state.code, client.state.reason], [4501, 'banned'], 'why');
  },

  async 'a hundred clients of a server that restarts come back one by one'(t) {
    const clients = Array.from({ length: 100 }, () => t.client({ firstDelayMs: 500, longestDelayMs: 20_000 }));
    for (const client of clients) await t.connected(client);
    await t.call('restart');
    await t.until('all are back', () => clients.every(({ state, states }) => state.state === 'connected' && states.length > 2));
    const waits = clients.map(({ states }) => states.find(({ state }) => state === 'waiting').retryInMs);
    const buckets = new Map();
    for (const wait of waits) buckets.set(Math.floor(wait / 250), (buckets.get(Math.floor(wait / 250)) ?? 0) + 1);
    if (Math.min(...waits) < 500 || Math.max(...buckets.values()) > 40) throw new Error(`not spread: ${JSON.stringify([...buckets])}`);
  },
};
