// The alerts of a user: each shown once, however many topics bring it; the bell counts those that nobody has looked at.

import { clock, h, toast } from "/kit/page.js";
import { unseal } from "/seal.js";

const SHOWN_MAX = 60;
const RECEIPT_PAUSE_MS = 20; // receipts of one burst go in one frame
const RECEIPTS_MAX = 100;
export const PRIORITIES = ["low", "medium", "high", "critical"];
export const TONES = { low: null, medium: "info", high: "warn", critical: "bad" };
export const KINDS = { alert: "Alert", measurement: "Measurement", capability: "Capability", run_rule_violation: "Run rule" };

export const priorityTag = (priority) => h("span", { class: "tag", "data-tone": TONES[priority] }, priority);
export const levelOf = ({ priority }) => PRIORITIES.indexOf(priority) + 1;

/** The words of a notice as this browser can read them: `{ title, message, isSealed }`. */
export async function words(notice) {
  if (!notice.sealed) return { title: notice.title, message: notice.message, isSealed: false };
  const opened = await unseal(notice);
  return opened ? { ...opened, isSealed: true } : { title: "Encrypted alert", message: "This browser has not the key of the product's team: Settings, Encryption.", isSealed: true };
}

/** Events: `unread` (the count has changed), `change` (something was told or acknowledged). */
export class Alerts extends EventTarget {
  #list; #known = new Map(); #receipts = []; #timer = 0; #minLevel = 1; #muted = [];
  unread = 0;
  /** Names of products by their ids: another process may know none. */
  names = new Map();

  /** `acknowledge(id)` is asked for when somebody takes care of one; `receipt(ids)` when the page has got some. */
  constructor(list, { acknowledge, receipt }) {
    super();
    this.#list = list;
    this.acknowledge = acknowledge;
    this.receipt = receipt;
    this.reset();
  }

  reset() {
    this.#known.clear();
    this.#list.replaceChildren(this.#nothing());
    this.seen();
  }

  /** What the user wants to see; what is shown already follows. */
  prefer({ min_level, muted }) {
    this.#minLevel = min_level;
    this.#muted = muted;
    for (const { notice, item } of this.#known.values()) item.hidden = !this.#isWanted(notice);
    this.#showNothing();
  }

  /** What was told before this page was there; newest first. */
  history(alerts) {
    for (const alert of [...alerts].reverse()) this.#show(alert, false);
    this.#showNothing();
  }

  /** A frame that came; answers whether it was news. */
  hear(frame) {
    if (frame.type === "acknowledged") return this.#acknowledged(frame), false;
    if (!(frame.type in KINDS)) return false;
    this.#receive(frame.id);
    if (this.#known.has(frame.id)) return false;
    this.#show(frame, true);
    if (!this.#isWanted(frame)) return true;
    this.unread += 1;
    this.dispatchEvent(new Event("unread"));
    this.dispatchEvent(new Event("change"));
    if (levelOf(frame) >= 3 && !this.#isOnScreen()) words(frame).then(({ title, message }) => toast(title, { text: message, tone: TONES[frame.priority], ms: 8000 }));
    return true;
  }

  /** The user has looked. */
  seen() {
    this.unread = 0;
    for (const { item } of this.#known.values()) item.removeAttribute("data-unread");
    this.dispatchEvent(new Event("unread"));
  }

  /** Another key may open what is sealed. */
  reread() {
    for (const { notice, item } of this.#known.values()) if (notice.sealed) this.#write(notice, item);
  }

  /** Whoever looks at the list needs no toast before it. */
  #isOnScreen() {
    const { top, bottom, height } = this.#list.getBoundingClientRect();
    return height > 0 && top < innerHeight && bottom > 0;
  }

  #isWanted(notice) {
    return levelOf(notice) >= this.#minLevel && !this.#muted.includes(notice.product_id);
  }

  #show(notice, isNews) {
    if (this.#known.has(notice.id)) return;
    const title = h("b", { class: "title" }), message = h("p", { class: "muted small message" });
    const meta = h("span", { class: "muted small" }, `${this.names.get(notice.product_id) ?? notice.product} · ${clock(notice.at_ms)} · ${notice.by}`);
    const action = h("span", { class: "care small" });
    const item = h("li", { class: "alert", "data-id": notice.id, "data-priority": notice.priority, "data-unread": isNews },
      h("div", { class: "row spread" }, h("span", { class: "row" }, priorityTag(notice.priority), h("span", { class: "muted small" }, KINDS[notice.type]), h("span", { class: "tag sealed", hidden: true }, "encrypted")), action), title, message, meta);
    item.hidden = !this.#isWanted(notice);
    this.#known.set(notice.id, { notice, item });
    this.#care(notice, action);
    this.#write(notice, item);
    this.#list.prepend(item);
    while (this.#known.size > SHOWN_MAX) this.#forget();
    this.#showNothing();
  }

  #care(notice, action) {
    if (notice.acknowledged_by) return action.replaceChildren(h("span", { class: "muted" }, `✓ ${notice.acknowledged_by}`));
    if (!this.acknowledge) return action.replaceChildren();
    action.replaceChildren(h("button", { class: "button quiet small", type: "button", "aria-label": "Acknowledge this alert", onclick: () => this.acknowledge(notice.id) }, "Acknowledge"));
  }

  async #write(notice, item) {
    const { title, message, isSealed } = await words(notice);
    item.querySelector(".title").textContent = title;
    item.querySelector(".sealed").hidden = !isSealed;
    item.querySelector(".message").textContent = message;
  }

  #acknowledged({ id, by }) {
    const known = this.#known.get(id);
    if (known) this.#care(Object.assign(known.notice, { acknowledged_by: by }), known.item.querySelector(".care"));
    this.dispatchEvent(new Event("change"));
  }

  #receive(id) {
    if (this.#receipts.includes(id)) return;
    this.#receipts.push(id);
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.receipt(this.#receipts.splice(0, RECEIPTS_MAX));
    }, RECEIPT_PAUSE_MS);
  }

  #forget() {
    const [id, { item }] = this.#known.entries().next().value;
    item.remove();
    this.#known.delete(id);
  }

  #nothing() {
    return h("li", { class: "empty" }, h("b", {}, "Nothing to look at"), h("p", {}, "Alerts of your products appear here as they happen."));
  }

  #showNothing() {
    const isEmpty = [...this.#known.values()].every(({ item }) => item.hidden);
    const shown = this.#list.querySelector(".empty");
    if (isEmpty && !shown) this.#list.append(this.#nothing());
    if (!isEmpty) shown?.remove();
  }
}
