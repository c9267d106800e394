// The page: who is signed in, its socket, its menus, the bell and the toasts. The views live in files of their own.

import { LiveSocket, showLive } from "/kit/live.js";
import { clock, h, setText, themeButton, toast } from "/kit/page.js";
import { admin } from "/admin.js";
import { delivery } from "/delivery.js";
import { orders } from "/orders.js";
import { call, changeUser, complain, logIn, logOut, session, who } from "/session.js";

const by = (id) => document.getElementById(id);
const NAMES = { orders: "Orders", delivery: "Delivery", admin: "Users" };
const VIEWS = { orders, delivery, admin };
const PEOPLE = [["ris1", "김민수"], ["ris2", "이서연"], ["lis1", "박지훈"], ["dr_han", "한지원"], ["admin", "정다은"], ["operator", "윤태호"]];
const TOASTS_AT_ONCE = 3;
const KNOWN_MAX = 200;
const LOOK_WITHIN_MS = 250;

let live = null; // one for the life of the page; begins anew for another user
let view = null;
let looking = 0;
let known = new Map(); // notices by id, of the user of this moment

// ---- the socket ----

function connect() {
  known = new Map();
  if (live) return live.restart();
  live = new LiveSocket("Orders", "/ws/ocs/", {
    // Asked on the first connect and after a refusal: the login may have ended, and the user been changed meanwhile.
    getToken: async () => {
      const { user, ends_at_ms } = await call("me/");
      changeUser(user);
      return { token: who().token, endsAt: ends_at_ms };
    },
  });
  live.addEventListener("frame", ({ detail }) => hear(detail));
  live.addEventListener("live", catchUp);
  // The socket has other groups from here on: what was changed before it had them was not told.
  live.addEventListener("notice", ({ detail }) => detail.broker === "identity" && orders.refresh());
  showLive([live], { badge: by("live"), log: by("log"), banner: by("banner") });
}

function hear(frame) {
  if (frame?.type === "user_changed") {
    changeUser(frame.user);
    toast("An admin has changed what you may do", { text: `Role ${frame.user.role}; you hear ${frame.user.groups.join(", ") || "nothing"}`, tone: "info" });
  } else if (frame?.type === "delivery_changed") {
    lookAgain();
  } else if (frame?.notice) {
    live.send({ type: "received", notices: [frame.notice] });
    if (!notice(frame)) return;
    orders.upsert(frame.order);
    tell(frame);
  }
}

/** Who watches deliveries sees every order, and hears of none: looks again when something was told, soon but not for each. */
function lookAgain() {
  looking ||= setTimeout(() => {
    looking = 0;
    if (view === "delivery") delivery.refresh();
    else if (who()) orders.refresh();
  }, LOOK_WITHIN_MS);
}

/** A notice came, by one of the two groups or from the list; `false`: it is known. */
function notice(frame) {
  if (known.has(frame.notice)) return false;
  known.set(frame.notice, frame);
  if (known.size > KNOWN_MAX) known.delete(Math.min(...known.keys()));
  drawBell();
  return true;
}

const tell = (frame) => toast(frame.message, { text: `by ${frame.by.name}, ${clock(frame.at_ms)}`, tone: frame.type === "ocs_order_created" ? "info" : "good" });

/** Whatever was told while there was no connection: the list is read again, and so is what stands behind the bell. */
async function catchUp() {
  try {
    const isFirst = known.size === 0 && !by("bell").dataset.filled;
    changeUser((await call("me/")).user); // an admin may have changed it
    orders.refresh();
    const list = (await call("notices/")).reverse();
    const missed = list.filter(notice);
    by("bell").dataset.filled = "yes";
    if (missed.length) await call("notices/received/", { method: "POST", body: { notices: missed.map((frame) => frame.notice) } });
    if (isFirst) return;
    if (missed.length > TOASTS_AT_ONCE) toast(`${missed.length} notices while you were away`, { text: "They stand behind the bell.", tone: "info" });
    else missed.forEach(tell);
  } catch (error) {
    complain(error, "Notices could not be read");
  }
}

// ---- the bell ----

const readUpTo = () => Number(localStorage.getItem(`ocs.read.${who()?.user.id}`) ?? 0);

function drawBell() {
  const newest = [...known.values()].sort((a, b) => b.notice - a.notice);
  const unread = newest.filter((frame) => frame.notice > readUpTo()).length;
  by("unread").hidden = unread === 0;
  setText(by("unread"), unread > 99 ? "99+" : String(unread));
  by("bell").setAttribute("aria-label", unread ? `Notices, ${unread} unread` : "Notices");
  const item = (frame) => h("li", {}, h("p", { class: frame.notice > readUpTo() && "strong" }, frame.message), h("p", { class: "muted small" }, `${frame.by.name}, ${clock(frame.at_ms)}`));
  by("notice-list").replaceChildren(...(newest.length ? newest.slice(0, 30).map(item) : [h("li", { class: "muted" }, "Nothing yet. What others do with your orders is told here.")]));
}

function showNotices(isOpen) {
  if (by("notices").hidden === !isOpen) return;
  by("notices").hidden = !isOpen;
  by("bell").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) return;
  localStorage.setItem(`ocs.read.${who()?.user.id}`, String(Math.max(0, ...known.keys())));
  drawBell();
}

// ---- who, and what is shown ----

function show(name) {
  const user = who()?.user;
  const menus = user?.menus ?? [];
  const next = user ? (menus.includes(name) ? name : (menus[0] ?? "none")) : "login";
  for (const id of ["login", ...Object.keys(VIEWS)]) by(id).hidden = id !== next;
  for (const id of ["tools", "connection"]) by(id).hidden = !user;
  by("menus").hidden = menus.length < 2;
  by("menus").replaceChildren(...menus.map((menu) => h("button", { type: "button", "aria-current": menu === next && "page", onclick: () => show(menu) }, NAMES[menu] ?? menu)));
  setText(by("title"), NAMES[next] ?? "Orders");
  setText(by("subtitle"), user ? `${user.name} (${user.id}), ${user.role}` : "Hospital order communication");
  document.title = user ? `${NAMES[next] ?? "Orders"}, ${user.name}` : "Orders";
  document.body.dataset.view = next;
  document.body.dataset.user = user?.id ?? "";
  if (view !== next) VIEWS[view]?.leave?.();
  view = next;
  VIEWS[next]?.enter();
}

session.addEventListener("changed", ({ detail: { before, now, by: cause } }) => {
  by("notices").hidden = true; // not as read: they are somebody else's
  by("bell").setAttribute("aria-expanded", "false");
  delete by("bell").dataset.filled;
  document.querySelectorAll(".toast").forEach((item) => item.remove());
  known = new Map();
  for (const one of Object.values(VIEWS)) one.forget?.();
  const name = ({ user }) => `${user.name} (${user.id})`;
  const moved = { tab: now ? `Signed in as ${name(now)} in another tab. This tab has followed.` : "Signed out in another tab.", server: now ? `This tab is now ${name(now)}.` : "This login has ended: signed out elsewhere, or its time is over." }[cause];
  by("moved").hidden = !moved;
  setText(by("moved"), moved ?? "");
  if (now) connect();
  else live?.close(before ? "signed out" : "nobody is signed in");
  drawBell();
  show("orders");
});
session.addEventListener("user", () => {
  orders.forget();
  orders.refresh();
  show(view);
});

by("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  await signIn(form.user.value.trim(), form.password.value);
});

async function signIn(user, password) {
  by("login-problem").hidden = true;
  try {
    await logIn(user, password);
    by("login-form").reset();
  } catch (error) {
    by("login-problem").hidden = false;
    setText(by("login-problem"), `Not signed in: ${error.message}.`);
  }
}

by("people").append(...PEOPLE.map(([id, name]) => h("button", { class: "button small", type: "button", onclick: () => signIn(id, "demo") }, id, h("span", { class: "muted" }, name))));
by("sign-out").addEventListener("click", async () => {
  try {
    await logOut();
  } catch (error) {
    complain(error, "Not signed out");
  }
});
by("bell").addEventListener("click", () => showNotices(by("notices").hidden));
addEventListener("keydown", ({ key }) => key === "Escape" && showNotices(false));
addEventListener("click", ({ target }) => target.closest(".anchor") || showNotices(false));
document.querySelectorAll(".theme").forEach(themeButton);

if (who()) connect();
drawBell();
show("orders");
