// Messages that the server has not confirmed: kept in the browser until it has, also when the page is closed, and sent in the order in which
// they were written. Each has an id of its own, under which the server stores it once, however often it is sent.

import * as api from "/api.js";

// `crypto.randomUUID` is for pages over HTTPS alone.
const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 4_000;

/**
 * Events: `change` (`detail`: the session), `stored` (`detail`: the message as the server has it), `refused` (401: nobody is logged in).
 *
 * An entry is `{ clientId, sessionId, content, at, state, why }`; its state is `sending`, `waiting` (for the server) or `failed` (refused).
 */
export class Unsent extends EventTarget {
  #prefix;
  #entries = [];
  #failures = 0;
  #timer = 0;
  #isSending = false;
  #isOver = false;

  constructor(user) {
    super();
    this.#prefix = `chat.unsent.${user}.`;
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix));
    this.#entries = keys.map((key) => ({ ...JSON.parse(localStorage.getItem(key)), state: "waiting", why: "" }));
    this.#entries.sort((one, other) => one.at - other.at);
  }

  /** What waits in a session, oldest first. */
  of(session) {
    return this.#entries.filter(({ sessionId }) => sessionId === session);
  }

  add(sessionId, content) {
    // One after the other, also within a millisecond.
    const at = Math.max(Date.now(), (this.#entries.at(-1)?.at ?? 0) + 1);
    const entry = { clientId: randomId(), sessionId, content, at };
    // Each by itself: two pages of one user do not overwrite what the other keeps.
    localStorage.setItem(this.#prefix + entry.clientId, JSON.stringify(entry));
    this.#entries.push({ ...entry, state: "waiting", why: "" });
    this.#tell(sessionId);
    this.go();
  }

  /** The server has it: it answered, or everybody was told. */
  confirm(clientId) {
    const at = this.#entries.findIndex((entry) => entry.clientId === clientId);
    if (at < 0) return;
    const [{ sessionId }] = this.#entries.splice(at, 1);
    localStorage.removeItem(this.#prefix + clientId);
    this.#tell(sessionId);
  }

  /** Tries one again that was refused. */
  retry(clientId) {
    const entry = this.#entries.find((entry) => entry.clientId === clientId);
    if (!entry) return;
    Object.assign(entry, { state: "waiting", why: "" });
    this.#tell(entry.sessionId);
    this.go();
  }

  /** Sends what waits, at once. */
  async go() {
    clearTimeout(this.#timer);
    if (this.#isSending || this.#isOver) return;
    this.#isSending = true;
    let entry;
    while (!this.#isOver && (entry = this.#entries.find(({ state }) => state === "waiting"))) {
      if (!(await this.#send(entry))) break;
    }
    this.#isSending = false;
  }

  /** Ends; what waits is kept for the next time. */
  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #send(entry) {
    entry.state = "sending";
    this.#tell(entry.sessionId);
    try {
      const { message } = await api.send(entry.sessionId, entry.content, entry.clientId);
      this.#failures = 0;
      this.dispatchEvent(new CustomEvent("stored", { detail: message }));
      this.confirm(entry.clientId);
      return true;
    } catch (failed) {
      if (failed.status === 401) {
        entry.state = "waiting";
        this.dispatchEvent(new Event("refused"));
        return false;
      }
      if (!failed.isTemporary) {
        Object.assign(entry, { state: "failed", why: [failed.message, failed.hint].filter(Boolean).join(": ") });
        this.#tell(entry.sessionId);
        return true;
      }
      entry.state = "waiting";
      this.#tell(entry.sessionId);
      const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
      this.#timer = setTimeout(() => this.go(), failed.retryAfterMs + Math.random() * wait);
      return false;
    }
  }

  #tell(session) {
    this.dispatchEvent(new CustomEvent("change", { detail: session }));
  }
}
