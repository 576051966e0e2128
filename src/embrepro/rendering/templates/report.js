"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Theme: follows the system until the reader chooses; a browser that keeps nothing for files still switches.
  const remembered = () => { try { return localStorage.getItem("embrepro-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("embrepro-theme", theme); } catch { /* not kept */ } };
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.getElementById("theme");
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to the ${dark() ? "light" : "dark"} theme`); };
  if (remembered() === "dark" || remembered() === "light") root.dataset.theme = remembered();
  button.hidden = false;
  label();
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); label(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);

  // Sorting: numbers by value, words by the reader's alphabet, cells without a value always last.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number(text);
    const empty = text === "" || text === "–" || (cell.classList.contains("num") && Number.isNaN(number));
    return { text, number, empty };
  };
  const compare = (a, b, sign) => {
    if (a.empty || b.empty) return Number(a.empty) - Number(b.empty);
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
    return sign * a.text.localeCompare(b.text, "en", { numeric: true });
  };
  const sort = (table, column, head) => {
    const falling = head.getAttribute("aria-sort") === "ascending"
      || (head.classList.contains("num") && head.getAttribute("aria-sort") !== "descending");
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row, column) }));
    rows.sort((a, b) => compare(a.key, b.key, falling ? -1 : 1));
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };
  // On a phone rows are cards and the heads are gone: a list takes their place.
  for (const choice of document.querySelectorAll("select[data-sorts]")) {
    const table = document.getElementById(choice.dataset.sorts);
    const listed = [...table.tBodies[0].rows];
    choice.addEventListener("change", () => {
      const head = table.tHead.rows[0].cells[Number(choice.value)];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (choice.value === "") table.tBodies[0].append(...listed);
      else sort(table, Number(choice.value), head);
    });
  }
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const title = head.querySelector(".head");
      const control = document.createElement("button");
      control.type = "button";
      control.className = "sort";
      control.append(...title.childNodes);
      title.replaceChildren(control);
      control.addEventListener("click", () => sort(table, column, head));
    });
  }

  for (const field of document.querySelectorAll("input[data-filters]")) {
    const rows = [...document.getElementById(field.dataset.filters).tBodies[0].rows];
    const said = field.closest(".tools").querySelector("output");
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      said.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    });
  }

  // Paper has no clicks: what is folded away is printed.
  addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
})();
