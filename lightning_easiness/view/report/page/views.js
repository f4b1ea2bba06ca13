// ---------------------------------------------------------------- views: which rows are listed, and in which order at first
const byId = (id) => document.getElementById(id);
const filterClass = byId("filter-class");
const sortBy = byId("sort-by");
let view = ""; // the name of the one that is shown
let selectedRows = [];
let movedRows = [];
let emptyReason = "";

const share = Math.max(1, Math.round(size / 10));
const ordered = (key, keep = () => true, most = share) => {
  const rows = [];
  for (let row = 0; row < size; row++) if (keep(row) && key(row) === key(row)) rows.push(row);
  return rows.sort((a, b) => key(a) - key(b)).slice(0, most);
};
const by = (name) => (row) => columns[name][row];
const most = (name) => (row) => -columns[name][row];
const views = {
  suspects: {
    name: "Suspects",
    needs: "suspect",
    rows: () => ordered(by("suspicion"), by("suspect"), size),
    empty: "No label looks wrong by the rule that was used; see About this report.",
  },
  hardest: { name: "Hardest", needs: "rank", rows: () => ordered(by("rank"), by("rank")) },
  easiest: { name: "Easiest", needs: "rank", rows: () => ordered(most("rank"), by("rank")) },
  ambiguous: { name: "Ambiguous", needs: "variability", rows: () => ordered(most("variability")) },
  unstable: { name: "Seeds disagree", needs: "disagreement", rows: () => ordered(most("disagreement")) },
  memorized: {
    name: "Memorized",
    needs: "memorization",
    rows: () => ordered(most("memorization"), (row) => columns.memorization[row] >= 0.5, size),
    empty: "No example is right at least 50 points more often where it was trained on.",
  },
  dropped: {
    name: "Dropped in training",
    needs: "kept",
    rows: () => ordered(by("rank"), (row) => !columns.kept[row], size),
  },
  moved: {
    name: "Moved",
    needs: "disagreement",
    changes: true,
    rows: () => movedRows,
    empty: "No example stands 25 points or more apart in the two runs.",
  },
  selected: {
    name: "Selected",
    changes: true,
    rows: () => selectedRows,
    empty: "Draw a line around points of the data map, or drag over the bars of the histogram, to list examples here.",
  },
  decided: {
    name: "Decided",
    changes: true,
    rows: () => [...decisions.made.keys()].filter((example) => rowOf.has(example)).map((example) => rowOf.get(example)),
    empty: "Nothing is decided yet: choose an example and press K, D or R.",
  },
  all: { name: "All", rows: () => Array.from({ length: size }, (_, row) => row) },
};
const sortedViews = {}; // what does not change is sorted once

function rowsOf(name) {
  if (views[name].changes) return views[name].rows();
  return (sortedViews[name] ??= views[name].rows());
}

function listed(name) {
  const rows = rowsOf(name),
    label = filterClass.value;
  return label === "" ? rows : rows.filter((row) => columns.given[row] === Number(label));
}

async function show(name) {
  view = name;
  const rows = listed(name);
  emptyReason =
    filterClass.value !== "" && rowsOf(name).length
      ? "No example of this view has that label."
      : (views[name].empty ?? "There is nothing to list.");
  table.clearSort();
  sortBy.value = "";
  order = rows;
  await table.setData(rows.map((row) => tableRows[row]));
  drawViews();
  byId("view-note").textContent = `${whole(rows.length)} listed`;
  if (!rows.includes(current)) choose(rows[0] ?? -1);
}

function drawViews() {
  byId("views").replaceChildren(
    ...Object.entries(views)
      .filter(([, each]) => !each.needs || has(each.needs))
      .map(([key, each]) => {
        const button = make("button", {
          type: "button",
          "aria-pressed": String(key === view),
          children: [each.name, make("span", { text: whole(rowsOf(key).length) })],
        });
        button.dataset.view = key;
        button.addEventListener("click", () => show(key));
        return button;
      }),
  );
}

function select(mask) {
  selectedRows = [];
  for (let row = 0; row < size; row++) if (mask[row]) selectedRows.push(row);
  selectedRows.sort((a, b) => (columns.rank[a] || Infinity) - (columns.rank[b] || Infinity));
  highlight(selectedRows.length ? mask : null);
  announce(`${whole(selectedRows.length)} examples selected`);
  show("selected");
}

function highlight(mask) {
  for (const each of scatters) {
    each.chosen = mask;
    each.plot.redraw();
  }
}

function pick(row) {
  if (!order.includes(row)) {
    selectedRows = [row];
    show("selected").then(() => choose(row));
  } else choose(row, { scroll: true });
}
