"use strict";
// Filter, sorting, copying. The page is complete without any of it.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const places = JSON.parse(document.getElementById("places").textContent); // {section: [{knob: value}]}
  const said = document.getElementById("said");

  // Filter: what has another value is hidden, in a figure faint. The address says what is asked for.
  function apply(filter) {
    const section = filter.dataset.section, name = filter.dataset.sweep + "/";
    const wanted = all("fieldset", filter)
      .map((set) => [set.dataset.knob, all("input:checked", set).map((box) => box.value)])
      .filter(([, values]) => values.length);
    const passes = places[section].map((place) =>
      wanted.every(([knob, values]) => !(knob in place) || values.includes(place[knob])));
    const page = document.getElementById(section);
    for (const line of all("tr[data-place], tbody[data-place]", page)) line.hidden = !passes[line.dataset.place];
    for (const mark of all("g[data-place]", page)) mark.classList.toggle("faint", !passes[mark.dataset.place]);
    for (const none of all(".none", page))
      none.hidden = !none.parentElement.querySelector("tbody tr") || !!none.parentElement.querySelector("tbody tr:not([hidden])");
    const groups = all("tbody[data-place]", page);
    const text = wanted.length ? `${groups.filter((group) => !group.hidden).length} of ${groups.length} places` : "";
    filter.querySelector(".state").textContent = text;
    const asked = new URLSearchParams(location.search);
    for (const key of [...asked.keys()]) if (key.startsWith(name)) asked.delete(key);
    for (const [knob, values] of wanted) for (const value of values) asked.append(name + knob, value);
    history.replaceState(null, "", (String(asked) && "?" + asked) + location.hash || location.pathname);
    return text || `all ${groups.length} places`;
  }
  const asked = new URLSearchParams(location.search);
  for (const filter of all(".filter")) {
    filter.hidden = false;
    filter.addEventListener("change", () => { said.textContent = apply(filter); });
    filter.querySelector(".all").addEventListener("click", () => {
      for (const box of all("input", filter)) box.checked = false;
      said.textContent = apply(filter);
    });
    for (const set of all("fieldset", filter)) {
      const values = asked.getAll(filter.dataset.sweep + "/" + set.dataset.knob);
      for (const box of all("input", set)) box.checked = values.includes(box.value);
    }
    if (all("input:checked", filter).length) { filter.open = true; apply(filter); }
  }

  // Sorting: up, down, as it was. What has no number comes last.
  function sortBy(table, column, direction) {
    const value = (row) => "value" in row.cells[column].dataset ? Number(row.cells[column].dataset.value) : null;
    const text = (row) => row.cells[column].textContent;
    const rows = table.lines.slice(), numeric = rows.some((row) => value(row) !== null);
    const compare = (one, other) => numeric
      ? (value(one) === null) - (value(other) === null) || direction * (value(one) - value(other))
      : direction * text(one).localeCompare(text(other), "en", { numeric: true });
    if (direction) rows.sort(compare);
    table.tBodies[0].append(...rows);
  }
  for (const table of all("table:not(.list)")) {
    table.lines = [...table.tBodies[0].rows];
    if (table.lines.length < 2) continue;
    all("thead th", table).forEach((head, column) => {
      // Chromium prints no <button> in a heading that it repeats on the next sheet.
      const sorter = document.createElement("span");
      sorter.setAttribute("role", "button");
      sorter.tabIndex = 0;
      sorter.append(...head.childNodes);
      head.append(sorter);
      sorter.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sorter.click();
      });
      sorter.addEventListener("click", () => {
        const direction = { ascending: -1, descending: 0 }[head.getAttribute("aria-sort")] ?? 1;
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        if (direction) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        table.toggleAttribute("data-sorted", direction !== 0);
        sortBy(table, column, direction);
      });
    });
  }

  // Copying: a table as it stands there as CSV, or its TeX.
  const field = (cell) => {
    const text = cell.textContent.trim().replaceAll("\u2212", "-");
    const safe = /^[=+\-@]/.test(text) && isNaN(text) ? "'" + text : text; // or a spreadsheet calculates it
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (table) => [...table.rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].map(field).join(",") + "\r\n").join("");
  async function copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied`;
    } catch { // served without https, or not allowed
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = text;
      area.select();
      said.textContent = document.execCommand("copy") ? `${what} copied` : `${what} cannot be copied here`;
      area.remove();
    }
  }
  for (const table of all("table:not(.list)")) {
    const block = table.closest(".block"), source = block.querySelector(".source pre");
    const bar = document.createElement("p");
    bar.className = "copy";
    for (const [what, text] of [["CSV", () => csv(table)], ["TeX", source && (() => source.textContent)]]) {
      if (!text) continue;
      const button = bar.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = `Copy as ${what}`;
      button.addEventListener("click", async () => {
        await copy(text(), what);
        button.textContent = said.textContent;
        setTimeout(() => { button.textContent = `Copy as ${what}`; }, 2000);
      });
    }
    block.querySelector(".title").append(bar);
    if (source) source.parentElement.hidden = true;
  }

  // What is wider than the page is scrolled with the keyboard, too.
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const wide = target.scrollWidth > target.clientWidth + 1;
      for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", target.dataset.label]])
        wide ? target.setAttribute(name, value) : target.removeAttribute(name);
    }
  });
  for (const box of all(".scroll")) widths.observe(box);

  // A link into something closed opens it, in every browser.
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    if (event.target.closest("a[href^='#']")) setTimeout(reveal); // the same link twice changes no hash
  });
  reveal();

  // On paper everything is open but the TeX.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open]):not(.source):not(.filter)");
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of closed) each.open = false; });
})();
