// The orders: a table with filters, what can be done with each, and a form for doctors.

import { clock, h, redraw, setText, span, toast } from "/kit/page.js";
import { call, complain, who } from "/session.js";

const by = (id) => document.getElementById(id);
const STATUSES = { all: "All", new: "New", accepted: "Accepted", done: "Done" };
const TONES = { new: "info", accepted: "warn", done: "good" };
const EXAMS = { ris: ["MRI", "CT", "X-ray", "Ultrasound"], lis: ["Blood count", "Glucose", "Lipid panel", "Urinalysis"] };
const NEXT = { new: ["accept", "Accept"], accepted: ["complete", "Complete"] };
const PENDING_LOOK_MS = 1000;

let rows = new Map(); // orders by id
let heard = new Map(); // of these, what came from the socket since the list was last asked for
let isLoaded = false;
let asked = 0; // how often the list was asked for: only the last answer counts
const pending = new Map(); // orders whose notice is not out, by id: the notice
const fresh = new Set(); // light up once
let status = "all";

const isNewer = (order, than) => !than || (order.changed_at_ms ?? 0) >= (than.changed_at_ms ?? 0);

const shown = (order) => {
  const words = by("search").value.trim().toLowerCase();
  const text = `${order.patient} ${order.exam} ${order.doctor_name} ${order.doctor}`.toLowerCase();
  return (status === "all" || order.status === status) && text.includes(words);
};

function draw() {
  const user = who()?.user;
  if (!user) return by("rows").replaceChildren();
  by("new-order").hidden = !user.groups.includes(`ocs_doctor_${user.id}`);
  const list = [...rows.values()].filter(shown).sort((a, b) => b.ordered_at_ms - a.ordered_at_ms);
  const nothing = !isLoaded ? "Reading the orders" : rows.size ? "No order matches the filter." : user.groups.length ? "No orders yet. They appear here as doctors write them." : "You are in no group, so no order is shown. An admin can change that.";
  redraw(by("rows"), list.length ? list.map((order) => row(order, user)) : [h("tr", {}, h("td", { class: "empty", colspan: "6" }, nothing))]);
  fresh.clear();
  for (const [name, label] of Object.entries(STATUSES)) {
    const count = [...rows.values()].filter((order) => name === "all" || order.status === name).length;
    setText(by(`count-${name}`), name === "all" ? label : `${label} ${count}`);
  }
}

function row(order, user) {
  const [act, label] = NEXT[order.status] ?? [];
  const mayAct = act && user.groups.includes(`ocs_${order.service}`);
  const button = mayAct && h("button", { class: `button small${act === "accept" ? " primary" : ""}`, type: "button", "data-focus": order.id, "aria-label": `${label} ${order.exam} of ${order.patient}`, onclick: ({ currentTarget }) => advance(order, act, currentTarget) }, label);
  const ago = span(Date.now() - order.ordered_at_ms);
  return h("tr", { "data-order": order.id, "data-status": order.status, "data-new": fresh.has(order.id) },
    h("td", {}, h("b", {}, order.patient), h("span", { class: "detail wide" }, `No. ${order.id}`), h("span", { class: "detail narrow" }, order.exam)),
    h("td", { class: "wide" }, order.exam, h("span", { class: "detail" }, order.service === "ris" ? "Radiology" : "Laboratory")),
    h("td", { class: "wide" }, order.doctor_name),
    h("td", { class: "wide", title: new Date(order.ordered_at_ms).toLocaleString("en-GB") }, clock(order.ordered_at_ms).slice(0, 5), h("span", { class: "detail" }, `${ago} ago`)),
    h("td", {}, h("span", { class: "tag", "data-tone": TONES[order.status] }, STATUSES[order.status]),
      pending.has(order.id) ? h("span", { class: "detail", role: "status" }, "notice pending") : order.changed_by_name && h("span", { class: "detail" }, order.changed_by_name)),
    h("td", { class: "act" }, button || null),
  );
}

async function advance(order, act, button) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    tellSending(await call(`${order.id}/${act}/`, { method: "POST" }));
  } catch (error) {
    complain(error, error.status === 409 ? "Somebody was faster" : "Not changed");
    orders.refresh();
  }
}

/** The change is stored; whether the others have been told is another matter. */
function tellSending({ order, notice }) {
  if (notice.state === "pending") {
    pending.set(order.id, notice.id);
    toast("Stored; the notice is pending", { text: "The others are told as soon as the nodes can reach each other.", tone: "warn" });
    setTimeout(() => lookAgain(order.id, notice.id), PENDING_LOOK_MS);
  } else if (notice.state === "refused") {
    toast("Stored, but the others could not be told", { text: "An operator sees why.", tone: "bad" });
  }
  orders.upsert(order);
}

async function lookAgain(id, notice) {
  if (pending.get(id) !== notice) return;
  try {
    const { state } = await call(`notices/${notice}/`);
    if (state === "pending") throw new Error("still pending");
    pending.delete(id);
    if (state === "sent") toast("The others have been told", { tone: "good" });
    else toast("The others could not be told", { text: "An operator sees why.", tone: "bad" });
    draw();
  } catch {
    setTimeout(() => lookAgain(id, notice), PENDING_LOOK_MS);
  }
}

async function write(event) {
  event.preventDefault();
  const form = event.target;
  const exam = form.exam.value;
  const service = EXAMS.lis.includes(exam) ? "lis" : "ris";
  try {
    tellSending(await call("", { method: "POST", body: { patient: form.patient.value, exam, service } }));
    form.reset();
  } catch (error) {
    complain(error, "Not ordered");
  }
}

export const orders = {
  enter: draw,
  /** Reads the list; what another tab or node changed meanwhile is in it. */
  async refresh() {
    if (!who()?.user.menus.includes("orders")) return;
    const mine = ++asked;
    const meanwhile = (heard = new Map());
    try {
      const list = await call("");
      if (mine !== asked) return; // the answer of before: another role's, or older than what was heard since
      rows = new Map(list.map((order) => [order.id, order]));
      for (const order of meanwhile.values()) if (isNewer(order, rows.get(order.id))) rows.set(order.id, order);
      isLoaded = true;
      draw();
    } catch (error) {
      complain(error, "The orders could not be read");
    }
  },
  /** One order as it is now, unless something newer is known. */
  upsert(order) {
    if (!isNewer(order, rows.get(order.id))) return;
    rows.set(order.id, order);
    heard.set(order.id, order);
    fresh.add(order.id);
    draw();
  },
  forget() {
    asked += 1;
    rows = new Map();
    heard = new Map();
    isLoaded = false;
    pending.clear();
    draw();
  },
};

by("statuses").append(...Object.keys(STATUSES).map((name) =>
  h("label", {}, h("input", { type: "radio", name: "status", value: name, checked: name === status, onchange: () => ((status = name), draw()) }), h("span", { id: `count-${name}` }, STATUSES[name]))));
by("new-exam").append(...Object.entries(EXAMS).map(([service, exams]) => h("optgroup", { label: service === "ris" ? "Radiology" : "Laboratory" }, exams.map((exam) => h("option", {}, exam)))));
by("new-order").addEventListener("submit", write);
by("search").addEventListener("input", draw);
