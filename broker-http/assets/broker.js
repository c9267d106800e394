// The browser's client: one connection that stays, subscriptions that resume. No dependencies; types in broker.d.ts.
// spec: the plain protocol in envelope format. What it promises: docs/clients/broker-js.md.

const DEFAULTS = {
  firstDelayMs: 500, // ceiling of the first wait; doubles with each try
  longestDelayMs: 20_000,
  connectTimeoutMs: 10_000, // credentials, handshake and `connected` together
  answerTimeoutMs: 10_000,
  pingAfterMs: 20_000, // silence: shorter than the 30 s after which the hastiest networks forget a connection
  pongWithinMs: 8_000, // dead after 28 s, before the server (25 + 10 s) counts us out
  wakeWithinMs: 3_000, // somebody looks at the page: live again within 5 s
};
const STABLE_MS = 5_000; // a connection that lived shorter counts as one more failed try
const LATE_MS = 2_000; // a timer this late: the page slept, which says nothing about the network
const ADVICE_MAX_MS = 600_000;
const KEPT_MAX = 1_024;
const RESUMES_MAX_LEN = 6_000; // of the URL: servers read heads of 16 KiB, and tokens stand there too
const NO_TOPIC = "-"; // to leave it changes nothing, and the answer has its place behind everything that waits
const OF_TOPICS = new Set(["publication", "snapshot", "gap", "subscribed", "unsubscribed", "join", "leave"]);
const TOKEN = /^[!#$%&'*+.^_`|~\w-]+$/;
const LOOPBACK = /^(localhost|127\..*|\[::1\])$/;

/** An error that the server sent, or one of `not_connected`, `disconnected`, `timeout`, `closed`, `no_credentials`. */
export class BrokerError extends Error {
  constructor({ error = "error", message = error, code = 0, hint, at, retry_after_ms }) {
    super(message);
    Object.assign(this, { name: "BrokerError", code, word: error, hint, at, retryAfterMs: retry_after_ms });
  }
}
const failure = (error, message) => new BrokerError({ error, message });
const notConnected = () => failure("not_connected", "there is no connection, nothing was sent");

let emit;
class Emitter {
  #listeners = new Map();

  /** Adds a listener; answers a function that removes it. */
  on(type, listener) {
    const entry = { listener };
    this.#listeners.set(type, (this.#listeners.get(type) ?? new Set()).add(entry));
    return () => void this.#listeners.get(type).delete(entry);
  }

  static {
    emit = (target, type, detail) => {
      const listeners = target.#listeners.get(type) ?? [];
      if (type === "error" && !listeners.size) console.warn(`broker: ${detail.message}${detail.hint ? ` (${detail.hint})` : ""}`);
      for (const { listener } of [...listeners]) {
        // One listener's mistake is neither the connection's nor the next listener's.
        try { listener(detail); } catch (error) { (globalThis.reportError ?? console.error)(error); }
      }
    };
  }
}

/** Whether position `a` is not after `b` in the same life of a history. */
function notAfter(a, b) {
  const [[offset, epoch], [of, same]] = [a, b].map((position) => String(position).split("@"));
  return epoch !== undefined && epoch === same && Number(offset) <= Number(of);
}

class Subscription extends Emitter {
  #client;
  #entry;
  #end;
  constructor(client, entry, end) {
    super();
    [this.#client, this.#entry, this.#end] = [client, entry, end];
  }
  get topic() { return this.#entry.topic; }
  get position() { return this.#entry.position; }
  get status() { return this.#entry.status; }
  publish(data, options) { return this.#client.publish(this.topic, data, options); }
  history(options) { return this.#client.history(this.topic, options); }
  presence() { return this.#client.presence(this.topic); }
  unsubscribe() { return this.#end(); }

  /** Publications, snapshots and gaps. Ends with the subscription; throws where it is refused. */
  async *[Symbol.asyncIterator]() {
    const kept = [];
    let wake, error, over = this.status === "unsubscribed";
    const put = (frame) => {
      kept.push(frame);
      if (kept.length > KEPT_MAX) {
        const [first, second] = kept.splice(0, 2);
        const [from, to] = [first.from ?? first.position, second.to ?? second.position];
        kept.unshift({ broker: "gap", topic: this.topic, from, to, reason: "slow_consumer" });
      }
      wake?.();
    };
    const end = (why) => { over = true; error ??= why; wake?.(); };
    const closed = ({ state, code, reason }) => state === "closed" && code !== 1000 && end(failure("closed", reason));
    const offs = ["publication", "snapshot", "gap"].map((type) => this.on(type, put)).concat(
      this.on("unsubscribed", () => this.status === "unsubscribed" && end()),
      this.on("error", (why) => this.status === "refused" && end(why)),
      // After `close()`, which is 1000, the subscription ends as it should.
      this.#client.on("state", closed),
    );
    closed(this.#client.state);
    try {
      for (;;) {
        while (kept.length) yield kept.shift();
        if (error) throw error;
        if (over) return;
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      for (const off of offs) off();
    }
  }
}

class Client extends Emitter {
  #options;
  #url;
  #state;
  #socket = null;
  // Whatever was begun under another number (sockets, timers, promises of the application) is void.
  #generation = 0;
  #timers = new Set();
  #page = null;
  #live = false;
  #liveAt = 0;
  #openedAt = 0;
  #attempt = 0;
  #notBefore = 0;
  #advisedMs = 0;
  #said = null;
  #token;
  #turn = 0; // counts the application's `authenticate`: tokens asked for before one are stale
  #refused = false;
  #ended = false;
  #identities = [];
  #topics = new Map();
  #chosen = new Map(); // topics of the server that nobody subscribes to here
  #pending = new Map();
  /** Topics of which it is not known whether all has come that follows their answer, and whether that is being asked. */
  #unsettled = [];
  #settling = false;
  #nextId = 1;
  #heardAt = 0;
  #pingingMs = 0;
  #cancelPulse = null;

  constructor(options) {
    super();
    this.#options = { ...DEFAULTS, ...options };
    this.#token = options.token;
    const url = options.url ? new URL(options.url, globalThis.location?.href) : new URL("ws", import.meta.url);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("format", "envelope");
    this.#url = url;
    this.#state = Object.freeze({ state: "connecting", code: 0, reason: "", attempt: 0, retryInMs: null, error: null });
    // A tick later, so that whoever made us hears the first state.
    const generation = this.#generation;
    queueMicrotask(() => generation === this.#generation && this.#open());
  }

  /** What the last `state` event said. */
  get state() { return this.#state; }
  session = null;
  user = null;

  subscribe(topic, { since, rate, filter } = {}) {
    if (this.#ended) throw failure("closed", "the client is closed");
    let entry = this.#topics.get(topic);
    if (!entry) {
      entry = { ...this.#entry(topic), rate, filter, ...this.#chosen.get(topic), status: "waiting" };
      if (since !== undefined) entry.position = since;
      this.#chosen.delete(topic);
      entry.handle = new Subscription(this, entry, () => this.#unsubscribe(entry));
      this.#topics.set(topic, entry);
      this.#subscribe(entry);
    }
    return entry.handle;
  }

  publish(topic, data, { key, idempotency_key, removed } = {}) { return this.#ask({ broker: "publish", topic, data, key, idempotency_key, removed }); }
  history(topic, { since, limit, reverse } = {}) { return this.#ask({ broker: "history", topic, since, limit, reverse }); }
  async presence(topic) { return (await this.#ask({ broker: "presence", topic })).presence; }
  async call(method, data) { return (await this.#ask({ broker: "call", method, data })).data; }

  /** A frame of the application's own, for its message hook. */
  async send(data) {
    if (!this.#live) throw notConnected();
    this.#socket.send(typeof data === "string" || ArrayBuffer.isView(data) || data instanceof ArrayBuffer ? data : JSON.stringify(data));
  }

  /** Becomes whoever the token names; settles when that holds, or is refused. */
  async authenticate(token) {
    if (this.#ended) throw failure("closed", "the client is closed");
    const turn = ++this.#turn;
    const before = this.#token;
    this.#token = token;
    if (this.#live) {
      try {
        return await this.#ask({ broker: "authenticate", token }, 0);
      } catch (error) {
        if (error.word !== "disconnected" || this.#state.state === "closed") {
          if (turn === this.#turn) this.#token = before;
          throw error;
        }
      }
    } else {
      this.retry();
    }
    // The next connection has the new token from its first byte.
    return new Promise((resolve, reject) => this.#identities.push({ resolve, reject }));
  }

  /** Tries at once; also after a refusal. Never after `close()`. */
  retry() {
    if (this.#ended || this.#live) return;
    this.#refused = false;
    this.#open();
  }

  /** The end, for good. */
  close() {
    if (this.#ended) return;
    this.#ended = true;
    const entries = [...this.#topics.values()];
    this.#topics.clear();
    this.#chosen.clear();
    this.#end(1000, "closed by the application");
    for (const entry of entries) this.#over(entry, { code: 0, reason: "closed by the application" });
  }

  // ---- one connection after the other ----

  #enter(state, code, reason, retryInMs = null, error) {
    this.#state = Object.freeze({ state, code, reason, attempt: this.#attempt, retryInMs, error: error ?? null });
    emit(this, "state", this.#state);
  }

  /** Runs `then` after a while, unless another generation has begun. Answers how to call it off. */
  #later(ms, then) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
    return () => (clearTimeout(timer), this.#timers.delete(timer));
  }

  /** Ends what the generation had under way. */
  #drop() {
    this.#generation += 1;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const [socket, pending] = [this.#socket, [...this.#pending.values()]];
    this.#socket = null;
    this.#live = false;
    this.#pingingMs = 0;
    this.#pending.clear();
    this.#unsettled = [];
    this.session = this.user = null;
    for (const entry of this.#entries()) entry.status = "waiting";
    socket?.close();
    for (const done of pending) done(null, failure("disconnected", "the connection ended before the answer: it may have been done"));
  }

  #open() {
    this.#drop();
    this.#watchPage();
    if (this.#isOffline()) return this.#rest(null, 0, "the browser is offline");
    const generation = this.#generation;
    const current = (then) => (value) => { if (generation === this.#generation) then(value); };
    this.#attempt += 1;
    this.#openedAt = Date.now();
    this.#later(this.#options.connectTimeoutMs, () => this.#lost(1006, "no answer in time"));
    this.#address().then(
      current(([url, protocols]) => this.#connect(url, protocols, current)),
      current((cause) => this.#lost(0, "", Object.assign(failure("no_credentials", "getToken or getTicket failed"), { cause }))),
    );
    this.#enter("connecting", this.#state.code, this.#state.reason);
  }

  /** Where to connect, and the subprotocols that carry the token. */
  async #address() {
    const { getTicket } = this.#options;
    const url = this.#resuming();
    if (getTicket && !TOKEN.test(this.#token ?? "")) {
      const ticket = await getTicket();
      if (ticket) url.searchParams.set("ticket", ticket);
      return [url, []];
    }
    const token = this.#token || (await this.#freshToken());
    return [url, token ? ["bearer", token] : []];
  }

  /** The address, with the places in topics that the server may choose again. */
  #resuming() {
    const url = new URL(this.#url);
    for (const { topic, position, chosen } of this.#entries()) {
      if (!chosen || !position) continue;
      const longer = new URL(url);
      longer.searchParams.append("resume", `${topic},${position}`);
      if (longer.search.length - this.#url.search.length <= RESUMES_MAX_LEN) url.search = longer.search;
    }
    return url;
  }

  async #freshToken() {
    const turn = this.#turn;
    const token = await this.#options.getToken?.();
    if (turn === this.#turn) this.#token = token;
    return this.#token;
  }

  #connect(url, protocols, current) {
    if (protocols.length && !TOKEN.test(protocols[1])) {
      return this.#end(0, "the token has characters that a subprotocol cannot carry: use getTicket");
    }
    let socket;
    try {
      socket = new (this.#options.WebSocket ?? globalThis.WebSocket)(url, protocols);
    } catch (error) {
      return this.#end(0, "this address is not allowed here", error);
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current(({ code, reason }) => this.#lost(code, reason));
    socket.onerror = () => {}; // a close follows
  }

  /** A connection, or the try to have one, has ended: what now? */
  #lost(code, reason, error) {
    const wasLive = this.#live;
    if (wasLive && Date.now() - this.#liveAt >= STABLE_MS) this.#attempt = 0;
    if (code >= 3000) error ??= this.#said;
    reason = error?.message || reason || (wasLive ? "the connection broke" : "no answer: unreachable, or the handshake was refused");
    const advisedMs = Math.min(ADVICE_MAX_MS, Math.max(this.#advisedMs, error?.retryAfterMs ?? 0));
    [this.#said, this.#advisedMs] = [null, 0];
    const source = this.#options.getToken || this.#options.getTicket;
    const isFinal = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    const unauthorized = code === 3005 || code === 3500;
    // Outside browsers a refused handshake has no reason: a token may be it.
    if (source && (unauthorized || code === 3014 || (!wasLive && this.#attempt % 4 === 0))) this.#token = undefined;
    if (unauthorized ? this.#refused || (isFinal && !source) : isFinal) return this.#end(code, reason, error);
    this.#refused ||= unauthorized;
    this.#drop();
    this.#notBefore = Date.now() + advisedMs;
    this.#rest(advisedMs + this.#jitter(this.#attempt), code, reason, error);
  }

  #jitter(tries) {
    const { firstDelayMs, longestDelayMs } = this.#options;
    return Math.random() * Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(tries, 30));
  }

  /** Waits for the next try; without a time for the page to be online. */
  #rest(ms, code, reason, error) {
    if (this.#isOffline()) ms = null;
    if (ms !== null) this.#later(ms, () => this.#open());
    this.#enter("waiting", code, reason, ms === null ? null : Math.ceil(ms), error);
  }

  #end(code, reason, error) {
    this.#drop();
    this.#page?.abort();
    this.#page = null;
    this.#refused = false;
    this.#attempt = 0;
    const identities = this.#identities.splice(0);
    this.#enter("closed", code, reason, null, error);
    for (const { reject } of identities) reject(error ?? failure("closed", reason));
  }

  // ---- what the page tells ----

  #isOffline() {
    return globalThis.navigator?.onLine === false && !LOOPBACK.test(this.#url.hostname);
  }

  #watchPage() {
    if (this.#page) return;
    this.#page = new AbortController();
    const hear = (target, type, then) => target?.addEventListener?.(type, then, { signal: this.#page.signal });
    const wake = () => this.#wake();
    hear(globalThis, "online", wake);
    hear(globalThis, "pageshow", wake);
    hear(globalThis.document, "resume", wake);
    hear(globalThis.document, "visibilitychange", () => globalThis.document.visibilityState === "visible" && wake());
    hear(globalThis, "offline", () => {
      if (this.#live) return this.#ping(this.#options.wakeWithinMs);
      if (this.#state.state !== "waiting") return;
      this.#drop();
      this.#rest(null, this.#state.code, this.#state.reason);
    });
    // A page with a socket cannot rest in the back/forward cache; should this one stay after all, the timer brings it back.
    hear(globalThis, "pagehide", () => {
      if (this.#state.state === "closed") return;
      this.#drop();
      this.#rest(this.#options.longestDelayMs, 1001, "the page was left");
    });
  }

  /** Somebody looks, or the network is back. */
  #wake() {
    const { wakeWithinMs } = this.#options;
    const { state, code, reason, retryInMs } = this.#state;
    const now = Date.now();
    if (this.#live) {
      // Asking again would only put the end of the wait off.
      if (this.#pingingMs !== wakeWithinMs) this.#ping(wakeWithinMs);
    } else if (state === "connecting") {
      // A handshake that began before the page slept may hang for long.
      if (now - this.#openedAt > wakeWithinMs) this.#open();
    } else if (state === "waiting") {
      if (now >= this.#notBefore) this.#open();
      else if (retryInMs === null) this.#rest(this.#notBefore - now, code, reason);
    }
  }

  // ---- is the other side there? ----

  #pulse(ms, then) {
    this.#cancelPulse?.();
    this.#cancelPulse = this.#later(ms, then);
  }

  #watch() {
    const { pingAfterMs, pongWithinMs } = this.#options;
    this.#pingingMs = 0;
    const left = pingAfterMs - (Date.now() - this.#heardAt);
    if (left <= 0) this.#ping(pongWithinMs);
    else this.#pulse(Math.min(left, pingAfterMs), () => this.#watch());
  }

  #ping(withinMs) {
    const sentAt = Date.now();
    this.#pingingMs = withinMs;
    this.#socket.send('{"broker":"ping"}');
    this.#pulse(withinMs, () => {
      if (Date.now() - sentAt > withinMs + LATE_MS) this.#ping(withinMs);
      else this.#lost(1006, "the other side fell silent");
    });
  }

  // ---- frames ----

  /** Sends a command; `done(answer, error)` is called once, before any later frame is read. */
  #command(frame, done) {
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ broker: frame.broker, id, ...frame }));
    this.#pending.set(id, done);
    return id;
  }

  /** `then(error)` is called when everything has come that waited here for this client before. A pong would not say so: it overtakes what waits. */
  #behind(then) {
    this.#command({ broker: "unsubscribe", topic: NO_TOPIC }, (_, error) => then(error));
  }

  #ask(frame, timeoutMs = this.#options.answerTimeoutMs) {
    if (!this.#live) return Promise.reject(notConnected());
    return new Promise((resolve, reject) => {
      let cancel;
      const id = this.#command(frame, (answer, error) => {
        cancel?.();
        if (error) reject(error);
        else resolve(answer);
      });
      const late = () => {
        this.#pending.delete(id);
        reject(failure("timeout", "no answer in time: it may have been done"));
      };
      if (timeoutMs) cancel = this.#later(timeoutMs, late);
    });
  }

  #receive(data) {
    this.#heardAt = Date.now();
    if (this.#pingingMs) this.#watch();
    if (data === "pong") return;
    let frame = data;
    if (typeof data === "string") try { frame = JSON.parse(data); } catch { /* text of the application's */ }
    if (typeof frame?.broker !== "string") return emit(this, "message", frame);
    for (const one of [frame, ...(frame.publications ?? [])]) {
      if (one.b64data !== undefined) one.data = Uint8Array.from(atob(one.b64data), (byte) => byte.charCodeAt(0));
    }
    const done = this.#pending.get(frame.id);
    this.#pending.delete(frame.id);
    if (frame.broker === "identity") this.#identified(frame);
    if (done) return frame.broker === "error" ? done(null, new BrokerError(frame)) : done(frame);
    // An answer that nobody waits for came too late.
    if (frame.id !== undefined) return;
    if (frame.broker !== "closing") this.#said = null;
    switch (frame.broker) {
      case "connected": return this.#connected(frame);
      case "expiring": return this.#renewSoon(frame.in_ms);
      case "closing":
        this.#advisedMs = frame.reconnect_after_ms ?? 0;
        return;
      case "error":
        // What is said last before a close is its reason.
        this.#said = new BrokerError(frame);
        if (this.#live) emit(this, "error", this.#said);
        return;
    }
    if (!OF_TOPICS.has(frame.broker)) return;
    const byServer = frame.broker === "subscribed";
    let entry = this.#topics.get(frame.topic) ?? this.#chosen.get(frame.topic);
    if (byServer && !entry) this.#chosen.set(frame.topic, (entry = this.#entry(frame.topic)));
    if (byServer) entry.chosen = this.#generation;
    if (entry) this.#told(entry, frame);
    else emit(this, frame.broker, frame);
  }

  #connected(frame) {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#live = true;
    this.#liveAt = Date.now();
    this.#refused = false;
    [this.#said, this.#advisedMs] = [null, 0];
    [this.session, this.user] = [frame.session, frame.user];
    const chosen = this.#entries().filter((entry) => entry.chosen);
    for (const entry of this.#topics.values()) this.#subscribe(entry);
    // What the server chose follows this frame; what is not told before the answer it has not chosen again.
    if (chosen.length) this.#behind((error) => error ?? chosen.forEach((entry) => this.#notChosen(entry)));
    this.#watch();
    for (const { resolve } of this.#identities.splice(0)) resolve({ broker: "identity", user: frame.user, left: [], joined: [] });
    this.#enter("connected", 0, "");
  }

  #identified(frame) {
    const again = frame.user === this.user ? [] : [...this.#topics.values()].filter(({ status }) => status === "refused");
    this.user = frame.user;
    for (const topic of frame.left) {
      this.#chosen.delete(topic);
      const entry = this.#topics.get(topic);
      if (!entry) continue;
      Object.assign(entry, { status: "refused", chosen: 0 });
      emit(entry.handle, "unsubscribed", { broker: "unsubscribed", topic, code: 0, reason: "the new identity may not have it" });
    }
    for (const entry of again) this.#subscribe(entry);
    emit(this, "identity", frame);
  }

  /** Renews the token in place, a while before its end; again where that fails, as long as there is time. */
  #renewSoon(inMs) {
    if (!this.#options.getToken) return;
    // Spread, because many tokens end together; never at once, because a short token would be renewed without pause.
    const wait = inMs * (0.25 + Math.random() / 4);
    const generation = this.#generation;
    const again = () => generation === this.#generation && inMs - wait > 500 && this.#renewSoon(inMs - wait);
    this.#later(wait, async () => {
      const [turn, before] = [this.#turn, this.#token];
      try {
        const token = await this.#options.getToken();
        if (generation !== this.#generation || turn !== this.#turn) return;
        if (!token || token === before) return again();
        await this.#ask({ broker: "authenticate", token });
        if (turn === this.#turn) this.#token = token;
      } catch {
        again();
      }
    });
  }

  // ---- topics ----

  /** A topic; where nobody subscribes to it here, its events are the client's own. `chosen`: in which generation the server did. */
  #entry(topic) {
    return { topic, handle: this, position: undefined, seen: null, follows: null, awaitsSnapshot: false, status: "waiting", wasLive: false, tries: 0, chosen: 0 };
  }

  #entries() { return [...this.#topics.values(), ...this.#chosen.values()]; }

  #notChosen(entry) {
    if (entry.chosen === this.#generation) return;
    entry.chosen = 0;
    if (this.#chosen.delete(entry.topic)) this.#over(entry, { code: 0, reason: "the server has not chosen it again" });
  }

  #subscribe(entry) {
    if (!this.#live) return;
    const { topic, rate, filter, position: since } = entry;
    entry.status = "subscribing";
    this.#command({ broker: "subscribe", topic, since, rate, filter }, (frame, error) => {
      if (this.#topics.get(topic) !== entry || error?.word === "disconnected") return;
      if (frame) this.#subscribed(entry, frame, since);
      else if (error.word === "already_subscribed") entry.status === "subscribing" && this.#subscribed(entry, { broker: "subscribed", topic }, since);
      else this.#notSubscribed(entry, error);
    });
  }

  #subscribed(entry, frame, since) {
    const [top, before, wasLive] = [frame.position, entry.position, entry.wasLive];
    Object.assign(entry, { status: "subscribed", wasLive: true, tries: 0, follows: null, awaitsSnapshot: !!frame.snapshot });
    // Behind a snapshot that is still to come no position would bring it again.
    if (since === undefined && !entry.awaitsSnapshot) entry.position = top;
    emit(entry.handle, "subscribed", frame);
    // Topics without history: what was published during the break is gone.
    if (since === undefined && wasLive && !(top && top === before)) {
      emit(entry.handle, "gap", { broker: "gap", topic: entry.topic, reason: "not_resumed" });
    }
    if (since === undefined || !top || top === since || !this.#live) return;
    // What was missed follows this frame, holes and all: until it is known that all of it came, the next connection begins where this one did.
    entry.follows = { from: since, until: top };
    this.#unsettled.push([entry, entry.follows]);
    if (!this.#settling) this.#settle();
  }

  /** Finds out when all has come that was to follow the answers so far. One question at a time, for all of them. */
  #settle() {
    const settled = this.#unsettled.splice(0);
    this.#settling = settled.length > 0;
    if (!this.#settling) return;
    this.#behind((error) => {
      this.#settling = false;
      if (error) return;
      for (const [entry, follows] of settled) {
        if (entry.follows !== follows) continue;
        const { from, until } = follows;
        if (entry.position === from || notAfter(entry.position, until)) entry.position = until;
        entry.follows = null;
      }
      this.#settle();
    });
  }

  #notSubscribed(entry, error) {
    const isTemporary = error.word === "unavailable" || error.retryAfterMs !== undefined;
    entry.status = isTemporary ? "waiting" : "refused";
    if (isTemporary) this.#subscribeLater(entry, error.retryAfterMs);
    emit(entry.handle, "error", error);
  }

  #subscribeLater(entry, advisedMs = 0) {
    const wait = Math.min(advisedMs, ADVICE_MAX_MS) + this.#jitter(entry.tries++);
    this.#later(wait, () => entry.status === "waiting" && this.#topics.get(entry.topic) === entry && this.#subscribe(entry));
  }

  /** The server says something about a topic, unasked. */
  #told(entry, frame) {
    const { broker: word, position } = frame;
    if (word === "unsubscribed") {
      const isOurs = !this.#chosen.delete(entry.topic);
      entry.chosen = 0;
      if (frame.code < 2500 || !isOurs) return this.#topics.delete(entry.topic), this.#over(entry, frame);
      entry.status = "waiting";
      this.#subscribeLater(entry);
    } else if (word === "subscribed") {
      // The server chose the topic; it resumes what the address asked for.
      return this.#subscribed(entry, frame, frame.recovered === undefined ? undefined : entry.position);
    } else if (entry.status !== "subscribed") return; // meant for an earlier subscription to the topic
    else if (word === "publication") {
      if (position && entry.seen && notAfter(position, entry.seen)) return;
      if (position) entry.seen = entry.position = position;
    } else if (word === "snapshot") {
      entry.seen = null; // what follows builds on it, also what was seen before
      entry.awaitsSnapshot = false;
      entry.position = position ?? entry.position;
    } else if (word === "gap" && !entry.awaitsSnapshot) entry.position = frame.to ?? entry.position;
    emit(entry.handle, word, frame);
  }

  async #unsubscribe(entry) {
    if (this.#topics.get(entry.topic) !== entry) return;
    this.#topics.delete(entry.topic);
    const isKnown = this.#live && ["subscribing", "subscribed"].includes(entry.status);
    const asked = isKnown && this.#ask({ broker: "unsubscribe", topic: entry.topic }).catch(() => {});
    this.#over(entry, { code: 2000, reason: "client unsubscribe" });
    await asked;
  }

  #over(entry, why) {
    entry.status = "unsubscribed";
    emit(entry.handle, "unsubscribed", { broker: "unsubscribed", topic: entry.topic, ...why });
  }
}

/**
 * Connects, and stays connected until `close()`.
 *
 * @type {typeof import("./broker.d.ts").connect}
 */
export const connect = (options = {}) => new Client(options);
