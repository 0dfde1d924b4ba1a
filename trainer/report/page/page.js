"use strict";

/* Dark or light, for as long as the page is open. */
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  button.hidden = false;
  show();
}

/* Each column's head becomes a button: ascending, descending, and the order of the page again. */
{
  const collator = new Intl.Collator(undefined, { numeric: true });
  const keyOf = (row, place, number) => {
    const cell = row.cells[place];
    if ("missing" in cell.dataset) return null;
    return number ? Number(cell.dataset.value) : cell.textContent;
  };

  const sorted = (rows, place, number, sign) => {
    const keyed = rows.map((row) => [keyOf(row, place, number), row]);
    keyed.sort(([one], [other]) => {
      if (one === null || other === null) return (one === null) - (other === null);
      return sign * (number ? one - other : collator.compare(one, other));
    });
    return keyed.map(([, row]) => row);
  };

  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      if (head.tagName !== "TH") return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        for (const one of heads) one.removeAttribute("aria-sort");
        const after = { ascending: "descending", descending: null }[before];
        const order = after === undefined ? "ascending" : after;
        if (order) head.setAttribute("aria-sort", order);
        const number = head.classList.contains("number");
        const sign = order === "descending" ? -1 : 1;
        body.append(...(order ? sorted(original, place, number, sign) : original));
      });
    });
  }
}

/* A box shows on which sides there is more; what fits needs no stop of the Tab key to be scrolled. */
{
  const look = (box) => {
    const right = box.scrollWidth - box.clientWidth - box.scrollLeft > 1;
    const below = box.scrollHeight - box.clientHeight - box.scrollTop > 1;
    box.dataset.more = [right && "right", below && "below"].filter(Boolean).join(" ");
    const fits = box.scrollWidth <= box.clientWidth && box.scrollHeight <= box.clientHeight;
    box.tabIndex = fits ? -1 : 0;
  };
  const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => look(target)));
  for (const box of document.querySelectorAll(".scroll")) {
    observer.observe(box);
    box.addEventListener("scroll", () => look(box), { passive: true });
  }
}

/* Commands are copied; where the browser does not allow it, they are selected instead. */
{
  const select = (code) => {
    const selection = getSelection();
    selection.removeAllRanges();
    selection.selectAllChildren(code);
  };
  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      select(code);
      return document.execCommand("copy");
    }
  };
  for (const figure of document.querySelectorAll(".command")) {
    const code = figure.querySelector("code");
    const button = document.createElement("button");
    const status = document.createElement("span");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    status.className = "status";
    status.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      status.textContent = (await copy(code)) ? "Copied" : "Selected: press Ctrl+C";
    });
    code.closest("div").append(button);
    figure.append(status);
  }
}

/* Print shows what is folded, and folds it again. */
{
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
}

/* The contents say where the reader is. */
{
  const links = new Map();
  for (const link of document.querySelectorAll("nav a")) {
    links.set(link.getAttribute("href").slice(1), link);
  }
  const sections = [...document.querySelectorAll("main > section")];
  const mark = () => {
    const line = innerHeight / 3;
    const passed = sections.filter((one) => one.getBoundingClientRect().top <= line);
    // A last section shorter than the window never comes up to the line.
    const atEnd = scrollY > 0 && innerHeight + scrollY >= document.body.scrollHeight - 2;
    const here = atEnd ? sections.at(-1) : passed.at(-1);
    for (const [id, link] of links) {
      if (here && here.id === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener(
    "scroll",
    () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        mark();
      });
    },
    { passive: true },
  );
  mark();
}
