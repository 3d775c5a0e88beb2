"use strict";
// Sorting: numbers by value whatever follows them, words after numbers, blanks last in both directions.
const value = (cell) => cell.textContent.trim();
const numeric = (text) => {
  const found = /^[~+]?(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w-])/.exec(text);
  return found ? parseFloat(found[1].replace(/,/g, "")) : NaN;
};
function compare(a, b, sign) {
  if (!a || !b) return !a - !b;
  const x = numeric(a), y = numeric(b);
  if (isNaN(x) !== isNaN(y)) return isNaN(x) - isNaN(y);
  return sign * (isNaN(x) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
}
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, row = head.parentElement, body = head.closest("table").tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const at = head.cellIndex;
    const rows = [...body.rows].sort((a, b) => compare(value(a.cells[at]), value(b.cells[at]), sign));
    body.append(...rows);
  });
}

// Provenance: pointing or focusing shows a number's runs, selecting keeps them, Escape or the cross lets go.
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("from"), inside = panel.querySelector("div");
let kept = null;
function add(parent, tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}
function show(button) {
  const [place, model, items, runs, values] = data.cells[button.dataset.from];
  inside.replaceChildren();
  add(inside, "h5", `${model}: ${button.textContent}`);
  add(inside, "p", data.texts[place]);
  const many = runs.length === 1 ? "1 run" : `${runs.length} runs`;
  add(inside, "p", items ? `${many}, n = ${items} test items` : many);
  runs.forEach((at, index) => {
    const [id, seed, fold, status, command, commit, hardware, source, seconds, finished] = data.runs[at];
    const run = add(inside, "div", "", "run");
    const where = fold === null ? `seed ${seed}` : `seed ${seed}, fold ${fold}`;
    add(add(run, "p", ""), "b", `${where}: ${values[index] || status}`);
    add(run, "p", id);
    add(add(run, "p", ""), "code", data.texts[command]);
    add(run, "p", `commit ${data.texts[commit]}; ${data.texts[hardware]}; ${seconds} s, ${finished}`);
    add(run, "p", `data: ${data.texts[source]}`);
  });
  panel.hidden = false;
}
function drop() {
  if (kept) kept.removeAttribute("aria-expanded");
  kept = null;
  panel.hidden = true;
}
const cell = (event) => event.target.closest && event.target.closest(".from");
document.addEventListener("click", (event) => {
  const button = cell(event);
  if (event.target.closest(".close")) return drop();
  if (!button) return;
  const again = kept === button;
  drop();
  if (again) return;
  kept = button;
  button.setAttribute("aria-expanded", "true");
  show(button);
});
for (const name of ["mouseover", "focusin"]) {
  document.addEventListener(name, (event) => { if (cell(event) && !kept) show(cell(event)); });
}
for (const name of ["mouseout", "focusout"]) {
  document.addEventListener(name, (event) => { if (cell(event) && !kept) panel.hidden = true; });
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || panel.hidden) return;
  const back = kept;
  drop();
  if (back) back.focus({ preventScroll: true }), (panel.hidden = true);
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
