// The page: puts frames into cards and chart, and says how fresh they are.

import { Chart, roundUp, sparkline } from "./chart.js";
import { LiveSocket } from "./socket.js";

const SPAN_MS = 5 * 60_000; // what the chart shows at most
const SPAN_MIN_MS = 60_000;
const SPARK_MS = 2 * 60_000;
const SPARK_MIN_MS = 30_000;
const LOG_MAX = 30;

const byId = (id) => document.getElementById(id);
const version = document.querySelector("meta[name=page-version]").content;

const model = {
  frame: null, // the last frame
  numbersAt: 0, // when new numbers came, by this machine's clock
  clockAheadMs: 0, // how far the server's clock is ahead of this one
  points: [],
  connection: { state: "connecting" },
  metric: "cpu",
};

// ---- numbers ----

const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (value) => `${number(value, value < 10 && value > 0 ? 1 : 0)} %`;

function scaled(bytes, base, units) {
  let value = bytes;
  let unit = 0;
  while (value >= base * 0.9995 && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 || Number.isInteger(value) ? 0 : 1;
  return [number(value, digits), units[unit]];
}
const size = (bytes) => scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]).join(" ");
const rate = (bytes) => scaled(bytes, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);

function span(seconds) {
  const days = Math.floor(seconds / 86_400), hours = Math.floor((seconds % 86_400) / 3600), minutes = Math.floor((seconds % 3600) / 60);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

// ---- metrics: what cards and chart show of a point [time, cpu, memory, received, sent, load] ----

const metrics = {
  cpu: { title: "CPU", series: ["CPU"], pick: (p) => [p[0], p[1]], most: () => 100, format: percent },
  memory: { title: "Memory", series: ["Memory"], pick: (p) => [p[0], p[2]], most: () => 100, format: percent },
  load: {
    title: "Load", series: ["Load"], pick: (p) => [p[0], p[5]], format: (value) => number(value, 2),
    most: (values) => roundUp(Math.max(...values, 0), model.frame?.host.cores ?? 1),
  },
  network: {
    title: "Network", series: ["In", "Out"], pick: (p) => [p[0], p[3], p[4]], format: (value) => rate(value).join(" "),
    most: (values) => roundUp(Math.max(...values, 0), 10_000),
  },
};

/** One metric over time. The window grows with what is known, so that a chart that has just begun is not empty. */
function view(metric, leastMs, mostMs) {
  const { title, series, pick, most, format } = metrics[metric];
  const to = now();
  const ms = Math.min(Math.max(to - (model.points[0]?.[0] ?? to), leastMs), mostMs);
  const points = model.points.map(pick).filter((point) => point[0] >= to - ms - 12_000);
  return { title, series, format, points, from: to - ms, to, most: most(points.flatMap((point) => point.slice(1))) };
}

// The right edge of the charts: the newest numbers, or the time since then.
const now = () => Math.max(Date.now() + model.clockAheadMs, model.points.at(-1)?.[0] ?? 0);

// ---- drawing ----

const chart = new Chart(byId("chart"), (text) => (byId("reading").textContent = text));

function text(id, value) {
  const element = byId(id);
  if (element.textContent !== value) element.textContent = value;
}

function drawNumbers() {
  const { statistics: s, host } = model.frame;
  text("host", host.name);
  document.title = `${host.name} – dashboard`;
  if (!s) return text("about", host.system);
  text("about", `${host.system} · ${host.cores} cores · up ${span(s.uptime_s)}`);
  text("cpu", number(s.cpu.percent, s.cpu.percent < 10 ? 1 : 0));
  text("cpu-detail", host.cpu_model || `${host.cores} cores`);
  const used = (s.memory.used_bytes / s.memory.total_bytes) * 100;
  text("memory", number(used, used < 10 ? 1 : 0));
  text("memory-detail", `${size(s.memory.used_bytes)} of ${size(s.memory.total_bytes)}`);
  text("load", number(s.load[0], 2));
  text("load-detail", `${number(s.load[1], 2)} over 5 min · ${number(s.load[2], 2)} over 15`);
  const [value, unit] = rate(s.network.received_per_s);
  text("network", value);
  text("network-unit", `${unit} in`);
  text("network-detail", `${rate(s.network.sent_per_s).join(" ")} out`);
  bars("cores", s.cpu.cores.map((busy, index) => ({ label: `Core ${index + 1}`, value: percent(busy), share: busy / 100 })), 90);
  byId("cores").classList.toggle("dense", s.cpu.cores.length > 8);
  bars("disks", s.disks.map((disk) => ({
    label: disk.mount, value: `${size(disk.used_bytes)} of ${size(disk.total_bytes)}`, share: disk.used_bytes / disk.total_bytes,
    note: `${rate(disk.read_per_s).join(" ")} read · ${rate(disk.written_per_s).join(" ")} written`,
  })), 90);
  text("process-count", `${number(s.processes.count)} in all`);
  rows("processes", s.processes.busiest.map((p) => [p.count > 1 ? `${p.name} ×${p.count}` : p.name, percent(p.cpu_percent), size(p.memory_bytes)]), [1, 2]);
}

// Elements are kept and changed, so that bars move and a screen reader's place is not lost.
function bars(id, entries, high) {
  const list = byId(id);
  while (list.children.length > entries.length) list.lastElementChild.remove();
  entries.forEach(({ label, value, share, note }, index) => {
    let item = list.children[index];
    if (!item) {
      item = document.createElement("li");
      item.innerHTML = '<p class="label"><span></span><span></span></p><div class="bar" aria-hidden="true"><i></i></div><p class="note"></p>';
      list.append(item);
    }
    const [labels, bar, remark] = item.children;
    labels.children[0].textContent = label;
    labels.children[1].textContent = value;
    bar.firstElementChild.style.transform = `scaleX(${Math.max(0, Math.min(1, share || 0))})`;
    bar.classList.toggle("high", share * 100 >= high);
    remark.textContent = note ?? "";
    remark.hidden = !note;
  });
}

function rows(id, entries, numeric) {
  const body = byId(id);
  body.replaceChildren(...entries.map((entry) => {
    const row = document.createElement("tr");
    row.append(...entry.map((cell, index) => {
      const data = document.createElement("td");
      data.textContent = cell;
      data.title = numeric.includes(index) ? "" : cell;
      if (numeric.includes(index)) data.className = "number";
      return data;
    }));
    return row;
  }));
}

function drawCharts() {
  for (const card of document.querySelectorAll(".metric")) {
    const { points, ...window } = view(card.dataset.metric, SPARK_MIN_MS, SPARK_MS);
    sparkline(card.querySelector(".spark"), points, window);
  }
  const shown = view(model.metric, SPAN_MIN_MS, SPAN_MS);
  const minutes = Math.round((shown.to - shown.from) / 60_000);
  text("history-title", minutes > 1 ? `Last ${minutes} minutes` : "Last minute");
  chart.show(shown);
}

/** Says how things stand: the pill, the age of the numbers, `stale since` on the cards. */
function drawState() {
  const { state, until, why, hint, failures } = model.connection;
  const stale = model.frame?.stale;
  const ageMs = model.numbersAt ? performance.now() - model.numbersAt : null;
  const overdue = ageMs !== null && ageMs > 2.5 * (model.frame?.pace_ms ?? 5_000);
  const left = until ? Math.max(0, Math.ceil((until - performance.now()) / 1000)) : 0;
  const words = {
    connecting: failures ? "Reconnecting" : "Connecting",
    live: stale ? "Connected, numbers are stale" : "Live",
    waiting: left ? `Reconnecting in ${left} s` : "Reconnecting",
    refused: left ? `Refused, next try in ${left} s` : "Refused",
    offline: "Offline",
  };
  const shown = state === "live" && stale ? "stale" : state === "waiting" || (state === "connecting" && failures) ? "reconnecting" : state;
  document.body.dataset.state = shown;
  text("state", words[state]);
  byId("retry").hidden = !["waiting", "refused", "offline"].includes(state);
  text("updated", ageMs === null ? "" : stale || shown !== "live" ? `last numbers ${ago(ageMs)}` : `updated ${ago(ageMs)}`);

  const old = Boolean(stale) || overdue || (ageMs !== null && shown !== "live" && shown !== "connecting");
  document.body.classList.toggle("old", old);
  if (old) {
    const since = stale?.since_ms || model.frame?.statistics?.at_ms;
    for (const mark of document.querySelectorAll(".since")) mark.textContent = since ? `stale since ${clock(since)}` : "no numbers yet";
  }
  if (state === "refused") banner([`The server refuses this page: ${why}`, hint && sentence(hint)].filter(Boolean).join(". "));
  else banner(shown === "stale" ? `The numbers cannot be read: ${stale.error}. The connection is fine; new numbers come by themselves.` : "");
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1);
const ago = (ms) => (ms < 1500 ? "just now" : `${span(ms / 1000)} ago`);

function banner(problem) {
  const newer = model.frame && model.frame.version !== version;
  const element = byId("banner");
  const wanted = problem || (newer ? `This page is older than its server (${model.frame.version}).` : "");
  element.hidden = !wanted;
  if (element.dataset.text === wanted) return;
  element.dataset.text = wanted;
  element.textContent = wanted;
  if (!problem && newer) {
    const reload = document.createElement("a");
    reload.href = "";
    reload.textContent = "Load the new one";
    element.append(" ", reload);
  }
}

// ---- what happens ----

function onFrame(frame) {
  if (!frame.stale && frame.statistics) model.numbersAt = performance.now();
  model.frame = frame;
  const newest = model.points.at(-1)?.[0] ?? 0;
  // A snapshot may repeat what is known; what is live may repeat what the snapshot had.
  model.points.push(...frame.points.filter((point) => point[0] > newest));
  if (frame.statistics) model.clockAheadMs = Math.max(frame.statistics.at_ms - Date.now(), -SPAN_MS);
  model.points = model.points.filter((point) => point[0] >= now() - SPAN_MS - 30_000);
  model.connection = { state: "live" };
  drawNumbers();
  drawCharts();
  drawState();
}

function onState({ state, inMs, ...more }) {
  model.connection = { state, until: inMs === undefined ? 0 : performance.now() + inMs, ...more };
  drawState();
}

const ends = [];
function onEnd(end) {
  // Tries that did not connect, one after the other, are one line.
  const last = ends[0];
  if (last && !end.opened && !last.opened && last.code === end.code && last.reason === end.reason) {
    Object.assign(last, { at: end.at, times: last.times + 1 });
  } else {
    ends.unshift({ ...end, times: 1 });
    ends.length = Math.min(ends.length, LOG_MAX);
  }
  const seconds = (ms) => (ms === null ? "–" : `${number(ms / 1000, 1)} s`);
  const why = ({ code, reason, opened, times }) =>
    [code, reason || (opened ? "" : "could not connect"), times > 1 ? `(${times} times)` : ""].filter(Boolean).join(" ");
  rows("log", ends.map((end) => [
    clock(end.at), end.by, why(end), end.opened ? seconds(end.aliveMs) : "–", number(end.frames), seconds(end.dataAgeMs),
  ]), [3, 4, 5]);
  const lost = ends.filter((end) => end.opened).length;
  text("connection-summary", lost === 1 ? "ended once since this page was opened" : lost ? `ended ${lost} times since this page was opened` : "");
}

// ---- start ----

for (const card of document.querySelectorAll("#now .card, .columns .card")) {
  const mark = document.createElement("p");
  mark.className = "since";
  card.querySelector("h2").after(mark);
}

for (const choice of document.querySelectorAll("input[name=metric]")) {
  choice.addEventListener("change", () => {
    model.metric = choice.value;
    drawCharts();
  });
  if (choice.checked) model.metric = choice.value;
}

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.style.colorScheme ? root.style.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.style.colorScheme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.style.colorScheme);
});
document.documentElement.style.colorScheme = localStorage.getItem("theme") ?? "";

byId("outage").addEventListener("click", async ({ currentTarget: button }) => {
  button.disabled = true;
  try {
    await fetch("demo/outage", { method: "POST" });
  } finally {
    setTimeout(() => (button.disabled = false), 20_000);
  }
});

// A page derives its server from its own address; `?socket=` is for trying wrong ones.
const address = new URL(new URLSearchParams(location.search).get("socket") ?? "live/dashboard", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
text("try-js", `new WebSocket("${address.href}")\n  .onmessage = (e) => console.log(e.data)`);

const socket = new LiveSocket(address.href);
socket.addEventListener("frame", ({ detail }) => onFrame(detail));
socket.addEventListener("state", ({ detail }) => onState(detail));
socket.addEventListener("end", ({ detail }) => onEnd(detail));
byId("retry").addEventListener("click", () => socket.tryNow());
socket.start();

drawCharts();
setInterval(drawState, 1_000);
// The chart moves on also when no numbers come, so that an interruption shows.
setInterval(drawCharts, 2_000);
