// A WebSocket that comes back. Tells its states, frames and ends as events; knows nothing of what the frames mean.
//
// Reconnecting never gives up: full jitter up to a small cap, at once when the browser comes online or the page becomes
// visible. A socket that was replaced is never heard again, whatever it still has to say.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 4_000; // small, so that a page is live again within five seconds of its server
const REFUSED_WAIT_MS = 15_000; // a server that says "no" is asked again, but not often
const OPEN_TIMEOUT_MS = 5_000;

export class LiveSocket extends EventTarget {
  #url;
  #silenceMs;
  #socket = null;
  #failures = 0;
  #timer = 0;
  #watchdog = 0;
  #openedAt = 0;
  #dataAt = 0;
  #frames = 0;
  #advice = null; // what the server said about its closing
  #waiting = false;

  /** `silenceMs`: without any frame for this long the connection is taken for dead. */
  constructor(url, { silenceMs = 16_000 } = {}) {
    super();
    this.#url = url;
    this.#silenceMs = silenceMs;
    addEventListener("online", () => this.tryNow());
    addEventListener("offline", () => this.#tell("offline"));
    addEventListener("pageshow", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#wake());
  }

  start() {
    this.#open();
  }

  /** Does not wait for the next try. */
  tryNow() {
    if (this.#waiting || !this.#socket) this.#open();
  }

  // The page was asleep: its timers were too, so the connection may long be dead.
  #wake() {
    if (this.#waiting) this.#open();
    else if (this.#socket?.readyState === WebSocket.OPEN && performance.now() - this.#heardAt() > this.#silenceMs) this.#drop("silent");
  }

  #open() {
    clearTimeout(this.#timer);
    this.#waiting = false;
    this.#forget();
    this.#tell("connecting", { failures: this.#failures });
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#openedAt = this.#dataAt = 0;
    this.#frames = 0;
    this.#advice = null;
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = mine(() => {
      this.#openedAt = performance.now();
      this.#watch();
    });
    socket.onmessage = mine((event) => this.#hear(event.data));
    socket.onclose = mine((event) => this.#ended({ by: event.wasClean ? "server" : "network", code: event.code, reason: event.reason }));
    this.#timer = setTimeout(() => socket === this.#socket && !this.#openedAt && this.#drop("no answer"), OPEN_TIMEOUT_MS);
  }

  #hear(text) {
    this.#watch();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return console.warn("a frame is not JSON", text);
    }
    if (frame !== null && typeof frame === "object" && "broker" in frame) {
      if (frame.broker === "closing" || frame.broker === "error") this.#advice = frame;
      return this.dispatchEvent(new CustomEvent("notice", { detail: frame }));
    }
    this.#failures = 0;
    this.#frames += 1;
    this.#dataAt = performance.now();
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #heardAt() {
    return Math.max(this.#openedAt, this.#dataAt);
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#drop("silent"), this.#silenceMs);
  }

  /** Ends a connection that is of no use, from this side. */
  #drop(reason) {
    this.#ended({ by: "page", code: null, reason });
  }

  #ended({ by, code, reason }) {
    const now = performance.now();
    const advice = this.#advice;
    const end = {
      at: new Date(), by, code, reason: advice?.message ?? advice?.reason ?? reason,
      aliveMs: this.#openedAt ? now - this.#openedAt : 0,
      opened: this.#openedAt > 0,
      frames: this.#frames,
      dataAgeMs: this.#dataAt ? now - this.#dataAt : null,
    };
    this.#forget();
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.dispatchEvent(new CustomEvent("end", { detail: end }));
    this.#plan(code, advice, end.reason);
  }

  #plan(code, advice, why) {
    const refused = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    const upperEnd = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures, 10));
    const inMs = (refused ? REFUSED_WAIT_MS : (advice?.reconnect_after_ms ?? 0)) + Math.random() * upperEnd;
    this.#failures += 1;
    this.#waiting = true;
    this.#timer = setTimeout(() => this.#open(), inMs);
    this.#tell(refused ? "refused" : navigator.onLine ? "waiting" : "offline", { inMs, why, hint: advice?.hint });
  }

  #forget() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #tell(state, more = {}) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, ...more } }));
  }
}
