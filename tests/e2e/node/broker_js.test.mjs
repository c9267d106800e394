// broker.js by itself: time, sockets and the page are the test's. What a real server adds is in broker_js_in_*.test.mjs.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect, BrokerError } from '../../../broker-http/assets/broker.js';
import { FakeSocket, fakePage, pass, seeded, settle, socket, sockets } from './harness/fake_socket.mjs';

const URL = 'https://broker.example/ws';

let clients, page;
beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  [clients, page] = [[], null];
  sockets.length = 0;
});
afterEach(() => {
  for (const client of clients) client.close();
  page?.remove();
  mock.restoreAll();
  mock.timers.reset();
});

/** A client that has begun its first try, and the states that it told. */
async function begin(options = {}) {
  const client = connect({ url: URL, WebSocket: FakeSocket, ...options });
  const states = [];
  client.on('state', (state) => states.push(state));
  clients.push(client);
  await settle();
  return { client, states };
}

/** A client that is connected. */
async function live(options) {
  const made = await begin(options);
  socket().accept('ris1');
  return made;
}

/** The events of a subscription, as `word:what`. */
function events(subscription) {
  const told = [];
  for (const word of ['publication', 'snapshot', 'gap', 'subscribed', 'unsubscribed', 'error', 'join', 'leave']) {
    subscription.on(word, (event) => told.push(`${word}:${event.word ?? event.reason ?? event.data ?? event.position ?? ''}`));
  }
  return told;
}

/** Waits until the next try has begun. */
async function nextTry(client) {
  const { state, retryInMs } = client.state;
  assert.equal(state, 'waiting');
  const before = sockets.length;
  await pass(retryInMs);
  assert.equal(sockets.length, before + 1, 'the try comes when the state says');
}

const rejection = (promise) => promise.then(() => assert.fail('it was not refused'), (error) => error);

// ---- states ----

test('states: connecting, connected, waiting with the time of the next try, closed; each is one event', async () => {
  const { client, states } = await begin();
  assert.equal(socket().url.href, 'wss://broker.example/ws?format=envelope');
  socket().accept('ris1');
  assert.deepEqual([client.user, client.session], ['ris1', 's0']);
  socket().end(3001, 'shutdown');
  assert.deepEqual([client.user, client.session], [null, null]);
  await nextTry(client);
  client.close();
  assert.deepEqual(states.map(({ state, code, reason }) => [state, code, reason]), [
    ['connecting', 0, ''],
    ['connected', 0, ''],
    ['waiting', 3001, 'shutdown'],
    ['connecting', 3001, 'shutdown'],
    ['closed', 1000, 'closed by the application'],
  ]);
  assert.ok(states[2].retryInMs >= 0 && states[2].retryInMs <= 1_000);
  assert.ok(states.every(({ retryInMs, state }) => (retryInMs === null) === (state !== 'waiting')));
});

test('states: a network fault never throws, and never gives up', async () => {
  const { client, states } = await begin();
  for (let round = 1; round <= 100; round += 1) {
    assert.equal(client.state.attempt, round);
    socket().end();
    await nextTry(client);
  }
  assert.equal(states.filter(({ state }) => state === 'waiting').length, 100);
  socket().accept();
  assert.equal(client.state.state, 'connected');
});

test('states: codes that forbid another try end it with the reason of the error frame, the others do not', async () => {
  for (const code of [1000, 1006, 1009, 3000, 3012, 3499, 4000, 4499]) {
    const { client } = await live();
    socket().end(code);
    assert.equal(client.state.state, 'waiting', code);
    client.close();
  }
  for (const code of [3501, 3507, 3999, 4500, 4999]) {
    const { client } = await begin();
    socket().say({ broker: 'error', code: 102, error: 'unknown_topic', message: 'there is no route /wss', hint: 'did you mean /ws?' });
    socket().end(code, 'permission denied');
    const { state, reason, error } = client.state;
    assert.deepEqual([state, reason, error.code, error.word, error.hint], ['closed', 'there is no route /wss', 102, 'unknown_topic', 'did you mean /ws?']);
    await pass(100_000);
    assert.equal(socket().closed, true);
  }
});

test('states: an error of long ago is not the reason of a break', async () => {
  for (const [code, reason, expected] of [[1006, '', 'the connection broke'], [3008, 'slow', 'slow']]) {
    const { client } = await live();
    client.on('error', () => {});
    socket().say({ broker: 'error', code: 107, error: 'bad_request', message: 'what was that?' });
    if (code === 3008) socket().publish('other', '1@X');
    socket().end(code, reason);
    assert.deepEqual([client.state.reason, client.state.error], [expected, null]);
    client.close();
  }
});

test('states: nothing that the server says is taken for a state', async () => {
  const { client, states } = await live();
  socket().say({ broker: 'state', state: 'closed', topic: 'a' });
  socket().say({ broker: 'message' });
  assert.deepEqual([states.length, client.state.state], [2, 'connected']);
});

test('states: a handshake without an answer is given up after ten seconds', async () => {
  const { client } = await begin();
  await pass(9_999);
  assert.equal(client.state.state, 'connecting');
  await pass(1);
  assert.deepEqual([client.state.state, client.state.reason, socket().closed], ['waiting', 'no answer in time', true]);
});

test('states: retry tries at once, also after a refusal, and not after close', async () => {
  const { client } = await begin();
  socket().end(3507, 'permission denied');
  client.retry();
  await settle();
  assert.deepEqual([sockets.length, client.state.state], [2, 'connecting']);
  client.close();
  client.retry();
  await settle();
  assert.equal(sockets.length, 2);
});

test('states: one listener\'s mistake harms neither the others nor the connection', async () => {
  const reported = mock.method(console, 'error', () => {});
  const { client } = await begin();
  const heard = [];
  client.on('state', () => { throw new Error('a bug of the page'); });
  const off = client.on('state', ({ state }) => heard.push(state));
  socket().accept();
  off();
  socket().end();
  assert.deepEqual([heard, client.state.state, reported.mock.callCount()], [['connected'], 'waiting', 2]);
});

// ---- waiting ----

test('waits: full jitter between nothing and a ceiling that doubles up to 20 s, on top of the server\'s advice', async () => {
  const random = seeded(7);
  mock.method(Math, 'random', random);
  for (let round = 0; round < 300; round += 1) {
    sockets.length = 0;
    const { client } = await begin();
    const tries = Math.floor(random() * 12);
    for (let index = 0; index < tries; index += 1) {
      socket().end();
      await nextTry(client);
    }
    const advised = random() < 0.5 ? 0 : Math.floor(random() * 30_000);
    if (advised) socket().say({ broker: 'closing', code: 3001, reason: 'shutdown', reconnect_after_ms: advised });
    socket().end(3001);
    const ceiling = Math.min(20_000, 500 * 2 ** (tries + 1));
    const { retryInMs } = client.state;
    assert.ok(retryInMs >= advised && retryInMs <= advised + ceiling, `${retryInMs} ms after ${tries} tries, advised ${advised}`);
    client.close();
  }
});

test('waits: both ends of the jitter are reached', async () => {
  const { client } = await begin();
  for (const [chance, expected] of [[0, 0], [0.5, 500], [1 - 2 ** -53, 1_000]]) {
    mock.method(Math, 'random', () => chance);
    socket().end();
    assert.equal(client.state.retryInMs, expected);
    client.retry();
    await settle();
    socket().accept();
    await pass(5_000);
    socket().end(1006);
    assert.equal(client.state.retryInMs, expected / 2, 'a connection that lasted is forgiven all tries before it');
    await nextTry(client);
  }
});

test('waits: a thousand clients of a server that dies come back spread, whatever it advised', async () => {
  mock.method(Math, 'random', seeded(11));
  for (const advised of [0, 2_000]) {
    const buckets = new Array(10).fill(0);
    for (let index = 0; index < 1_000; index += 1) {
      const { client } = await begin();
      if (advised) socket().say({ broker: 'closing', code: 3001, reason: 'shutdown', reconnect_after_ms: advised });
      socket().end(advised ? 3001 : 1006);
      buckets[Math.min(9, Math.floor((client.state.retryInMs - advised) / 100))] += 1;
      client.close();
    }
    assert.ok(Math.max(...buckets) < 200, `${buckets}`);
  }
});

test('waits: a connection that is closed as soon as it is made counts as a failed try', async () => {
  const { client } = await begin();
  for (let round = 1; round <= 8; round += 1) {
    socket().accept();
    assert.equal(client.state.attempt, round);
    socket().end(3004, 'internal server error');
    await nextTry(client);
  }
});

test('waits: retry_after_ms of a refused opening is honoured, and bounded', async () => {
  mock.method(Math, 'random', () => 0);
  for (const [told, expected] of [[7_000, 7_000], [1e12, 600_000]]) {
    const { client } = await begin();
    socket().say({ broker: 'error', code: 111, error: 'too_many_requests', message: 'too many connects', retry_after_ms: told });
    socket().end(3013, 'too many requests');
    assert.deepEqual([client.state.state, client.state.retryInMs, client.state.error.word], ['waiting', expected, 'too_many_requests']);
  }
});

// ---- the page ----

test('page: online, visible, resumed and shown again each try at once', async () => {
  page = fakePage();
  const acts = [() => page.network(true), () => page.show(true), () => page.resume(), () => page.fire('pageshow')];
  const { client } = await begin();
  for (const act of acts) {
    for (let index = 0; index < 8; index += 1) {
      socket().end();
      client.retry();
      await settle();
    }
    socket().end();
    const before = sockets.length;
    page.show(false);
    assert.equal(sockets.length, before);
    act();
    await settle();
    assert.deepEqual([sockets.length, client.state.state], [before + 1, 'connecting']);
    act();
    await settle();
    assert.equal(sockets.length, before + 1, 'a try that has just begun is left alone');
  }
});

test('page: a handshake that began before the page slept is begun anew', async () => {
  page = fakePage();
  await begin();
  await pass(3_001);
  page.show(true);
  await settle();
  assert.deepEqual([sockets.length, sockets[0].closed], [2, true]);
});

test('page: no try while the browser is offline, one as soon as it is not', async () => {
  page = fakePage();
  page.network(false);
  const { client, states } = await begin();
  await pass(1_000_000);
  assert.deepEqual([sockets.length, states.length, client.state.retryInMs], [0, 1, null]);
  page.network(true);
  await settle();
  assert.equal(sockets.length, 1);
  socket().end();
  page.network(false);
  assert.equal(client.state.retryInMs, null);
  client.retry();
  await pass(1_000_000);
  assert.equal(sockets.length, 1);
  page.network(true);
  await settle();
  socket().accept();
  assert.equal(client.state.state, 'connected');
});

test('page: a connection that breaks because the network went waits for it', async () => {
  page = fakePage();
  const { client } = await live();
  page.network(false);
  assert.deepEqual([socket().sent, client.state.state], [[{ broker: 'ping' }], 'connected'], 'it may hold all the same');
  socket().end();
  assert.deepEqual([client.state.state, client.state.retryInMs], ['waiting', null]);
});

test('page: this machine is reached without a network', async () => {
  page = fakePage();
  page.network(false);
  for (const url of ['http://localhost:8000/ws', 'http://127.0.0.1:8000/ws', 'http://[::1]:8000/ws']) await begin({ url });
  assert.equal(sockets.length, 3);
});

test('page: waking does not shorten what the server asked for', async () => {
  page = fakePage();
  mock.method(Math, 'random', () => 0.5);
  const { client } = await live();
  socket().say({ broker: 'closing', code: 3001, reason: 'shutdown', reconnect_after_ms: 4_000 });
  socket().end(3001, 'shutdown');
  await pass(3_999);
  page.show(true);
  await settle();
  assert.equal(sockets.length, 1);
  page.network(false);
  page.network(true);
  await settle();
  assert.deepEqual([sockets.length, client.state.retryInMs], [1, 1]);
  await pass(1);
  assert.equal(sockets.length, 2);
});

test('page: one that is left gives its socket up, and has it again when it is shown', async () => {
  page = fakePage();
  const { client } = await live();
  page.fire('pagehide');
  assert.deepEqual([sockets[0].closed, client.state.state], [true, 'waiting']);
  page.fire('pageshow');
  await settle();
  socket().accept();
  assert.deepEqual([sockets.length, client.state.state], [2, 'connected']);
});

test('page: nothing wakes a client that was closed', async () => {
  page = fakePage();
  const { client, states } = await live();
  client.close();
  client.close();
  for (const wake of [() => page.network(true), () => page.show(true), () => page.fire('pageshow'), () => page.fire('pagehide')]) wake();
  await pass(1_000_000);
  assert.deepEqual([sockets.length, states.at(-1).state, states.length, page.listeners()], [1, 'closed', 3, 0]);
});

// ---- tokens ----

test('tokens: in the subprotocol, never in the URL; kept for an ordinary reconnect', async () => {
  const getToken = mock.fn(async () => 'aaa.bbb.ccc');
  const { client } = await live({ getToken });
  socket().end(1006);
  await nextTry(client);
  assert.deepEqual(sockets.map(({ protocols }) => protocols), [['bearer', 'aaa.bbb.ccc'], ['bearer', 'aaa.bbb.ccc']]);
  assert.ok(sockets.every(({ url }) => !url.href.includes('aaa')));
  assert.equal(getToken.mock.callCount(), 1);
});

for (const [word, number, code] of [['unauthorized', 101, 3500], ['token_expired', 109, 3005]]) {
  test(`tokens: after ${word} a fresh one is tried once, then it is over`, async () => {
    let count = 0;
    const { client } = await begin({ getToken: () => `token${(count += 1)}` });
    const refuse = () => {
      socket().say({ broker: 'error', code: number, error: word, message: 'no' });
      socket().end(code, 'no');
    };
    refuse();
    await nextTry(client);
    assert.deepEqual(socket().protocols, ['bearer', 'token2']);
    socket().accept();
    await pass(60_000 / 4);
    refuse();
    await nextTry(client);
    refuse();
    assert.deepEqual([client.state.state, client.state.code, client.state.error.word, count], ['closed', code, word, 3]);
  });
}

test('tokens: a fresh one is asked for when the server declares the old one void', async () => {
  let count = 0;
  const { client } = await live({ getToken: () => `token${(count += 1)}` });
  socket().end(3014, 'state invalidated');
  await nextTry(client);
  assert.deepEqual(socket().protocols, ['bearer', 'token2']);
});

test('tokens: one that cannot be renewed is not tried again', async () => {
  const { client } = await begin({ token: 'fixed' });
  assert.deepEqual(socket().protocols, ['bearer', 'fixed']);
  socket().end(3500, 'invalid token');
  assert.equal(client.state.state, 'closed');
});

test('tokens: an application that cannot give one is asked again, and its error is told', async () => {
  const cause = new Error('fetch failed');
  let fails = true;
  const { client } = await begin({ getToken: async () => { if (fails) throw cause; return 'good'; } });
  assert.deepEqual([client.state.state, client.state.error.word, client.state.error.cause], ['waiting', 'no_credentials', cause]);
  fails = false;
  await pass(client.state.retryInMs);
  assert.deepEqual(socket().protocols, ['bearer', 'good']);
});

test('tokens: an application that never answers does not hold the client for ever', async () => {
  const { client } = await begin({ getToken: () => new Promise(() => {}) });
  await pass(10_000);
  assert.equal(client.state.state, 'waiting');
});

test('tokens: one that a header cannot carry is refused without being told', async () => {
  const { client } = await begin({ token: '{"user":"ris1"}' });
  assert.deepEqual([client.state.state, sockets.length, /ris1/.test(client.state.reason)], ['closed', 0, false]);
});

test('tokens: a ticket is fresh for each connect', async () => {
  let count = 0;
  const { client } = await live({ getTicket: () => `t${(count += 1)}` });
  socket().end();
  await nextTry(client);
  assert.deepEqual(sockets.map(({ url, protocols }) => [url.searchParams.get('ticket'), protocols]), [['t1', []], ['t2', []]]);
});

test('tokens: one that a header cannot carry is replaced by a ticket where there are tickets', async () => {
  const { client } = await live({ getTicket: () => 't1' });
  const changed = client.authenticate('{"user":"lis1"}');
  socket().say({ broker: 'identity', id: socket().asked('authenticate').id, user: 'lis1', left: [], joined: [] });
  await changed;
  socket().end();
  await nextTry(client);
  assert.deepEqual([socket().url.searchParams.get('ticket'), socket().protocols], ['t1', []]);
});

test('tokens: before its end it is renewed in place', async () => {
  let count = 0;
  const { states } = await live({ getToken: () => `token${(count += 1)}` });
  socket().say({ broker: 'expiring', in_ms: 30_000 });
  await pass(7_499);
  assert.equal(socket().asked('authenticate'), undefined);
  await pass(7_501);
  const { id, token } = socket().asked('authenticate');
  assert.equal(token, 'token2');
  socket().say({ broker: 'identity', id, user: 'ris1', left: [], joined: [] });
  await settle();
  assert.deepEqual([sockets.length, states.at(-1).state], [1, 'connected']);
  socket().end();
  await pass(1_000);
  assert.deepEqual(socket().protocols, ['bearer', 'token2']);
});

test('tokens: while renewing fails, or brings the old one, it is tried again as long as there is time', async () => {
  const answers = [() => 'old', () => Promise.reject(new Error('offline')), () => 'old', () => 'new'];
  let count = 0;
  await live({ getToken: async () => answers[count++]() });
  socket().say({ broker: 'expiring', in_ms: 30_000 });
  for (let step = 0; step < 28; step += 1) await pass(1_000);
  assert.deepEqual([count, socket().sent.filter(({ broker }) => broker === 'authenticate').map(({ token }) => token)], [4, ['new']]);
});

test('authenticate: becomes another user on the same socket', async () => {
  const { client } = await live();
  const identities = [];
  client.on('identity', ({ user }) => identities.push(user));
  const answer = client.authenticate('of-lis1');
  const { id } = socket().asked('authenticate');
  socket().say({ broker: 'identity', id, user: 'lis1', left: ['group:ocs_ris'], joined: ['group:ocs_lis'] });
  assert.deepEqual((await answer).left, ['group:ocs_ris']);
  assert.deepEqual([client.user, identities], ['lis1', ['lis1']]);
});

test('authenticate: a bad token is refused, and the old one holds', async () => {
  const { client } = await live({ token: 'old' });
  const refused = rejection(client.authenticate('bad'));
  socket().say({ broker: 'error', id: socket().asked('authenticate').id, code: 101, error: 'unauthorized', message: 'invalid token' });
  assert.equal((await refused).word, 'unauthorized');
  assert.equal(client.user, 'ris1');
  socket().end();
  await nextTry(client);
  assert.deepEqual(socket().protocols, ['bearer', 'old']);
});

test('authenticate: the old user does not come back through a break, a wait or a token that was asked for before', async () => {
  let late;
  const { client } = await begin({ getToken: () => new Promise((resolve) => (late = resolve)) });
  const first = client.authenticate('of-lis1');
  late('of-ris1');
  await settle();
  assert.deepEqual(socket().protocols, ['bearer', 'of-lis1']);
  socket().accept('lis1');
  assert.equal((await first).user, 'lis1');
  socket().end(1006);
  await nextTry(client);
  assert.deepEqual(socket().protocols, ['bearer', 'of-lis1']);
  socket().accept('lis1');

  const second = client.authenticate('of-doc1');
  socket().end(1006);
  await nextTry(client);
  assert.deepEqual(socket().protocols, ['bearer', 'of-doc1']);
  socket().accept('doc1');
  assert.equal((await second).user, 'doc1');

  socket().end(1006);
  const third = rejection(client.authenticate('of-nobody'));
  await settle();
  assert.deepEqual(socket().protocols, ['bearer', 'of-nobody']);
  client.close();
  assert.equal((await third).word, 'closed');
});

test('authenticate: a renewal under way does not undo it', async () => {
  let late;
  const tokens = [() => 'of-ris1', () => new Promise((resolve) => (late = resolve))];
  const { client } = await live({ getToken: () => tokens.shift()() });
  socket().say({ broker: 'expiring', in_ms: 1_000 });
  await pass(500);
  const changed = client.authenticate('of-lis1');
  socket().say({ broker: 'identity', id: socket().asked('authenticate').id, user: 'lis1', left: [], joined: [] });
  await changed;
  late('again-of-ris1');
  await settle();
  assert.deepEqual(socket().sent.filter(({ broker }) => broker === 'authenticate').map(({ token }) => token), ['of-lis1']);
});

test('authenticate: topics that are lost are told, topics that were refused are asked for again', async () => {
  const { client } = await live();
  const [mine, theirs] = [events(client.subscribe('ocs:ris')), events(client.subscribe('ocs:lis'))];
  socket().subscribed('ocs:ris');
  socket().say({ broker: 'error', id: socket().asked('subscribe').id, code: 103, error: 'permission_denied', message: 'no' });
  const answer = client.authenticate('of-lis1');
  socket().say({ broker: 'identity', id: socket().asked('authenticate').id, user: 'lis1', left: ['ocs:ris'], joined: [] });
  await answer;
  assert.equal(socket().asked('subscribe').topic, 'ocs:lis');
  socket().subscribed('ocs:lis');
  socket().publish('ocs:ris', '1@A');
  assert.deepEqual([mine, theirs], [['subscribed:', 'unsubscribed:the new identity may not have it'], ['error:permission_denied', 'subscribed:']]);
});

// ---- topics ----

test('topics: each is subscribed to on connect, resumed from its own position, and hears nothing twice', async () => {
  const { client } = await begin();
  const [a, b] = [client.subscribe('a', { since: 0 }), client.subscribe('b', { rate: 4 })];
  const [told, other] = [events(a), events(b)];
  assert.equal(client.subscribe('a'), a);
  socket().accept();
  assert.deepEqual(socket().sent.map(({ broker, topic, since, rate }) => [broker, topic, since, rate]), [
    ['subscribe', 'a', 0, undefined],
    ['subscribe', 'b', undefined, 4],
  ]);
  socket().subscribed('a', { position: '2@X', recovered: true });
  socket().publish('a', '1@X');
  socket().publish('a', '2@X');
  socket().subscribed('b', { position: '9@Y' });
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.deepEqual(socket().sent.map(({ topic, since }) => [topic, since]), [['a', '2@X'], ['b', '9@Y']]);
  socket().subscribed('a', { position: '4@X', recovered: true });
  for (const offset of [2, 3, 3, 1, 4, 4]) socket().publish('a', `${offset}@X`);
  assert.deepEqual(told, ['subscribed:2@X', 'publication:1@X', 'publication:2@X', 'subscribed:4@X', 'publication:3@X', 'publication:4@X']);
  assert.deepEqual([other, a.status, a.position], [['subscribed:9@Y'], 'subscribed', '4@X']);
});

test('topics: what was missed is asked for again when the connection breaks before it came', async () => {
  const { client } = await live();
  const a = client.subscribe('a', { since: '5@X' });
  socket().subscribed('a', { position: '9@X', recovered: true });
  socket().publish('a', '6@X');
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.equal(socket().asked('subscribe').since, '6@X');
  // Nothing came, and an answer that stands behind it proves that nothing was meant to.
  socket().subscribed('a', { position: '9@X', recovered: true });
  assert.equal(a.position, '6@X');
  socket().say({ broker: 'pong' });
  assert.equal(a.position, '6@X', 'signs of life overtake what waits');
  socket().arrived();
  assert.equal(a.position, '9@X');
});

test('topics: a connection that breaks between the answer and the snapshot that follows it begins anew, and gets the snapshot', async () => {
  const { client } = await live();
  const [fresh, late] = [client.subscribe('fresh'), client.subscribe('late', { since: '3@X' })];
  const told = events(late);
  socket().subscribed('fresh', { position: '7@X', snapshot: true });
  socket().subscribed('late', { position: '7@X', recovered: false, snapshot: true });
  socket().say({ broker: 'gap', topic: 'late', from: '4@X', to: '7@X', reason: 'trimmed' });
  assert.deepEqual([fresh.position, late.position], [undefined, '3@X']);
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.deepEqual(socket().sent.map(({ topic, since }) => [topic, since]), [['fresh', undefined], ['late', '3@X']]);
  socket().subscribed('fresh', { position: '8@X', snapshot: true });
  socket().subscribed('late', { position: '8@X', recovered: false, snapshot: true });
  socket().say({ broker: 'gap', topic: 'late', from: '4@X', to: '6@X', reason: 'trimmed' });
  socket().say({ broker: 'snapshot', topic: 'late', position: '6@X', data: 'state' });
  assert.equal(late.position, '6@X', 'what was published since the state is still to come');
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.deepEqual(socket().sent.map(({ topic, since }) => [topic, since]), [['fresh', undefined], ['late', '6@X']]);
  assert.deepEqual(told, ['subscribed:7@X', 'gap:trimmed', 'subscribed:8@X', 'gap:trimmed', 'snapshot:state']);
});

test('topics: one question at a time says for all topics that nothing more follows', async () => {
  const { client } = await live();
  const topics = ['a', 'b', 'c'].map((topic) => client.subscribe(topic, { since: '1@X' }));
  const asked = () => socket().sent.filter(({ broker }) => broker === 'unsubscribe').length;
  for (const { topic } of topics) socket().subscribed(topic, { position: '5@X', recovered: true });
  assert.equal(asked(), 1);
  socket().arrived();
  assert.deepEqual([asked(), ...topics.map(({ position }) => position)], [2, '5@X', '1@X', '1@X']);
  socket().arrived();
  assert.deepEqual([asked(), ...topics.map(({ position }) => position)], [2, '5@X', '5@X', '5@X']);
  // An answer that was asked for before the topic was subscribed to anew says nothing of it.
  for (const position of ['9@Z', '11@Z']) {
    socket().say({ broker: 'unsubscribed', topic: 'a', code: 2500, reason: 'again' });
    await pass(1_000);
    socket().subscribed('a', { position, recovered: false });
  }
  socket().arrived();
  assert.equal(topics[0].position, '5@X');
  socket().arrived();
  assert.equal(topics[0].position, '11@Z');
});

test('topics: a gap is told with its ends, and the position goes on from the new one', async () => {
  const { client } = await live();
  const a = client.subscribe('a', { since: '5@X' });
  const gaps = [];
  a.on('gap', ({ from, to, reason }) => gaps.push([from, to, reason]));
  socket().subscribed('a', { position: '24@X', recovered: false });
  socket().say({ broker: 'gap', topic: 'a', from: '6@X', to: '20@X', reason: 'trimmed' });
  assert.equal(a.position, '20@X');
  socket().publish('a', '21@X');
  socket().say({ broker: 'gap', topic: 'a', from: '22@X', to: '30@X', reason: 'slow_consumer' });
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.equal(socket().asked('subscribe').since, '30@X');
  socket().subscribed('a', { position: '2@Z', recovered: false });
  socket().say({ broker: 'gap', topic: 'a', to: '2@Z', reason: 'epoch' });
  assert.equal(a.position, '2@Z');
  const told = events(a);
  socket().publish('a', '3@Z');
  assert.deepEqual(told, ['publication:3@Z'], 'a lower offset of another epoch is no duplicate');
  assert.deepEqual(gaps, [['6@X', '20@X', 'trimmed'], ['22@X', '30@X', 'slow_consumer'], [undefined, '2@Z', 'epoch']]);
});

test('topics: what follows a snapshot builds on it, also what was seen before', async () => {
  const { client } = await live();
  const told = events(client.subscribe('a', { since: '3@X' }));
  socket().subscribed('a', { position: '5@X', recovered: false });
  socket().publish('a', '4@X');
  socket().say({ broker: 'snapshot', topic: 'a', position: '5@X', data: 'state' });
  socket().publish('a', '4@X');
  socket().publish('a', '5@X');
  assert.deepEqual(told, ['subscribed:5@X', 'publication:4@X', 'snapshot:state', 'publication:4@X', 'publication:5@X']);
});

test('topics: a slow first answer is waited for as long as the server is there', async () => {
  const { client } = await live();
  const told = events(client.subscribe('slow'));
  for (let round = 0; round < 10; round += 1) {
    await pass(20_000);
    socket().say({ broker: 'pong' });
  }
  socket().subscribed('slow');
  socket().say({ broker: 'snapshot', topic: 'slow', data: 'first' });
  assert.deepEqual([told, sockets.length], [['subscribed:', 'snapshot:first'], 1]);
});

test('topics: a temporary refusal is tried again after the time that was told, a final one with the next connection', async () => {
  const { client } = await live();
  const [busy, closed] = [client.subscribe('busy'), client.subscribe('closed')];
  const [told, refused] = [events(busy), events(closed)];
  const [first, second] = socket().sent;
  socket().say({ broker: 'error', id: first.id, code: 111, error: 'too_many_requests', message: 'too many', retry_after_ms: 3_000 });
  socket().say({ broker: 'error', id: second.id, code: 103, error: 'permission_denied', message: 'no' });
  assert.deepEqual([busy.status, closed.status], ['waiting', 'refused']);
  await pass(2_999);
  assert.equal(socket().sent.length, 2);
  await pass(501);
  assert.deepEqual(socket().sent.slice(2).map(({ topic }) => topic), ['busy']);
  socket().subscribed('busy');
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.deepEqual(socket().sent.map(({ topic }) => topic), ['busy', 'closed']);
  assert.deepEqual([told, refused], [['error:too_many_requests', 'subscribed:'], ['error:permission_denied']]);
});

test('topics: a refusal that nobody listens to is written to the console', async () => {
  const warned = mock.method(console, 'warn', () => {});
  const { client } = await live();
  client.subscribe('closed');
  socket().say({ broker: 'error', id: 1, code: 103, error: 'permission_denied', message: 'not allowed', hint: 'ask for it' });
  assert.deepEqual(warned.mock.calls[0].arguments, ['broker: not allowed (ask for it)']);
});

test('topics: an end by the server is final below 2500 and asked for again from there on', async () => {
  const { client } = await live();
  const [gone, back] = [client.subscribe('gone'), client.subscribe('back')];
  const told = events(gone);
  for (const topic of ['gone', 'back']) socket().subscribed(topic, { position: '1@X' });
  socket().say({ broker: 'unsubscribed', topic: 'gone', code: 2000, reason: 'server unsubscribe' });
  socket().say({ broker: 'unsubscribed', topic: 'back', code: 2500, reason: 'insufficient state' });
  await pass(1_000);
  const again = socket().sent.slice(2).filter(({ broker }) => broker === 'subscribe');
  assert.deepEqual(again.map(({ topic, since }) => [topic, since]), [['back', '1@X']]);
  assert.deepEqual([gone.status, back.status, told], ['unsubscribed', 'subscribing', ['subscribed:1@X', 'unsubscribed:server unsubscribe']]);
});

test('topics: after unsubscribe nothing comes, not even to a new subscription that is not answered yet', async () => {
  const { client } = await live();
  const first = client.subscribe('a');
  const told = events(first);
  socket().subscribed('a', { position: '1@X' });
  const ended = first.unsubscribe();
  const second = events(client.subscribe('a'));
  socket().publish('a', '2@X');
  socket().say({ broker: 'unsubscribed', id: socket().asked('unsubscribe').id, topic: 'a', code: 2000, reason: 'client unsubscribe' });
  await ended;
  socket().subscribed('a', { position: '2@X' });
  socket().publish('a', '3@X');
  assert.deepEqual([told, second], [['subscribed:1@X', 'unsubscribed:client unsubscribe'], ['subscribed:2@X', 'publication:3@X']]);
  await first.unsubscribe();
});

test('topics: answers to a subscription that ended before them are void', async () => {
  const { client } = await live();
  const first = client.subscribe('a');
  const told = events(first);
  first.unsubscribe();
  await pass(10_000);
  const second = client.subscribe('a');
  const [asked, ended] = socket().sent;
  socket().say({ broker: 'subscribed', id: asked.id, topic: 'a', position: '1@X' });
  socket().say({ broker: 'unsubscribed', id: ended.id, topic: 'a', code: 2000, reason: 'client unsubscribe' });
  assert.deepEqual([told, second.status], [['unsubscribed:client unsubscribe'], 'subscribing']);
  socket().subscribed('a', { position: '1@X' });
  assert.equal(second.status, 'subscribed');
});

test('topics: those that the server chose are heard on the client, or on a subscription, which is told what was not resumed', async () => {
  const { client } = await live();
  const heard = [];
  client.on('publication', ({ topic, data }) => heard.push(`${topic} ${data}`));
  socket().say({ broker: 'subscribed', topic: 'group:ris', position: '4@X' });
  socket().publish('group:ris', '5@X', 'one');
  const group = client.subscribe('group:ris');
  const told = events(group);
  socket().say({ broker: 'error', id: socket().asked('subscribe').id, code: 105, error: 'already_subscribed', message: 'is subscribed' });
  socket().publish('group:ris', '6@X', 'two');
  socket().end();
  await nextTry(client);
  socket().accept();
  socket().say({ broker: 'subscribed', topic: 'group:ris', position: '8@X' });
  socket().say({ broker: 'error', id: socket().asked('subscribe').id, code: 105, error: 'already_subscribed', message: 'is subscribed' });
  socket().publish('group:ris', '9@X', 'four');
  assert.deepEqual(heard, ['group:ris one']);
  // This server has not understood where to resume.
  assert.deepEqual(told, ['subscribed:', 'publication:two', 'subscribed:8@X', 'gap:not_resumed', 'publication:four']);
});

test('topics: those that the server chose resume with the address, whoever hears them', async () => {
  const { client } = await live();
  const heard = [];
  for (const word of ['subscribed', 'publication', 'gap', 'unsubscribed']) {
    client.on(word, ({ topic, reason, data, position }) => heard.push(`${word} ${topic} ${reason ?? data ?? position}`));
  }
  const told = events(client.subscribe('group:a,b'));
  const choose = (topic, rest) => socket().say({ broker: 'subscribed', topic, ...rest });
  assert.deepEqual(socket().url.searchParams.getAll('resume'), []);
  choose('group:a,b', { position: '4@X' });
  choose('group:ops', { position: '7@Y' });
  choose('user:ris1');
  socket().publish('group:ops', '8@Y');
  socket().end();
  await nextTry(client);
  assert.deepEqual(socket().url.searchParams.getAll('resume'), ['group:a,b,4@X', 'group:ops,8@Y']);
  socket().end(); // before it said anything: the places stand
  await nextTry(client);
  assert.deepEqual(socket().url.searchParams.getAll('resume'), ['group:a,b,4@X', 'group:ops,8@Y']);
  socket().accept('ris1');
  choose('group:a,b', { position: '5@X', recovered: true });
  socket().publish('group:a,b', '5@X');
  choose('group:ops', { position: '9@Z', recovered: false });
  socket().say({ broker: 'gap', topic: 'group:ops', to: '9@Z', reason: 'epoch' });
  choose('user:ris1');
  assert.deepEqual(told, ['subscribed:4@X', 'subscribed:5@X', 'publication:5@X']);
  assert.deepEqual(heard, [
    'subscribed group:ops 7@Y', 'subscribed user:ris1 undefined', 'publication group:ops 8@Y',
    'subscribed group:ops 9@Z', 'gap group:ops epoch', 'subscribed user:ris1 undefined', 'gap user:ris1 not_resumed',
  ]);
});

test('topics: what the server does not choose again is told when that is clear, and not resumed any more', async () => {
  const { client } = await live();
  const ended = [];
  client.on('unsubscribed', ({ topic, code }) => ended.push(`${topic} ${code}`));
  for (const topic of ['group:a', 'group:b', 'group:c', 'group:d']) socket().say({ broker: 'subscribed', topic, position: '1@X' });
  socket().say({ broker: 'unsubscribed', topic: 'group:c', code: 2500, reason: 'insufficient state' });
  socket().say({ broker: 'identity', user: 'lis1', left: ['group:d'], joined: [] });
  assert.deepEqual(ended, ['group:c 2500']);
  socket().end();
  await nextTry(client);
  socket().accept('lis1');
  socket().say({ broker: 'subscribed', topic: 'group:a', position: '1@X', recovered: true });
  assert.deepEqual(ended, ['group:c 2500'], 'group:b may follow');
  socket().arrived();
  assert.deepEqual(ended, ['group:c 2500', 'group:b 0']);
  socket().end();
  await nextTry(client);
  assert.deepEqual(socket().url.searchParams.getAll('resume'), ['group:a,1@X']);
});

test('topics: more places than an address can carry are told as not resumed', async () => {
  const { client } = await live();
  const gaps = [];
  client.on('gap', ({ topic, reason }) => gaps.push(`${topic.slice(0, 7)} ${reason}`));
  const topics = Array.from({ length: 40 }, (_, n) => `group:${String.fromCharCode(65 + n)}${'x'.repeat(240)}`);
  for (const topic of topics) socket().say({ broker: 'subscribed', topic, position: '1@X' });
  socket().end();
  await nextTry(client);
  const resumed = socket().url.searchParams.getAll('resume').map((pair) => pair.split(',')[0]);
  assert.ok(socket().url.href.length < 7_000 && resumed.length > 15, `${socket().url.href.length} ${resumed.length}`);
  socket().accept();
  for (const topic of topics) socket().say({ broker: 'subscribed', topic, position: '2@X', ...(resumed.includes(topic) && { recovered: true }) });
  assert.deepEqual(gaps, topics.slice(resumed.length).map((topic) => `${topic.slice(0, 7)} not_resumed`));
});

test('topics: rate and filter are asked for again with every connection', async () => {
  const { client } = await live();
  const filter = { op: 'and', nodes: [{ key: 'priority', cmp: 'in', vals: ['high'] }] };
  const wanted = client.subscribe('a', { rate: 4, filter });
  const asked = () => [socket().asked('subscribe').rate, socket().asked('subscribe').filter];
  assert.deepEqual(asked(), [4, filter]);
  assert.equal(client.subscribe('a', { rate: 1 }), wanted, 'one subscription for each topic');
  socket().subscribed('a', { position: '1@X' });
  socket().end();
  await nextTry(client);
  socket().accept();
  assert.deepEqual(asked(), [4, filter]);
});

test('topics: an error of the application is final unless it says when to come back', async () => {
  const { client } = await live();
  const [closed, later] = [client.subscribe('closed'), client.subscribe('later')];
  for (const topic of [closed, later]) topic.on('error', () => {});
  const [first, second] = socket().sent;
  const refusal = { broker: 'error', code: 1234, error: 'application', message: 'the ledger is being closed' };
  socket().say({ ...refusal, id: first.id });
  socket().say({ ...refusal, id: second.id, retry_after_ms: 1_000 });
  assert.deepEqual([closed.status, later.status], ['refused', 'waiting']);
  await pass(1_500);
  assert.deepEqual(socket().sent.slice(2).map(({ topic }) => topic), ['later']);
});

test('topics: without history a break is a gap', async () => {
  const { client } = await live();
  const told = events(client.subscribe('live'));
  socket().subscribed('live');
  socket().publish('live', undefined, 1);
  socket().end();
  await nextTry(client);
  socket().accept();
  socket().subscribed('live');
  socket().publish('live', undefined, 1);
  assert.deepEqual(told, ['subscribed:', 'publication:1', 'subscribed:', 'gap:not_resumed', 'publication:1']);
});

test('topics: a listener may end it all in the middle of anything', async () => {
  const ends = [
    (client) => client.on('state', ({ state }) => state === 'connected' && client.close()),
    (client) => client.subscribe('a').on('subscribed', () => client.close()),
    (client) => client.on('identity', () => client.close()),
    (client) => client.subscribe('b').on('error', () => client.close()),
  ];
  for (const end of ends) {
    const { client } = await begin();
    client.subscribe('a', { since: '1@X' }).on('error', () => {});
    client.subscribe('b').on('error', () => {});
    end(client);
    socket().accept('ris1');
    if (client.state.state !== 'closed') {
      const [a, b] = socket().sent;
      socket().say({ broker: 'subscribed', id: a.id, topic: 'a', position: '5@X', recovered: true });
      socket().say({ broker: 'error', id: b.id, code: 103, error: 'permission_denied', message: 'no' });
      socket().say({ broker: 'identity', user: 'lis1', left: ['a'], joined: [] });
    }
    assert.equal(client.state.state, 'closed');
  }
});

test('topics: binary data is bytes, frames of the application are messages', async () => {
  const { client } = await live();
  const [got, messages] = [[], []];
  client.on('message', (message) => messages.push(message));
  client.subscribe('a').on('publication', ({ data }) => got.push([...data]));
  socket().subscribed('a');
  socket().say({ broker: 'publication', topic: 'a', b64data: 'AP8=', time: 0 });
  socket().say({ type: 'alert', priority: 1 });
  socket().say('plain words');
  await client.send({ type: 'subscribe_product', product_id: 1 });
  assert.deepEqual([got, messages, socket().sent.at(-1)], [[[0, 255]], [{ type: 'alert', priority: 1 }, 'plain words'], { type: 'subscribe_product', product_id: 1 }]);
});

// ---- for await ----

test('iteration: publications, snapshots and gaps in order, until the subscription ends', async () => {
  const { client } = await live();
  const a = client.subscribe('a');
  const got = [];
  const reading = (async () => { for await (const item of a) got.push(`${item.broker} ${item.data ?? item.reason}`); })();
  await settle();
  socket().subscribed('a');
  socket().say({ broker: 'snapshot', topic: 'a', data: 'state' });
  socket().publish('a', '1@X');
  socket().say({ broker: 'gap', topic: 'a', reason: 'slow_consumer' });
  await settle();
  a.unsubscribe();
  await reading;
  assert.deepEqual(got, ['snapshot state', 'publication 1@X', 'gap slow_consumer']);
  for await (const item of a) assert.fail(item);
});

test('iteration: who reads too slowly is told what it missed', async () => {
  const { client } = await live();
  const a = client.subscribe('a');
  socket().subscribed('a');
  const reader = a[Symbol.asyncIterator]();
  const first = reader.next();
  await settle();
  socket().publish('a', '1@X');
  assert.equal((await first).value.position, '1@X');
  for (let offset = 2; offset <= 2_000; offset += 1) socket().publish('a', `${offset}@X`);
  const rest = [];
  a.unsubscribe();
  for await (const item of reader) rest.push(item);
  assert.equal(rest.length, 1_024);
  const [{ broker, from, to, reason }, next] = rest;
  assert.deepEqual([broker, from, to, reason], ['gap', '2@X', '977@X', 'slow_consumer']);
  assert.deepEqual([next.position, rest.at(-1).position], ['978@X', '2000@X']);
});

test('iteration: ends with close, throws where the topic is refused or the client is turned away', async () => {
  const { client } = await live();
  const read = async (topic) => { for await (const item of client.subscribe(topic)) assert.fail(item); };
  const refused = rejection(read('closed'));
  await settle();
  socket().say({ broker: 'error', id: socket().asked('subscribe').id, code: 103, error: 'permission_denied', message: 'no' });
  assert.equal((await refused).word, 'permission_denied');
  const reading = read('a');
  await settle();
  client.close();
  await reading;

  const other = (await live()).client;
  const turnedAway = rejection((async () => { for await (const item of other.subscribe('a')) assert.fail(item); })());
  await settle();
  socket().end(3503, 'force disconnect');
  assert.equal((await turnedAway).message, 'force disconnect');
});

// ---- commands ----

test('commands: each answer finds its question', async () => {
  const { client } = await live();
  const asked = [client.publish('a', { n: 1 }, { key: 'k', idempotency_key: 'i' }), client.history('a', { limit: 2 }), client.presence('a'), client.call('sum', [1])];
  const [published, history, presence, sum] = socket().sent;
  assert.deepEqual(published, { broker: 'publish', id: published.id, topic: 'a', data: { n: 1 }, key: 'k', idempotency_key: 'i' });
  socket().say({ broker: 'ok', id: sum.id, data: 1 });
  socket().say({ broker: 'ok', id: presence.id, presence: { s1: { user: 'ris1' } } });
  socket().say({ broker: 'ok', id: history.id, publications: [], position: '4@X' });
  socket().say({ broker: 'ok', id: published.id, topic: 'a', position: '5@X' });
  const answers = await Promise.all(asked);
  assert.deepEqual([answers[0].position, answers[1].position, answers[2].s1.user, answers[3]], ['5@X', '4@X', 'ris1', 1]);
});

test('commands: a refusal rejects with all that the server said', async () => {
  const { client } = await live();
  const refused = rejection(client.publish('a', 1));
  socket().say({ broker: 'error', id: socket().sent[0].id, code: 111, error: 'too_many_requests', message: 'slow down', at: 3, hint: 'wait', retry_after_ms: 500 });
  const error = await refused;
  assert.ok(error instanceof BrokerError && error instanceof Error);
  const { code, word, message, hint, at, retryAfterMs } = error;
  assert.deepEqual({ code, word, message, hint, at, retryAfterMs }, { code: 111, word: 'too_many_requests', message: 'slow down', hint: 'wait', at: 3, retryAfterMs: 500 });
});

test('commands: without a connection they are refused at once, and nothing is sent later', async () => {
  const { client } = await begin();
  assert.equal((await rejection(client.publish('a', 1))).word, 'not_connected');
  assert.equal((await rejection(client.send('hello'))).word, 'not_connected');
  socket().accept();
  assert.deepEqual(socket().sent, []);
  const lost = rejection(client.publish('a', 2));
  socket().end();
  assert.equal((await lost).word, 'disconnected');
  assert.equal((await rejection(client.publish('a', 3))).word, 'not_connected');
  client.close();
  assert.equal((await rejection(client.publish('a', 4))).word, 'not_connected');
  assert.throws(() => client.subscribe('a'), { word: 'closed' });
});

test('commands: no answer in ten seconds is a timeout, and a late one is void', async () => {
  const { client } = await live();
  const slow = rejection(client.publish('a', 1));
  const loop = {};
  loop.self = loop;
  await assert.rejects(client.publish('a', loop), TypeError);
  await pass(10_000);
  assert.equal((await slow).word, 'timeout');
  socket().say({ broker: 'ok', id: socket().sent[0].id, topic: 'a' });
  assert.equal(client.state.state, 'connected');
});

// ---- half-open ----

test('silence: 20 s bring a ping, 8 more without a word are the end; any frame is a word', async () => {
  const { client } = await live();
  await pass(15_000);
  socket().say({ broker: 'ok', id: 99 });
  await pass(19_999);
  assert.deepEqual(socket().sent, []);
  await pass(1);
  assert.deepEqual(socket().sent, [{ broker: 'ping' }]);
  await pass(7_999);
  socket().say('pong');
  await pass(1);
  assert.equal(client.state.state, 'connected');
  await pass(20_000);
  assert.equal(socket().sent.length, 2);
  await pass(7_998);
  assert.equal(client.state.state, 'connected');
  await pass(2);
  assert.deepEqual([client.state.state, client.state.code, client.state.reason, socket().closed], ['waiting', 1006, 'the other side fell silent', true]);
});

test('silence: somebody who comes back to the page knows within three seconds', async () => {
  page = fakePage();
  const { client } = await live();
  page.show(true);
  assert.deepEqual(socket().sent, [{ broker: 'ping' }]);
  await pass(3_000);
  assert.equal(client.state.state, 'waiting');
});

test('silence: somebody who comes and goes does not put the verdict off', async () => {
  page = fakePage();
  const { client } = await live();
  for (let second = 0; second < 3; second += 1) {
    page.show(true);
    await pass(1_000);
  }
  assert.deepEqual([socket().sent.length, client.state.state], [1, 'waiting']);
});

test('silence: a page that slept asks again before it judges', async () => {
  const { client } = await live();
  await pass(20_000);
  const now = Date.now();
  mock.method(Date, 'now', () => now + 3_600_000);
  await pass(8_000);
  assert.deepEqual([socket().sent.length, client.state.state], [2, 'connected']);
  socket().say({ broker: 'pong' });
  await pass(8_000);
  assert.equal(client.state.state, 'connected');
  mock.restoreAll();
});

// ---- what is replaced is void ----

test('replaced: whatever happens in whatever order, only the newest socket is heard and only it is open', async () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = seeded(seed);
    mock.method(Math, 'random', random);
    page = fakePage();
    sockets.length = 0;
    const late = [];
    const getToken = () => (random() < 0.3 ? new Promise((resolve) => late.push(resolve)) : `token${Math.floor(random() * 1e6)}`);
    const { client, states } = await begin({ getToken });
    const got = [];
    client.subscribe('a').on('publication', ({ data }) => got.push(data));
    let expected = 0;
    let offset = 0;
    const acts = [
      () => client.state.state === 'connecting' && socket()?.accept(),
      () => socket()?.asked('subscribe') && socket().subscribed('a'),
      () => socket()?.end(random() < 0.5 ? 1006 : 3005),
      () => late.shift()?.('late-token'),
      () => page.show(true),
      () => client.retry(),
      () => void client.authenticate('other').catch(() => {}),
      () => pass(Math.floor(random() * 30_000)),
      () => {
        // The newest is heard where it is subscribed, everybody before it never.
        for (const old of sockets.slice(0, -1)) {
          old.accept('an old user');
          old.publish('a', `${(offset += 1)}@X`, 'old');
          old.end(3500, 'too late');
        }
        if (client.state.state === 'connected' && client.subscribe('a').status === 'subscribed') {
          expected += 1;
          socket().publish('a', `${(offset += 1)}@X`, 'new');
        }
      },
    ];
    for (let step = 0; step < 120 && client.state.state !== 'closed'; step += 1) {
      const act = Math.floor(random() * acts.length);
      await acts[act]();
      await settle();
      const open = sockets.filter(({ closed }) => !closed);
      assert.ok(open.length <= 1 && (open.length === 0 || open[0] === socket()), `seed ${seed}, step ${step}: ${open.length} open sockets`);
      assert.ok(client.user !== 'an old user');
    }
    assert.deepEqual([got.filter((data) => data === 'old').length, got.length], [0, expected], `seed ${seed}`);
    const pairs = states.slice(1).map(({ state }, index) => `${states[index].state}>${state}`);
    const legal = ['connecting>connected', 'connecting>waiting', 'connecting>connecting', 'connecting>closed', 'connected>waiting', 'connected>closed', 'waiting>connecting', 'waiting>waiting'];
    assert.deepEqual(pairs.filter((pair) => !legal.includes(pair)), [], `seed ${seed}`);
    client.close();
    page.remove();
    mock.restoreAll();
  }
});
