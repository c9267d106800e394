// The views beside the live one: history, statistics, deliveries, connections, settings. Each asks the server when it is opened and says so when it cannot.

import { clock, h, span, toast } from "/kit/page.js";
import { call } from "/server.js";
import { KINDS, PRIORITIES, TONES, priorityTag, words } from "/alerts.js";
import { s } from "/control_chart.js";
import { hasKey, setKey } from "/seal.js";

const element = (id) => document.getElementById(id);
const cell = (text, kind) => h("td", { class: kind }, text);
const rows = (body, list, nothing, columns) => body.replaceChildren(...(list.length ? list : [h("tr", {}, h("td", { class: "empty", colspan: columns }, nothing))]));
const day = (ms) => new Date(ms).toLocaleDateString("en-GB", { day: "2-digit", month: "short" });

/** Everything that was told, in pages. */
export function historyView() {
  const form = element("history-filter"), body = element("history"), more = element("history-more");
  let oldest = null, products = [];
  const load = async (isMore) => {
    const query = new URLSearchParams({ limit: "30" });
    for (const name of ["product", "type", "min_level"]) if (form.elements[name].value) query.set(name, form.elements[name].value);
    if (isMore && oldest) query.set("before", oldest);
    const { alerts } = await call("GET", `alerts/?${query}`);
    const drawn = await Promise.all(alerts.map(async (alert) => {
      const { title, message, isSealed } = await words(alert);
      return h("tr", {}, cell(`${day(alert.at_ms)} ${clock(alert.at_ms)}`, "number"), h("td", {}, priorityTag(alert.priority)), cell(KINDS[alert.type], "word"), cell(products.find(({ id }) => id === alert.product_id)?.name ?? alert.product, "word"),
        h("td", { class: "wide" }, h("b", {}, title), isSealed && h("span", { class: "tag aside" }, "encrypted"), h("div", { class: "muted small" }, message)), cell(alert.by), cell(alert.acknowledged_by ? `✓ ${alert.acknowledged_by}` : "–"));
    }));
    if (isMore) body.append(...drawn);
    else rows(body, drawn, "Nothing was told that fits this filter.", 7);
    oldest = alerts.at(-1)?.id ?? oldest;
    more.hidden = alerts.length < 30;
  };
  form.addEventListener("change", () => load(false).catch(say));
  more.addEventListener("click", () => load(true).catch(say));
  return (me) => {
    ({ products } = me);
    form.elements.product.replaceChildren(h("option", { value: "" }, "All products"), ...products.map(({ id, name }) => h("option", { value: id }, name)));
    return load(false);
  };
}

function bars(list, entries) {
  const most = Math.max(1, ...entries.map(({ count }) => count));
  list.replaceChildren(...entries.map(({ label, count, tone }) => {
    const bar = h("i");
    bar.style.transform = `scaleX(${count / most})`;
    return h("li", {}, h("div", { class: "label" }, h("span", {}, label), h("b", { class: "number" }, String(count))), h("div", { class: "bar", "data-tone": tone }, bar));
  }));
}

/** What can be counted of the last day. */
export async function statisticsView({ products }) {
  const found = await call("GET", "statistics");
  const set = (id, text) => (element(id).textContent = text);
  set("stat-total", String(found.total));
  set("stat-acknowledged", found.total ? `${Math.round((found.acknowledged / found.total) * 100)}` : "–");
  set("stat-mean", span(found.acknowledge_mean_ms));
  set("stat-p50", found.delivery_p50_ms === null ? "–" : String(found.delivery_p50_ms));
  set("stat-p95", found.delivery_p95_ms === null ? "" : `95 of 100 within ${found.delivery_p95_ms} ms`);
  bars(element("stat-priority"), PRIORITIES.map((label, at) => ({ label, count: found.by_level[at], tone: TONES[label] })).reverse());
  bars(element("stat-kind"), found.by_kind.map(({ name, count }) => ({ label: KINDS[name] ?? name, count })));
  bars(element("stat-product"), found.by_product.map(({ name, count }) => ({ label: products.find(({ id }) => String(id) === name)?.name ?? name, count })));
  const host = element("stat-hours"), { clientWidth: width, clientHeight: height } = host, most = Math.max(1, ...found.by_hour);
  const step = width / 24, base = height - 20;
  host.setAttribute("aria-label", `Alerts by hour, oldest first: ${found.by_hour.join(", ")}`);
  host.replaceChildren(s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, s("line", { class: "line", x1: 0, x2: width, y1: base, y2: base }),
    found.by_hour.map((count, at) => count > 0 && [
      s("rect", { class: "bin", x: at * step + 2, width: Math.max(2, step - 4), y: base - (count / most) * (base - 20), height: (count / most) * (base - 20), rx: 3 }),
      s("text", { class: "axis", x: (at + 0.5) * step, y: base - (count / most) * (base - 20) - 4, "text-anchor": "middle" }, String(count))]),
    [[0, "24 h ago", "start"], [12, "12 h ago", "middle"], [24, "now", "end"]].map(([at, label, anchor]) => s("text", { class: "axis", x: at * step, y: height - 4, "text-anchor": anchor }, label))));
}

/** Who should have got what, who did and when, and why not. */
export async function deliveriesView() {
  const { deliveries, outbox } = await call("GET", "deliveries?limit=30");
  const waiting = element("outbox");
  waiting.dataset.tone = outbox?.trouble ? "bad" : outbox?.pending ? "warn" : "good";
  waiting.textContent = outbox?.trouble ? `Outbox: ${outbox.pending} wait; ${outbox.trouble}` : outbox?.pending ? `Outbox: ${outbox.pending} wait` : "Outbox empty";
  const missing = (recipients) => {
    const reasons = Map.groupBy(recipients.filter(({ why_not }) => why_not), ({ why_not }) => why_not);
    return [...reasons].map(([why, those]) => h("span", { class: "muted small" }, `${those.map(({ user }) => user).join(", ")}: ${why}`));
  };
  const arrived = (recipients, at_ms) => recipients.filter(({ received_ms }) => received_ms)
    .map(({ user, received_ms, node }) => h("span", { class: "tag", "data-tone": "good", title: `on node ${node}` }, `${user} ${Math.max(0, received_ms - at_ms)} ms`));
  rows(element("deliveries"), deliveries.map(({ title, level, at_ms, published_ms, recipients }) => h("tr", {}, cell(clock(at_ms), "number"), h("td", {}, priorityTag(PRIORITIES[level - 1])), h("td", { class: "wide" }, title),
    cell(published_ms ? `${Math.max(0, published_ms - at_ms)} ms` : "waits", "number"), h("td", {}, h("div", { class: "row tags" }, arrived(recipients, at_ms), missing(recipients))))), "Nothing was told yet.", 5);
}

/** Sessions on all nodes, as far as the user may see them. */
export async function connectionsView() {
  const { nodes, connections } = await call("GET", "connections");
  element("nodes").replaceChildren(...nodes.map(({ name, uptime_s, sessions, subscriptions }) => h("div", { class: "card figure" }, h("div", { class: "label" }, `Node ${name}`),
    h("div", { class: "value" }, h("b", {}, String(sessions)), h("span", { class: "unit" }, sessions === 1 ? "session" : "sessions")), h("div", { class: "detail" }, `${subscriptions} subscriptions · up ${span(uptime_s * 1000)}`))));
  const now = Date.now();
  rows(element("connections"), connections.sort((one, other) => one.since_ms - other.since_ms).map(({ user, node, since_ms, address, protocol, topics, backlog_bytes }) => h("tr", {}, h("td", {}, h("b", {}, user)), cell(node), cell(span(now - since_ms), "number"),
    cell(address ?? "–", "mono"), cell(protocol), cell(String(topics.length), "number"), cell(`${backlog_bytes} B`, "number"))), "Nobody is connected.", 7);
}

/** Keys of the products, preferences, and for an admin everybody's rights. */
export function settingsView({ changed, prefer }) {
  const keys = async ({ user, products }) => element("keys").replaceChildren(...products.map(({ id, name }) => {
    const input = h("input", { type: "password", id: `key-${id}`, autocomplete: "off", placeholder: hasKey(id) ? "A key is kept in this browser" : "The team's passphrase" });
    const save = async (event) => {
      event.preventDefault();
      await setKey(user.id, id, input.value);
      input.value = "";
      toast(hasKey(id) ? "Key kept in this browser" : "Key forgotten", { text: name, tone: "good", ms: 3000 });
      keys({ user, products });
      changed();
    };
    return h("form", { class: "field", onsubmit: save }, h("label", { for: `key-${id}` }, name), h("div", { class: "row" }, h("div", { class: "grow" }, input), h("button", { class: "button" }, hasKey(id) ? "Replace" : "Keep")));
  }));
  const muted = ({ user, products }) => element("muted").replaceChildren(...products.map(({ id, name }) => h("label", { class: "switch" },
    h("input", { type: "checkbox", value: id, checked: !user.preferences.muted.includes(id), onchange: ({ target }) => prefer({ muted: target.checked ? user.preferences.muted.filter((one) => one !== id) : [...user.preferences.muted, id] }) }), name)));
  const rights = async ({ user, products }) => {
    element("rights-card").hidden = user.role !== "admin";
    if (user.role !== "admin") return;
    const { users } = await call("GET", "users");
    const save = (one, change) => call("PUT", `users/${one.id}/rights`, { role: one.role, products: one.products, ...change }).then((now) => (Object.assign(one, now), toast("Rights changed", { text: `${one.name}: they hold at once.`, tone: "good" })), say);
    rows(element("rights"), users.map((one) => h("tr", {}, h("td", {}, h("b", {}, one.name), h("div", { class: "muted small" }, one.id)),
      h("td", {}, h("select", { "aria-label": `Role of ${one.name}`, onchange: ({ target }) => save(one, { role: target.value }) }, ["viewer", "operator", "engineer", "admin"].map((role) => h("option", { value: role, selected: role === one.role }, role)))),
      h("td", {}, h("div", { class: "row" }, products.map(({ id, name }) => h("label", { class: "check" }, h("input", { type: "checkbox", checked: one.products.includes(id), onchange: ({ target }) => save(one, { products: target.checked ? [...one.products, id] : one.products.filter((product) => product !== id) }) }), name)))))), "Nobody.", 3);
  };
  return (me) => (keys(me), muted(me), rights(me));
}

/** A refusal, in the corner. */
export function say(refused) {
  toast(refused.message, { text: refused.hint, tone: "bad" });
}
