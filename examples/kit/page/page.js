// What every page needs besides its connection: elements, toasts, light and dark, and how times are written. No data of its own.

/**
 * Makes an element: `h("p", { class: "muted", onclick: go }, "text", child)`. Children are text or elements, never HTML, so that what users wrote is safe.
 * A property that is `null`, `undefined` or `false` is left out; `true` is an empty attribute.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Changes the text of an element only where it differs, so that a screen reader's place and a selection stay. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Draws the children of an element anew; the one with the keyboard's focus keeps it, where there is one again with the same `data-focus`. */
export function redraw(host, children) {
  const focused = host.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  host.replaceChildren(...children);
  if (focused !== undefined) host.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

const TOASTS_MAX = 4;

/** Says something in the corner for a while. `tone`: good, warn, bad, info. Errors stay until they are dismissed. Answers what takes it away. */
export function toast(title, { text = "", tone = "info", ms = tone === "bad" ? 0 : 6000 } = {}) {
  const host = document.querySelector(".toasts") ?? document.body.appendChild(h("div", { class: "toasts", role: "status", "aria-live": "polite" }));
  const dismiss = () => item.remove();
  const close = h("button", { class: "icon small", type: "button", "aria-label": "Dismiss", onclick: dismiss });
  close.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="m5.5 5.5 9 9m0-9-9 9"/></svg>';
  const item = h("div", { class: "toast", "data-tone": tone }, h("b", {}, title), text && h("p", {}, text), close);
  host.append(item);
  while (host.children.length > TOASTS_MAX) host.firstElementChild.remove();
  if (ms) setTimeout(dismiss, ms);
  return dismiss;
}

/** Lets a button switch between light and dark; what was chosen is remembered. */
export function themeButton(button) {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  button.innerHTML = '<svg viewBox="0 0 20 20" aria-hidden="true"><circle cx="10" cy="10" r="6.5"/><path d="M10 3.5a6.5 6.5 0 0 1 0 13z" fill="currentColor" stroke="none"/></svg>';
  button.setAttribute("aria-label", "Switch between light and dark");
  button.addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

/** 14:03:20 */
export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

/** 0.4 s, 12 s, 3 min, 2 h, 5 d; `–` for nothing. */
export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 9_950) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  if (ms < 119_500) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_170_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`;
}
