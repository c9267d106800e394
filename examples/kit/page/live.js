// Connections that come back, and what a page shows of them: a badge, a connection log, "this page is older than its server".
//
//   import { LiveSocket, LiveClient, showLive } from "/kit/live.js";
//   const alerts = new LiveSocket("Alerts", "/api/v1/ws/alerts");             // the application's own frames, on a raw socket
//   alerts.addEventListener("frame", ({ detail }) => show(detail));
//   const widgets = new LiveClient("Widgets", { url: "/ws" });                // topics, over broker.js
//   widgets.client.subscribe("stats", { rate: 1 }).on("publication", show);
//   showLive([alerts, widgets], { badge, log, banner });                      // elements; each may be left out
//
// Reconnecting never gives up: full jitter up to a small cap, at once when the browser comes online or the page becomes visible, and with a fresh
// token after one that was refused. A socket that was replaced is never heard again, whatever it still has to say; listeners stay.

import { connect } from "/broker.js";
import { clock, h, setText, span } from "/kit/page.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 4_000; // small, so that a page is live again within five seconds of its server
const REFUSED_WAIT_MS = 15_000; // a server that says "no" is asked again, but not often
const OPEN_TIMEOUT_MS = 5_000;
const STABLE_MS = 5_000; // a connection that lived shorter counts as one more failed try
const WAKE_WITHIN_MS = 2_500; // somebody looks: a dead connection is noticed, and another one made, within five seconds
const LATE_MS = 2_000; // a timer this late: the page slept, which says nothing about the network
const LOG_MAX = 50;

/** When a JWT ends, in ms since 1970; `null` where that cannot be read. */
export function tokenEnd(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims.exp === "number" ? claims.exp * 1000 : null;
  } catch {
    return null;
  }
}

/**
 * What sockets and clients have in common: a name, a status, and a history of what happened and why.
 *
 * Events: `status` (it changed; see `.status`), `log` (an entry was added), `live` (it is connected; once for each connection).
 */
class Connection extends EventTarget {
  /** `state`: connecting, live, reconnecting, offline, refused. `stale`: `{ since, why }` where the page said that its data is old. */
  status = { state: "connecting", since: Date.now(), retryAt: null, why: "", hint: "", stale: null };
  /** What happened, newest first: `{ at, name, what, by, code, why, aliveMs, pingAgeMs, pongAgeMs, dataAgeMs, tokenLeftMs }`. */
  entries = [];
  /** Of the open connection, in ms since 1970, or `null`: when it opened, was pinged, answered, brought data; when its token ends. */
  facts = { openedAt: null, pingAt: null, pongAt: null, dataAt: null, tokenEndsAt: null, roundTripMs: null, frames: 0 };

  constructor(name) {
    super();
    this.name = name;
  }

  /** Says that the data is old although the connection is not, since when and why; `null`: it is not. */
  stale(since, why = "") {
    if ((this.status.stale?.since ?? null) === since) return;
    this._enter({ stale: since === null ? null : { since, why } });
  }

  /** A line in the log of what is no open or close: what, and why. */
  note(what, why = "") {
    this._log({ what, why });
  }

  _enter(change) {
    const since = change.state && change.state !== this.status.state ? Date.now() : this.status.since;
    this.status = { ...this.status, since, ...change };
    this.dispatchEvent(new Event("status"));
  }

  _opened() {
    this.facts = { ...this.facts, openedAt: Date.now(), pingAt: null, pongAt: null, dataAt: null, roundTripMs: null, frames: 0 };
    this._log({ what: "opened" });
    this._enter({ state: "live", retryAt: null, why: "", hint: "" });
    this.dispatchEvent(new Event("live"));
  }

  /** One connection, or the try to have one, has ended. */
  _closed({ by, code, why }) {
    this._log({ what: this.facts.openedAt ? "closed" : "not opened", by, code, why });
    this.facts = { ...this.facts, openedAt: null };
  }

  _pinged() {
    this.facts.pingAt = Date.now();
  }

  _heard(isPong) {
    const { facts } = this;
    if (isPong) {
      facts.pongAt = Date.now();
      facts.roundTripMs = facts.pingAt === null ? null : facts.pongAt - facts.pingAt;
    } else {
      facts.dataAt = Date.now();
      facts.frames += 1;
    }
  }

  _log(entry) {
    const now = Date.now();
    const { openedAt, pingAt, pongAt, dataAt, tokenEndsAt } = this.facts;
    const age = (at) => (at === null || openedAt === null ? null : now - at);
    const ages = { aliveMs: age(openedAt), pingAgeMs: age(pingAt), pongAgeMs: age(pongAt), dataAgeMs: age(dataAt) };
    this.entries.unshift({ at: now, name: this.name, by: "", code: null, why: "", ...ages, tokenLeftMs: tokenEndsAt && tokenEndsAt - now, ...entry });
    this.entries.length = Math.min(this.entries.length, LOG_MAX);
    this.dispatchEvent(new Event("log"));
  }
}

/**
 * A WebSocket that comes back, for the application's own frames.
 *
 * Events besides those of every connection: `frame` (`detail`: the JSON of a frame that is not the broker's), `notice` (`detail`: what the broker
 * says). `getToken` answers a token, or `{ token, endsAt }`; it is asked on the first connect, when the token nears its end, and after a refusal. The
 * token travels as a subprotocol, never in the URL; pass `endsAt` where it is no JWT.
 */
export class LiveSocket extends Connection {
  #url;
  #options;
  #socket = null;
  #token = null;
  #wantsFresh = true;
  #failures = 0;
  #refusals = 0;
  #timer = 0; // opening, or waiting for the next try
  #pulse = 0;
  #renewal = 0;
  #advice = null; // what the server said before it closed
  #generation = 0;
  #isOver = false;

  /** `pingAfterMs`: silence after which the server is asked; `pongWithinMs`: how long it may stay silent then. */
  constructor(name, url, { getToken = null, pingAfterMs = 10_000, pongWithinMs = 5_000 } = {}) {
    super(name);
    this.#url = url;
    this.#options = { getToken, pingAfterMs, pongWithinMs };
    addEventListener("online", () => this.#wake());
    addEventListener("offline", () => (this.#isOpen() ? this.#ping(WAKE_WITHIN_MS) : this.status.state === "reconnecting" && this._enter({ state: "offline" })));
    addEventListener("pageshow", () => this.#wake());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#wake());
    queueMicrotask(() => this.#open());
  }

  /** Sends a frame: text as it is, anything else as JSON. `false`: there is no connection, nothing was sent. */
  send(frame) {
    if (!this.#isOpen()) return false;
    this.#socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
    return true;
  }

  /** Does not wait for the next try. */
  retry() {
    if (!this.#socket && !this.#isOver) this.#open();
  }

  /** Forgets token and connection and begins anew: for another user, another address. */
  restart(url = this.#url) {
    this.#url = url;
    this.#isOver = false;
    this.#wantsFresh = true;
    this.#drop({ by: "page", code: 1000, why: "the page began anew" });
    this.#open();
  }

  /** The end, until `restart`. */
  close(why = "the page closed it") {
    this.#isOver = true;
    this.#drop({ by: "page", code: 1000, why });
    this._enter({ state: "offline", retryAt: null, why });
  }

  #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  // Somebody looks at the page, or the network is back: a connection may long be dead.
  #wake() {
    if (this.#isOver) return;
    if (this.#isOpen()) this.#ping(WAKE_WITHIN_MS);
    else if (!this.#socket) this.#open();
  }

  async #open() {
    const generation = ++this.#generation;
    clearTimeout(this.#timer);
    this.facts.openedAt = null;
    this._enter({ state: this.#failures || this.entries.length ? "reconnecting" : "connecting", retryAt: null });
    try {
      await this.#freshToken(generation);
    } catch (error) {
      if (generation === this.#generation) this.#ended({ by: "page", code: null, why: `no token: ${error.message}` });
      return;
    }
    if (generation !== this.#generation) return;
    const socket = new WebSocket(this.#url, this.#token ? ["bearer", this.#token] : []);
    this.#socket = socket;
    this.#advice = null;
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    socket.onopen = mine(() => {
      clearTimeout(this.#timer);
      this._opened();
      this.#ping(this.#options.pongWithinMs);
    });
    socket.onmessage = mine((event) => this.#hear(event.data));
    socket.onclose = mine((event) => this.#ended({ by: event.wasClean ? "server" : "network", code: event.code, why: event.reason }));
    this.#timer = setTimeout(() => socket === this.#socket && !this.#isOpen() && this.#ended({ by: "page", code: null, why: "no answer in time" }), OPEN_TIMEOUT_MS);
  }

  async #freshToken(generation) {
    if (!this.#options.getToken || !this.#wantsFresh) return;
    const answer = await this.#options.getToken();
    if (generation !== this.#generation) return;
    this.#wantsFresh = false;
    this.#token = answer?.token ?? answer ?? null;
    this.facts.tokenEndsAt = answer?.endsAt ?? (this.#token ? tokenEnd(this.#token) : null);
  }

  #hear(text) {
    this.#watch();
    if (text === "pong") return this._heard(true);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return this.dispatchEvent(new CustomEvent("frame", { detail: text }));
    }
    if (frame === null || typeof frame !== "object" || !("broker" in frame)) {
      this.#failures = this.#refusals = 0;
      this._heard(false);
      return this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
    }
    if (frame.broker === "closing" || frame.broker === "error") this.#advice = frame;
    if (frame.broker === "expiring") this.#renewIn(frame.in_ms);
    this.dispatchEvent(new CustomEvent("notice", { detail: frame }));
  }

  /** The token nears its end: another one on the same socket, in the second quarter of the time left, so that not everybody asks at once. */
  #renewIn(inMs) {
    if (!this.#options.getToken) return;
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#renew(), inMs * (0.25 + Math.random() / 4));
  }

  async #renew() {
    const generation = this.#generation;
    this.#wantsFresh = true;
    try {
      await this.#freshToken(generation);
      if (generation === this.#generation && this.send({ broker: "authenticate", id: "renewal", token: this.#token })) this.note("token", "renewed on the open socket");
    } catch (error) {
      this.note("token", `not renewed: ${error.message}`);
    }
  }

  #watch() {
    this.#after(this.#options.pingAfterMs, () => this.#ping(this.#options.pongWithinMs));
  }

  #ping(withinMs) {
    if (!this.#isOpen()) return;
    this._pinged();
    this.#socket.send("ping");
    const due = Date.now() + withinMs;
    this.#after(withinMs, () => {
      if (Date.now() > due + LATE_MS) return this.#ping(withinMs);
      this.#ended({ by: "page", code: null, why: `no sign of the server for ${span(withinMs)} after a ping` });
    });
  }

  #after(ms, then) {
    clearTimeout(this.#pulse);
    this.#pulse = setTimeout(then, ms);
  }

  #ended(end) {
    const advice = end.code >= 3000 ? this.#advice : null; // an error before a lost network has nothing to do with it
    const why = advice?.message ?? advice?.reason ?? end.why ?? "";
    const aliveMs = this.facts.openedAt ? Date.now() - this.facts.openedAt : 0;
    this.#drop({ ...end, why: why || (aliveMs ? "the connection broke" : "no answer: unreachable, or the handshake was refused") });
    const { code } = end;
    const isOfToken = code === 3500 || code === 3005;
    const isRefused = (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (isOfToken) this.#wantsFresh = true;
    if (aliveMs >= STABLE_MS) this.#failures = 0;
    const upperEnd = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures, 10));
    // A token that was refused is replaced at once, the first time.
    const isFirst = isOfToken && this.#options.getToken && this.#refusals === 0;
    const atLeast = isRefused && !isFirst ? REFUSED_WAIT_MS : (advice?.reconnect_after_ms ?? advice?.retry_after_ms ?? 0);
    if (isRefused) this.#refusals += 1;
    this.#failures += 1;
    const inMs = atLeast + Math.random() * upperEnd;
    this.#timer = setTimeout(() => this.#open(), inMs);
    const state = isRefused && !isFirst ? "refused" : navigator.onLine ? "reconnecting" : "offline";
    this._enter({ state, retryAt: Date.now() + inMs, why, hint: advice?.hint ?? "" });
  }

  #drop(end) {
    this.#generation += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#pulse);
    clearTimeout(this.#renewal);
    const socket = this.#socket;
    this.#socket = null;
    if (socket || end.by !== "page" || end.code === null) this._closed(end);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

/** A client of broker.js (`.client`), watched: topics, recovery and commands, with the same badge and log. `options` are those of `connect`. */
export class LiveClient extends Connection {
  #wasLive = false;

  constructor(name, options = {}) {
    super(name);
    const connection = this;
    class Watched extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        this.addEventListener("message", ({ data }) => connection._heard(typeof data === "string" && data.startsWith('{"broker":"pong"')));
      }
      send(data) {
        if (typeof data === "string" && data.includes('"broker":"ping"')) connection._pinged();
        super.send(data);
      }
    }
    const { getToken } = options;
    const asked = getToken && (async () => {
      const token = await getToken();
      this.facts.tokenEndsAt = token ? tokenEnd(token) : null;
      return token;
    });
    this.client = connect({ longestDelayMs: LONGEST_WAIT_MS, pingAfterMs: 10_000, pongWithinMs: 5_000, wakeWithinMs: WAKE_WITHIN_MS, WebSocket: Watched, ...options, ...(asked && { getToken: asked }) });
    this.client.on("state", (state) => this.#follow(state));
  }

  retry() {
    this.client.retry();
  }

  #follow({ state, code, reason, retryInMs, error }) {
    if (state === "connected") {
      this.#wasLive = true;
      return this._opened();
    }
    if (state === "connecting") return this._enter({ state: this.entries.length ? "reconnecting" : "connecting", retryAt: null });
    const by = code === 1000 || code === 1001 ? "page" : code >= 3000 ? "server" : "network";
    if (this.#wasLive || state === "closed" || reason) this._closed({ by, code: code || null, why: reason });
    this.#wasLive = false;
    const shown = state === "closed" ? (code === 1000 ? "offline" : "refused") : navigator.onLine ? "reconnecting" : "offline";
    this._enter({ state: shown, retryAt: retryInMs === null ? null : Date.now() + retryInMs, why: reason, hint: error?.hint ?? "" });
  }
}

// ---- what a page shows ----

const WORST_FIRST = ["refused", "offline", "reconnecting", "connecting", "stale", "live"];
const TONES = { refused: "bad", offline: "bad", reconnecting: "warn", connecting: "", stale: "warn", live: "good" };

/** How one connection stands, with `stale` among the states. */
function standing({ state, stale }) {
  return state === "live" && stale ? "stale" : state;
}

function words({ state, retryAt, stale, why }, now) {
  if (state === "live") return stale ? `Stale since ${clock(stale.since)}` : "Live";
  if (state === "reconnecting") return retryAt && retryAt > now ? `Reconnecting in ${Math.ceil((retryAt - now) / 1000)} s` : "Reconnecting";
  if (state === "refused") return `Refused${why ? `: ${why}` : ""}`;
  return state === "offline" ? "Offline" : "Connecting";
}

/**
 * Shows how connections stand, in elements of the page: `badge` (a `.badge`: the worst of them), `log` (a panel: each of them now, and what happened),
 * `banner` (a `.banner`: this page is older than its server). `document.body.dataset.live` is the state of the badge, for style sheets and tests.
 */
export function showLive(connections, { badge = null, log = null, banner = null } = {}) {
  const parts = [badge && badgeOf(badge), log && logOf(log)].filter(Boolean);
  const draw = () => {
    const now = Date.now();
    const states = connections.map(({ status }) => standing(status));
    const worst = WORST_FIRST.find((state) => states.includes(state)) ?? "live";
    document.body.dataset.live = worst;
    for (const part of parts) part(connections, worst, now);
  };
  for (const connection of connections) {
    for (const type of ["status", "log"]) connection.addEventListener(type, draw);
    if (banner) connection.addEventListener("live", () => compareVersions(banner));
  }
  setInterval(draw, 1000);
  draw();
}

function badgeOf(badge) {
  const shown = h("span", { "aria-hidden": "true" });
  const said = h("span", { class: "hidden", role: "status" }); // changes with the state, not with each second of a countdown
  badge.classList.add("badge", "live");
  badge.replaceChildren(h("span", { class: "dot", "aria-hidden": "true" }), shown, said);
  return (connections, worst, now) => {
    const one = connections.find(({ status }) => standing(status) === worst) ?? connections[0];
    badge.dataset.tone = TONES[worst];
    badge.toggleAttribute("data-busy", worst === "connecting" || worst === "reconnecting");
    const text = words(one.status, now);
    setText(shown, worst === "live" || connections.length === 1 ? text : `${one.name}: ${text[0].toLowerCase()}${text.slice(1)}`);
    setText(said, `${worst === "live" ? "" : `${one.name} `}${worst}`);
    badge.title = [one.status.why, one.status.hint].filter(Boolean).join(". ");
  };
}

function logOf(panel) {
  const head = (...names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: name.startsWith("#") && "number" }, name.replace("#", "")))));
  const now = h("tbody"), past = h("tbody");
  const retry = h("button", { class: "button small", type: "button", hidden: true }, "Try now");
  panel.classList.add("live-log", "stack");
  panel.replaceChildren(
    h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Connections now" },
      h("table", {}, head("Connection", "State", "#Alive", "#Frames", "#Last data", "#Round trip", "#Last pong", "#Token left"), now)),
    h("div", { class: "row spread" }, h("h3", {}, "Log"), retry),
    h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Connection log" },
      h("table", {}, head("When", "Connection", "What", "By", "#Code", "Why", "#Alive", "#Last ping", "#Last pong", "#Last data", "#Token left"), past)),
  );
  const number = (text) => h("td", { class: "number" }, text);
  let drawn = "";
  let known = [];
  retry.addEventListener("click", () => known.forEach((connection) => connection.status.state !== "live" && connection.retry()));
  return (connections, worst, at) => {
    known = connections;
    retry.hidden = !["reconnecting", "offline", "refused"].includes(worst);
    now.replaceChildren(...connections.map(({ name, status, facts }) => {
      const { openedAt, frames, dataAt, pongAt, roundTripMs, tokenEndsAt } = facts;
      const age = (moment) => span(openedAt === null || moment === null ? null : at - moment);
      const state = h("span", { class: "tag", "data-tone": TONES[standing(status)] || null }, words(status, at));
      return h("tr", {}, h("td", {}, name), h("td", {}, state), number(age(openedAt)), number(openedAt ? String(frames) : "–"), number(age(dataAt)),
        number(roundTripMs === null || !openedAt ? "–" : `${roundTripMs} ms`), number(age(pongAt)), number(tokenEndsAt ? span(tokenEndsAt - at) : "–"));
    }));
    const entries = connections.flatMap((connection) => connection.entries).sort((one, other) => other.at - one.at).slice(0, LOG_MAX);
    const mark = `${entries.length} ${entries[0]?.at} ${entries[0]?.what}`;
    if (mark === drawn) return;
    drawn = mark;
    past.replaceChildren(...entries.map((entry) => h("tr", {}, h("td", {}, clock(entry.at)), h("td", {}, entry.name), h("td", {}, entry.what), h("td", {}, entry.by),
      number(entry.code === null ? "–" : String(entry.code)), h("td", { class: "why" }, entry.why), number(span(entry.aliveMs)), number(span(entry.pingAgeMs)), number(span(entry.pongAgeMs)),
      number(span(entry.dataAgeMs)), number(entry.tokenLeftMs ? span(entry.tokenLeftMs) : "–"))));
  };
}

/** A server that was replaced may serve another page: says so, and lets the reader choose when. */
async function compareVersions(banner) {
  const mine = document.querySelector("meta[name=page-version]")?.content;
  try {
    const answer = await fetch("/kit/version", { cache: "no-store" });
    const theirs = answer.ok ? await answer.text() : mine;
    banner.hidden = !mine || theirs === mine;
    if (!banner.hidden) banner.replaceChildren(h("span", {}, `This page is older than its server (${mine}, the server has ${theirs}).`), h("a", { href: "" }, "Reload"));
  } catch {
    // The connection that was just there is gone again: the next one asks.
  }
}
