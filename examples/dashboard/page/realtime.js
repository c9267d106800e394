// The dispatch page: two raw sockets at their old addresses, and one connection with two widgets, each at a rate of its own.

import { Chart, roundUp, sparkline } from "/chart.js";
import { LiveClient, LiveSocket, showLive } from "/kit/live.js";
import { clock, h, setText, themeButton } from "/kit/page.js";

const SPAN_MS = 5 * 60_000; // what the chart shows at most
const SPAN_MIN_MS = 60_000;
const ALERTS_MAX = 30;
const SPARK_MAX = 60;
const MEASURED_MS = 10_000;

const byId = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const address = (path) => new URL(path, location.href.replace(/^http/, "ws")).href;

// ---- statistics: the first frame is the data, then the topic's pace ----

const statistics = new LiveSocket("Statistics", address("/api/v1/dispatches/ws/dashboard"), { pingAfterMs: 8_000 });
const chart = new Chart(byId("chart"), (text) => (byId("reading").textContent = text));
const model = { frame: null, points: [], aheadMs: 0 };

statistics.addEventListener("frame", ({ detail: frame }) => {
  model.frame = frame;
  if (frame.at_ms && !frame.stale) model.aheadMs = frame.at_ms - Date.now();
  const newest = model.points.at(-1)?.[0] ?? 0;
  model.points.push(...frame.points.filter((point) => point[0] > newest));
  model.points.splice(0, model.points.length - 400);
  statistics.stale(frame.stale?.since_ms ?? null, frame.stale?.error);
  if (frame.total_orders !== undefined) drawFigures(frame);
  drawAge();
  drawChart();
});
statistics.addEventListener("status", drawAge);

function drawFigures(frame) {
  for (const id of ["total_orders", "pending_orders", "delivered_orders", "late_orders"]) setText(byId(id), number(frame[id]));
  setText(byId("moving_orders"), number(frame.assigned_orders + frame.in_transit_orders));
  setText(byId("moving-detail"), `${number(frame.assigned_orders)} to collect · ${number(frame.in_transit_orders)} to deliver`);
  byId("late_orders").closest(".figure").toggleAttribute("data-some", frame.late_orders > 0);
  setText(byId("about"), `${number(frame.orders_per_minute)} orders a minute`);
  const most = Math.max(...frame.regions.map((region) => region.pending + region.moving), 1);
  byId("regions").replaceChildren(...frame.regions.map((region) => {
    const bar = h("i");
    bar.style.transform = `scaleX(${(region.pending + region.moving) / most})`;
    const label = h("p", { class: "label" }, h("span", {}, region.name), h("span", { class: "muted" }, `${region.pending} pending · ${region.moving} on the way`));
    return h("li", {}, label, h("div", { class: "bar", "aria-hidden": "true" }, bar));
  }));
}

/** The cards say since when they are old: because the server says so, or because nothing comes. */
function drawAge() {
  const { frame } = model;
  const { state, stale } = statistics.status;
  const since = stale ? stale.since : state === "live" || !frame ? null : statistics.facts.dataAt;
  for (const card of document.querySelectorAll(".statistics")) {
    card.toggleAttribute("data-stale", since !== null);
    const told = card.querySelector(".since");
    if (!told) continue;
    told.hidden = since === null;
    setText(told, since === null ? "" : `stale since ${clock(since)}`);
  }
}

function drawChart() {
  const to = Math.max(Date.now() + model.aheadMs, model.points.at(-1)?.[0] ?? 0);
  const span = Math.min(Math.max(to - (model.points[0]?.[0] ?? to), SPAN_MIN_MS), SPAN_MS);
  const points = model.points.filter((point) => point[0] >= to - span - 12_000);
  const most = roundUp(Math.max(...points.flatMap((point) => point.slice(1)), 1), 8);
  chart.show({ title: "Orders over time", series: ["Placed per minute", "Pending"], format: (value) => number(Math.round(value)), points, from: to - span, to, most });
}

// ---- alerts ----

const alerts = new LiveSocket("Alerts", address("/api/v1/ws/alerts"));
const TONES = { info: "info", warning: "warn", critical: "bad" };
const known = new Map();

alerts.addEventListener("frame", ({ detail }) => {
  const isNew = detail.type === "alert";
  for (const alert of isNew ? [detail.alert] : detail.alerts) known.set(alert.id, alert);
  const newest = [...known.values()].sort((one, other) => other.id - one.id).slice(0, ALERTS_MAX);
  byId("no-alerts").hidden = newest.length > 0;
  byId("alerts").hidden = newest.length === 0;
  setText(byId("alert-count"), newest.length ? `${newest.length} shown` : "");
  byId("alerts").replaceChildren(...newest.map((alert) => h("li", { "data-id": alert.id },
    h("p", { class: "row spread" }, h("b", {}, alert.title), h("span", { class: "muted small" }, clock(alert.at_ms))),
    h("p", {}, h("span", { class: "tag", "data-tone": TONES[alert.severity] }, alert.severity), h("span", { class: "muted" }, alert.text)))));
});

// ---- widgets: topics of one connection, each with its own rate ----

const widgets = new LiveClient("Widgets", { url: "/ws" });
const draw = {
  "widgets:pulse": ({ placed, delivered }) => (setText(byId("placed"), String(placed)), setText(byId("delivered"), String(delivered)), placed),
  "widgets:machine": ({ cpu_percent, memory_percent }) => (setText(byId("cpu"), cpu_percent.toFixed(0)), setText(byId("memory"), memory_percent.toFixed(0)), cpu_percent),
};

for (const card of document.querySelectorAll(".widget")) {
  const { topic } = card.dataset;
  const select = card.querySelector("select");
  let subscription;
  let points = [];
  let arrivals = [];
  const listen = async () => {
    await subscription?.unsubscribe();
    arrivals = [];
    subscription = widgets.client.subscribe(topic, { rate: Number(select.value) });
    subscription.on("publication", ({ data }) => {
      arrivals.push(performance.now());
      points = [...points, [data.at_ms, draw[topic](data)]].slice(-SPARK_MAX);
      sparkline(card.querySelector(".spark"), points);
    });
  };
  select.addEventListener("change", listen);
  widgets.addEventListener("status", () => card.toggleAttribute("data-stale", points.length > 0 && widgets.status.state !== "live"));
  listen();
  setInterval(() => {
    arrivals = arrivals.filter((at) => at > performance.now() - MEASURED_MS);
    const seconds = (performance.now() - arrivals[0]) / 1000;
    const measured = arrivals.length > 1 ? ((arrivals.length - 1) / Math.max(seconds, 1)).toFixed(1) : "–";
    setText(card.querySelector(".measured"), measured);
    card.dataset.measured = measured;
  }, 1000);
}

// ---- what else the page does ----

themeButton(byId("theme"));
showLive([statistics, alerts, widgets], { badge: byId("live"), log: byId("log"), banner: byId("banner") });
setInterval(drawChart, 1000);
setText(byId("try"), `new WebSocket("${address("/api/v1/dispatches/ws/dashboard")}").onmessage = (e) => console.log(e.data)`);
for (const button of document.querySelectorAll("[data-fail]")) {
  button.addEventListener("click", () => fetch(`/demo/${button.dataset.fail}`, { method: "POST" }));
}
byId("wrong").addEventListener("click", () => {
  const socket = new WebSocket(address("/api/v1/ws/ws/dashboard"));
  socket.onmessage = ({ data }) => {
    const { message, hint } = JSON.parse(data);
    setText(byId("wrong-answer"), `“${message}”: ${hint}`);
  };
});
