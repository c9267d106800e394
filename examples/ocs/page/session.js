// Who this tab is. Tabs of a browser share one login; each keeps in memory who it is, and a change in another tab moves it as a whole: never half.

import { toast } from "/kit/page.js";

const KEY = "ocs.login";

const read = () => JSON.parse(localStorage.getItem(KEY) ?? "null");

let current = read(); // { token, ends_at_ms, user }

/** Events: `changed` (`detail`: `{ before, now, by }`, `by`: here, tab, server), `user` (the same login, but its user was changed). */
export const session = new EventTarget();

export const who = () => current;

/** An answer for somebody who this tab is no more. */
export class Superseded extends Error {}

function become(next, by) {
  if (current?.token === next?.token) return;
  const before = current;
  current = next;
  session.dispatchEvent(new CustomEvent("changed", { detail: { before, now: next, by } }));
}

addEventListener("storage", ({ key }) => (key === KEY || key === null) && become(read(), "tab"));

/** Calls the API in the name of who this tab is. Throws what the server says, or `Superseded`. */
export async function call(path, { method = "GET", body } = {}) {
  const mine = current;
  const headers = { ...(mine && { Authorization: `Bearer ${mine.token}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(`/api/ocs/${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("the server cannot be reached");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (mine !== current) throw new Superseded();
  if (response.ok) return answer;
  // The login has ended: another tab may know a newer one.
  if (response.status === 401 && mine && path !== "login/") {
    ended(mine);
    throw new Superseded();
  }
  throw Object.assign(new Error(answer?.error?.message ?? `the server answered ${response.status}`), { status: response.status, word: answer?.error?.error });
}

function ended(mine) {
  if (read()?.token === mine.token) localStorage.removeItem(KEY);
  become(read(), "server");
}

export async function logIn(user, password) {
  const login = await call("login/", { method: "POST", body: { user, password } });
  localStorage.setItem(KEY, JSON.stringify(login));
  become(login, "here");
}

/** The server's act: where it cannot be reached, nobody is signed out. */
export async function logOut() {
  await call("logout/", { method: "POST" });
  localStorage.removeItem(KEY);
  become(null, "here");
}

/** The user of this login is another than before: role, menus, groups. */
export function changeUser(user) {
  if (!current || JSON.stringify(current.user) === JSON.stringify(user)) return;
  current = Object.assign(current, { user });
  if (read()?.token === current.token) localStorage.setItem(KEY, JSON.stringify(current));
  session.dispatchEvent(new Event("user"));
}

/** What went wrong, said to the user; answers to somebody else are nobody's business. */
export function complain(error, title = "That did not work") {
  if (!(error instanceof Superseded)) toast(title, { text: error.message, tone: "bad" });
}
