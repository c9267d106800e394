// A histogram of readings with the limits of specification, the curve of the process, and what the last analysis found.

import { h } from "/kit/page.js";
import { digits, s } from "/control_chart.js";

const TOP = 22, BOTTOM = 22, SIDE = 12;
const TONES = [[1.33, "good", "Capable"], [1, "warn", "Marginal"], [-Infinity, "bad", "Not capable"]];

/** What people make of a Cpk: tone and word. */
export function verdict(cpk) {
  if (cpk === null || cpk === undefined) return { tone: null, word: "Unknown" };
  const [, tone, word] = TONES.find(([from]) => cpk >= from);
  return { tone, word };
}

export class Histogram {
  #host; #drawn = null;

  constructor(host) {
    this.#host = host;
    host.setAttribute("role", "img");
    new ResizeObserver(() => this.#drawn && this.draw(...this.#drawn)).observe(host);
  }

  /** Readings of a product, all in its unit. */
  draw(product, readings) {
    this.#drawn = [product, readings];
    const { clientWidth: width, clientHeight: height } = this.#host;
    if (!width || readings.length < 2) return this.#host.replaceChildren();
    const { lsl, usl, target } = product;
    const mean = readings.reduce((sum, reading) => sum + reading, 0) / readings.length;
    const sigma = Math.sqrt(readings.reduce((sum, reading) => sum + (reading - mean) ** 2, 0) / (readings.length - 1)) || 1e-9;
    const limits = [lsl, usl].filter((limit) => limit !== null);
    const edges = [...readings, ...limits, mean - 3.5 * sigma, mean + 3.5 * sigma];
    const margin = (Math.max(...edges) - Math.min(...edges)) * 0.03;
    const [low, high] = [Math.min(...edges) - margin, Math.max(...edges) + margin];
    const x = (value) => SIDE + ((value - low) / (high - low)) * (width - 2 * SIDE);
    const count = Math.max(8, Math.min(40, Math.round((high - low) / (sigma / 2.2))));
    const bins = Array.from({ length: count }, () => 0);
    for (const reading of readings) bins[Math.min(count - 1, Math.floor(((reading - low) / (high - low)) * count))] += 1;
    const step = (high - low) / count;
    const density = (value) => (readings.length * step * Math.exp(-((value - mean) ** 2) / (2 * sigma ** 2))) / (sigma * Math.sqrt(2 * Math.PI));
    const most = Math.max(...bins, density(mean));
    const base = height - BOTTOM;
    const y = (value) => base - (value / most) * (base - TOP - 6);
    const bar = (height, at) => {
      const middle = low + (at + 0.5) * step;
      const outside = (lsl !== null && middle < lsl) || (usl !== null && middle > usl);
      return height > 0 && s("rect", { class: outside ? "bin outside" : "bin", x: x(low + at * step) + 1, width: Math.max(1, x(step) - x(0) - 2), y: y(height), height: base - y(height), rx: 2 });
    };
    const curve = Array.from({ length: 81 }, (_, at) => low + ((high - low) * at) / 80).map((value, at) => `${at ? "L" : "M"}${x(value).toFixed(1)} ${y(density(value)).toFixed(1)}`);
    const upright = (value, kind, label) => [s("line", { class: `limit-line ${kind}`, x1: x(value), x2: x(value), y1: TOP, y2: base }), s("text", { class: "axis", x: Math.max(24, Math.min(width - 24, x(value))), y: 12, "text-anchor": "middle" }, label)];
    const tick = (value) => s("text", { class: "axis", x: Math.max(26, Math.min(width - 26, x(value))), y: height - 5, "text-anchor": "middle" }, value.toFixed(digits(product)));
    this.#host.setAttribute("aria-label", `Histogram of ${readings.length} readings of ${product.name}: mean ${mean.toFixed(digits(product))} ${product.unit}, standard deviation ${sigma.toPrecision(3)}.`);
    this.#host.replaceChildren(s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      s("line", { class: "line", x1: SIDE, x2: width - SIDE, y1: base, y2: base }), bins.map(bar), s("path", { class: "stroke second", d: curve.join("") }),
      lsl !== null && upright(lsl, "wanted", "LSL"), usl !== null && upright(usl, "wanted", "USL"), upright(target, "centre", "Target"),
      [...limits, target].map(tick)));
  }
}

/** Cp, Cpk, Pp, Ppk as a row of figures. */
export function indices(host, analysis) {
  const { tone, word } = verdict(analysis?.cpk);
  const figure = (label, value, hint) => h("div", { class: "index", title: hint }, h("span", { class: "muted" }, label), h("b", { class: "number" }, value === null || value === undefined ? "–" : value.toFixed(2)));
  host.replaceChildren(
    figure("Cp", analysis?.cp, "Width of the specification against the spread within subgroups"), figure("Cpk", analysis?.cpk, "The same for the nearer limit"),
    figure("Pp", analysis?.pp, "Width of the specification against the spread of all readings"), figure("Ppk", analysis?.ppk, "The same for the nearer limit"),
    h("span", { class: "tag", "data-tone": tone }, word));
}
