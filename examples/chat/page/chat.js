// The page: who is logged in, which session is open, one connection for all of them. What a session is lives in session.js, how one is drawn in talk.js.

import { LiveClient, showLive } from "/kit/live.js";
import { h, setText, themeButton, toast } from "/kit/page.js";
import * as api from "/api.js";
import * as dialogs from "/dialogs.js";
import { Session } from "/session.js";
import { Talk, avatar, day, time } from "/talk.js";
import { Unsent } from "/unsent.js";

const OFFLINE_AFTER_MS = 800; // a connection that is back before is not worth a word
const $ = (id) => document.getElementById(id);
const view = (name) => (document.body.dataset.view = name);

let me = null;
let live = null;
let unsent = null;
let open = null;
const sessions = new Map();

const talk = new Talk({
  send: (content) => unsent.add(open.id, content),
  retry: (clientId) => unsent.retry(clientId),
  discard: (clientId) => unsent.confirm(clientId),
  typing: () => live.client.send({ type: "typing", sessionId: open.id }).catch(() => {}),
  read: (id) => {
    const session = open;
    // Told again with the next connection, where this one is not there.
    live.client.send({ type: "read", sessionId: session.id, id }).then(() => (session.read = Math.max(session.read, id)) && drawList(), () => {});
  },
});

// ---- entry ----

const invited = () => /^\/join\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;

async function showEntry(notice = "") {
  view("entry");
  $("entry").hidden = false;
  let text = notice || (sessionStorage.getItem("notice") ?? "");
  sessionStorage.removeItem("notice");
  if (invited()) {
    try {
      const { title, members } = await api.invitation(invited());
      text = `You are invited to “${title}” (${members} ${members === 1 ? "member" : "members"}). Sign up or log in to join.`;
    } catch (failed) {
      text = [failed.message, failed.hint].filter(Boolean).join(": ");
    }
  }
  $("entry-notice").hidden = !text;
  setText($("entry-notice"), text);
  $("name").focus();
}

function isLogin() {
  return $("entry-form").elements.way.value === "login";
}

$("entry-form").addEventListener("change", () => {
  setText($("enter"), isLogin() ? "Log in" : "Sign up");
  $("password").autocomplete = isLogin() ? "current-password" : "new-password";
  $("password-hint").hidden = isLogin();
});

$("entry-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [button, problem] = [$("enter"), $("entry-problem")];
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  problem.hidden = true;
  try {
    const { user } = await (isLogin() ? api.logIn : api.signUp)($("name").value, $("password").value);
    $("password").value = "";
    await enter(user);
  } catch (failed) {
    setText(problem, [failed.message, failed.hint].filter(Boolean).join(": "));
    problem.hidden = false;
  } finally {
    button.ariaBusy = "false";
  }
});

// ---- in ----

async function enter(user) {
  me = user;
  $("entry").hidden = true;
  $("app").hidden = false;
  setText($("my-name"), me.name);
  $("my-avatar").replaceWith(Object.assign(avatar(me), { id: "my-avatar" }));
  unsent = new Unsent(me.id);
  unsent.addEventListener("change", ({ detail }) => open?.id === detail && talk.draw(unsent.of(detail)));
  unsent.addEventListener("stored", ({ detail }) => sessions.get(detail.sessionId)?.merge([detail]));
  unsent.addEventListener("refused", () => expired());
  live = new LiveClient("Chat", { url: "/ws", getToken });
  live.client.on("publication", ({ data }) => data?.type === "sessions" && refresh().catch(() => {}));
  live.client.on("error", ({ message, hint }) => toast("The server refused a frame", { text: [message, hint].filter(Boolean).join(": "), tone: "warn" }));
  live.addEventListener("live", () => {
    refresh().catch(() => {});
    unsent.go();
  });
  live.addEventListener("status", showOffline);
  showLive([live], { badge: $("live"), log: $("live-log"), banner: $("outdated") });
  view("list");
  let wanted = location.hash.slice(1);
  if (invited()) wanted = await accept(invited());
  await refresh();
  // Who comes for the first time has a session at once, and only the link to send.
  if (sessions.size === 0) wanted = (await api.createSession()).id;
  if (!sessions.has(wanted)) await refresh();
  const first = inOrder()[0];
  if (sessions.has(wanted)) await show(sessions.get(wanted));
  else if (first && matchMedia("(min-width: 761px)").matches) await show(first);
  unsent.go();
}

async function accept(code) {
  try {
    const { id } = await api.join(code);
    return id;
  } catch (failed) {
    toast("The link could not be used", { text: [failed.message, failed.hint].filter(Boolean).join(": "), tone: "bad" });
    return "";
  } finally {
    history.replaceState(null, "", "/");
  }
}

async function getToken() {
  try {
    return (await api.token()).token;
  } catch (failed) {
    if (failed.status === 401) expired();
    throw failed;
  }
}

/** The login has ended, here or elsewhere: a clean page, in which nothing of this user is left. */
function expired(notice = "You are logged out. What was not sent yet is kept until you log in again.") {
  me = null;
  sessionStorage.setItem("notice", notice);
  location.assign("/");
}

$("logout").addEventListener("click", async () => {
  try {
    await api.logOut();
    expired("");
  } catch (failed) {
    if (failed.status === 401) expired();
    else toast("Not logged out", { text: failed.message, tone: "bad" });
  }
});

// ---- sessions ----

async function refresh() {
  const { sessions: lines } = await api.sessions();
  if (!me) return;
  for (const line of lines) {
    const known = sessions.get(line.id);
    if (known) known.update(line);
    else add(line);
  }
  for (const id of sessions.keys()) {
    if (!lines.some((line) => line.id === id)) drop(id);
  }
  drawList();
  if (open) open.refreshDetails().catch(() => {});
}

function add(line) {
  const session = new Session(me, line);
  sessions.set(line.id, session);
  let top = session.top;
  session.addEventListener("change", () => {
    if (session === open) {
      if (session.top > top) talk.arrived(session.top - top);
      talk.draw(unsent.of(session.id));
    }
    top = session.top;
    drawList();
  });
  session.addEventListener("confirmed", ({ detail }) => unsent.confirm(detail));
  session.addEventListener("refused", ({ detail }) => toast(session.title, { text: detail, tone: "bad" }));
  session.listen(live.client);
}

function drop(id) {
  const session = sessions.get(id);
  sessions.delete(id);
  void session.close();
  if (open !== session) return;
  open = null;
  talk.open(me, null);
  view("list");
}

const inOrder = () => [...sessions.values()].sort((one, other) => other.activeAt - one.activeAt);

let listFrame = 0;
function drawList() {
  listFrame ||= requestAnimationFrame(() => {
    listFrame = 0;
    const list = $("sessions");
    const focused = document.activeElement?.closest?.("#sessions a")?.hash;
    list.replaceChildren(...inOrder().map(sessionRow));
    if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    const unread = inOrder().reduce((sum, session) => sum + session.unread, 0);
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${open ? `${open.title} – ` : ""}Chat`;
  });
}

function sessionRow(session) {
  const { id, title, last, unread } = session;
  const at = session.activeAt;
  const when = day(at) === "Today" ? time(at) : day(at) === "Yesterday" ? "Yesterday" : new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const said = last ? `${last.user.id === me.id ? "You" : last.user.name}: ${last.content}` : "Nothing said yet";
  return h("li", {}, h("a", { href: `#${id}`, "aria-current": session === open && "page", "data-unread": unread > 0 },
    avatar({ id, name: title }), h("span", { class: "name ellipsis" }, title), h("span", { class: "time" }, when), h("span", { class: "last ellipsis" }, said),
    unread > 0 ? h("span", { class: "count" }, unread > 99 ? "99+" : String(unread), h("span", { class: "hidden" }, " unread")) : h("span")));
}

async function show(session) {
  open = session;
  talk.open(me, session);
  talk.draw(unsent.of(session.id));
  history.replaceState(null, "", `#${session.id}`);
  view("talk");
  drawList();
  if (matchMedia("(hover: hover)").matches) $("text").focus();
  session.refreshPresence();
  await session.refreshDetails().catch(() => {});
}

$("sessions").addEventListener("click", (event) => {
  const id = event.target.closest("a")?.hash.slice(1);
  if (!id || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  void show(sessions.get(id));
});

$("back").addEventListener("click", () => {
  open = null;
  talk.open(me, null);
  history.replaceState(null, "", "/");
  view("list");
  drawList();
});

$("new").addEventListener("click", () => dialogs.newSession(async (title) => {
  try {
    const { id } = await api.createSession(title);
    await refresh();
    await show(sessions.get(id));
  } catch (failed) {
    toast("No session was made", { text: failed.message, tone: "bad" });
  }
}));

$("leave").addEventListener("click", async () => {
  if (!confirm(`Leave “${open.title}”? Others stay; you need its link to come back.`)) return;
  try {
    await api.leave(open.id);
    await refresh();
  } catch (failed) {
    toast("You are still in the session", { text: failed.message, tone: "bad" });
  }
});

for (const id of ["share", "share-first"]) $(id).addEventListener("click", () => dialogs.share(open));
$("connect").addEventListener("click", () => dialogs.connectAnother(open));
$("live").addEventListener("click", () => $("live-dialog").showModal());
$("try-now").addEventListener("click", () => {
  live.retry();
  unsent.go();
});

// ---- offline ----

let offlineTimer = 0;
function showOffline() {
  const { state, retryAt } = live.status;
  if (state === "live") {
    clearInterval(offlineTimer);
    offlineTimer = 0;
    $("offline").hidden = true;
    return;
  }
  if (offlineTimer || !me) return;
  const since = Date.now();
  offlineTimer = setInterval(() => {
    if (Date.now() - since < OFFLINE_AFTER_MS) return;
    const { retryAt: next } = live?.status ?? { retryAt };
    const seconds = next ? Math.ceil((next - Date.now()) / 1000) : 0;
    setText($("offline-text"), `No connection. What you write is kept and sent when it is back${seconds > 0 ? `; next try in ${seconds} s` : ""}.`);
    $("offline").hidden = false;
  }, 200);
}

// ---- begin ----

themeButton($("theme"));
dialogs.prepare();
try {
  await enter((await api.token()).user);
} catch (failed) {
  if (failed.status === 401) await showEntry();
  else if (failed instanceof api.Failed && !me) await showEntry("The server does not answer. Reload the page when it is back.");
  else throw failed;
}
