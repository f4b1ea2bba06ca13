// ---------------------------------------------------------------- charts: uPlot, in the colours of the page
const NAMES = ["ground", "card", "ink", "muted", "line", "easy", "between", "hard"];
let theme = {};
const plots = new Set(); // all uPlot instances, to redraw and resize

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  theme = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  theme.font = "12px " + getComputedStyle(document.body).fontFamily;
}
readTheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readTheme();
  plots.forEach((plot) => plot.redraw());
});

const isPower = (value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;
const powersOnly = (plot, splits, at) =>
  plot.scales[plot.axes[at].scale].distr === 3 ? splits.map((value) => (isPower(value) ? value : null)) : splits;
const axis = (label, { side = "x", write = String, ...more } = {}) => ({
  label,
  labelGap: 0,
  labelSize: 20,
  labelFont: theme.font,
  font: theme.font,
  size: side === "x" ? 26 : 46,
  gap: 6,
  stroke: () => theme.muted,
  grid: { stroke: () => theme.line, width: 1, filter: powersOnly },
  ticks: { show: false },
  values: (_, values) => values.map((value) => (value === null ? "" : write(value))),
  ...more,
});

function plotIn(host, options, data) {
  const plot = new uPlot(
    { width: host.clientWidth, height: host.clientHeight, legend: { show: false }, ...options },
    data,
    host,
  );
  new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height: host.clientHeight })).observe(host);
  plots.add(plot);
  return plot;
}

const faded = (colour, alpha) => `color-mix(in srgb, ${colour} ${Math.round(100 * alpha)}%, transparent)`;

// Histogram: `parts` are drawn over one another as [counts, colour name]. Dragging calls onRange(low, high).
function bars(host, { edges, log }, parts, label, onRange) {
  const path = uPlot.paths.bars({ size: [1, Infinity], align: 1, gap: 1 });
  const top = Math.max(...parts[0][0]),
    flat = top > parts[0][0].reduce((a, b) => a + b, 0) / 2; // beside one such bar all others would be flat
  plotIn(
    host,
    {
      scales: {
        x: { time: false, distr: log ? 3 : 1, range: () => [edges[0], edges.at(-1)] },
        y: { distr: flat ? 3 : 1, range: () => (flat ? [0.5, top * 2] : [0, top * 1.05]) },
      },
      axes: [axis(label), axis(flat ? "examples (log)" : "examples", { side: "y", size: 52, write: whole })],
      cursor: { y: false, points: { show: false }, drag: { x: Boolean(onRange), y: false, setScale: false } },
      series: [
        {},
        ...parts.map(([, colour]) => ({ paths: path, fill: () => theme[colour], width: 0, points: { show: false } })),
      ],
      hooks: {
        setSelect: [
          (plot) => {
            const { left, width } = plot.select;
            if (onRange && width > 3) onRange(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          },
        ],
      },
    },
    [edges.slice(0, -1), ...parts.map(([counts]) => (flat ? counts.map((n) => n || null) : counts))],
  );
}

// Quantile bands, the median and the mean over training.
function curves(host, chart, label) {
  const [low, lower, median, upper, high] = chart.quantiles;
  const floor = (line) => (chart.log ? line.map((v) => Math.max(v, 1e-7)) : line);
  const line = (colour, more = {}) => ({
    stroke: () => theme[colour],
    width: 2,
    points: { show: true, size: 6, fill: () => theme[colour] },
    ...more,
  });
  const edge = { stroke: "transparent", width: 0, points: { show: false } };
  plotIn(
    host,
    {
      scales: { x: { time: false }, y: { distr: chart.log ? 3 : 1 } },
      axes: [axis("optimizer updates", { write: whole }), axis(label, { side: "y", size: 52 })],
      cursor: { show: false },
      series: [{}, edge, edge, edge, edge, line("easy"), line("ink", { dash: [5, 4], width: 1.5 })],
      bands: [
        { series: [1, 2], fill: () => faded(theme.easy, 0.18) },
        { series: [3, 4], fill: () => faded(theme.easy, 0.28) },
      ],
    },
    [chart.steps, floor(high), floor(low), floor(upper), floor(lower), floor(median), floor(chart.mean)],
  );
}

// Scatter plot of all rows. `group` puts each row into one of `colours`; later groups are drawn on top. A line drawn around
// points calls onLasso(rows); a click calls onPick(row). `chosen` (a Uint8Array or null) fades all others.
class Scatter {
  constructor(host, { x, y, group, colours, ringed, ranges, labels, words = [], onLasso, onPick }) {
    Object.assign(this, { colours, ringed, words, onLasso, onPick, chosen: null, current: -1 });
    this.place(x, y, group);
    this.plot = plotIn(
      host,
      {
        mode: 2,
        scales: { x: { time: false, range: () => ranges[0] }, y: { range: () => ranges[1] } },
        axes: [axis(labels[0]), axis(labels[1], { side: "y" })],
        cursor: { show: false },
        series: [{}, ...colours.map((_, g) => ({ paths: () => this.drawGroup(g) }))],
        hooks: { draw: [() => this.drawMarks()], ready: [(plot) => this.listen(plot.over)] },
      },
      [null, ...colours.map(() => [[0], [0]])], // uPlot draws no points of its own
    );
  }

  place(x, y, group) {
    Object.assign(this, { x, y });
    this.rows = this.colours.map((_, g) =>
      Uint32Array.from(x.keys()).filter((row) => group[row] === g && x[row] === x[row] && y[row] === y[row]),
    );
  }

  regroup(x, y, group) {
    this.place(x, y, group);
    this.plot.redraw();
  }

  // Positions on the canvas are linear in the values: two numbers per axis are enough.
  line(scale) {
    const [a, b] = [0, 1].map((value) => this.plot.valToPos(value, scale, true));
    return [a, b - a];
  }

  drawGroup(g) {
    const { ctx } = this.plot,
      [x0, x1] = this.line("x"),
      [y0, y1] = this.line("y"),
      ratio = uPlot.pxRatio;
    const side = ratio * (size > 20_000 ? 2 : size > 3000 ? 3 : 4.5),
      half = side / 2;
    ctx.save();
    for (const chosen of this.chosen ? [false, true] : [true]) {
      ctx.fillStyle = theme[this.colours[g]];
      ctx.globalAlpha = chosen ? (size > 3000 ? 0.65 : 0.75) : 0.1;
      for (const row of this.rows[g]) {
        if (this.chosen && Boolean(this.chosen[row]) !== chosen) continue;
        ctx.fillRect(x0 + this.x[row] * x1 - half, y0 + this.y[row] * y1 - half, side, side);
      }
    }
    ctx.restore();
    return null;
  }

  drawMarks() {
    const { ctx } = this.plot,
      [x0, x1] = this.line("x"),
      [y0, y1] = this.line("y"),
      ratio = uPlot.pxRatio;
    const circle = (row, radius) => {
      ctx.beginPath();
      ctx.arc(x0 + this.x[row] * x1, y0 + this.y[row] * y1, radius * ratio, 0, 7);
      ctx.stroke();
    };
    ctx.save(); // uPlot relies on what it has set
    ctx.strokeStyle = theme.ink;
    ctx.lineWidth = ratio;
    ctx.globalAlpha = 0.4;
    for (const row of this.ringed ?? []) if (!this.chosen || this.chosen[row]) circle(row, size > 3000 ? 3 : 4);
    ctx.globalAlpha = 1;
    ctx.font = `italic ${13 * ratio}px ${theme.font.slice(5)}`;
    ctx.textAlign = "right";
    ctx.fillStyle = theme.muted;
    for (const [word, x, y] of this.words) ctx.fillText(word, x0 + x * x1, y0 + y * y1);
    if (this.current >= 0) {
      ctx.lineWidth = 2.5 * ratio;
      circle(this.current, 8);
    }
    ctx.restore();
  }

  nearest(left, top, reach = 14) {
    const { plot } = this,
      ratio = uPlot.pxRatio,
      [x0, x1] = this.line("x"),
      [y0, y1] = this.line("y");
    const px = left * ratio + plot.bbox.left,
      py = top * ratio + plot.bbox.top;
    let best = -1,
      least = (reach * ratio) ** 2;
    for (let row = 0; row < size; row++) {
      const distance = (x0 + this.x[row] * x1 - px) ** 2 + (y0 + this.y[row] * y1 - py) ** 2;
      if (distance < least) {
        least = distance;
        best = row;
      }
    }
    return best;
  }

  within(polygon) {
    const corners = polygon.map(([left, top]) => [this.plot.posToVal(left, "x"), this.plot.posToVal(top, "y")]);
    const inside = new Uint8Array(size);
    for (let row = 0; row < size; row++) {
      const x = this.x[row],
        y = this.y[row];
      for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
        const [xi, yi] = corners[i],
          [xj, yj] = corners[j];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside[row] ^= 1;
      }
    }
    return inside;
  }

  listen(over) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    const shape = svg.appendChild(document.createElementNS(svg.namespaceURI, "polygon"));
    over.append(svg);
    let path = null;
    const place = (event) => {
      const box = over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const end = () => {
      path = null;
      shape.removeAttribute("points");
    };
    over.addEventListener("pointerdown", (event) => {
      if (event.button === 0) {
        path = [place(event)];
        over.setPointerCapture(event.pointerId);
        hideTip();
      }
    });
    over.addEventListener("pointermove", (event) => {
      if (!path) return showTip(this.nearest(...place(event)), event);
      path.push(place(event));
      shape.setAttribute("points", path.map((point) => point.join()).join(" "));
    });
    over.addEventListener("pointerup", () => {
      if (!path) return;
      const [first] = path,
        far = Math.max(...path.map(([x, y]) => Math.hypot(x - first[0], y - first[1])));
      const drawn = path;
      end();
      if (far >= 8) return this.onLasso(this.within(drawn));
      const row = this.nearest(...first);
      if (row >= 0) this.onPick(row);
    });
    over.addEventListener("pointercancel", end);
    over.addEventListener("pointerleave", hideTip);
  }
}

const tip = document.getElementById("tip");
function hideTip() {
  tip.hidden = true;
}
function showTip(row, event) {
  if (row < 0 || event.pointerType === "touch") return hideTip();
  const picture = pictureOf(row, "thumb"),
    suggested = labelOf("suggested", row);
  const words = [`Example ${columns.example[row]}`, ...(hasLabels ? [`given ${givenName(row)}`] : [])];
  if (suggested >= 0) words.push(`suggested ${className(suggested)}`);
  tip.replaceChildren(...(picture ? [picture] : []), make("span", { text: words.join(", ") }));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 8)}px`;
}
