"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const sections = all("main > section details.cell");

  for (const button of all("button[hidden]")) button.hidden = false;

  // A wide table is a region of its own: it can be focused and scrolled by keyboard. So can long lines of code.
  const mark = () => {
    for (const code of all("pre.code")) code.tabIndex = code.scrollWidth > code.clientWidth ? 0 : -1;
    for (const region of all(".scroll")) {
      const wide = region.scrollWidth > region.clientWidth;
      const caption = region.querySelector("caption");
      if (wide && caption) {
        region.tabIndex = 0;
        region.setAttribute("role", "region");
        region.setAttribute("aria-label", caption.textContent.trim());
      } else if (!wide) {
        for (const name of ["tabindex", "role", "aria-label"]) region.removeAttribute(name);
      }
    }
  };
  addEventListener("resize", mark);
  document.addEventListener("toggle", mark, true);
  mark();

  // Cells of the matrix say whether their section is open.
  const tell = (section) => {
    const body = section.querySelector(":scope > .body");
    for (const link of body ? all(`a[aria-controls="${CSS.escape(body.id)}"]`) : []) {
      link.setAttribute("aria-expanded", String(section.open));
    }
  };
  for (const section of sections) {
    tell(section);
    section.addEventListener("toggle", () => tell(section));
  }

  // An address opens the section that it names, from a cell, a link, or outside.
  const reveal = (hash) => {
    const target = document.getElementById(decodeURIComponent(hash.slice(1)));
    const section = target && target.closest("details.cell");
    if (!section) return;
    for (let one = section; one; one = one.parentElement.closest("details")) one.open = true;
    section.scrollIntoView();
    section.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", () => reveal(location.hash));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal(link.hash);
  });
  if (location.hash) reveal(location.hash);

  for (const button of all("button[data-open]")) {
    button.addEventListener("click", () => {
      for (const section of all("details.cell", button.closest("section"))) {
        section.open = button.dataset.open === "all";
      }
    });
  }

  // On paper nobody opens anything: every verdict's sentence is printed, and of the details what was left open.
  const unsaid = all("details.more:not([open]):has(.said)");
  addEventListener("beforeprint", () => { for (const one of unsaid) one.open = true; });
  addEventListener("afterprint", () => { for (const one of unsaid) one.open = false; });

  // Chips show only what has an outcome, or is on a recipe: of each kind those that are pressed.
  const pressed = { outcome: new Set(), recipe: new Set() };
  const wanted = (one) =>
    Object.entries(pressed).every(([kind, values]) => !values.size || values.has(one.dataset[kind]));
  const choose = (chip) => {
    const values = pressed[chip.dataset.only], value = chip.dataset.value;
    if (!values.delete(value)) values.add(value);
    chip.setAttribute("aria-pressed", String(values.has(value)));
    for (const one of all("[data-outcome]")) {
      if (one.tagName === "TD") one.classList.toggle("apart", !wanted(one));
      else one.hidden = !wanted(one);
    }
    const rest = document.querySelector("section > details.more:has(.said)");
    if (rest && (pressed.outcome.size || pressed.recipe.size)) rest.open = true;
  };
  for (const chip of all("[data-only]")) {
    chip.setAttribute("role", "button");
    chip.setAttribute("aria-pressed", "false");
    chip.tabIndex = 0;
    chip.addEventListener("click", () => choose(chip));
    chip.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(chip);
    });
  }

  // A plain table is sorted by a click on a heading: up, down, as it was. Numbers by their size, the rest as words.
  const value = (row, place) => {
    const text = row.cells[place].textContent.trim();
    const number = parseFloat(text.replace("\u2212", "-").replace("\u221e", "Infinity"));
    return Number.isNaN(number) ? text : number;
  };
  const compared = (one, other) =>
    typeof one === typeof other && typeof one === "number"
      ? one - other
      : (typeof one > typeof other) - (typeof one < typeof other) || String(one).localeCompare(String(other));
  const ORDERS = { none: "ascending", ascending: "descending", descending: "none" };
  for (const table of all("table")) {
    const [head, ...more] = table.tHead ? table.tHead.rows : [];
    const rows = table.tBodies.length === 1 ? [...table.tBodies[0].rows] : [];
    if (!head || more.length || rows.length < 3 || table.querySelector("tbody [rowspan], thead [colspan]")) continue;
    const grouped = table.classList.contains("grouped");
    [...head.cells].forEach((cell, place) => {
      if (!cell.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const order = ORDERS[cell.getAttribute("aria-sort") || "none"];
        for (const one of head.cells) one.removeAttribute("aria-sort");
        const sign = order === "descending" ? -1 : 1, sorted = [...rows];
        if (order !== "none") {
          cell.setAttribute("aria-sort", order);
          sorted.sort((one, other) => sign * compared(value(one, place), value(other, place)));
        }
        table.classList.toggle("grouped", grouped && order === "none");
        table.tBodies[0].append(...sorted);
      });
    });
  }

  // A chart as a file: with its heading, its notes and its styles, readable by itself.
  const LINE = 13, LETTERS = 54;
  const lines = (text) => text.match(new RegExp(`\\S.{0,${LETTERS - 1}}(?=\\s|$)|\\S{1,${LETTERS}}`, "g")) || [];
  const heading = (chart) => chart.getAttribute("aria-label").slice(0, chart.dataset.head);
  const file = (chart) => {
    const copy = chart.cloneNode(true);
    const [, , width, height] = copy.getAttribute("viewBox").split(" ").map(Number);
    const add = (name, text) => {
      const one = copy.appendChild(document.createElementNS(copy.namespaceURI, name));
      one.textContent = text;
      return one;
    };
    const write = (text, y, look) => {
      const one = add("text", text);
      for (const [name, value] of Object.entries({ x: 6, y, class: `start ${look}` })) one.setAttribute(name, value);
    };
    const head = lines(heading(chart)), notes = lines(chart.dataset.notes);
    head.forEach((text, place) => write(text, -LINE * (head.length - place - 0.6), "head"));
    notes.forEach((text, place) => write(text, height + LINE * (place + 0.8), "note"));
    const above = LINE * (head.length + 0.5), full = height + above + LINE * (notes.length + 0.5);
    copy.setAttribute("viewBox", [0, -above, width, full].join(" "));
    copy.setAttribute("width", width);
    copy.setAttribute("height", full);
    for (const dot of copy.querySelectorAll("circle")) dot.setAttribute("r", 2.4); // not all programs read it from a style
    for (const name of ["data-name", "data-head", "data-notes"]) copy.removeAttribute(name);
    copy.prepend(add("style", document.getElementById("figure-style").textContent));
    return new XMLSerializer().serializeToString(copy) + "\n";
  };
  const download = (chart) => {
    const link = document.createElement("a"), part = chart.closest(".body").id;
    link.href = URL.createObjectURL(new Blob([file(chart)], { type: "image/svg+xml" }));
    link.download = `${document.body.dataset.study}-${part}-${chart.dataset.name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  for (const chart of all("svg.chart")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "download quiet-button";
    button.textContent = "Download SVG";
    button.setAttribute("aria-label", `Download SVG of ${heading(chart)}`);
    button.addEventListener("click", () => download(chart));
    chart.after(button);
  }
})();
