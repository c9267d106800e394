// One session as the page knows it: its messages in their order, who is there, who writes, how far everybody has read. No elements here.

import * as api from "/api.js";

const TYPING_MS = 5_000;

/** Event: `change`. */
export class Session extends EventTarget {
  /** Messages by their ids, oldest first; ids have no holes. */
  messages = [];
  /** Members: `{ id, name, read }`. */
  people = [];
  /** Ids of users that listen at this moment. */
  here = new Set();
  invite = "";
  #typing = new Map();
  #me;
  #filling = false;
  #subscription = null;

  constructor(me, line) {
    super();
    this.#me = me;
    this.id = line.id;
    this.update(line);
  }

  /** The line of the list: `{ title, top, read, members, last, createdAt }`. What is known already stays where it is newer. */
  update(line) {
    const known = { top: this.top ?? 0, read: this.read ?? 0, last: this.last };
    Object.assign(this, line);
    this.top = Math.max(line.top, known.top);
    this.read = Math.max(line.read, known.read);
    if ((known.last?.id ?? 0) > (line.last?.id ?? 0)) this.last = known.last;
    this.#change();
  }

  get unread() { return Math.max(0, this.top - this.read); }
  get typing() { return [...this.#typing.keys()].filter((user) => user !== this.#me.id); }
  get hasEarlier() { return (this.messages[0]?.id ?? this.top + 1) > 1; }
  get activeAt() { return this.last?.sentAt ?? this.createdAt; }
  name(user) { return this.people.find(({ id }) => id === user)?.name ?? this.messages.find((message) => message.user.id === user)?.user.name ?? "Somebody"; }

  /** Listens to the session's topic: what was missed during a break comes by itself, in order. */
  listen(client) {
    const sub = (this.#subscription = client.subscribe(`chat:${this.id}`));
    sub.on("publication", ({ data }) => this.#hear(data));
    // First of all, and again where the break was too long: the newest messages. What lies between is read from the database.
    sub.on("snapshot", ({ data }) => this.merge(data.messages));
    sub.on("subscribed", () => this.refreshPresence());
    sub.on("join", ({ user }) => this.#change(this.here.add(user)));
    sub.on("leave", ({ user }) => this.#change(this.here.delete(user)));
    sub.on("error", ({ message, hint }) => this.dispatchEvent(new CustomEvent("refused", { detail: [message, hint].filter(Boolean).join(": ") })));
  }

  async close() {
    await this.#subscription?.unsubscribe();
  }

  async refreshPresence() {
    try {
      const found = await this.#subscription.presence();
      this.here = new Set(Object.values(found).map(({ user }) => user));
      this.#change();
    } catch {
      // The connection broke; the next one asks again.
    }
  }

  async refreshDetails() {
    const { people, invite, ...line } = await api.details(this.id);
    Object.assign(this, { people, invite });
    this.update(line);
  }

  #hear(frame) {
    if (frame.type === "message") return this.merge([frame]);
    if (frame.type === "typing") {
      clearTimeout(this.#typing.get(frame.userId));
      this.#typing.set(frame.userId, setTimeout(() => this.#change(this.#typing.delete(frame.userId)), TYPING_MS));
    } else if (frame.type === "read") {
      const person = this.people.find(({ id }) => id === frame.userId);
      if (person) person.read = Math.max(person.read, frame.id);
      if (frame.userId === this.#me.id) this.read = Math.max(this.read, frame.id);
    } else if (frame.type === "member") {
      return this.refreshDetails().catch(() => {});
    }
    this.#change();
  }

  /** Takes messages, each once, whichever way they came. */
  merge(found) {
    const known = new Set(this.messages.map(({ id }) => id));
    const fresh = found.filter(({ id }) => !known.has(id));
    for (const { user, clientId, id } of found) {
      if (user.id === this.#me.id && clientId) this.dispatchEvent(new CustomEvent("confirmed", { detail: clientId }));
      if (user.id === this.#me.id) this.read = Math.max(this.read, id);
      clearTimeout(this.#typing.get(user.id));
      this.#typing.delete(user.id);
    }
    if (fresh.length === 0) return;
    this.messages = [...this.messages, ...fresh].sort((one, other) => one.id - other.id);
    this.last = this.messages.at(-1);
    this.top = Math.max(this.top, this.last.id);
    for (const { user, id } of fresh) {
      const person = this.people.find((person) => person.id === user.id);
      if (person) person.read = Math.max(person.read, id);
    }
    this.#change();
    this.#fill();
  }

  /** Reads what is missing between messages that are there. */
  async #fill() {
    if (this.#filling) return;
    this.#filling = true;
    try {
      for (;;) {
        const hole = this.messages.find(({ id }, at) => at + 1 < this.messages.length && this.messages[at + 1].id !== id + 1);
        if (!hole) return;
        const { messages } = await api.messages(this.id, { after: hole.id, limit: 200 });
        if (messages.length === 0) return;
        this.merge(messages);
      }
    } catch {
      // Without a server; the next message, or the next connection, begins again.
    } finally {
      this.#filling = false;
    }
  }

  async earlier() {
    const { messages } = await api.messages(this.id, { before: this.messages[0]?.id ?? this.top + 1, limit: 50 });
    this.merge(messages);
  }

  #change() {
    this.dispatchEvent(new Event("change"));
  }
}
