// The dialogs: a new session, share, connect another client, the connection's log.

import { h, toast } from "/kit/page.js";
import { Failed, ticket } from "/api.js";
import { avatar } from "/talk.js";

const $ = (id) => document.getElementById(id);

/** Lets every dialog close by its buttons and by a click beside it, and every copy button copy. */
export function prepare() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy($(button.dataset.copy), button));
  }
  $("ticket-new").addEventListener("click", () => void renewTicket());
  $("connect-dialog").addEventListener("close", () => clearInterval(counting));
}

async function copy(input, button) {
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    // Without the right to the clipboard, what is selected can be copied by hand.
    return toast("Copy it by hand", { text: "The browser does not let the page write to the clipboard. The text is selected.", tone: "warn" });
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

export function newSession(create) {
  $("session-title").value = "";
  $("new-form").onsubmit = () => {
    const title = $("session-title").value.trim();
    if (title) create(title);
  };
  $("new-dialog").showModal();
}

export async function share(session) {
  $("share-link").value = session.invite ? `${location.origin}/join/${session.invite}` : "";
  $("members").replaceChildren(...session.people.map((person) => h("li", {}, avatar(person, "small"), h("span", { class: "grow ellipsis" }, person.name), session.here.has(person.id) && h("span", { class: "small here" }, "here now"))));
  $("share-dialog").showModal();
  $("share-link").select();
}

let counting = 0;
let connecting = null;

export async function connectAnother(session) {
  connecting = session;
  $("connect-dialog").showModal();
  await renewTicket();
}

/** A ticket opens one connection within its time. The page says how much is left. */
async function renewTicket() {
  clearInterval(counting);
  const [url, command, left] = [$("ticket-url"), $("ticket-command"), $("ticket-left")];
  url.value = command.value = "";
  left.textContent = "Asking for a ticket…";
  try {
    const { path, holdsMs } = await ticket(connecting.id);
    url.value = `${location.origin.replace(/^http/, "ws")}${path}`;
    command.value = `python -m websockets '${url.value}'`;
    const until = Date.now() + holdsMs;
    const count = () => {
      const seconds = Math.ceil((until - Date.now()) / 1000);
      left.textContent = seconds > 0 ? `It holds for ${seconds} s, and once.` : "It is too old: take a new ticket.";
      if (seconds <= 0) clearInterval(counting);
    };
    count();
    counting = setInterval(count, 500);
  } catch (failed) {
    if (!(failed instanceof Failed)) throw failed;
    left.textContent = `There is no ticket: ${failed.message}.`;
  }
}
