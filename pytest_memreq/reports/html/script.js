
"use strict";
(() => {
  const UNITS = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, "%": 1 };
  const make = (tag, props) => Object.assign(document.createElement(tag), props);
  const body = document.querySelector("table.tests tbody");
  let rows = [...body.rows];
  const text = (row, column) => row.cells[column].textContent.trim();

  // The first size in a cell; what is not known or not set is below all others.
  const size = (shown) => {
    const found = /^([+-]?[0-9.]+) ?([KMGT]?i?B|%)/.exec(shown);
    return found ? Number(found[1]) * UNITS[found[2]] : shown === "same" ? 0 : -Infinity;
  };
  const key = (row, column) => (column < 2 ? text(row, column) : size(text(row, column)));

  const search = make("input", { type: "search", placeholder: "Filter by name", ariaLabel: "Filter tests by name" });
  const choice = make("select", { ariaLabel: "Filter tests by verdict" });
  choice.append(make("option", { value: "", textContent: "all verdicts" }));
  for (const verdict of new Set(rows.map((row) => text(row, 0)))) {
    choice.append(make("option", { value: verdict, textContent: verdict }));
  }
  const count = make("span", { className: "quiet" });
  count.setAttribute("role", "status");
  const all = make("button", { type: "button", textContent: "Show all" });

  // Ten thousand rows take a browser seconds to lay out, and nobody reads them all.
  let most = 500;
  const filter = () => {
    const wanted = search.value.toLowerCase();
    let fitting = 0;
    for (const row of rows) {
      const fits = text(row, 1).toLowerCase().includes(wanted) && (!choice.value || text(row, 0) === choice.value);
      fitting += fits;
      row.hidden = !fits || fitting > most;
    }
    all.hidden = fitting <= most;
    count.textContent = `${Math.min(fitting, most)} of ${fitting} shown`;
  };
  search.addEventListener("input", filter);
  choice.addEventListener("change", filter);
  all.addEventListener("click", () => {
    most = Infinity;
    filter();
  });

  let sorted = null;
  const sort = (head, column) => {
    const falls = sorted === column ? head.getAttribute("aria-sort") !== "descending" : column >= 2;
    const keyed = rows.map((row, at) => [key(row, column), at, row]);
    keyed.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) * (falls ? -1 : 1) || a[1] - b[1]);
    rows = keyed.map((each) => each[2]);
    body.append(...rows);
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    sorted = column;
    filter();
  };
  [...document.querySelectorAll("table.tests thead th")].forEach((head, column) => {
    const button = make("button", { type: "button", textContent: head.textContent, title: "Sort" });
    button.addEventListener("click", () => sort(head, column));
    head.replaceChildren(button);
  });
  if (rows.length > 1) {
    document.getElementById("controls").append(search, choice, count, all);
    filter();
  }

  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const details = target && target.querySelector("details");
    if (details) details.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
