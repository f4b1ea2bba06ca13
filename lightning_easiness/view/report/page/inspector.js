// ---------------------------------------------------------------- the chosen example, and decisions on it
const inspector = document.getElementById("inspector");
let current = -1; // row

function relabelChoice(row) {
  const made = decisions.of(columns.example[row]);
  const best =
    made?.label ??
    ["suggested", "predicted"].filter((name) => differs(name, row)).map((name) => labelOf(name, row))[0] ??
    -1;
  const options = Array.from({ length: numClasses }, (_, label) =>
    make("option", { value: String(label), text: className(label), selected: label === best }),
  );
  return make("select", {
    id: "relabel-to",
    "aria-label": "New label",
    children: [make("option", { value: "", text: "new label …", selected: best < 0 }), ...options],
  });
}

function factsOf(row) {
  const found = hasLabels ? [["Given", givenName(row)]] : [];
  for (const name of ["predicted", "suggested"])
    if (labelOf(name, row) >= 0)
      found.push([titled(name), className(labelOf(name, row)), differs(name, row) ? "differs" : ""]);
  found.push([
    titled(score),
    digits(columns.score[row]) + (facts.num_runs > 1 ? ` ± ${digits(columns.spread[row])}` : ""),
  ]);
  if (has("suspect") && columns.suspect[row])
    found.push([
      "Status",
      columns.slow[row] ? "suspect, but predicted in the end: memorised, or slow to learn" : "suspect",
    ]);
  const unseen = labelOf("held_out_prediction", row);
  if (unseen >= 0) found.push(["Held out", `${className(unseen)} (${fraction(columns.held_out_probability[row])})`]);
  if (columns.rank[row]) found.push(["Rank", `${whole(columns.rank[row])} of ${whole(facts.num_examples)}`]);
  if (has("runs_right")) found.push(["Right", `in ${columns.runs_right[row]} of ${facts.num_runs} runs`]);
  if (has("confidence"))
    found.push(["Confidence", `${fraction(columns.confidence[row])} ± ${fraction(columns.variability[row])}`]);
  if (has("memorization"))
    found.push([
      "Memorization",
      `${fraction(columns.memorization[row])} ± ${fraction(columns.memorization_error[row])}`,
    ]);
  if (has("source")) found.push(["Source index", whole(columns.source[row])]);
  if (has("kept")) found.push(["Selection", columns.kept[row] ? "kept" : "dropped"]);
  return found;
}

function showCurrent() {
  if (current < 0) {
    inspector.replaceChildren(
      make("div", { className: "picture", text: "No example chosen" }),
      make("p", {
        text: "Choose a row of the list or a point of the data map. Its picture, its labels and what to do with it appear here.",
        className: "empty",
      }),
    );
    return;
  }
  const row = current,
    example = columns.example[row],
    url = pictureUrl(example),
    text = facts.texts[example];
  const image = url
    ? make("img", { src: url, alt: altOf(row), className: "thumb" })
    : make("span", { text: text ? "Text" : hasPictures ? "Not among the pictures in this file" : "No picture" });
  image.addEventListener?.("load", () => image.classList.toggle("small", image.naturalWidth < 64));
  const list = make("dl", {
    children: factsOf(row).flatMap(([term, value, kind = ""]) => [
      make("dt", { text: term }),
      make("dd", { text: value, className: kind }),
    ]),
  });
  const acts = actsOf(row, true);
  if (numClasses) acts.append(relabelChoice(row));
  inspector.replaceChildren(
    make("div", { className: "picture", children: [image] }),
    make("div", { children: [make("h3", { text: `Example ${example}` }), briefOf(row), list] }),
    acts,
    ...(text ? [make("p", { className: "text", text })] : []),
  );
  document.getElementById("relabel-to")?.addEventListener("change", (event) => {
    if (event.target.value !== "") decide("relabel", Number(event.target.value));
  });
}

function choose(row, { scroll = false } = {}) {
  const before = current;
  current = row;
  redrawRow(before);
  redrawRow(row);
  if (scroll && order.includes(row)) table.scrollToRow(row, "nearest", false).catch(() => {});
  for (const plot of scatters) {
    plot.current = row;
    plot.plot.redraw();
  }
  showCurrent();
}

function announce(text) {
  document.getElementById("announce").textContent = text;
}

function move(by) {
  const place = Math.min(Math.max(order.indexOf(current) + by, 0), order.length - 1);
  if (order.length) {
    choose(order[place], { scroll: true });
    const suggested = labelOf("suggested", current);
    announce(`${altOf(current)}${suggested >= 0 ? `, suggested ${className(suggested)}` : ""}`);
  }
}

// Decides on the chosen example; the same decision again takes it back. Moves on after a key.
function decide(kind, label = null, moveOn = false) {
  if (current < 0) return;
  const example = columns.example[current],
    made = decisions.of(example);
  if (kind === "relabel" && !numClasses) return;
  if (kind === "relabel" && label === null) {
    const chosen = document.getElementById("relabel-to").value;
    if (chosen === "") {
      document.getElementById("relabel-to").focus();
      return;
    }
    label = Number(chosen);
  }
  const takeBack = made?.decision === kind && (kind !== "relabel" || made.label === label);
  decisions.decide(example, takeBack ? null : kind, label);
  announce(
    takeBack
      ? `Example ${example}: no decision`
      : `Example ${example}: ${kind}${kind === "relabel" ? ` to ${className(label)}` : ""}`,
  );
  if (moveOn && !takeBack) move(1);
}
