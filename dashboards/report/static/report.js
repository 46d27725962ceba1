// Everything a report does in the browser: theme, sorting, filtering, figures, token highlights. No library but plotly.
"use strict";
(() => {
  const root = document.documentElement;
  const themes = ["system", "light", "dark"];
  const remembered = (() => { try { return localStorage.getItem("orch-theme"); } catch { return null; } })();
  let theme = themes.includes(remembered) ? remembered : "system";
  const showTheme = () => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
  };
  showTheme(); // before the first paint

  document.addEventListener("DOMContentLoaded", () => {
    root.dataset.ready = "";
    setUpTheme();
    document.querySelectorAll("table.sortable").forEach(setUpSorting);
    document.querySelectorAll("input[data-filters]").forEach(setUpFilter);
    document.querySelectorAll(".tokens-view").forEach(setUpTokens);
    setUpFigures();
  });

  function setUpTheme() {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${theme}`; };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      try { localStorage.setItem("orch-theme", theme); } catch { /* private windows remember nothing */ }
      showTheme();
      show();
      redrawFigures();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawFigures);
  }

  // Sorting: empty cells last either way, ties in the order they came; a third click restores that order.
  function setUpSorting(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const isNumber = original.some((row) => row.cells[column].dataset.sort !== undefined);
        const order = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
        const next = order[order.indexOf(header.getAttribute("aria-sort")) + 1];
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) header.setAttribute("aria-sort", next);
        body.append(...(next ? sorted(original, column, next) : original));
      });
    });
  }

  function sorted(rows, column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => {
      const cell = row.cells[column];
      const text = (cell.dataset.sort ?? cell.textContent).trim();
      return { row, text, number: text === "" ? NaN : Number(text), isEmpty: text === "" || text === "–" };
    });
    const areNumbers = keyed.every((one) => one.isEmpty || !Number.isNaN(one.number));
    const compare = areNumbers
      ? (a, b) => sign * (a.number - b.number)
      : (a, b) => sign * a.text.localeCompare(b.text, "en", { numeric: true });
    keyed.sort((a, b) => a.isEmpty - b.isEmpty || (a.isEmpty ? 0 : compare(a, b)));
    return keyed.map((one) => one.row);
  }

  // Filtering: a row stays if it holds every word.
  function setUpFilter(input) {
    const table = document.getElementById(input.dataset.filters);
    const output = input.parentElement.querySelector("output");
    let texts = null;
    const apply = () => {
      texts ??= [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, text] of texts) {
        const isShown = words.every((word) => text.includes(word));
        if (row.hidden === isShown) row.hidden = !isShown;
        count += isShown;
      }
      output.textContent = words.length ? `${count} of ${texts.length} rows` : "";
    };
    input.addEventListener("input", apply);
    if (input.value) apply(); // a value that the browser kept over a reload
  }

  function setUpTokens(view) {
    const spans = [...view.querySelectorAll("[data-by]")].map((span) => [span, span.dataset.by.split(" ")]);
    const show = () => {
      const method = view.querySelector("input:checked").value;
      for (const [span, methods] of spans) span.classList.toggle("on", methods.includes(method));
    };
    view.addEventListener("change", show);
    show();
  }

  // Figures are drawn when they come into view, in the page's colours.
  function setUpFigures() {
    const figures = document.querySelectorAll(".drawing");
    if (!figures.length || !window.Plotly) return;
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "300px" });
    figures.forEach((figure) => watcher.observe(figure));
  }

  function draw(figure) {
    const style = getComputedStyle(root);
    const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
    for (const plot of figure.querySelectorAll(".plot")) {
      const { data, layout } = JSON.parse(plot.parentElement.querySelector("script").textContent);
      Object.assign(layout, { paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: ink } });
      Object.assign(layout.xaxis, axis);
      Object.assign(layout.yaxis, axis);
      Plotly.react(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
    figure.dataset.drawn = "";
  }

  function redrawFigures() {
    document.querySelectorAll(".drawing[data-drawn]").forEach(draw);
  }
})();
