"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const sections = all("main > section details.cell");

  for (const button of all("button[hidden]")) button.hidden = false;

  // A wide table is a region of its own: it can be focused and scrolled by keyboard.
  const mark = () => {
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

  // A chart as a file: with its heading, its notes and its styles, readable by itself.
  const file = (chart) => {
    const copy = chart.cloneNode(true);
    const [x, y, width, height] = chart.dataset.full.split(" ").map(Number);
    const style = document.createElementNS(copy.namespaceURI, "style");
    style.textContent = document.getElementById("figure-style").textContent;
    copy.setAttribute("viewBox", [x, y, width, height].join(" "));
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.removeAttribute("data-full");
    copy.prepend(style);
    return new XMLSerializer().serializeToString(copy) + "\n";
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.download");
    if (!button) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(
      new Blob([file(button.closest("figure").querySelector("svg.chart"))], { type: "image/svg+xml" }),
    );
    link.download = button.dataset.name + ".svg";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
})();
