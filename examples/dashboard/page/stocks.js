// The stock page: registers items by the exchange's frames on a raw socket, and follows the bridge's own state over broker.js.

import { Chart, roundUp } from "/chart.js";
import { LiveClient, LiveSocket, showLive } from "/kit/live.js";
import { clock, h, setText, span, themeButton, toast } from "/kit/page.js";

const NAMES = { "005930": "삼성전자", "000660": "SK하이닉스", "035420": "NAVER", "005380": "현대차", "035720": "카카오", "068270": "셀트리온" };
const CANDLE_MS = 5_000;
const CANDLES_MAX = 60;
const TRADES_MAX = 8;
const SILENT_MS = 6_000; // the bridge speaks every 2 s
const TICKLESS_MS = 10_000;
const ANSWERS_MAX = 10;

const byId = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const address = (path) => new URL(path, location.href.replace(/^http/, "ws")).href;

// ---- the socket: a bearer token that ends, registrations that are made again after every break ----

const registered = new Set(["005930", "000660", "035420"]);
let letTokenEnd = false;

async function getToken() {
  if (letTokenEnd) throw new Error("as was asked for, until the token has ended");
  const answer = await fetch("/api/v1/stocks/token", { method: "POST" });
  if (!answer.ok) throw new Error(`the server says ${answer.status}`);
  return (await answer.json()).token;
}

const stocks = new LiveSocket("Ticks", address("/api/v1/stocks/ws"), { getToken });
const request = (trnm, items, refresh = "1") => ({ trnm, grp_no: "1", ...(trnm === "REG" && { refresh }), data: [{ item: items, type: ["0B", "0D"] }] });

stocks.addEventListener("live", () => registered.size && stocks.send(request("REG", [...registered])));
stocks.addEventListener("frame", ({ detail: frame }) => {
  if (frame.trnm === "REAL") for (const tick of frame.data) take(tick);
  else answered(frame);
});
stocks.addEventListener("log", () => {
  const { what, code } = stocks.entries[0];
  if (what !== "closed") return;
  if (code === 3005) toast("The token has ended", { text: "Another one is asked for, and the registrations are made again.", tone: "warn" });
  letTokenEnd = false;
});

// ---- ticks ----

const shares = new Map(Object.keys(NAMES).map((item) => [item, { price: null, change: 0, at: 0, bid: null, ask: null, candles: [], trades: [] }]));
let selected = "005930";
let dirty = true;

function take({ item, type, values }) {
  const share = shares.get(item);
  if (!share) return;
  if (type === "0D") [share.bid, share.ask] = [values.bid, values.ask];
  else if (values.at_ms > share.at) {
    const { price, at_ms: at } = values;
    Object.assign(share, { price, change: values.change, at });
    const begin = at - (at % CANDLE_MS);
    const candle = share.candles.at(-1);
    if (candle?.[0] === begin) Object.assign(candle, { 1: price, 3: Math.max(candle[3], price), 4: Math.min(candle[4], price) });
    else share.candles = [...share.candles, [begin, price, candle?.[1] ?? price, price, price]].slice(-CANDLES_MAX);
    share.trades = [values, ...share.trades].slice(0, TRADES_MAX);
  }
  dirty = true;
}

const tiles = new Map([...shares.keys()].map((item) => {
  const price = h("span", { class: "price" }, "–"), change = h("span", { class: "small" }, " "), action = h("span", { class: "small muted" });
  const tile = h("button", { class: "card share", type: "button", "data-item": item, onclick: () => choose(item) },
    h("span", { class: "name" }, NAMES[item], h("span", { class: "small muted" }, item)), price, change, action);
  return [item, { tile, price, change, action }];
}));
byId("shares").append(...[...tiles.values()].map(({ tile }) => tile));

/** Selects a share; one that is selected already is removed, or registered again. */
function choose(item) {
  if (!registered.has(item)) {
    registered.add(item);
    stocks.send(request("REG", [item]));
  } else if (selected === item) {
    registered.delete(item);
    stocks.send(request("REMOVE", [item]));
  }
  selected = item;
  dirty = true;
}

const chart = new Chart(byId("chart"), (text) => (byId("reading").textContent = text));

function draw() {
  if (!dirty) return;
  dirty = false;
  for (const [item, { tile, price, change, action }] of tiles) {
    const share = shares.get(item), isOn = registered.has(item);
    tile.toggleAttribute("data-on", isOn);
    tile.setAttribute("aria-pressed", item === selected);
    setText(price, share.price === null ? "–" : `₩${number(share.price)}`);
    const percent = (share.change / ((share.price ?? 1) - share.change)) * 100;
    setText(change, share.price === null ? " " : `${share.change < 0 ? "▼" : "▲"} ${number(Math.abs(share.change))} (${Math.abs(percent).toFixed(2)} %)`);
    change.className = `small ${share.price === null ? "" : share.change < 0 ? "fall" : "rise"}`;
    setText(action, !isOn ? "Press to register" : item === selected ? "Press again to remove" : "Registered");
  }
  const share = shares.get(selected);
  setText(byId("chart-title"), `${NAMES[selected]} · ${selected}`);
  setText(byId("quotes"), share.bid === null ? "" : `bid ${number(share.bid)} · ask ${number(share.ask)}`);
  setText(byId("about"), `${registered.size} of ${shares.size} shares registered`);
  if (share.trades.length) {
    byId("trades").replaceChildren(...share.trades.map((trade) => h("tr", {}, h("td", {}, clock(trade.at_ms)), h("td", { class: "number" }, number(trade.price)), h("td", { class: "number" }, number(trade.volume)))));
  } else {
    byId("trades").replaceChildren(h("tr", {}, h("td", { class: "empty", colspan: 3 }, registered.has(selected) ? "Nothing has been traded yet" : "Not registered")));
  }
  const { candles } = share;
  const to = (candles.at(-1)?.[0] ?? Date.now()) + CANDLE_MS;
  const from = to - Math.max(24, Math.min(CANDLES_MAX, (to - (candles[0]?.[0] ?? to)) / CANDLE_MS)) * CANDLE_MS;
  const prices = candles.flatMap((candle) => [candle[3], candle[4]]);
  const least = prices.length ? Math.min(...prices) : 0, most = prices.length ? Math.max(...prices) : 100;
  // Four steps of a round number, with the prices between them.
  const step = roundUp((most - least) / 3, 50);
  const bottom = Math.floor(least / step) * step;
  chart.show({ title: `${NAMES[selected]} over time`, series: ["Price"], format: (value) => number(Math.round(value)), points: candles, from, to, least: bottom, most: bottom + 4 * step, candleMs: CANDLE_MS });
}
setInterval(draw, 250);

// ---- hops: what the bridge says of itself, and how long ago ----

const feed = new LiveClient("Bridge's state", { url: "/ws" });
let bridge = null;
let bridgeAt = 0;
const events = [];

feed.client.subscribe("feed:state", { since: 0 }).on("publication", ({ data, time }) => {
  bridge = data;
  // What the history brings is as old as it says.
  bridgeAt = Date.now() - Math.max(0, Date.now() - (time ?? Date.now()));
  drawHops();
});
feed.client.subscribe("feed:log", { since: 0 }).on("publication", ({ data }) => {
  events.unshift(data);
  events.length = Math.min(events.length, 50);
  const cell = (text) => h("td", { class: "number" }, text);
  const seconds = (value) => (value === null || value === undefined ? "–" : span(value * 1000));
  byId("feed-log").replaceChildren(...events.map((event) => h("tr", {}, h("td", {}, clock(event.at_ms)), h("td", {}, event.hop), h("td", {}, event.what), h("td", {}, event.by),
    cell(event.code === null ? "–" : String(event.code)), h("td", { class: "why" }, event.why), cell(seconds(event.alive_s)), cell(seconds(event.last_data_s)), cell(seconds(event.token_left_s)))));
});

function hop(id, tone, word, why) {
  const element = byId(id);
  if (tone) element.dataset.tone = tone;
  else delete element.dataset.tone;
  element.dataset.state = word;
  const badge = element.querySelector(".badge");
  badge.dataset.tone = tone;
  badge.replaceChildren(h("span", { class: "dot", "aria-hidden": "true" }), word);
  setText(element.querySelector(".why"), why);
}

/** Each hop is only known as far as the one behind it works. */
function drawHops() {
  const now = Date.now();
  const own = stocks.status;
  if (own.state === "live") hop("hop-page", "good", "up", stocks.facts.tokenEndsAt ? `token left ${span(stocks.facts.tokenEndsAt - now)}` : "");
  else hop("hop-page", "bad", "down", own.why || own.state);
  if (feed.status.state !== "live") {
    hop("hop-bridge", "", "unknown", "");
    return hop("hop-exchange", "", "unknown", "");
  }
  if (!bridge || now - bridgeAt > SILENT_MS) {
    hop("hop-bridge", "bad", "down", bridge ? `the bridge is silent since ${clock(bridgeAt)}` : "the bridge has never spoken");
    return hop("hop-exchange", "", "unknown", "");
  }
  hop("hop-bridge", bridge.dropped ? "warn" : "good", "up", `${number(bridge.ticks)} ticks${bridge.dropped ? `, ${number(bridge.dropped)} dropped` : ""}`);
  const { state, why, since_ms, token_ends_at_ms } = bridge.exchange;
  if (state === "up") hop("hop-exchange", "good", "up", `token left ${span(token_ends_at_ms - now)}`);
  else hop("hop-exchange", state === "down" ? "bad" : "warn", state, `since ${clock(since_ms)}${why ? `: ${why}` : ""}`);
}

/** The badge says that prices are old when a hop before this page is down, or no ticks come. */
function drawStale() {
  const hops = ["hop-exchange", "hop-bridge"].map((id) => byId(id));
  const down = hops.find(({ dataset }) => dataset.state === "down");
  const newest = Math.max(...[...registered].map((item) => shares.get(item).at), 0);
  const isOld = registered.size > 0 && newest > 0 && Date.now() - newest > TICKLESS_MS;
  stocks.stale(down || isOld ? newest || Date.now() : null, down ? down.querySelector(".why").textContent : "no ticks come");
}
setInterval(() => (drawHops(), drawStale()), 1000);

// ---- frames by hand ----

const PRESETS = {
  "Register, keep the others": request("REG", ["005380"]),
  "Register, drop the others": request("REG", ["005930"], "0"),
  "Remove": request("REMOVE", ["005930"]),
  "Malformed: four mistakes": { trnm: "REG", grp_no: "1", refresh: "1", data: [{ item: ["5930", "035720", 42], type: ["0B", "XX"] }, "005930"] },
};
byId("preset").append(...Object.keys(PRESETS).map((name) => h("option", {}, name)));
const fill = () => (byId("frame").value = JSON.stringify(PRESETS[byId("preset").value]));
byId("preset").addEventListener("change", fill);
fill();

byId("sender").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("frame").value;
  if (!stocks.send(text)) return toast("Not sent", { text: "There is no connection.", tone: "warn" });
  follow(text);
});

/** What was registered by hand is made again after a break, as far as it was good. */
function follow(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return;
  }
  const items = Array.isArray(frame?.data) ? frame.data.flatMap((entry) => (Array.isArray(entry?.item) ? entry.item : [])).filter((item) => item in NAMES) : [];
  if (frame.trnm === "REG" && frame.refresh === "0" && items.length) registered.clear();
  for (const item of items) frame.trnm === "REMOVE" ? registered.delete(item) : registered.add(item);
  dirty = true;
}

function answered({ trnm, return_code, data = [], errors = [] }) {
  const list = byId("answers");
  list.querySelector(".muted")?.closest("li.muted")?.remove();
  const tone = return_code ? "bad" : "good";
  list.prepend(h("li", {},
    h("p", { class: "row" }, h("span", { class: "tag", "data-tone": tone }, return_code ? "mistakes" : "ok"), h("b", {}, trnm ?? "not understood"), h("span", { class: "muted" }, data.map((one) => `${one.item}:${one.type}`).join(", "))),
    errors.map(({ path, message }) => h("p", {}, h("code", {}, path), " ", h("span", { class: "muted" }, message)))));
  while (list.children.length > ANSWERS_MAX) list.lastElementChild.remove();
}

// ---- what else the page does ----

themeButton(byId("theme"));
showLive([stocks, feed], { badge: byId("live"), log: byId("log"), banner: byId("banner") });
for (const button of document.querySelectorAll("[data-fail]")) {
  button.addEventListener("click", () => fetch(`/demo/${button.dataset.fail}`, { method: "POST" }));
}
byId("let-end").addEventListener("click", () => {
  letTokenEnd = true;
  toast("The token will not be renewed", { text: `It ends in ${span(stocks.facts.tokenEndsAt - Date.now())}.` });
});
