// ---------------------------------------------------------------- data: the columns of numbers, and how they are written
const facts = JSON.parse(document.getElementById("facts").textContent);
const TYPES = {
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
};
const size = facts.num_rows; // rows of the page; each row is one example
const FRACTION_STEPS = 65534; // of two bytes; one more stands for unknown

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function readColumns() {
  const stream = new Blob([bytesOf("arrays")]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const columns = {};
  for (const [name, { kind, offset, length }] of Object.entries(facts.arrays)) {
    if (kind !== "fraction") columns[name] = new TYPES[kind](buffer, offset, length);
    else
      columns[name] = Float32Array.from(new Uint16Array(buffer, offset, length), (step) =>
        step > FRACTION_STEPS ? NaN : step / FRACTION_STEPS,
      );
  }
  return columns;
}

const columns = await readColumns();
const has = (name) => name in columns;
const hardnessIn = (run) => columns.hardness.subarray(run * size, (run + 1) * size);
const rowOf = new Map(Array.from(columns.example, (example, row) => [example, row]));

const hasLabels = columns.given.some((label) => label >= 0);
const numClasses = Math.max(facts.num_classes ?? 0, facts.class_names?.length ?? 0);
const className = (label) => (label < 0 || label === undefined ? "–" : (facts.class_names?.[label] ?? String(label)));
const labelOf = (name, row) => (has(name) ? columns[name][row] : -1);
const spoken = (name) => name.replaceAll("_", " ");
const titled = (name) => spoken(name)[0].toUpperCase() + spoken(name).slice(1);
const whole = (value) => value.toLocaleString("en-US");
const percent = (share) => `${(100 * share).toFixed(share < 0.01 ? 1 : 0)} %`;

const fraction = (value) => (value === value ? value.toFixed(2) : "–");

function digits(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return whole(Math.round(value));
  if (size >= 0.095 || size === 0) return value.toFixed(2);
  return size >= 0.0001 ? String(Number(value.toPrecision(2))) : value.toExponential(1);
}

// ---------------------------------------------------------------- pictures: cut out of one run of bytes when first shown
const pictureBytes = bytesOf("pictures");
const pictureAt = new Map(facts.pictures.examples.map((example, place) => [example, place]));
const pictureUrls = new Map();

function pictureUrl(example) {
  const place = pictureAt.get(example);
  if (place === undefined) return null;
  if (!pictureUrls.has(place)) {
    const part = pictureBytes.subarray(place ? facts.pictures.ends[place - 1] : 0, facts.pictures.ends[place]);
    pictureUrls.set(place, URL.createObjectURL(new Blob([part], { type: `image/${facts.pictures.kind}` })));
  }
  return pictureUrls.get(place);
}

// ---------------------------------------------------------------- elements: text is always text, never HTML
function make(tag, { text, children = [], ...properties } = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

function pictureOf(row, className) {
  const example = columns.example[row],
    url = pictureUrl(example);
  if (url) {
    const image = make("img", { src: url, className, alt: altOf(row) });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 44));
    return image;
  }
  const text = facts.texts[example];
  return text ? make("span", { className: "snippet", text, title: text }) : null;
}
const givenName = (row) => className(labelOf("given", row));
const altOf = (row) => `Example ${columns.example[row]}` + (hasLabels ? `, given label ${givenName(row)}` : "");
