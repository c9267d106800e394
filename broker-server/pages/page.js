// The dev page: topics, publishing, frames. The socket lives in connection.js.

import { Connection } from "./connection.js";

const FRAMES_KEPT = 1000;
const HISTORY_LIMIT = 50;
const $ = (id) => document.getElementById(id);
const apiKey = document.querySelector('meta[name="broker-api-key"]').content;
const connection = new Connection(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);

// ---- state --------------------------------------------------------------------------------------------------------

const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", closed: "Closed" };
let current = { state: "connecting", reason: "", retryAt: 0 };

connection.addEventListener("state", ({ detail }) => {
  current = detail;
  $("state").dataset.state = detail.state;
  $("state-word").textContent = WORDS[detail.state];
  $("retry").hidden = detail.state !== "reconnecting" && detail.state !== "closed";
  $("retry").textContent = detail.state === "closed" ? "Connect again" : "Try now";
  $("session").textContent = connection.session ?? "–";
  $("session").title = connection.session ?? "";
  $("user").textContent = detail.state === "live" ? connection.user || "anonymous" : "–";
  if (detail.state !== "live") $("round-trip").textContent = "–";
  if (detail.state === "closed" || detail.state === "reconnecting") note("closed", detail.reason);
  if (detail.state === "live") checkAge();
  countDown();
  showTopics();
});

connection.addEventListener("round-trip", ({ detail }) => {
  $("round-trip").textContent = detail.ms < 10 ? `${detail.ms.toFixed(1)} ms` : `${Math.round(detail.ms)} ms`;
});

function countDown() {
  const seconds = Math.max(0, Math.ceil((current.retryAt - Date.now()) / 1000));
  $("state-detail").textContent = {
    connecting: "",
    live: "",
    reconnecting: `in ${seconds} s: ${current.reason}`,
    closed: current.reason,
  }[current.state];
}
setInterval(countDown, 250);

$("retry").onclick = () => connection.open();
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  $("credentials").open = false;
  connection.open($("token").value.trim());
};

// ---- the page's own age -------------------------------------------------------------------------------------------

let loadedTag;
async function checkAge() {
  try {
    const tag = (await fetch("/", { method: "HEAD", cache: "no-store" })).headers.get("etag");
    loadedTag ??= tag;
    $("stale").hidden = !tag || tag === loadedTag;
  } catch { /* the next connect asks again */ }
}
$("reload").onclick = () => location.reload();

// ---- topics -------------------------------------------------------------------------------------------------------

const STORE = "broker.dev.topics";
const rows = new Map();

function remember() {
  try { sessionStorage.setItem(STORE, JSON.stringify([...connection.topics.keys()])); } catch { /* private mode */ }
}

function remembered() {
  const named = new URLSearchParams(location.search).getAll("topic");
  try { return [...new Set([...named, ...JSON.parse(sessionStorage.getItem(STORE) ?? "[]")])]; } catch { return named; }
}

/** Why a text is no topic; null: it is one. */
function wrongTopic(name) {
  if (!name) return "A topic has at least one character.";
  if (name.length > 255) return "A topic has at most 255 characters.";
  if (/[^\x21-\x7e]/.test(name)) return "A topic is printable ASCII without spaces; percent-encode the rest.";
  if (/[*>]/.test(name)) return "* and > belong to patterns; a topic is one name.";
  return null;
}

const said = (error) => `${error.message ?? error.error}${error.hint ? ` (${error.hint})` : ""}`;

async function subscribe(name) {
  const wrong = wrongTopic(name);
  $("subscribe-problem").textContent = wrong ?? "";
  if (wrong) return;
  const answer = connection.subscribe(name);
  remember();
  showTopics();
  try { await answer; } catch (error) { if (error.code) $("subscribe-problem").textContent = `${name} was refused.`; }
  showTopics();
}

async function unsubscribe(name) {
  const gone = connection.unsubscribe(name);
  remember();
  showTopics();
  try { await gone; } catch { /* the topic is gone from the list either way */ }
}

$("subscribe-form").onsubmit = (event) => {
  event.preventDefault();
  subscribe($("subscribe-topic").value.trim());
  $("subscribe-topic").value = "";
};
document.querySelector("[data-try]").onclick = (event) => subscribe(event.target.dataset.try);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function action(text, label, then) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.onclick = then;
  return made;
}

function topicRow(name) {
  const row = element("li", "topic");
  const head = element("div", "topic-head");
  const title = action(name, `Show only frames of ${name}`, () => {
    $("filter").value = $("filter").value === name ? "" : name;
    refilter();
    showTopics();
  });
  title.className = "topic-name";
  const count = element("span", "topic-count");
  head.append(title, count);
  const foot = element("div", "topic-foot");
  const position = element("span", "position");
  const leave = action("", "", () => unsubscribe(name));
  foot.append(
    position,
    action("History", `History of ${name}`, () => showHistory(name)),
    action("Presence", `Presence of ${name}: who listens`, () => showPresence(name)),
    leave,
  );
  row.append(head, foot);
  return { row, title, count, position, leave };
}

function showTopics() {
  for (const [name, { row }] of rows) {
    if (!connection.topics.has(name)) { row.remove(); rows.delete(name); }
  }
  for (const [name, topic] of connection.topics) {
    if (!rows.has(name)) {
      rows.set(name, topicRow(name));
      $("topic-list").append(rows.get(name).row);
    }
    const row = rows.get(name);
    row.title.setAttribute("aria-pressed", String($("filter").value === name));
    row.count.textContent = topic.received ? `${topic.received.toLocaleString("en")} received` : "";
    row.leave.textContent = topic.status === "refused" ? "Remove" : "Unsubscribe";
    row.leave.setAttribute("aria-label", topic.status === "refused" ? `Remove ${name}` : `Unsubscribe from ${name}`);
    row.position.className = `position ${topic.status}`;
    row.position.textContent = topic.status === "refused" ? said(topic.error) : topic.status === "waiting" ? "waiting" : topic.position ?? "no history";
    row.position.title = topic.status === "live" && topic.position ? "Position: offset@epoch of the newest publication" : "";
  }
  const count = connection.topics.size;
  $("topic-count").textContent = count ? String(count) : "";
  $("topics-empty").hidden = count > 0;
  $("known-topics").replaceChildren(...[...connection.topics.keys()].map((name) => { const option = element("option"); option.value = name; return option; }));
}

// ---- history and presence -----------------------------------------------------------------------------------------

function openSheet(title, note, body) {
  $("sheet-title").textContent = title;
  $("sheet-note").textContent = note;
  $("sheet-body").replaceChildren(...(body ? [body] : []));
  if (!$("sheet").open) $("sheet").showModal();
}

function table(heads, lines) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const text of heads) { const cell = element("th", "", text); cell.scope = "col"; head.append(cell); }
  const body = made.createTBody();
  for (const line of lines) { const row = body.insertRow(); for (const text of line) row.insertCell().textContent = text; }
  return made;
}

async function showHistory(name) {
  try {
    const answer = await connection.ask({ broker: "history", topic: name, limit: HISTORY_LIMIT, reverse: true });
    const items = answer.publications ?? [];
    const note = items.length ? `The newest ${items.length}, newest first. Top: ${answer.position ?? "unknown"}.` : "Nothing is kept.";
    const lines = items.map((item) => [item.position ?? "–", item.time ? clock(item.time) : "–", payload(item)]);
    openSheet(`History of ${name}`, note, items.length ? table(["Position", "Time", "Data"], lines) : null);
  } catch (error) {
    openSheet(`History of ${name}`, said(error));
  }
}

async function showPresence(name) {
  try {
    const answer = await connection.ask({ broker: "presence", topic: name });
    const listeners = Object.entries(answer.presence ?? {});
    const users = new Set(listeners.map(([, info]) => info.user).filter(Boolean)).size;
    const lines = listeners.map(([session, info]) => [info.user || "anonymous", session === connection.session ? `${session} (this page)` : session]);
    const anonymous = listeners.filter(([, info]) => !info.user).length;
    const note = `${listeners.length} session${listeners.length === 1 ? "" : "s"}, ${users} user${users === 1 ? "" : "s"}${anonymous ? `, ${anonymous} anonymous` : ""}.`;
    openSheet(`Who listens to ${name}`, note, lines.length ? table(["User", "Session"], lines) : null);
  } catch (error) {
    openSheet(`Who listens to ${name}`, said(error));
  }
}

const payload = (item) => ("b64data" in item ? `(binary) ${item.b64data}` : JSON.stringify(item.data));

// ---- publish ------------------------------------------------------------------------------------------------------

function dataToPublish() {
  const text = $("publish-data").value;
  try { return { data: JSON.parse(text), kind: "JSON" }; } catch { return { data: text, kind: "not JSON: goes out as a string" }; }
}

function showCurl() {
  const { data, kind } = dataToPublish();
  $("data-kind").textContent = kind;
  const body = JSON.stringify({ channel: $("publish-topic").value.trim(), data }).replaceAll("'", String.raw`'\''`);
  $("curl").textContent = `curl ${location.origin}/api/publish \\\n  -H 'X-API-Key: ${apiKey}' \\\n  -d '${body}'`;
}
$("publish-topic").oninput = $("publish-data").oninput = showCurl;

$("publish-form").onsubmit = async (event) => {
  event.preventDefault();
  const topic = $("publish-topic").value.trim();
  const wrong = wrongTopic(topic);
  $("publish-problem").textContent = wrong ?? "";
  if (wrong) return;
  try { await connection.ask({ broker: "publish", topic, data: dataToPublish().data }); } catch (error) { $("publish-problem").textContent = said(error); }
};
$("publish-data").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish-form").requestSubmit();
};
$("copy-curl").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy-curl").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("curl"));
    $("copy-curl").textContent = "Selected";
  }
  setTimeout(() => ($("copy-curl").textContent = "Copy"), 1500);
};

// ---- frames -------------------------------------------------------------------------------------------------------

let kept = [];
let fresh = [];
let paused = false;
let following = true;
let scheduled = false;

connection.addEventListener("frame", ({ detail }) => {
  const word = detail.frame?.broker;
  if (detail.direction === "in" && (word === "publication" || word === "snapshot")) pace[pace.length - 1]++;
  if (detail.direction === "in" && word === "unsubscribed") remember();
  add(detail);
});

/** A line about the connection itself. */
function note(word, text) {
  add({ direction: "", text, frame: { broker: word }, at: Date.now() });
}

function add(frame) {
  frame.word = frame.frame?.broker ?? "frame";
  frame.isPing = frame.word === "ping" || frame.word === "pong";
  fresh.push(frame);
  if (fresh.length > FRAMES_KEPT) fresh.shift();
  if (!scheduled) { scheduled = true; requestAnimationFrame(flush); }
}

function flush() {
  scheduled = false;
  showTopics();
  if (paused) return countFrames();
  const list = $("rows");
  for (const frame of fresh) {
    kept.push(frame);
    frame.row = frameRow(frame);
    frame.row.hidden = !isShown(frame);
    list.append(frame.row);
  }
  fresh = [];
  for (const old of kept.splice(0, Math.max(0, kept.length - FRAMES_KEPT))) old.row.remove();
  countFrames();
  if (following) $("log").scrollTop = $("log").scrollHeight;
}

function frameRow(frame) {
  const row = element("li");
  const details = element("details");
  const line = element("summary");
  const time = element("time", "", clock(frame.at));
  time.dateTime = new Date(frame.at).toISOString();
  const way = element("span", `way ${frame.direction}`, { in: "↓", out: "↑" }[frame.direction] ?? "·");
  way.setAttribute("aria-label", { in: "in", out: "out" }[frame.direction] ?? "connection");
  way.setAttribute("role", "img");
  const word = element("span", "word", frame.word);
  word.dataset.word = frame.word;
  const gist = element("span", "gist");
  const { broker, topic, ...rest } = frame.direction ? frame.frame ?? {} : {};
  if (topic !== undefined) gist.append(element("b", "", topic));
  gist.append(gistOf(frame, rest));
  line.append(time, way, word, gist);
  details.append(line);
  // The whole frame is laid out when somebody looks.
  details.ontoggle = () => {
    if (details.childElementCount > 1) return;
    details.append(element("pre", "", frame.direction && frame.frame ? JSON.stringify(frame.frame, null, 2) : frame.text));
  };
  row.append(details);
  return row;
}

function gistOf(frame, rest) {
  if (!frame.direction || !frame.frame) return frame.text;
  if (frame.word === "publication" || frame.word === "snapshot") return [rest.position, payload(rest)].filter(Boolean).join("  ");
  if (frame.word === "error") return [rest.error, rest.message, rest.hint].filter(Boolean).join(": ");
  const text = JSON.stringify(rest);
  return text === "{}" ? "" : text.slice(1, -1);
}

function isShown(frame) {
  if (frame.isPing && !$("pings").checked) return false;
  if ($("direction").value && frame.direction !== $("direction").value) return false;
  const wanted = $("filter").value.trim().toLowerCase();
  return !wanted || frame.text.toLowerCase().includes(wanted) || frame.word.includes(wanted);
}

function refilter() {
  for (const frame of kept) frame.row.hidden = !isShown(frame);
  countFrames();
  if (following) $("log").scrollTop = $("log").scrollHeight;
}

function countFrames() {
  const shown = kept.reduce((count, frame) => count + !frame.row.hidden, 0);
  const waiting = paused && fresh.length ? `, ${fresh.length} waiting` : "";
  $("frame-count").textContent = kept.length ? `${shown} of ${kept.length}${waiting}` : "";
  $("frames-empty").hidden = shown > 0;
  $("frames-empty").textContent = kept.length ? "No frame matches the filter." : "Frames appear here as they cross the socket.";
}

$("filter").oninput = () => { refilter(); showTopics(); };
$("direction").onchange = $("pings").onchange = refilter;
$("clear").onclick = () => { kept = []; fresh = []; $("rows").replaceChildren(); countFrames(); };
$("pause").onclick = () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  flush();
};
$("log").onscroll = () => {
  following = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 24;
  $("latest").hidden = following;
};
$("latest").onclick = () => { $("log").scrollTop = $("log").scrollHeight; };

const clock = (ms) => {
  const at = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
};

// ---- pace ---------------------------------------------------------------------------------------------------------

const pace = new Array(60).fill(0);

function showPace() {
  const highest = Math.max(4, ...pace);
  const bars = pace.map((count, index) => {
    const height = (count / highest) * 24;
    return count ? `M${index * 2} 24v${-height}h1.5v${height}z` : "";
  });
  $("pace").firstElementChild.setAttribute("d", bars.join(""));
  $("pace-label").textContent = `${pace.at(-2).toLocaleString("en")}/s`;
}
setInterval(() => { pace.push(0); pace.shift(); showPace(); }, 1000);

// ---- start --------------------------------------------------------------------------------------------------------

$("address").textContent = location.host;
showPace();
showCurl();
for (const name of remembered()) if (!wrongTopic(name)) connection.subscribe(name);
showTopics();
connection.open();
