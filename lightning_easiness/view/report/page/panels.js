// ---------------------------------------------------------------- panels: what each chart shows
const scatters = [];
const scoreLabel = `${spoken(score)}, ${facts.score.higher_is_easier ? "high" : "low"} is easy`;
const zip = (parts, colours) => parts.map((part, place) => [part, colours[place]]);

function scatterIn(id, options) {
  const made = new Scatter(byId(id), { onLasso: select, onPick: pick, ...options });
  scatters.push(made);
  return made;
}

function drawMap() {
  const thirds = Uint8Array.from(columns.correctness, (value) => (value > 2 / 3 ? 0 : value >= 1 / 3 ? 1 : 2));
  const ringed = has("suspect") ? rowsOf("suspects").slice(0, 300) : []; // more would hide the points
  scatterIn("map", {
    x: columns.variability,
    y: columns.confidence,
    group: thirds,
    colours: ["easy", "between", "hard"],
    ringed,
    ranges: [
      [-0.01, 0.53],
      [-0.02, 1.03],
    ],
    labels: ["variability over training", "confidence in the given label"],
    words: [
      ["easy", 0.4, 0.95],
      ["ambiguous", 0.52, 0.42],
      ["hard", 0.4, 0.02],
    ],
  });
}

function drawHistogram() {
  const chart = facts.charts.histogram;
  const parts = ["all", "easiest", "hardest"].map((part) => chart.counts[part]);
  const colours = ["between", "easy", "hard"];
  const range = (low, high) =>
    select(
      Uint8Array.from(columns.score, (value) => {
        const inside = Math.min(Math.max(value, chart.edges[0]), chart.edges.at(-1)); // the outer bars hold all beyond
        return value === value && inside >= low && inside <= high ? 1 : 0;
      }),
    );
  bars(byId("histogram"), chart, zip(parts, colours), scoreLabel, range);
}

function drawKept() {
  const { histogram: chart } = facts.charts;
  if (has("kept"))
    bars(byId("kept-chart"), chart, zip([chart.counts.all, chart.counts.kept], ["hard", "easy"]), scoreLabel);
}

function drawCurves() {
  if (facts.charts.curves) curves(byId("curves"), facts.charts.curves, spoken(score));
}

function drawMemorization() {
  const chart = facts.charts.memorization;
  if (!chart) return;
  const range = (low, high) =>
    select(Uint8Array.from(columns.memorization, (value) => (value >= low && value <= high ? 1 : 0)));
  const label = "memorization: right where trained on, less right where not";
  bars(byId("memorization"), chart, [[chart.counts.all, "easy"]], label, range);
}

const FAR = 0.25; // between two runs, of the data set
function drawSeeds() {
  if (facts.num_runs < 2) return;
  const mean = columns.mean_hardness.map((value) => 100 * value),
    points = columns.disagreement.map((value) => 100 * value);
  scatterIn("spread", {
    x: mean,
    y: points,
    group: Uint8Array.from(points, (value) => (value >= 15 ? 1 : 0)),
    colours: ["between", "hard"],
    ranges: [
      [-1, 101],
      [-1, 51],
    ],
    labels: ["mean hardness (0 easiest, 100 hardest)", "spread over runs"],
  });
  for (const [place, id] of ["run-a", "run-b"].entries()) {
    byId(id).replaceChildren(
      ...facts.runs
        .slice(0, facts.num_compared)
        .map((run, index) => make("option", { value: String(index), text: run.name, selected: index === place })),
    );
    byId(id).addEventListener("change", () => drawVersus(plot));
  }
  const plot = scatterIn("versus", {
    x: mean,
    y: mean,
    group: new Uint8Array(size),
    colours: ["between", "hard"],
    ranges: [
      [-1, 101],
      [-1, 101],
    ],
    labels: [" ", " "],
  });
  byId("list-moved").addEventListener("click", () => {
    show("moved");
    byId("review").scrollIntoView();
  });
  drawVersus(plot);
}

function drawVersus(plot) {
  const [a, b] = ["run-a", "run-b"].map((id) => Number(byId(id).value)),
    [x, y] = [a, b].map((run) => hardnessIn(run).map((value) => 100 * value));
  const gap = Float32Array.from(x, (value, row) => Math.abs(value - y[row]) / 100);
  plot.plot.axes[0].label = `hardness in ${facts.runs[a].name}`;
  plot.plot.axes[1].label = `hardness in ${facts.runs[b].name}`;
  plot.regroup(
    x,
    y,
    Uint8Array.from(gap, (value) => (value >= FAR ? 1 : 0)),
  );
  movedRows = ordered(
    (row) => -gap[row],
    (row) => gap[row] >= FAR,
    size,
  );
  const moved = movedRows.length;
  byId("versus-title").textContent =
    a === b
      ? "The same run on both sides: choose another"
      : moved
        ? `${whole(moved)} examples (${percent(moved / size)}) are at least 25 points harder in one run than in the other`
        : "No example is 25 points harder in one run than in the other";
  if (view === "moved") show("moved");
  else drawViews();
}
