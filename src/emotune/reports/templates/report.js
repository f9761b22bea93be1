// The script of report.html: tables that sort and filter, a slider of the threshold for each label, and filters of the
// wrong texts. Its data is the JSON beside it; names and texts only ever become text nodes, never markup.
"use strict";
(() => {
  const data = JSON.parse(document.currentScript.previousElementSibling.textContent);

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  let controls = 0;
  const named = (words, control) => {
    control.name = `control-${++controls}`;
    return make("label", {className: "control"}, words + " ", control);
  };
  const search = (words, find) => {
    const input = make("input", {type: "search"});
    input.addEventListener("input", () => find(input.value.trim().toLowerCase()));
    return named(words, input);
  };

  // --- tables ---

  const UNITS = {M: 1e6, h: 3600, min: 60, s: 1, ms: 1e-3, "µs": 1e-6, GB: 1e9, MB: 1e6, kB: 1e3};
  const number = text => {
    const found = text.replace(/,/g, "").match(/([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(\p{L}*)/u);
    return found ? Number(found[1]) * (UNITS[found[2]] ?? 1) : -Infinity; // "undefined" and nothing come last
  };

  const sortBy = (table, column, heading) => {
    const numeric = heading.classList.contains("number");
    const down = heading.ariaSort ? heading.ariaSort === "ascending" : numeric;
    const text = row => row.cells[column].textContent.trim();
    const compare = numeric ? (a, b) => number(text(a)) - number(text(b)) : (a, b) => text(a).localeCompare(text(b));
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
    for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
    heading.ariaSort = down ? "descending" : "ascending";
  };

  for (const table of document.querySelectorAll("table")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 3) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (!heading.textContent.trim()) return;
      const button = make("button", {type: "button", className: "sort"}, ...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, column, heading));
      heading.append(button);
    });
    if (rows.length <= 12) continue;
    const show = words => rows.forEach(row => { row.hidden = !row.textContent.toLowerCase().includes(words); });
    table.parentElement.before(search("Filter", show));
  }

  // --- thresholds ---

  const share = (a, b) => (b ? (a / b).toFixed(2) : "–");
  for (const panel of document.querySelectorAll("figure[data-panel]")) {
    const curve = (data.curves || [])[panel.dataset.panel];
    if (!curve) continue;
    const [left, top, width, height] = panel.dataset.box.split(" ").map(Number);
    const point = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    point.classList.add("moved");
    point.setAttribute("r", "3.5");
    panel.querySelector("svg").append(point);
    const words = {ariaLabel: `Threshold of ${curve.name}`, name: `threshold-${panel.dataset.panel}`};
    const slider = make("input", {type: "range", min: 1, max: data.thresholds.length, ...words});
    slider.value = curve.start + 1;
    const output = make("output");
    const move = () => {
      const i = slider.value - 1;
      const [found, predicted] = [curve.found[i], curve.predicted[i]];
      const threshold = i === curve.start ? curve.threshold : data.thresholds[i];
      output.textContent = `at ${threshold.toFixed(2)}: P ${share(found, predicted)} R ${share(found, curve.support)} `
        + `F1 ${share(2 * found, predicted + curve.support)}`;
      point.setAttribute("cx", left + width * found / curve.support);
      point.setAttribute("cy", top + height * (1 - (predicted ? found / predicted : 1) / 1.02));
    };
    slider.addEventListener("input", move);
    move();
    panel.append(slider, output);
  }

  // --- wrong texts ---

  const browser = document.getElementById("error-browser");
  if (!browser || !data.errors) return;
  const AT_ONCE = 6;
  const missed = error => error.labels.filter(j => !error.predicted.includes(j));
  const extra = error => error.predicted.filter(j => !error.labels.includes(j));
  const wrongly = {
    "missed or wrongly predicted": error => [...missed(error), ...extra(error)],
    "missed": missed,
    "wrongly predicted": extra,
  };
  const score = (error, j) => error.scores[j].toFixed(2);
  const limit = j => (data.decided_at ? `\u00a0/\u00a0${data.decided_at[j].toFixed(2)}` : "");
  const options = (names, values) => names.map((name, i) => make("option", {value: values[i]}, name));
  const [anyKind] = Object.values(wrongly);
  const counts = data.labels.map((_, j) => data.errors.filter(error => anyKind(error).includes(j)).length);
  const present = counts.flatMap((count, j) => (count ? [j] : [])).sort((a, b) => counts[b] - counts[a]);
  const names = present.map(j => `${data.labels[j]} (${counts[j]})`);
  const label = make("select", {}, ...options(["all labels", ...names], ["", ...present]));
  const kind = make("select", {}, ...options(Object.keys(wrongly), Object.keys(wrongly)));
  const count = make("p", {className: "quiet", ariaLive: "polite"});
  const list = make("ol", {className: "cases"});
  const more = make("button", {type: "button"}, "Show more");
  let words = "", shown = AT_ONCE;

  const marks = (error, labels, other) => labels.length
    ? labels.map(j => make("span", {className: "label " + (other.includes(j) ? "right" : "wrong")},
      other.includes(j) ? "✓ " : "✗ ", make("bdi", {}, data.labels[j]), ` ${score(error, j)}${limit(j)}`))
    : ["nothing"];
  const item = error => make("li", {},
    make("div", {className: "quiet"}, make("bdi", {}, error.place), ` · loss ${error.loss.toFixed(2)}`),
    make("div", {className: "text", dir: "auto"}, error.text),
    make("dl", {className: "facts"},
      make("dt", {}, "labels"), make("dd", {}, ...marks(error, error.labels, error.predicted)),
      make("dt", {}, "predicted"), make("dd", {}, ...marks(error, error.predicted, error.labels)),
      make("dt", {}, "scores"), make("dd", {}, ...error.highest.map(j => make("span", {className: "label"},
        make("bdi", {}, data.labels[j]), ` ${score(error, j)}`)))));
  const show = () => {
    const found = data.errors.filter(error => {
      const wrong = wrongly[kind.value](error);
      return (label.value ? wrong.includes(Number(label.value)) : wrong.length) && error.text.toLowerCase().includes(words);
    });
    count.textContent = `${found.length} of ${data.errors.length} texts`;
    list.replaceChildren(...found.slice(0, shown).map(item));
    more.hidden = found.length <= shown;
  };
  const restart = () => { shown = AT_ONCE; show(); };
  label.addEventListener("change", restart);
  kind.addEventListener("change", restart);
  more.addEventListener("click", () => { shown += AT_ONCE; show(); });
  const bar = make("div", {className: "controls"}, named("Label", label), named("Errors", kind),
    search("Text", typed => { words = typed; restart(); }));
  browser.replaceChildren(bar, count, list, more);
  show();
})();
