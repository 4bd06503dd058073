// What only the page of one study has: sorting and a copy button.

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
