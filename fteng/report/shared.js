// The page is whole without this. It adds hover boxes and CSV files.
"use strict";

const tip = document.getElementById("tip");

function words(cell) {
  // Parts of a cell stand below each other on the page: as one text they would run into each other.
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  const parts = [];
  while (walker.nextNode()) parts.push(walker.currentNode.data.trim());
  return parts.filter(Boolean).join(" ").replaceAll("−", "-").replace(/\s+/g, " ").replaceAll(" ,", ",");
}

function csv(table) {
  // A cell that starts like a formula would be run by a spreadsheet; an apostrophe keeps it text. Numbers stay numbers.
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text);
  // Where a cell says 2 min 6 s, the file gets the number.
  const text = (cell) => (cell.tagName === "TD" && "k" in cell.dataset ? cell.dataset.k : words(cell));
  const quote = (cell) => '"' + safe(text(cell)).replaceAll('"', '""') + '"';
  return [...table.rows].map((row) => [...row.cells].map(quote).join(",")).join("\r\n") + "\r\n";
}

for (const box of document.querySelectorAll(".box")) {
  const name = box.getAttribute("aria-label");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "csv";
  button.textContent = "CSV";
  button.setAttribute("aria-label", name + ": save as CSV");
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(box.querySelector("table"))], { type: "text/csv" }));
    link.download = name.toLowerCase().replaceAll(" ", "-") + ".csv";
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
