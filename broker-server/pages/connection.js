// One socket that stays: the plain protocol in envelope format, reconnecting for ever with full jitter.
// What is shown on the page does not live here.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;
const PING_EVERY_MS = 20_000;
const PONG_WITHIN_MS = 8_000;

// What a server closes with for good: trying again with the same credentials cannot help.
const isFinal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);

/**
 * Events: `state` {state, reason, retryAt}, `frame` {direction, text, frame, at}, `round-trip` {ms}.
 * States: `connecting`, `live`, `reconnecting`, `closed`.
 */
export class Connection extends EventTarget {
  #url;
  #token = "";
  #socket = null;
  #attempts = 0;
  #advisedMs = 0;
  #lastWords = "";
  #timers = { retry: 0, ping: 0, pong: 0 };
  #pingSentAt = 0;
  #nextId = 1;
  #pending = new Map();
  #topics = new Map();
  state = "connecting";

  constructor(url) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#wake());
  }

  /** Topics by name: {status, position, error}. */
  get topics() {
    return this.#topics;
  }

  /** Connects, in place of any socket that is there. */
  open(token = this.#token) {
    this.#token = token;
    this.#drop();
    this.#enter("connecting");
    const url = new URL(this.#url);
    url.searchParams.set("format", "envelope");
    if (token) url.searchParams.set("token", token);
    const socket = new WebSocket(url);
    this.#socket = socket;
    // A replaced socket's late callbacks are void: each asks first whether it is still the one.
    const current = (then) => (event) => this.#socket === socket && then(event);
    socket.onmessage = current((event) => this.#receive(event.data));
    socket.onclose = current((event) => this.#closed(event.code, event.reason));
  }

  subscribe(topic) {
    if (!this.#topics.has(topic)) this.#topics.set(topic, { status: "waiting", position: null, error: null, received: 0, at: 0 });
    if (this.state === "live") return this.#subscribe(topic);
    return Promise.resolve(null);
  }

  async unsubscribe(topic) {
    this.#topics.delete(topic);
    if (this.state === "live") await this.ask({ broker: "unsubscribe", topic });
  }

  /** Sends a command and resolves with its answer; rejects with the error frame, or when the socket ends first. */
  ask(command) {
    if (this.state !== "live") return Promise.reject({ error: "not_connected", message: "the socket is not open" });
    const { broker, ...rest } = command;
    const id = this.#nextId++;
    this.#send({ broker, id, ...rest });
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  #subscribe(topic) {
    const entry = this.#topics.get(topic);
    entry.status = "waiting";
    const since = entry.position ? { since: entry.position } : {};
    return this.ask({ broker: "subscribe", topic, ...since }).catch((error) => {
      if (this.#topics.get(topic) === entry && error.code) Object.assign(entry, { status: "refused", error });
      throw error;
    });
  }

  #send(frame) {
    const text = JSON.stringify(frame);
    this.#socket.send(text);
    this.#tell("frame", { direction: "out", text, frame, at: Date.now() });
  }

  #receive(data) {
    const text = typeof data === "string" ? data : `(binary, ${data.size} bytes)`;
    let frame = null;
    try { frame = JSON.parse(text); } catch { /* shown as it is */ }
    clearTimeout(this.#timers.pong);
    this.#tell("frame", { direction: "in", text, frame, at: Date.now() });
    const word = frame?.broker;
    const entry = frame?.topic === undefined ? undefined : this.#topics.get(frame.topic);
    if (word === "connected") this.#connected(frame);
    // What the server says without being asked, just before it closes, is the reason.
    if (word === "error" && frame.id === undefined) this.#lastWords = frame.message;
    if (word === "closing") this.#advisedMs = frame.reconnect_after_ms ?? 0;
    if (word === "pong" && this.#pingSentAt) this.#tell("round-trip", { ms: performance.now() - this.#pingSentAt });
    if (word === "pong") this.#pingSentAt = 0;
    if (word === "subscribed" && entry) Object.assign(entry, { status: "live", position: frame.position ?? entry.position, error: null });
    if (word === "unsubscribed" && entry) Object.assign(entry, { status: "refused", error: { message: frame.reason ?? "ended by the server" } });
    if ((word === "publication" || word === "snapshot") && entry) {
      Object.assign(entry, { position: frame.position ?? entry.position, received: entry.received + 1, at: Date.now() });
    }
    if (word === "gap" && entry && frame.to) entry.position = frame.to;
    const waiting = this.#pending.get(frame?.id);
    if (waiting) {
      this.#pending.delete(frame.id);
      word === "error" ? waiting.reject(frame) : waiting.resolve(frame);
    }
  }

  #connected(frame) {
    this.#attempts = 0;
    this.#advisedMs = 0;
    this.#lastWords = "";
    this.session = frame.session;
    this.user = frame.user;
    this.#enter("live");
    for (const topic of this.#topics.keys()) this.#subscribe(topic).catch(() => {});
    this.#ping();
  }

  #closed(code, reason) {
    const wasLive = this.state === "live";
    this.#drop();
    const said = this.#lastWords || reason;
    this.#lastWords = "";
    const why = said ? `${said} (${code})` : code === 1006 ? (wasLive ? "the connection broke" : "no answer") : `code ${code}`;
    if (isFinal(code)) return this.#enter("closed", why);
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.#attempts++, 12));
    const delay = Math.max(this.#advisedMs, Math.random() * ceiling);
    this.#timers.retry = setTimeout(() => this.open(), delay);
    this.#enter("reconnecting", why, Date.now() + delay);
  }

  /** A page that wakes up, or is online again: connects at once, or finds out whether the socket still lives. */
  #wake() {
    if (this.state === "reconnecting") this.open();
    else if (this.state === "live") this.#ping();
  }

  #ping() {
    clearTimeout(this.#timers.ping);
    clearTimeout(this.#timers.pong);
    this.#pingSentAt = performance.now();
    this.#send({ broker: "ping" });
    this.#timers.pong = setTimeout(() => this.#closed(1006, ""), PONG_WITHIN_MS);
    this.#timers.ping = setTimeout(() => this.#ping(), PING_EVERY_MS);
  }

  #drop() {
    for (const name of Object.keys(this.#timers)) clearTimeout(this.#timers[name]);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.session = this.user = undefined;
    for (const entry of this.#topics.values()) if (entry.status !== "refused") entry.status = "waiting";
    for (const { reject } of this.#pending.values()) reject({ error: "disconnected", message: "the connection ended before the answer" });
    this.#pending.clear();
  }

  #enter(state, reason = "", retryAt = 0) {
    this.state = state;
    this.#tell("state", { state, reason, retryAt });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
