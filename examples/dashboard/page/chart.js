// Values over time, drawn as SVG: lines or candles, with axes, a cursor and a key. No data of its own.

const SVG = "http://www.w3.org/2000/svg";
const GAP_MS = 12_000; // nothing was read for so long: the line is interrupted

/** One point: [time in ms, first value, second value?] */
const time = (point) => point[0];

export function svg(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Runs of points without an interruption. */
function runs(points) {
  const found = [];
  for (const point of points) {
    const run = found.at(-1);
    if (run && time(point) - time(run.at(-1)) <= GAP_MS) run.push(point);
    else found.push([point]);
  }
  return found;
}

function paths(points, column, x, y, bottom) {
  let line = "";
  let area = "";
  for (const run of runs(points)) {
    const steps = run.map((point) => `${x(time(point)).toFixed(1)},${y(point[column]).toFixed(1)}`);
    line += `M${steps.join("L")}`;
    area += `M${x(time(run[0])).toFixed(1)},${bottom}L${steps.join("L")}L${x(time(run.at(-1))).toFixed(1)},${bottom}Z`;
  }
  return { line, area };
}

/** A small line without axes, as high as its values. */
export function sparkline(host, points) {
  const { width, height } = host.getBoundingClientRect();
  if (!width || !points.length) return;
  if (points.length < 2) points = [[points[0][0] - 1, points[0][1]], points[0]];
  const values = points.map((point) => point[1]);
  const least = Math.min(...values), most = Math.max(...values, least + 1e-9);
  const x = (at) => ((at - time(points[0])) / (time(points.at(-1)) - time(points[0]))) * width;
  const y = (value) => height - 2 - ((value - least) / (most - least)) * (height - 6);
  const { line, area } = paths(points, 1, x, y, height);
  host.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }));
  host.firstChild.append(svg("path", { class: "area", d: area }), svg("path", { class: "stroke", d: line, "stroke-width": 1.5 }));
}

/** A round number that is at least `value`: 1, 2, 2.5 or 5 times a power of the base. */
export function roundUp(value, least) {
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= wanted * 0.999);
  return step * power;
}

/** A body from open to close, a line from low to high: green up, red down. */
function candles(points, box, candleMs) {
  const width = Math.max(2, Math.min(12, (box.x(candleMs) - box.x(0)) * 0.7));
  return points.flatMap(([at, close, open, high, low]) => {
    const x = Math.round(box.x(at + candleMs / 2)), tone = close >= open ? "up" : "down";
    const top = box.y(Math.max(open, close)), height = Math.max(1.5, Math.abs(box.y(open) - box.y(close)));
    return [svg("line", { class: tone, x1: x, x2: x, y1: box.y(high), y2: box.y(low) }), svg("rect", { class: tone, x: x - width / 2, y: top, width, height, rx: 1 })];
  });
}

/** Moments to name under an axis of this length, as times before its end. */
function marks(spanMs, width) {
  const step = [15_000, 30_000, 60_000, 120_000].find((step) => spanMs / step <= Math.max(2, width / 110));
  const found = [];
  for (let at = step; at <= spanMs * 1.001; at += step) found.push(at);
  return found;
}

/** The large chart. */
export class Chart {
  #host;
  #announce;
  #tip = document.createElement("div");
  #view = null;
  #cursorAt = null; // time under the cursor

  /** `announce(text)`: says what is under the cursor to those who do not see it. */
  constructor(host, announce) {
    this.#host = host;
    this.#announce = announce;
    this.#tip.className = "tip";
    this.#tip.hidden = true;
    new ResizeObserver(() => this.#draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.#point(event.clientX - host.getBoundingClientRect().left));
    host.addEventListener("pointerleave", () => this.#leave());
    host.addEventListener("blur", () => this.#leave());
    host.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * `view`: `points`, `from`, `to`, `least`, `most`, `series` (names), `format(value)`. With `candleMs` the points are
   * `[time, close, open, high, low]`, one candle each.
   */
  show(view) {
    this.#view = view;
    this.#draw();
  }

  #frame() {
    const { width, height } = this.#host.getBoundingClientRect();
    const { from, to, least = 0, most, format } = this.#view;
    const longest = Math.max(...[0, 0.5, 1].map((share) => format(least + (most - least) * share).length));
    const left = 16 + 7 * longest, right = width - 8, top = 8, bottom = height - 24;
    return {
      width, height, left, right, top, bottom,
      x: (at) => left + ((at - from) / (to - from)) * (right - left),
      y: (value) => bottom - ((Math.min(value, most) - least) / (most - least)) * (bottom - top),
    };
  }

  #draw() {
    if (!this.#view || !this.#host.clientWidth) return;
    const { points, from, to, least = 0, most, series, format, candleMs } = this.#view;
    const box = this.#frame();
    const root = svg("svg", { viewBox: `0 0 ${box.width} ${box.height}`, "aria-hidden": "true" });
    for (let step = 0; step <= 4; step += 1) {
      const value = least + ((most - least) / 4) * step;
      const y = Math.round(box.y(value)) + 0.5;
      root.append(svg("line", { class: "line", x1: box.left, x2: box.right, y1: y, y2: y }));
      if (step % 2 === 0) root.append(svg("text", { class: "axis", x: box.left - 10, y: y + 4, "text-anchor": "end" }, format(value)));
    }
    for (const at of marks(to - from, box.width)) {
      const x = box.x(to - at);
      const anchor = x < box.left + 16 ? "start" : "middle";
      root.append(svg("text", { class: "axis", x, y: box.height - 4, "text-anchor": anchor }, `−${at < 60_000 ? `${at / 1000} s` : `${at / 60_000} min`}`));
    }
    root.append(svg("text", { class: "axis", x: box.right, y: box.height - 4, "text-anchor": "end" }, "now"));

    const seen = points.filter((point) => time(point) >= from);
    if (seen.length < 2) {
      root.append(svg("text", { class: "nothing", x: (box.left + box.right) / 2, y: box.top + (box.bottom - box.top) * 0.39 }, "The line begins with the next numbers"));
    }
    const ranks = ["first", "second"];
    if (candleMs) root.append(...candles(seen, box, candleMs));
    else series.forEach((_, index) => {
      const { line, area } = paths(seen, index + 1, box.x, box.y, box.bottom);
      root.append(svg("path", { class: `area ${ranks[index]}`, d: area }), svg("path", { class: `stroke ${ranks[index]}`, d: line }));
    });
    const under = this.#cursorAt === null ? seen.at(-1) : this.#nearest(seen);
    if (under && this.#cursorAt !== null) {
      root.append(svg("line", { class: "cursor", x1: box.x(time(under)), x2: box.x(time(under)), y1: box.top, y2: box.bottom }));
    }
    if (under && !candleMs) {
      series.forEach((_, index) => root.append(svg("circle", { class: `point ${ranks[index]}`, cx: box.x(time(under)), cy: box.y(under[index + 1]), r: 4.5 })));
    }
    this.#host.replaceChildren(root, this.#tip);
    this.#describe(seen);
    this.#showTip(this.#cursorAt === null ? null : under, box);
  }

  #describe(seen) {
    const { series, format, title } = this.#view;
    const parts = series.map((name, index) => {
      const values = seen.map((point) => point[index + 1]);
      if (!values.length) return `${name}: nothing yet`;
      return `${name} ${format(values.at(-1))} now, between ${format(Math.min(...values))} and ${format(Math.max(...values))}`;
    });
    this.#host.setAttribute("aria-label", `${title}. ${parts.join("; ")}. Left and right arrow keys read single moments.`);
  }

  #nearest(seen) {
    let best = null;
    for (const point of seen) {
      if (!best || Math.abs(time(point) - this.#cursorAt) < Math.abs(time(best) - this.#cursorAt)) best = point;
    }
    return best;
  }

  #showTip(point, box) {
    this.#tip.hidden = !point;
    if (!point) return;
    const { series, format } = this.#view;
    const when = document.createElement("strong");
    when.textContent = new Date(time(point)).toLocaleTimeString("en-GB");
    this.#tip.replaceChildren(when);
    series.forEach((name, index) => {
      const row = document.createElement("div");
      const key = document.createElement("span");
      key.className = index ? "key second" : "key";
      row.append(key, `${name} ${format(point[index + 1])}`);
      this.#tip.append(row);
    });
    const x = box.x(time(point));
    const width = this.#tip.offsetWidth;
    const left = x + 14 + width > box.right ? x - 14 - width : x + 14;
    this.#tip.style.transform = `translate(${Math.max(0, left)}px, ${box.top}px)`;
  }

  #point(pixel) {
    if (!this.#view) return;
    const box = this.#frame();
    const { from, to } = this.#view;
    this.#cursorAt = from + ((pixel - box.left) / (box.right - box.left)) * (to - from);
    this.#draw();
  }

  #leave() {
    if (this.#cursorAt === null) return;
    this.#cursorAt = null;
    this.#draw();
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") return this.#leave();
    if (step === undefined || !this.#view) return;
    const seen = this.#view.points.filter((point) => time(point) >= this.#view.from);
    if (!seen.length) return;
    event.preventDefault();
    const current = this.#cursorAt === null ? seen.length : seen.indexOf(this.#nearest(seen));
    const next = seen[Math.max(0, Math.min(seen.length - 1, current + step))];
    this.#cursorAt = time(next);
    this.#draw();
    const { series, format } = this.#view;
    const values = series.map((name, index) => `${name} ${format(next[index + 1])}`);
    this.#announce(`${new Date(time(next)).toLocaleTimeString("en-GB")}: ${values.join(", ")}`);
  }
}
