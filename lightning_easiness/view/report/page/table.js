// ---------------------------------------------------------------- the table: Tabulator over the rows of a view
const score = facts.score.name;

// A row of the table: Tabulator reads its fields, which come from the columns; what it writes back is the same.
class Row {
  constructor(row) {
    this.row = row;
  }
}
const field = (name, read) =>
  Object.defineProperty(Row.prototype, name, {
    get() {
      return read(this.row);
    },
    set() {},
    configurable: true,
  });
for (const name of Object.keys(columns)) field(name, (row) => columns[name][row]);
for (const name of ["given", "predicted", "suggested"]) field(name, (row) => className(labelOf(name, row)));
field("decision", (row) => decisions.of(columns.example[row])?.decision ?? "");
field("picture", () => "");
const tableRows = Array.from({ length: size }, (_, row) => new Row(row));

const isUnknown = (value, field) =>
  value !== value ||
  value === undefined ||
  value === "–" ||
  (value === 0 && (field === "rank" || field === "suspicion"));
function sorter(a, b, rowA, rowB, column, direction) {
  const field = column.getField(),
    unknown = [isUnknown(a, field), isUnknown(b, field)],
    last = direction === "asc" ? 1 : -1;
  if (unknown[0] || unknown[1]) return last * (unknown[0] - unknown[1]); // at the end, in either direction
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}

const cell = (className, text) => make("span", { className: `clip ${className}`, text, title: text });
const number = (field, title, write, more = {}) => ({
  field,
  title,
  hozAlign: "right",
  headerHozAlign: "right",
  cssClass: "number",
  width: 76,
  formatter: (c) => write(c.getValue(), c.getData().row),
  ...more,
});
const differs = (name, row) => {
  const label = labelOf(name, row);
  return label >= 0 && label !== labelOf("given", row);
};
const name = (field, title) => ({
  field,
  title,
  cssClass: "name",
  minWidth: 96,
  formatter: (c) => cell(differs(field, c.getData().row) ? "differs" : "", c.getValue()),
});

function actsOf(row, isWide) {
  const example = columns.example[row],
    made = decisions.of(example);
  return make("span", {
    className: "acts",
    children: Object.entries(KINDS)
      .filter(([kind]) => kind !== "relabel" || numClasses)
      .map(([kind, word]) => {
        const pressed = made?.decision === kind;
        const label = pressed && kind === "relabel" && isWide ? `Relabelled ${className(made.label)}` : word;
        const button = make("button", {
          type: "button",
          className: kind,
          text: isWide ? label : word[0],
          title: `${word} (${word[0]})`,
          "aria-pressed": String(pressed),
          "aria-label": `${word} example ${example}`,
        });
        button.addEventListener("click", (event) => {
          event.stopPropagation();
          choose(row);
          decide(kind);
        });
        return button;
      }),
  });
}

const act = {
  field: "decision",
  title: "Decision",
  cssClass: "act",
  width: 126,
  formatter: (c) => actsOf(c.getData().row, false),
};
const picture = (title, width) => ({
  field: "picture",
  title,
  width,
  headerSort: false,
  formatter: (c) => pictureOf(c.getData().row, "thumb") ?? "",
});
const hasTexts = Object.keys(facts.texts).length > 0,
  hasPictures = pictureAt.size > 0;

// `responsive`: where there is no room for all columns, those of the highest number are left out first.
function wideColumns() {
  const found = [
    (hasPictures || hasTexts) && picture("", hasTexts ? 220 : 64),
    number("example", "Example", (v) => String(v), { width: 82 }),
    hasLabels && name("given", "Given"),
    has("predicted") && { ...name("predicted", "Predicted"), responsive: 1 },
    has("suggested") && name("suggested", "Suggested"),
    number("score", titled(score), digits),
    facts.num_runs > 1 && number("spread", "Spread over runs", digits, { width: 78, responsive: 4 }),
    has("confidence") && number("confidence", "Confidence", fraction, { width: 106, responsive: 5 }),
    has("runs_right") &&
      number("runs_right", "Runs right", (v) => `${v} / ${facts.num_runs}`, { width: 72, responsive: 3 }),
    has("memorization") && number("memorization", "Memorization", fraction, { width: 122, responsive: 2 }),
    act,
  ];
  return found
    .filter(Boolean)
    .map((column) => ({ sorter, headerTooltip: false, resizable: false, responsive: 0, ...column }));
}

function briefOf(row) {
  const made = decisions.of(columns.example[row]);
  const suggested = labelOf("suggested", row),
    predicted = labelOf("predicted", row),
    other = suggested >= 0 ? suggested : predicted;
  const labels =
    other >= 0 && other !== labelOf("given", row)
      ? [make("span", { text: `${givenName(row)} → ` }), make("span", { className: "differs", text: className(other) })]
      : [make("span", { text: hasLabels ? givenName(row) : `Example ${columns.example[row]}` })];
  const words = [`#${columns.example[row]}`, digits(columns.score[row])];
  if (made) words.push(made.decision === "relabel" ? `relabel to ${className(made.label)}` : made.decision);
  return make("div", { className: "brief", children: [...labels, make("small", { text: words.join(" · ") })] });
}

function narrowColumns() {
  const brief = { field: "example", title: `Example · ${spoken(score)}`, formatter: (c) => briefOf(c.getData().row) };
  const found = [brief, { ...act, title: "Decide", width: 124 }];
  if (hasPictures) found.unshift(picture("", 60));
  return found.map((column) => ({ sorter, resizable: false, headerSort: false, responsive: 0, ...column }));
}

const narrow = matchMedia("(max-width: 700px)");
const table = new Tabulator("#table", {
  index: "row",
  data: [],
  height: narrow.matches ? "460px" : "640px",
  layout: "fitColumns",
  responsiveLayout: "hide",
  rowHeight: 54,
  columns: narrow.matches ? narrowColumns() : wideColumns(),
  columnHeaderSortMulti: false,
  headerSortElement: (_, direction) => `<span aria-hidden="true">${{ asc: "▲", desc: "▼" }[direction] ?? "▲"}</span>`,
  placeholder: () => make("div", { text: emptyReason }),
  rowFormatter: (row) => {
    const at = row.getData().row,
      element = row.getElement();
    element.classList.toggle("current", at === current);
    element.classList.toggle("dropped", decisions.of(columns.example[at])?.decision === "drop");
    element.setAttribute("aria-selected", String(at === current));
  },
});
let order = []; // the rows as they are listed
const built = new Promise((resolve) => table.on("tableBuilt", resolve));
table.on("rowClick", (_, row) => choose(row.getData().row));
table.on("dataSorted", (_, rows) => {
  order = rows.map((row) => row.getData().row);
});
narrow.addEventListener("change", () => table.setColumns(narrow.matches ? narrowColumns() : wideColumns()));

function redrawRow(row) {
  if (row >= 0) table.getRow(row)?.reformat?.();
}
