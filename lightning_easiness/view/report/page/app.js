// ---------------------------------------------------------------- the page: views, charts and keys, put together
const byId = (id) => document.getElementById(id);
const scatters = [];
const filterClass = byId("filter-class"), sortBy = byId("sort-by");
let view = "";

function listed(name) {
  const rows = views[name].rows(), label = filterClass.value;
  return label === "" ? rows : rows.filter((row) => columns.given[row] === Number(label));
}

async function show(name, { keepOrder = false } = {}) {
  view = name;
  const rows = listed(name);
  emptyReason = filterClass.value !== "" && views[name].rows().length ? "No example of this view has that label." : views[name].empty ?? "There is nothing to list.";
  if (!keepOrder) { table.clearSort(); sortBy.value = ""; }
  order = rows;
  await table.setData(rows.map((row) => tableRows[row]));
  drawViews();
  byId("view-note").textContent = `${whole(rows.length)} listed`;
  if (!rows.includes(current)) choose(rows[0] ?? -1);
}

function countOf(name) {
  if (name === "all") return size;
  if (name === "decided") return decisions.made.size;
  return views[name].rows().length;
}

function drawViews() {
  byId("views").replaceChildren(...Object.entries(views).filter(([, each]) => !each.needs || has(each.needs)).map(([key, each]) => {
    const button = make("button", { type: "button", "aria-pressed": String(key === view), children: [each.name, make("span", { text: whole(countOf(key)) })] });
    button.dataset.view = key;
    button.addEventListener("click", () => show(key));
    return button;
  }));
}

function select(mask) {
  selectedRows = [];
  for (let row = 0; row < size; row++) if (mask[row]) selectedRows.push(row);
  selectedRows.sort((a, b) => (columns.rank[a] || Infinity) - (columns.rank[b] || Infinity));
  highlight(selectedRows.length ? mask : null);
  announce(`${whole(selectedRows.length)} examples selected`);
  show("selected");
}

function highlight(mask) { for (const each of scatters) { each.chosen = mask; each.plot.redraw(); } }

function drawMap() {
  const thirds = Uint8Array.from(columns.correctness, (value) => (value > 2 / 3 ? 0 : value >= 1 / 3 ? 1 : 2));
  const ringed = has("suspect") ? views.suspects.rows().slice(0, 300) : []; // more would hide the points
  scatters.push(new Scatter(byId("map"), {
    x: columns.variability, y: columns.confidence, group: thirds, colours: ["easy", "between", "hard"], ringed,
    ranges: [[-0.01, 0.53], [-0.02, 1.03]], labels: ["variability over training", "confidence in the given label"],
    words: [["easy", 0.4, 0.95], ["ambiguous", 0.52, 0.42], ["hard", 0.4, 0.02]], onLasso: select, onPick: pick,
  }));
}

function pick(row) {
  if (!order.includes(row)) { selectedRows = [row]; show("selected").then(() => choose(row)); } else choose(row, { scroll: true });
}

function drawHistogram() {
  const chart = facts.charts.histogram, { counts } = chart, label = `${spoken(score)}, ${facts.score.higher_is_easier ? "high" : "low"} is easy`;
  const range = (low, high) => select(Uint8Array.from(columns.score, (value) => {
    const inside = Math.min(Math.max(value, chart.edges[0]), chart.edges.at(-1)); // the outer bars hold what is beyond them
    return value === value && inside >= low && inside <= high ? 1 : 0;
  }));
  bars(byId("histogram"), chart, [[counts.all, "between"], [counts.easiest, "easy"], [counts.hardest, "hard"]], label, range);
  if (byId("kept-chart")) bars(byId("kept-chart"), chart, [[counts.all, "hard"], [counts.kept, "easy"]], label);
  if (facts.charts.curves) curves(byId("curves"), facts.charts.curves, spoken(score));
  if (facts.charts.memorization) {
    bars(byId("memorization"), facts.charts.memorization, [[facts.charts.memorization.counts.all, "easy"]], "memorization: right where trained on, less right where not",
      (low, high) => select(Uint8Array.from(columns.memorization, (value) => (value >= low && value <= high ? 1 : 0))));
  }
}

const FAR = 0.25; // between two runs, of the data set
function drawSeeds() {
  if (facts.num_runs < 2) return;
  const mean = columns.mean_hardness.map((value) => 100 * value), points = columns.disagreement.map((value) => 100 * value);
  scatters.push(new Scatter(byId("spread"), {
    x: mean, y: points, group: Uint8Array.from(points, (value) => (value >= 15 ? 1 : 0)), colours: ["between", "hard"],
    ranges: [[-1, 101], [-1, 51]], labels: ["mean hardness (0 easiest, 100 hardest)", "spread over runs"], onLasso: select, onPick: pick,
  }));
  const [a, b] = ["run-a", "run-b"].map((id, place) => {
    byId(id).replaceChildren(...facts.runs.slice(0, facts.num_compared).map((run, index) => make("option", { value: String(index), text: run.name, selected: index === place })));
    byId(id).addEventListener("change", () => drawVersus(plot));
    return byId(id);
  });
  const plot = new Scatter(byId("versus"), {
    x: mean, y: mean, group: new Uint8Array(size), colours: ["between", "hard"], ranges: [[-1, 101], [-1, 101]], labels: [" ", " "], onLasso: select, onPick: pick,
  });
  scatters.push(plot);
  byId("list-moved").addEventListener("click", () => { show("moved"); byId("review").scrollIntoView(); });
  drawVersus(plot);
}

function drawVersus(plot) {
  const [a, b] = ["run-a", "run-b"].map((id) => Number(byId(id).value)), [x, y] = [a, b].map((run) => hardnessIn(run).map((value) => 100 * value));
  const gap = Float32Array.from(x, (value, row) => Math.abs(value - y[row]) / 100);
  plot.plot.axes[0].label = `hardness in ${facts.runs[a].name}`;
  plot.plot.axes[1].label = `hardness in ${facts.runs[b].name}`;
  plot.regroup(x, y, Uint8Array.from(gap, (value) => (value >= FAR ? 1 : 0)));
  movedRows = () => ordered((row) => -gap[row], (row) => gap[row] >= FAR, size);
  const moved = movedRows().length;
  byId("versus-title").textContent = a === b ? "The same run on both sides: choose another" : moved ? `${whole(moved)} examples (${percent(moved / size)}) are at least 25 points harder in one run than in the other` : "No example is 25 points harder in one run than in the other";
  if (view === "moved") show("moved"); else drawViews();
}

// The list is as high as what stands beside it.
function fitTable() {
  const side = document.querySelector(".side"), list = document.querySelector(".list");
  const beside = side.offsetHeight && side.offsetTop === list.offsetTop;
  const above = byId("table").offsetTop - list.offsetTop;
  const height = narrow.matches ? 460 : beside ? Math.max(480, side.offsetHeight - above - 17) : 560;
  if (byId("table").offsetHeight !== height) table.setHeight(height);
}

function fillFilters() {
  const labels = [...new Set(columns.given)].filter((label) => label >= 0).sort((a, b) => a - b);
  filterClass.parentElement.hidden = !labels.length;
  filterClass.append(...labels.map((label) => make("option", { value: String(label), text: className(label) })));
  filterClass.addEventListener("change", () => show(view));
  const fields = wideColumns().filter((column) => column.headerSort !== false);
  sortBy.append(make("option", { value: "", text: "as listed" }), ...fields.map((column) => make("option", { value: column.field, text: column.title })));
  sortBy.addEventListener("change", () => {
    const field = sortBy.value;
    if (!field) return show(view);
    const compare = (a, b) => sorter(tableRows[a][field], tableRows[b][field], null, null, { getField: () => field }, "desc");
    order = listed(view).sort((a, b) => -compare(a, b));
    table.setData(order.map((row) => tableRows[row]));
  });
  byId("go-to").addEventListener("change", (event) => {
    const row = rowOf.get(Number(event.target.value));
    if (row === undefined) announce("There is no such example in this file"); else pick(row);
    event.target.setAttribute("aria-invalid", String(row === undefined));
  });
}

function drawDecisions() {
  const counts = Object.keys(KINDS).map((kind) => [kind, [...decisions.made.values()].filter((made) => made.decision === kind).length]);
  const words = { keep: "kept", drop: "dropped", relabel: "relabelled" };
  byId("decided-count").textContent = decisions.made.size ? counts.filter(([, count]) => count).map(([kind, count]) => `${whole(count)} ${words[kind]}`).join(", ") : "No decisions yet";
  byId("download").disabled = !decisions.made.size;
  const button = document.querySelector('[data-view="decided"] span');
  if (button) button.textContent = whole(decisions.made.size);
}

const KEYS = {
  ArrowDown: () => move(1), ArrowUp: () => move(-1),
  k: () => decide("keep", null, true), d: () => decide("drop", null, true), r: () => decide("relabel", null, true),
  u: () => { const example = decisions.undo(); if (example !== null) { choose(rowOf.get(example), { scroll: true }); announce(`Example ${example}: undone`); } },
};
document.addEventListener("keydown", (event) => {
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key], { target } = event;
  const box = inspector.getBoundingClientRect(), inSight = box.top < innerHeight && box.bottom > 0;
  const here = byId("review").contains(target) || (target === document.body && inSight); // never on what nobody sees
  if (!action || !here || event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, textarea, [role=columnheader]")) return;
  if (target === document.body && event.key.startsWith("Arrow")) return; // scrolls the page
  event.preventDefault();
  event.stopPropagation();
  action();
}, { capture: true });

decisions.addEventListener("change", ({ detail: example }) => {
  drawDecisions();
  if (example === null) table.redraw(true); else redrawRow(rowOf.get(example));
  showCurrent();
});
byId("download").addEventListener("click", download);
byId("forget").addEventListener("click", () => { if (confirm("Forget all decisions on this page?")) decisions.forget(); });
byId("upload").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) byId("problem").textContent = decisions.fromFile(await file.text()) ?? "";
  event.target.value = ""; // so that the same file can be chosen again
});

// What tests and scripts in the console may read.
window.report = {
  facts, columns, decisions, order: () => order, current: () => current,
  places: (points) => { const { plot } = scatters[0], box = plot.over.getBoundingClientRect(); return points.map(([x, y]) => [box.x + plot.valToPos(x, "x"), box.y + plot.valToPos(y, "y")]); },
};

if (has("confidence")) drawMap();
await built;
byId("table").setAttribute("aria-label", "Examples");
fillFilters();
drawDecisions();
showCurrent();
fitTable();
new ResizeObserver(fitTable).observe(document.querySelector(".workbench"));
await show(has("suspect") && columns.suspect.some(Boolean) ? "suspects" : "hardest");
requestAnimationFrame(() => { drawHistogram(); drawSeeds(); byId("starting").remove(); document.documentElement.dataset.ready = "yes"; });
