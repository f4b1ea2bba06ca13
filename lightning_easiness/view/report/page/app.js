// ---------------------------------------------------------------- the page: filters, decisions and keys, put together
// The list is as high as what stands beside it.
function fitTable() {
  const side = document.querySelector(".side"),
    list = document.querySelector(".list");
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
  sortBy.append(
    make("option", { value: "", text: "as listed" }),
    ...fields.map((column) => make("option", { value: column.field, text: column.title })),
  );
  sortBy.addEventListener("change", () => {
    const field = sortBy.value;
    if (!field) return show(view);
    const compare = (a, b) =>
      sorter(tableRows[a][field], tableRows[b][field], null, null, { getField: () => field }, "desc");
    order = listed(view).sort((a, b) => -compare(a, b));
    table.setData(order.map((row) => tableRows[row]));
  });
  byId("go-to").addEventListener("change", (event) => {
    const row = rowOf.get(Number(event.target.value));
    if (row === undefined) announce("There is no such example in this file");
    else pick(row);
    event.target.setAttribute("aria-invalid", String(row === undefined));
  });
}

function drawDecisions() {
  const counts = Object.keys(KINDS).map((kind) => [
    kind,
    [...decisions.made.values()].filter((made) => made.decision === kind).length,
  ]);
  const words = { keep: "kept", drop: "dropped", relabel: "relabelled" };
  byId("decided-count").textContent = decisions.made.size
    ? counts
        .filter(([, count]) => count)
        .map(([kind, count]) => `${whole(count)} ${words[kind]}`)
        .join(", ")
    : "No decisions yet";
  byId("download").disabled = !decisions.made.size;
  const button = document.querySelector('[data-view="decided"] span');
  if (button) button.textContent = whole(decisions.made.size);
}

const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  k: () => decide("keep", null, true),
  d: () => decide("drop", null, true),
  r: () => decide("relabel", null, true),
  u: () => {
    const example = decisions.undo();
    if (example !== null) {
      choose(rowOf.get(example), { scroll: true });
      announce(`Example ${example}: undone`);
    }
  },
};
document.addEventListener(
  "keydown",
  (event) => {
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key],
      { target } = event;
    const box = inspector.getBoundingClientRect(),
      inSight = box.top < innerHeight && box.bottom > 0;
    const here = byId("review").contains(target) || (target === document.body && inSight); // never on what nobody sees
    if (
      !action ||
      !here ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      target.matches("input, select, textarea, [role=columnheader]")
    )
      return;
    if (target === document.body && event.key.startsWith("Arrow")) return; // scrolls the page
    event.preventDefault();
    event.stopPropagation();
    action();
  },
  { capture: true },
);

decisions.addEventListener("change", ({ detail: example }) => {
  drawDecisions();
  if (example === null) table.redraw(true);
  else redrawRow(rowOf.get(example));
  showCurrent();
});
byId("download").addEventListener("click", download);
byId("forget").addEventListener("click", () => {
  if (confirm("Forget all decisions on this page?")) decisions.forget();
});
byId("upload").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) byId("problem").textContent = decisions.fromFile(await file.text()) ?? "";
  event.target.value = ""; // so that the same file can be chosen again
});

// What tests and scripts in the console may read.
window.report = {
  facts,
  columns,
  decisions,
  order: () => order,
  current: () => current,
  places: (points) => {
    const { plot } = scatters[0],
      box = plot.over.getBoundingClientRect();
    return points.map(([x, y]) => [box.x + plot.valToPos(x, "x"), box.y + plot.valToPos(y, "y")]);
  },
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
requestAnimationFrame(() => {
  for (const draw of [drawHistogram, drawKept, drawCurves, drawMemorization, drawSeeds]) draw();
  byId("starting").remove();
  document.documentElement.dataset.ready = "yes";
});
