// ---------------------------------------------------------------- decisions: kept by the browser, saved as JSON
const KINDS = { keep: "Keep", drop: "Drop", relabel: "Relabel" };
const storageKey = `lightning_easiness.decisions:${Object.values(facts.fingerprints)[0] ?? facts.title}:${facts.num_examples}`;

class Decisions extends EventTarget {
  made = new Map(); // example -> {decision, label}
  history = [];

  constructor() {
    super();
    try {
      this.made = new Map(JSON.parse(localStorage.getItem(storageKey) ?? "[]"));
    } catch {
      /* private window */
    }
  }

  of(example) {
    return this.made.get(example);
  }

  decide(example, decision, label) {
    this.history.push([example, this.made.get(example)]);
    this.put(example, decision === null ? undefined : decision === "relabel" ? { decision, label } : { decision });
  }

  undo() {
    if (!this.history.length) return null;
    const [example, before] = this.history.pop();
    this.put(example, before);
    return example;
  }

  put(example, decision) {
    if (decision) this.made.set(example, decision);
    else this.made.delete(example);
    this.changed(example);
  }

  changed(example = null) {
    try {
      localStorage.setItem(storageKey, JSON.stringify([...this.made]));
    } catch {
      /* full, or a private window */
    }
    this.dispatchEvent(new CustomEvent("change", { detail: example }));
  }

  forget() {
    this.made.clear();
    this.history = [];
    this.changed();
  }

  toFile() {
    const rows = [...this.made]
      .sort(([a], [b]) => a - b)
      .map(([example, made]) => {
        const row = rowOf.get(example),
          known = { given: labelOf("given", row), source: labelOf("source", row) };
        return { example, ...made, ...Object.fromEntries(Object.entries(known).filter(([, value]) => value >= 0)) };
      });
    const { format, version } = facts.decisions;
    return {
      format,
      version,
      report: facts.title,
      num_examples: facts.num_examples,
      num_classes: facts.num_classes,
      fingerprints: facts.fingerprints,
      created: new Date().toISOString(),
      decisions: rows,
    };
  }

  // Returns what is wrong with a file, or null after taking its decisions.
  fromFile(text) {
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      return "This is no JSON file: choose one that this page has saved.";
    }
    if (file?.format !== facts.decisions.format || file.version !== facts.decisions.version)
      return "This is no decisions file of this version: choose one that this page has saved.";
    if (
      file.num_examples !== facts.num_examples ||
      JSON.stringify(file.fingerprints) !== JSON.stringify(facts.fingerprints)
    )
      return "These decisions are of another data set: choose a file that was saved from a report of this one.";
    for (const { example, decision, label } of file.decisions)
      if (rowOf.has(example) && decision in KINDS)
        this.made.set(example, decision === "relabel" ? { decision, label } : { decision });
    this.changed();
    return null;
  }
}

const decisions = new Decisions();

function download() {
  const url = URL.createObjectURL(
    new Blob([JSON.stringify(decisions.toFile(), null, 1)], { type: "application/json" }),
  );
  make("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
