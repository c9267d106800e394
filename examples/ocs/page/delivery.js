// What became of each notice: who should have got it, who did and when, and why not. Looks again when told to, and every few seconds.

import { clock, h, redraw, span, toast } from "/kit/page.js";
import { call, complain } from "/session.js";

const by = (id) => document.getElementById(id);
const LOOK_MS = 3000;
const STATES = { pending: ["Pending", "warn"], sent: ["Sent", "good"], refused: ["Refused", "bad"] };

let timer = 0;
let isLooking = false;
let wantsMore = false;
let drawn = ""; // what is shown, but for the time
let isTold = false; // that deliveries cannot be read: once, not every few seconds
const open = new Set(); // notices whose recipients are shown

const figure = (label, value, detail, tone = null) =>
  h("div", { class: "card figure" }, h("div", { class: "label" }, label), h("div", { class: "value" }, h("b", {}, value)), h("div", { class: "detail", "data-tone": tone }, detail));

function figures({ outbox, redis, nodes, nodes_known: nodesKnown }) {
  const waits = outbox.pending ? `oldest ${span(outbox.oldest_ms)}` : "everything is sent";
  const people = nodes.map((node) => `${node.name}: ${node.sessions}`).join(", ");
  const isBroken = redis?.length > 0;
  return [
    figure("In the outbox", String(outbox.pending), waits, outbox.pending ? "warn" : null),
    figure("Between the nodes", redis === null ? "None" : isBroken ? "Down" : "Up", redis === null ? "one node needs no Redis" : isBroken ? redis[0] : "Redis answers", isBroken ? "bad" : null),
    figure("Nodes", nodesKnown > nodes.length ? `${nodes.length} of ${nodesKnown}` : String(nodes.length), people ? `open pages: ${people}` : "no node answers"),
    h("div", { class: "card figure" }, h("div", { class: "label" }, "Refused for good"), h("div", { class: "value" }, h("b", {}, String(outbox.refused))),
      outbox.refused ? h("button", { class: "button small", type: "button", "data-focus": "retry", onclick: retry }, "Try again") : h("div", { class: "detail" }, "nothing was put aside")),
  ];
}

async function retry() {
  try {
    const { retried } = await call("delivery/retry/", { method: "POST" });
    toast(`${retried} tried again`, { tone: "info" });
    delivery.refresh();
  } catch (error) {
    complain(error);
  }
}

function card(notice) {
  const [label, tone] = STATES[notice.state];
  const had = notice.recipients.filter((one) => one.received_at_ms !== null).length;
  const item = h("details", { class: "card notice", "data-notice": notice.notice, "data-state": notice.state, open: open.has(notice.notice) },
    h("summary", { "data-focus": notice.notice },
      h("span", { class: "tag", "data-tone": tone }, label),
      h("b", {}, notice.message),
      h("span", { class: "muted" }, `by ${notice.actor}, ${clock(notice.at_ms)}`),
      h("span", { class: "muted" }, `received by ${had} of ${notice.recipients.length}`)),
    h("div", { class: "stack tight" },
      notice.why && h("p", { class: "muted" }, `The outbox says: ${notice.why}`),
      h("div", { class: "table" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Who", "Received", "Node", "Why not"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, notice.recipients.length ? notice.recipients.map((one) => recipient(one, notice)) : h("tr", {}, h("td", { class: "empty", colspan: "4" }, "Nobody but the one who did it is in these groups.")))))),
  );
  item.addEventListener("toggle", () => (item.open ? open.add(notice.notice) : open.delete(notice.notice)));
  return item;
}

function recipient(one, notice) {
  const after = one.received_at_ms === null ? null : span(one.received_at_ms - notice.at_ms);
  return h("tr", { "data-recipient": one.user, "data-how": one.how ?? "none" },
    h("td", {}, h("b", {}, one.name), h("span", { class: "detail" }, one.user)),
    h("td", {}, one.received_at_ms === null ? h("span", { class: "tag", "data-tone": "warn" }, "No") : h("span", { class: "tag", "data-tone": one.how === "live" ? "good" : "info" }, one.how === "live" ? "Live" : "Later"),
      after && h("span", { class: "detail" }, `${clock(one.received_at_ms)}, after ${after}`)),
    h("td", {}, one.node ?? "–"),
    h("td", { class: "why" }, one.why_not ?? "–"));
}

export const delivery = {
  enter() {
    clearInterval(timer);
    timer = setInterval(() => document.visibilityState === "visible" && delivery.refresh(), LOOK_MS);
    delivery.refresh();
  },
  leave: () => clearInterval(timer),
  async refresh() {
    wantsMore = isLooking;
    if (isLooking) return;
    isLooking = true;
    try {
      const report = await call("delivery/");
      isTold = false;
      redraw(by("figures"), figures(report));
      const now = JSON.stringify(report.notices);
      if (now === drawn) return;
      drawn = now;
      const nothing = h("div", { class: "card empty" }, h("b", {}, "No notices yet"), h("p", {}, "When somebody accepts an order, it stands here who was told."));
      redraw(by("deliveries"), report.notices.length ? report.notices.map(card) : [nothing]);
    } catch (error) {
      if (!isTold) complain(error, "Deliveries could not be read");
      isTold = true;
    } finally {
      isLooking = false;
      if (wantsMore) delivery.refresh();
    }
  },
  forget() {
    clearInterval(timer);
    open.clear();
    drawn = "";
    isTold = false;
    by("figures").replaceChildren();
    by("deliveries").replaceChildren();
  },
};
