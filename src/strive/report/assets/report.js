"use strict";
// Theme, plots, filter, sorting, printing. The page is whole without any of it.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // Which values of which knobs are asked for, by section: {section: Map(knob -> Set of values)}
  const wanted = {};
  const sectionOf = (element) => element.closest(".sweep").id;
  const passes = (section, factors) =>
    [...(wanted[section] || [])].every(([knob, values]) => !(knob in factors) || values.has(factors[knob]));

  // Theme: the system's, until the reader chooses.
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("strive-theme"); } catch { /* some browsers keep nothing for files */ }
  const button = document.getElementById("theme");
  const isDark = () => (chosen ? chosen === "dark" : system.matches);
  function showTheme(dark) {
    root.classList.toggle("dark", dark);
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Light page" : "Dark page");
    for (const plot of drawn) draw(plot);
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    try { localStorage.setItem("strive-theme", chosen); } catch { /* as above */ }
    showTheme(isDark());
  });
  system.addEventListener("change", () => showTheme(isDark()));

  // Plots are drawn when they come into sight: a page may have hundreds.
  const drawn = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) draw(target);
  }, { rootMargin: "400px" });
  const CONFIG = { displayModeBar: false, doubleClick: false, showTips: false };

  function colours() {
    const style = getComputedStyle(root);
    const get = (name) => style.getPropertyValue(name).trim();
    return { ink: get("--ink"), faint: get("--faint"), rule: get("--rule"), band: get("--band"), font: get("--sans"),
      series: [0, 1, 2, 3, 4, 5, 6, 7].map((number) => get("--s" + number)) };
  }
  function coloured(trace, theme) {
    const colour = theme.series[trace.meta.colour];
    const copy = { ...trace, textfont: { color: theme.faint, size: 11 } };
    for (const part of ["line", "marker", "error_x", "error_y"]) if (trace[part]) copy[part] = { ...trace[part], color: colour };
    return copy;
  }
  function themed(layout, theme) {
    const axis = (own) => ({ ...own, gridcolor: theme.rule, linecolor: theme.rule, tickcolor: theme.rule });
    const shape = (own) => own.name === "margin" ? { ...own, fillcolor: theme.band } : { ...own, line: { color: theme.faint, width: 1 } };
    return { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: theme.font, size: 12, color: theme.ink }, hoverlabel: { font: { family: theme.font, size: 12 } },
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), shapes: (layout.shapes || []).map(shape) };
  }
  // A plot with a line for each condition: those that pass the filter move together.
  function closedUp(traces, layout) {
    const placed = traces.map((trace, number) => ({ ...trace, y: trace.y.map(() => number) }));
    const meta = layout.meta;
    return [placed, { ...layout, height: meta.around_px + meta.line_px * Math.max(1, traces.length),
      yaxis: { ...layout.yaxis, range: [traces.length - 0.5, -0.5], tickvals: traces.map((_, number) => number),
        ticktext: traces.map((trace) => trace.meta.label) } }];
  }
  function draw(plot) {
    drawn.add(plot);
    const { most, section } = plot.figure;
    let { traces, layout } = plot.figure;
    traces = traces.filter((trace) => passes(section, trace.meta.factors));
    if (layout.meta && layout.meta.lines) [traces, layout] = closedUp(traces.slice(0, most), layout);
    const theme = colours();
    plot.style.height = layout.height + "px";
    plot.width = plot.clientWidth;
    const sized = { ...themed(layout, theme), width: plot.width };
    Plotly.react(plot, traces.map((trace) => coloured(trace, theme)), sized, CONFIG);
  }
  // Plotly's own way comes too late for paper, which is laid out at once.
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (drawn.has(target) && target.clientWidth && target.clientWidth !== target.width) draw(target);
    }
  });
  for (const figure of all("[data-figure]")) {
    const { panels, layout, most } = data.figures[figure.dataset.figure];
    all(".plot", figure).forEach((plot, number) => {
      plot.figure = { traces: panels[number], layout, most, section: sectionOf(figure) };
      observer.observe(plot);
      resized.observe(plot);
    });
  }
  // Panels without a line that passes the filter are hidden, and those beyond the most that are shown at once.
  function arrange(figure) {
    const { panels, layout, most } = data.figures[figure.dataset.figure];
    const section = sectionOf(figure);
    const passing = panels.map((traces) => traces.filter((trace) => passes(section, trace.meta.factors)).length);
    const lines = panels.length === 1 && layout.meta && layout.meta.lines;
    let shown = 0;
    all(".panel", figure).forEach((panel, number) => {
      panel.hidden = !passing[number] || shown >= most;
      if (passing[number]) shown += 1;
    });
    const count = lines ? passing[0] : shown;
    const more = figure.querySelector(".more");
    more.hidden = count > 0 && count <= most;
    more.textContent = count ? `The first ${most} of ${count}; the filter brings the others.` : "Nothing has the values that the filter asks for.";
  }

  // Filter
  function showFiltered(section) {
    const page = document.getElementById(section);
    for (const box of all("[data-table]", page)) {
      const rows = all("tr[data-line]", box);
      const factors = data.tables[box.dataset.table]?.factors || [];
      for (const row of rows) row.hidden = !passes(section, factors[row.dataset.line] || {});
      box.nextElementSibling.hidden = !rows.length || rows.some((row) => !row.hidden);
    }
    const groups = all("tbody[data-factors]", page);
    for (const group of groups) group.hidden = !passes(section, JSON.parse(group.dataset.factors));
    for (const figure of all("[data-figure]", page)) {
      arrange(figure);
      for (const plot of all(".plot", figure)) if (drawn.has(plot) && !plot.parentElement.hidden) draw(plot);
    }
    return [groups.filter((group) => !group.hidden).length, groups.length];
  }
  for (const filter of all(".filter")) {
    const section = filter.dataset.section;
    filter.hidden = false;
    const apply = () => {
      const sets = all("fieldset", filter).map((set) => [set.dataset.knob, all("input:checked", set).map((box) => box.value)]);
      wanted[section] = new Map(sets.filter(([, values]) => values.length).map(([knob, values]) => [knob, new Set(values)]));
      const [shown, count] = showFiltered(section);
      const text = wanted[section].size ? `${shown} of ${count} places` : "";
      filter.querySelector(".state").textContent = text;
      document.getElementById("said").textContent = text || `all ${count} places`;
    };
    filter.addEventListener("change", apply);
    filter.querySelector(".all").addEventListener("click", () => {
      for (const box of all("input", filter)) box.checked = false;
      apply();
    });
  }
  for (const figure of all("[data-figure]")) arrange(figure);

  // Sorting: up, down, as it was. What has no number comes last.
  function sortBy(table, column, lines, direction) {
    const value = (row) => lines.values[row.dataset.line][column] ?? null;
    const rows = all("tr[data-line]", table);
    const numeric = rows.some((row) => value(row) !== null);
    const text = (row) => row.cells[column].textContent.trim();
    const compare = (one, other) => numeric
      ? (value(one) === null) - (value(other) === null) || direction * (value(one) - value(other))
      : direction * text(one).localeCompare(text(other), "en", { numeric: true });
    rows.sort((one, other) => (direction && compare(one, other)) || one.dataset.line - other.dataset.line);
    rows[0]?.parentElement.append(...rows);
  }
  for (const box of all("[data-table]")) {
    const lines = data.tables[box.dataset.table];
    const table = box.querySelector("table");
    if (!lines || lines.values.length < 2) continue;
    all("thead th", table).forEach((head, column) => {
      // Chromium prints no <button> in a heading that it repeats on the next sheet.
      const sorter = document.createElement("span");
      sorter.setAttribute("role", "button");
      sorter.tabIndex = 0;
      sorter.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sorter.click();
      });
      sorter.append(...head.childNodes);
      head.append(sorter);
      sorter.addEventListener("click", () => {
        const direction = { ascending: -1, descending: 0 }[head.getAttribute("aria-sort")] ?? 1;
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        if (direction) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
        table.toggleAttribute("data-sorted", direction !== 0);
        sortBy(table, column, lines, direction);
      });
    });
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

  // What the keyboard or a link goes to must not lie below the filter.
  const bars = new ResizeObserver(() => {
    const heights = all(".filter").map((bar) => bar.offsetHeight);
    root.style.scrollPaddingTop = Math.max(0, ...heights) + 8 + "px";
  });
  for (const bar of all(".filter")) bars.observe(bar);

  // A link into something closed opens it.
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    // The same link twice changes no hash.
    if (event.target.closest("a[href^='#']")) setTimeout(reveal);
  });
  reveal();

  // On paper everything is open, light, and drawn at the width of the paper.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const each of closed) each.open = true;
    root.classList.add("printing");
    root.classList.remove("dark");
    for (const plot of all(".panel:not([hidden]) .plot")) draw(plot);
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    root.classList.remove("printing");
    showTheme(isDark());
  });
  showTheme(isDark());
})();
