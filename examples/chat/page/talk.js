// The conversation that is open: bubbles, days, what is unread, who writes. Draws what a session and the unsent messages say.

import { h, setText } from "/kit/page.js";

const GROUP_MS = 5 * 60_000; // messages of one person within this time belong together
const AT_END_PX = 80;
const TYPING_EVERY_MS = 3_000;
const $ = (id) => document.getElementById(id);

const ICONS = {
  sending: "M8 4v4l2.5 1.5M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z",
  waiting: "M8 4v4l2.5 1.5M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z",
  sent: "m3 8.5 3.5 3.5L13 5",
  seen: "m1 8.5 3.5 3.5L11 5m-3.5 6 1 1L15 5",
  failed: "M8 4.5v4M8 11.5v.01M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z",
};
const STATES = { sending: "Sending", waiting: "Waiting for the connection", sent: "Sent", seen: "Seen", failed: "Not sent" };

const hue = (id) => [...id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7) % 8;

/** The letters of a name in a circle. */
export function avatar({ id, name }, kind = "") {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [...words[0]][0] + [...words.at(-1)][0] : [...name.trim()][0];
  return h("span", { class: `avatar ${kind}`, "data-hue": hue(id), "aria-hidden": "true", title: name }, letters.toUpperCase());
}

export const time = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const dayOf = (at) => new Date(at).toDateString();
export function day(at) {
  const [then, today, yesterday] = [dayOf(at), dayOf(Date.now()), dayOf(Date.now() - 86_400_000)];
  if (then === today) return "Today";
  if (then === yesterday) return "Yesterday";
  return new Date(at).toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

function icon(state) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  svg.firstChild.setAttribute("d", ICONS[state]);
  return svg;
}

/** `actions`: `{ retry(clientId), discard(clientId), send(content), typing(), read(id), isLive() }`. */
export class Talk {
  #me;
  #actions;
  #session = null;
  #unsent = [];
  #drawn = new Map(); // elements by what they show, so that a screen reader hears of each once
  #unreadFrom = 0;
  #atEnd = true;
  #missed = 0;
  #typedAt = 0;
  #frame = 0;

  constructor(actions) {
    this.#actions = actions;
    const [scroll, text] = [$("scroll"), $("text")];
    scroll.addEventListener("scroll", () => {
      this.#atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < AT_END_PX;
      if (this.#atEnd) this.#seen();
    }, { passive: true });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(scroll);
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("focus", () => this.#seen());
    $("jump").addEventListener("click", () => { this.#toEnd(); text.focus(); });
    $("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      const content = text.value;
      if (!content.trim() || !this.#session) return text.focus();
      text.value = "";
      this.#typedAt = 0;
      this.#atEnd = true;
      actions.send(content);
      // At once, not with the next picture: whoever writes sees it before the server does.
      this.#drawNow();
      text.focus();
    });
    text.addEventListener("keydown", (event) => {
      // While a Korean syllable is put together, Enter ends the syllable and not the message.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $("compose").requestSubmit();
    });
    text.addEventListener("input", () => {
      if (!text.value.trim() || Date.now() - this.#typedAt < TYPING_EVERY_MS) return;
      this.#typedAt = Date.now();
      actions.typing();
    });
    $("earlier").addEventListener("click", () => this.#showEarlier());
  }

  /** Shows this session; `null`: none. */
  open(me, session) {
    this.#me = me;
    this.#session = session;
    this.#drawn.clear();
    this.#missed = 0;
    this.#atEnd = true;
    this.#unreadFrom = session && session.unread > 0 ? session.read : 0;
    $("messages").replaceChildren();
    $("text").value = "";
    this.draw([]);
  }

  /** Draws soon: many changes, one picture. */
  draw(unsent = this.#unsent) {
    this.#unsent = unsent;
    this.#frame ||= requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#session) this.#draw();
  }

  #draw() {
    const session = this.#session;
    setText($("title"), session.title);
    const here = session.people.filter(({ id }) => session.here.has(id));
    const others = here.filter(({ id }) => id !== this.#me.id);
    setText($("presence"), `${session.members} ${session.members === 1 ? "member" : "members"}${others.length ? ` · ${others.length === 1 ? others[0].name : `${others.length} others`} here now` : ""}`);
    const shown = others.slice(0, 4).map((person) => h("li", {}, avatar(person, "small"), h("span", { class: "hidden" }, person.name)));
    const more = others.length > 4 && h("li", {}, h("span", { class: "avatar small more" }, `+${others.length - 4}`));
    $("faces").replaceChildren(...shown, ...(more ? [more] : []));
    const typing = session.typing.map((user) => session.name(user));
    setText($("typing"), typing.length === 0 ? "" : typing.length === 1 ? `${typing[0]} is writing…` : typing.length === 2 ? `${typing.join(" and ")} are writing…` : "Several people are writing…");
    $("earlier").hidden = !session.hasEarlier || session.messages.length === 0;
    $("nothing").hidden = session.top > 0 || this.#unsent.length > 0;
    this.#drawMessages();
    if (this.#atEnd) this.#toEnd();
    $("jump").hidden = this.#atEnd || this.#missed === 0;
    setText($("jump"), `${this.#missed} new ↓`);
  }

  #drawMessages() {
    const session = this.#session;
    const seen = Math.max(0, ...session.people.filter(({ id }) => id !== this.#me.id).map(({ read }) => read));
    const mine = this.#unsent.map((entry) => ({ key: entry.clientId, user: this.#me, content: entry.content, sentAt: entry.at, state: entry.state, why: entry.why, clientId: entry.clientId }));
    const stored = session.messages.map((message) => ({ ...message, key: message.clientId ?? `#${message.id}`, state: message.id <= seen ? "seen" : "sent" }));
    const keep = new Map();
    const rows = [];
    const put = (key, signature, make) => {
      const known = this.#drawn.get(key);
      const element = known?.signature === signature ? known.element : make(known?.element);
      keep.set(key, { signature, element });
      rows.push(element);
    };
    let before = null;
    for (const item of [...stored, ...mine]) {
      const isNewDay = !before || dayOf(before.sentAt) !== dayOf(item.sentAt);
      if (isNewDay) put(`day ${dayOf(item.sentAt)}`, day(item.sentAt), () => h("li", { class: "day" }, h("time", {}, day(item.sentAt))));
      const isUnread = this.#unreadFrom > 0 && before?.id === this.#unreadFrom && item.user.id !== this.#me.id;
      if (isUnread) put("unread", "unread", () => h("li", { class: "unread" }, "New messages"));
      const isFirst = isNewDay || isUnread || before.user.id !== item.user.id || item.sentAt - before.sentAt > GROUP_MS;
      const isMine = item.user.id === this.#me.id;
      const signature = `${isFirst} ${isMine && item.state} ${item.why ?? ""} ${item.id ?? ""}`;
      put(`${item.user.id} ${item.key}`, signature, (old) => this.#row(item, isFirst, isMine, old));
      before = item;
    }
    const list = $("messages");
    this.#drawn = keep;
    // Only what differs is moved: focus, selection and what is read aloud stay.
    rows.forEach((row, at) => list.children[at] !== row && list.insertBefore(row, list.children[at] ?? null));
    while (list.children.length > rows.length) list.lastChild.remove();
  }

  #row(item, isFirst, isMine, old) {
    const state = isMine ? [icon(item.state), h("span", { class: "hidden" }, STATES[item.state])] : [];
    const bubble = h("div", { class: "bubble" }, h("span", { class: "text" }, item.content), h("span", { class: "meta" }, h("time", {}, time(item.sentAt)), ...state));
    const failure = item.state === "failed" && h("div", { class: "failure" }, h("span", {}, item.why),
      h("button", { class: "button quiet", type: "button", onclick: () => this.#actions.retry(item.clientId) }, "Try again"),
      h("button", { class: "button quiet", type: "button", onclick: () => this.#actions.discard(item.clientId) }, "Discard"));
    const who = isFirst && !isMine ? h("p", { class: "who" }, item.user.name) : h("span", { class: "hidden" }, `${isMine ? "You" : item.user.name}: `);
    const face = isMine ? null : isFirst ? avatar(item.user, "small") : h("span", { class: "gap" });
    const parts = [face, h("div", { class: "body" }, who, bubble, failure)].filter(Boolean);
    // The same bubble goes from sending to sent: it is not put in again, and not read aloud again.
    const row = old ?? h("li");
    row.className = `said${isMine ? " mine" : ""}`;
    row.dataset.state = isMine ? item.state : "";
    row.dataset.id = item.id ?? "";
    row.toggleAttribute("data-first", isFirst);
    row.replaceChildren(...parts);
    return row;
  }

  /** Something came: what is not on the screen is counted. */
  arrived(count) {
    if (!this.#atEnd) this.#missed += count;
    this.#seen();
  }

  #toEnd() {
    const scroll = $("scroll");
    scroll.scrollTop = scroll.scrollHeight;
    this.#atEnd = true;
    $("jump").hidden = true;
    this.#seen();
  }

  /** What stands at the end of the list, and is looked at, is read. */
  #seen() {
    if (this.#atEnd) this.#missed = 0;
    if (!this.#session || !this.#atEnd || document.visibilityState !== "visible" || !document.hasFocus()) return;
    if (this.#session.unread > 0 && this.#session.messages.at(-1)?.id === this.#session.top) this.#actions.read(this.#session.top);
  }

  async #showEarlier() {
    const [scroll, button] = [$("scroll"), $("earlier")];
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    button.setAttribute("aria-busy", "true");
    this.#atEnd = false;
    try {
      await this.#session.earlier();
      this.#drawNow();
      scroll.scrollTop = scroll.scrollHeight - fromEnd;
    } catch {
      // The banner says that there is no connection.
    }
    button.removeAttribute("aria-busy");
  }
}
