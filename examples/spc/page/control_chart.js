// A control chart: points with centre, zones and limits, broken rules marked, ranges below; live. Draws what it is given and asks nobody.

import { clock, h } from "/kit/page.js";

/** An element of a drawing. */
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** As many digits as the spread of a product deserves. */
export const digits = (product) => Math.max(0, Math.min(4, Math.ceil(1 - Math.log10(product.sigma || 1))));

const ALL_MAX = 240; // points that are kept
const STEP = 9; // pixels between points, at least
const TOP = 14, RIGHT = 84, BOTTOM = 20, LEFT = 8, GAP = 30;
const RANGES = 0.24; // share of the height

export class ControlChart {
  #host; #tip; #chart = null; #points = []; #at = null;

  constructor(host) {
    this.#host = host;
    this.#tip = h("div", { class: "tip", hidden: true });
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    new ResizeObserver(() => this.#draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.#point((event.clientX - host.getBoundingClientRect().left - LEFT) / this.#step()));
    for (const type of ["pointerleave", "blur"]) host.addEventListener(type, () => this.#point(null));
    host.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (steps === undefined) return;
      event.preventDefault();
      this.#point((this.#at ?? this.#shown().length - 1) + steps);
    });
  }

  /** Another product, or its whole state again. */
  set(chart) {
    this.#chart = chart;
    this.#points = chart ? [...chart.points] : [];
    this.#at = null;
    this.#draw();
  }

  /** One more point; one that is known is passed over. */
  add(point) {
    if (!this.#chart || point.id <= (this.#points.at(-1)?.id ?? 0)) return;
    this.#points.push(point);
    if (this.#points.length > ALL_MAX) this.#points.shift();
    if (this.#at !== null) this.#at -= 1;
    this.#draw();
  }

  get points() {
    return this.#points;
  }

  #shown() {
    const room = this.#host.clientWidth - LEFT - RIGHT;
    return this.#points.slice(-Math.max(12, Math.floor(room / STEP)));
  }

  #step() {
    return (this.#host.clientWidth - LEFT - RIGHT) / Math.max(1, this.#shown().length - 1);
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#host;
    const points = this.#shown();
    if (!this.#chart || width === 0 || points.length === 0) return this.#host.replaceChildren(this.#tip);
    const { product, ranges } = this.#chart;
    const { centre, sigma, lsl, usl, subgroup, unit } = product;
    const shown = digits(product);
    const below = height - TOP - BOTTOM - GAP;
    const plot = { top: TOP, height: below * (1 - RANGES) };
    const lower = { top: TOP + plot.height + GAP, height: below * RANGES };
    const x = (at) => LEFT + at * this.#step();
    // Limits of specification are for readings: beside means of subgroups they would say too little.
    const wanted = subgroup === 1 ? [lsl, usl].filter((limit) => limit !== null && Math.abs(limit - centre) < 7 * sigma) : [];
    const values = [...points.map(({ value }) => value), ...wanted, centre - 3.6 * sigma, centre + 3.6 * sigma];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const y = (value) => plot.top + ((high - value) / (high - low)) * plot.height;
    const right = width - RIGHT;
    const line = (value, kind, label, at = y(value)) => [
      s("line", { class: `limit-line ${kind}`, x1: LEFT, x2: right, y1: at, y2: at }),
      s("text", { class: "axis", x: right + 8, y: at + 4 }, s("tspan", { class: `name ${kind}` }, label), s("tspan", { dx: 5 }, value.toFixed(shown))),
    ];
    const zone = (from, to, kind) => s("rect", { class: `zone ${kind}`, x: LEFT, width: right - LEFT, y: y(centre + to * sigma), height: Math.max(0, y(centre + from * sigma) - y(centre + to * sigma)) });
    const path = (heights) => heights.map((at, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${at.toFixed(1)}`).join("");
    const spread = this.#ranges(points, subgroup);
    const top = Math.max(ranges?.upper ?? 0, ...spread) * 1.12 || 1;
    const ry = (value) => lower.top + (1 - value / top) * lower.height;
    this.#host.setAttribute("aria-label", `Control chart of ${product.name}: ${points.length} points, the last ${points.at(-1).value.toFixed(shown)} ${unit}, ${points.filter(({ rules }) => rules.length).length} break a rule. Arrow keys read points.`);
    const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      zone(2, 3, "a"), zone(1, 2, "b"), zone(-1, 1, "c"), zone(-2, -1, "b"), zone(-3, -2, "a"),
      line(centre + 3 * sigma, "control", "UCL"), line(centre, "centre", subgroup > 1 ? "X̿" : "X̄"), line(centre - 3 * sigma, "control", "LCL"),
      wanted.map((limit) => line(limit, "wanted", limit === usl ? "USL" : "LSL")),
      s("path", { class: "stroke", d: path(points.map(({ value }) => y(value))) }),
      points.map((point, at) => this.#mark(point, x(at), y(point.value))), this.#labels(points, x, y, plot),
      ranges && line(ranges.upper, "control", "UCL", ry(ranges.upper)), ranges && line(ranges.centre, "centre", subgroup > 1 ? "R̄" : "MR", ry(ranges.centre)),
      s("path", { class: "stroke second", d: path(spread.map(ry)) }),
      ranges && spread.map((value, at) => value > ranges.upper && s("circle", { class: "mark broken", cx: x(at), cy: ry(value), r: 4 })),
      s("text", { class: "axis strong", x: LEFT, y: lower.top - 9 }, subgroup > 1 ? "Range of subgroups" : "Moving range"),
      this.#times(points, x, height),
      this.#at !== null && points[this.#at] && s("line", { class: "cursor", x1: x(this.#at), x2: x(this.#at), y1: TOP, y2: height - BOTTOM }),
    );
    this.#host.replaceChildren(drawing, this.#tip);
  }

  #ranges(points, subgroup) {
    if (subgroup > 1) return points.map(({ readings }) => Math.max(...readings) - Math.min(...readings));
    return points.map(({ value }, at) => (at ? Math.abs(value - points[at - 1].value) : 0));
  }

  // A shape for each kind, so that colour never says it alone.
  #mark({ rules, outside }, x, y) {
    if (outside) return s("path", { class: "mark outside", d: `M${x} ${y - 6}l6 6-6 6-6-6z` });
    return rules.length ? s("circle", { class: "mark broken", cx: x, cy: y, r: 5 }) : s("circle", { class: "mark", cx: x, cy: y, r: 2.5 });
  }

  // The rules' names, as far as there is room: the newest of those that would lie on one another.
  #labels(points, x, y, plot) {
    let free = Infinity;
    return points.map((point, at) => [point, at]).reverse().map(([{ rules }, at]) => {
      const text = rules.join(" "), width = text.length * 7 + 6;
      const left = Math.min(x(at) - width / 2, x(points.length - 1) - width + 6);
      if (!rules.length || left + width > free) return null;
      free = left;
      // Above every mark that it would lie on, or below them where that is outside.
      const under = points.filter((_, other) => x(other) > left - 8 && x(other) < left + width + 8).map(({ value }) => y(value));
      const above = Math.min(...under) - 10;
      return s("text", { class: "rule", x: left + width / 2, y: above > plot.top + 4 ? above : Math.max(...under) + 18 }, text);
    });
  }

  #times(points, x, height) {
    const every = Math.max(1, Math.ceil(points.length / Math.max(2, Math.floor((x(points.length - 1) - LEFT) / 110))));
    return points.map((point, at) => at % every === 0 && x(at) < x(points.length - 1) - 40 && s("text", { class: "axis", x: x(at), y: height - 4, "text-anchor": at ? "middle" : "start" }, clock(point.at_ms)));
  }

  #point(at) {
    const points = this.#shown();
    const next = at === null || !points.length ? null : Math.max(0, Math.min(points.length - 1, Math.round(at)));
    if (next === this.#at && next === null) return;
    this.#at = next;
    this.#draw();
    this.#tip.hidden = next === null;
    if (next === null) return;
    const { product } = this.#chart;
    const { value, at_ms, readings, rules, outside } = points[next];
    this.#tip.replaceChildren(
      h("b", {}, `${value.toFixed(digits(product))} ${product.unit}`), h("div", { class: "muted" }, clock(at_ms)),
      readings.length > 1 && h("div", { class: "muted" }, readings.map((reading) => reading.toFixed(digits(product))).join("  ")),
      ...(rules.length ? [h("div", { class: "said" }, `Breaks ${rules.join(", ")}`)] : []), ...(outside ? [h("div", { class: "said" }, "Out of specification")] : []),
    );
    const left = LEFT + next * this.#step();
    this.#tip.style.left = `${Math.max(0, Math.min(left + 12, this.#host.clientWidth - this.#tip.offsetWidth))}px`;
  }
}
