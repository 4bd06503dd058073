// The page is whole without this. It adds sorting, hover boxes, CSV files and a copy button.
"use strict";

const tip = document.getElementById("tip");

function value(row, column) {
  const cell = row.cells[column];
  const text = "k" in cell.dataset ? cell.dataset.k : cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function missing(text) {
  return text === "" || text === "–" || text === "undefined";
}

function sort(table, column, header) {
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
  // Undefined stays last in both directions.
  rows.sort(([a], [b]) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return up ? order : -order;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, column, header));
    header.append(button);
  });
}

function csv(table) {
  // A cell that starts like a formula would be run by a spreadsheet; an apostrophe keeps it text. Numbers stay numbers.
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
  // Where a cell says 2 min 6 s, the file gets the number.
  const text = (cell) => (cell.tagName === "TD" && "k" in cell.dataset ? cell.dataset.k : cell.innerText.replaceAll("−", "-").replace(/\s+/g, " ").trim());
  const quote = (cell) => '"' + safe(text(cell)).replaceAll('"', '""') + '"';
  return [...table.rows].map((row) => [...row.cells].map(quote).join(",")).join("\r\n") + "\r\n";
}

for (const box of document.querySelectorAll(".box")) {
  const table = box.querySelector("table");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "csv";
  button.textContent = "CSV";
  button.setAttribute("aria-label", box.getAttribute("aria-label") + ": save as CSV");
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
    link.download = box.getAttribute("aria-label").toLowerCase().replaceAll(" ", "-") + ".csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  box.after(button);
}

// The browser's own hover text is slow and does not show on touch: the same words, at once.
for (const title of document.querySelectorAll("figure svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}

function show(event) {
  const mark = event.target.closest?.("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const place = mark.getBoundingClientRect();
  const left = place.left + place.width / 2 - tip.offsetWidth / 2;
  tip.style.left = Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (place.top > tip.offsetHeight + 12 ? place.top - tip.offsetHeight - 8 : place.bottom + 8) + "px";
}
document.addEventListener("pointerover", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => (tip.hidden = true), { passive: true, capture: true });

// The clipboard needs no network; where a browser withholds it, the text is selected instead.
for (const text of document.querySelectorAll(".copied")) {
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "csv";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", "Copy: " + text.getAttribute("aria-label"));
  copy.addEventListener("click", async () => {
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    try {
      await navigator.clipboard.writeText(getSelection().toString());
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected: press Ctrl+C";
    }
  });
  text.after(copy);
}

const folded = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    folded.push(part);
  }
});
addEventListener("afterprint", () => {
  for (const part of folded.splice(0)) part.open = false;
});
