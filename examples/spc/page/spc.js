// The page: who is logged in, what the connection brings, and where it is shown.

import { LiveClient, showLive } from "/kit/live.js";
import { clock, h, setText, themeButton, toast } from "/kit/page.js";
import { Alerts } from "/alerts.js";
import { ControlChart, digits } from "/control_chart.js";
import { Histogram, indices, verdict } from "/histogram.js";
import { connectionsView, deliveriesView, historyView, say, settingsView, statisticsView } from "/operator.js";
import { raiseForm } from "/raise.js";
import { loadKeys } from "/seal.js";
import { call } from "/server.js";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 5_000; // of a view that is open and not live by itself

let me = null; // { user, products, node }
let live = null; // the connection
let product = null; // the product that is shown
let chart = null; // its state, as it came
const alertSubscriptions = []; // to the alerts of all products, with the user's filter
let lineSubscription = null;

const control = new ControlChart($("control"));
const histogram = new Histogram($("histogram"));
const acknowledge = (id) => call("POST", `alerts/${id}/acknowledge`).catch(say);
const alerts = new Alerts($("alerts"), {
  acknowledge,
  receipt: (ids) => live?.client.send({ type: "received", ids }).catch(() => {}), // told again with the next page
});
const raised = raiseForm($("raise"), () => me);
const views = {
  history: historyView(), statistics: statisticsView, deliveries: deliveriesView, connections: connectionsView,
  settings: settingsView({ changed: () => (raised(), alerts.reread()), prefer: (change) => prefer(change) }),
};

// ---- who ----

async function begin() {
  try {
    me = await call("GET", "me");
  } catch (refused) {
    if (refused.status !== 401) return setTimeout(begin, 2_000);
    return showLogin();
  }
  $("login").hidden = true;
  for (const id of ["app", "badge", "bell", "logout"]) $(id).hidden = false;
  await loadKeys(me.user.id, me.products);
  if (!live) connect();
  showMe();
  showView();
}

function showLogin() {
  // A page that forgets nothing: whoever comes next begins with another one.
  if (live) return location.reload();
  $("login").hidden = false;
  $("user").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, problem = form.querySelector(".problem");
  problem.textContent = "";
  try {
    await call("POST", "login", { user: form.elements.user.value.trim(), password: form.elements.password.value });
    form.reset();
    await begin();
  } catch (refused) {
    problem.textContent = refused.message;
  }
});
for (const button of document.querySelectorAll("[data-user]")) {
  button.addEventListener("click", () => {
    $("user").value = $("password").value = button.dataset.user;
    $("login").requestSubmit();
  });
}
$("logout").addEventListener("click", () => call("POST", "logout").then(() => location.reload(), say));

/** Everything that depends on who this is and what they may. */
function showMe() {
  const { user, products } = me;
  setText($("who"), `${user.name} · ${user.role}`);
  alerts.names = new Map(products.map(({ id, name }) => [id, name]));
  alerts.acknowledge = user.role === "viewer" ? null : acknowledge;
  $("engineer").hidden = !["engineer", "admin"].includes(user.role);
  $("products").replaceChildren(h("legend", { class: "hidden" }, "Product"), ...products.map(({ id, name }) => h("label", {}, h("input", { type: "radio", name: "product", value: id, checked: id === product?.id, onchange: () => follow(id) }), h("span", {}, name))));
  raised();
  showPreferences();
  const shown = products.find(({ id }) => id === product?.id) ?? products[0];
  if (shown?.id === product?.id) hearAlerts();
  else follow(shown?.id);
}

// ---- what comes ----

function connect() {
  live = new LiveClient("Alerts", { url: new URL("/ws/spc/live/", location.href) });
  const { client } = live;
  showLive([live], { badge: $("badge"), log: $("log"), banner: $("banner") });
  live.addEventListener("status", () => {
    const isLive = live?.status.state === "live";
    $("chart-card").toggleAttribute("data-stale", !isLive);
    setText($("chart-since"), isLive || !live ? "" : `stale since ${clock(live.status.since)}`);
    if (live?.status.state === "refused") begin(); // the login has ended, on this page or another
  });
  // Of the user's own topic: preferences that another tab has changed.
  client.on("publication", ({ data }) => data.type === "preferences" && took(data.preferences));
  // Rights have changed on the open connection.
  client.on("identity", async () => {
    me = await call("GET", "me");
    showMe();
    toast("Your rights have changed", { text: `You are ${me.user.role} of ${me.products.length} products.` });
  });
}

/** The alerts of all products, as many as the preferences want, by the broker's filter. One change after the other. */
function hearAlerts() {
  hearing = hearing.then(resubscribe, resubscribe);
}
let hearing = Promise.resolve();

async function resubscribe() {
  await Promise.all(alertSubscriptions.splice(0).map((old) => old.unsubscribe()));
  const { min_level, muted } = me.user.preferences;
  const wanted = me.products.filter(({ id }) => !muted.includes(id));
  // The product that is shown is heard by its own topic too: what comes twice is shown once.
  const topics = [...wanted.map(({ id }) => `alerts:product.${id}`), ...wanted.filter(({ id }) => id === product?.id).map(({ id }) => `spc:product.${id}`)];
  for (const topic of topics) {
    const subscription = live.client.subscribe(topic, { filter: { key: "level", cmp: "gte", val: String(min_level) } });
    subscription.on("publication", ({ data }) => heard(data));
    subscription.on("gap", catchUp); // more was missed than the broker keeps
    alertSubscriptions.push(subscription);
  }
  await catchUp();
}

/** What was told while nobody listened. What is known already is not shown again. */
function catchUp() {
  return call("GET", "alerts/?limit=40").then(({ alerts: told }) => alerts.history(told), say);
}

function heard(frame) {
  if (alerts.hear(frame) && frame.type === "capability" && frame.product_id === product?.id) showAnalysis({ ...frame.data, at_ms: frame.at_ms });
}

async function follow(id) {
  const before = lineSubscription;
  product = me.products.find((one) => one.id === id) ?? null;
  for (const input of $("products").querySelectorAll("input")) input.checked = Number(input.value) === id;
  lineSubscription = null;
  await before?.unsubscribe();
  control.set(null);
  if (!product || product.id !== id) return;
  $("raise-product").value = id;
  $("raise-product").dispatchEvent(new Event("change"));
  const subscription = live.client.subscribe(`line:product.${id}`);
  lineSubscription = subscription;
  subscription.on("snapshot", ({ data }) => id === product?.id && showChart(data));
  subscription.on("publication", ({ data }) => {
    if (id !== product?.id || !chart) return;
    if (data.type === "chart") return showChart(data); // other rules, other limits
    control.add(data.point);
    showPoint();
  });
  hearAlerts();
}

// ---- what is shown ----

function showChart(state) {
  chart = state;
  control.set(state);
  const { subgroup, name, rules, unit, lsl, usl } = state.product;
  setText($("chart-title"), subgroup > 1 ? `X̄ and R chart · ${name}` : `Individuals chart · ${name}`);
  setText($("unit"), unit);
  setText($("specification"), [lsl !== null && `LSL ${lsl}`, usl !== null && `USL ${usl}`].filter(Boolean).join(" · ") + ` ${unit}`);
  setText($("broken-of"), `${rules === "nelson" ? "Nelson" : "Western Electric"} rules`);
  $("rules").value = rules;
  showAnalysis(state.analysis);
  showPoint();
}

function showPoint() {
  const { points } = control, newest = points.at(-1);
  if (!newest) return;
  const tag = (host, tone, word) => host.replaceChildren(h("span", { class: "tag", "data-tone": tone }, word));
  setText($("newest"), newest.value.toFixed(digits(chart.product)));
  setText($("newest-at"), `${clock(newest.at_ms)} · point ${newest.id}`);
  tag($("point-tag"), newest.outside ? "bad" : newest.rules.length ? "warn" : "good", newest.outside ? "out of spec" : newest.rules.length ? newest.rules.join(" ") : "ok");
  const recent = points.slice(-15).some(({ rules }) => rules.length);
  setText($("broken"), String(points.reduce((sum, { rules }) => sum + rules.length, 0)));
  tag($("state-tag"), recent ? "warn" : "good", recent ? "disturbed" : "in control");
  const readings = points.flatMap(({ readings }) => readings);
  const { lsl, usl } = chart.product;
  const outside = readings.filter((reading) => (lsl !== null && reading < lsl) || (usl !== null && reading > usl)).length;
  setText($("outside"), ((outside / readings.length) * 100).toFixed(1));
  histogram.draw(chart.product, readings);
}

function showAnalysis(analysis) {
  const { tone, word } = verdict(analysis?.cpk);
  setText($("cpk"), analysis?.cpk?.toFixed(2) ?? "–");
  setText($("cpk-at"), analysis ? `${analysis.readings} readings · ${clock(analysis.at_ms)}` : "no analysis yet");
  $("cpk-tag").replaceChildren(h("span", { class: "tag", "data-tone": tone }, word.toLowerCase()));
  indices($("indices"), analysis);
}

alerts.addEventListener("unread", () => {
  const count = $("bell").querySelector(".count");
  count.hidden = alerts.unread === 0;
  count.textContent = alerts.unread > 99 ? "99+" : String(alerts.unread);
  $("bell").setAttribute("aria-label", `Alerts, ${alerts.unread} new`);
});
$("bell").addEventListener("click", () => {
  location.hash = "#live";
  $("alerts-card").scrollIntoView({ block: "nearest" });
  $("alerts").focus({ preventScroll: true });
  alerts.seen();
});

// ---- what the user wants ----

function prefer(change) {
  return call("PUT", "preferences", { ...me.user.preferences, ...change }).then(({ preferences }) => took(preferences), say);
}

/** Preferences that hold from here on, whoever set them. */
function took(preferences) {
  if (!me || JSON.stringify(preferences) === JSON.stringify(me.user.preferences)) return;
  me.user.preferences = preferences;
  showPreferences();
  hearAlerts();
  if (view() === "settings") showView();
}

function showPreferences() {
  const { min_level } = me.user.preferences;
  $("min-level").querySelector(`[value="${min_level}"]`).checked = true;
  alerts.prefer(me.user.preferences);
}
$("min-level").addEventListener("change", ({ target }) => prefer({ min_level: Number(target.value) }));

for (const button of document.querySelectorAll("[data-disturb]")) {
  button.addEventListener("click", () => call("POST", `products/${product.id}/disturbance`, { kind: button.dataset.disturb }).then(() => toast(`The line is disturbed: ${button.dataset.disturb}`, { ms: 3000 }), say));
}
$("rules").addEventListener("change", ({ target }) => call("PUT", `products/${product.id}/setup`, { rules: target.value }).catch(say));
$("limits").addEventListener("click", () => call("PUT", `products/${product.id}/setup`, { new_limits: true }).then(() => toast("New limits", { text: "From the newest points that broke nothing.", tone: "good", ms: 3000 }), say));
$("analyse").addEventListener("click", () => call("POST", `products/${product.id}/analysis`).catch(say));

// ---- views ----

const view = () => (location.hash.slice(1) in views ? location.hash.slice(1) : "live");

function showView() {
  if (!me) return;
  const shown = view();
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.dataset.view !== shown;
  const tab = $("views").querySelector(`[value="${shown}"]`);
  tab.checked = true;
  tab.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
  Promise.resolve(views[shown]?.(me)).catch(say);
}
$("views").addEventListener("change", ({ target }) => (location.hash = `#${target.value}`));
addEventListener("hashchange", showView);
setInterval(() => {
  if (["statistics", "deliveries", "connections"].includes(view()) && live?.status.state === "live" && document.visibilityState === "visible") Promise.resolve(views[view()](me)).catch(() => {}); // the badge says why
}, REFRESH_MS);

themeButton($("theme"));
begin();
