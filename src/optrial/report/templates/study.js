// Draws the curves from the data in the page, and makes its tables sort and filter. All that is
// drawn is also in the tables, which need no script.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- What the charts of a problem show ----------------------------------------------------------

const hiddenOptimizers = new Set();

// Of many optimizers that are drawn, the best ones keep their colours.
const MANY = 8;
const isGrey = (optimizer) => data.optimizers.length - hiddenOptimizers.size > MANY && !data.leading.includes(optimizer);

function smooth(values, window) {
  if (window === 1) return values;
  let sum = 0, count = 0;
  return values.map((value, i) => {
    if (!finite(value)) { sum = 0; count = 0; return null; }
    sum += value; count += 1;
    if (count > window) { sum -= values[i - window]; count = window; }
    return sum / count;
  });
}

// The name of a line: that of its optimizer, with the setting where the optimizer has several lines.
function nameOf(line, problem) {
  const { name } = data.optimizers[line.optimizer];
  const several = problem.lines.filter(({ optimizer, chosen }) => optimizer === line.optimizer && chosen).length > 1;
  return line.chosen && !several ? name : `${name} ${line.setting}`.trim();
}

function curveSeries(problem, metric, options) {
  const chosen = problem.curves[metric].filter(({ line }) => {
    const { optimizer, chosen } = problem.lines[line];
    return !hiddenOptimizers.has(optimizer) && (chosen || options.lines === "all");
  });
  return chosen.map((curve) => {
    const line = problem.lines[curve.line];
    const unit = { step: 1, epoch: 1 / line.perEpoch, second: line.perStep }[options.by];
    const tidy = (values) => smooth(values, options.smoothing);
    return {
      optimizer: line.optimizer, style: line.style, x: curve.steps.map((step) => step * unit),
      published: curve.published.map(([step, value]) => [step * unit, value]),
      mean: tidy(curve.mean), low: tidy(curve.low), high: tidy(curve.high),
      singles: options.single ? curve.values.map(tidy) : [],
      lost: curve.mean.at(-1) === null, hollow: [], faint: options.lines === "all" && !line.chosen,
      name: nameOf(line, problem), label: () => nameOf(line, problem), groups: () => [line.group],
    };
  });
}

function rateSeries(problem, metric) {
  return problem.rates[metric].filter(({ optimizer }) => !hiddenOptimizers.has(optimizer)).map((line) => ({
    optimizer: line.optimizer, x: line.rates, mean: line.mean, low: line.low, high: line.high, singles: [],
    done: line.done, hollow: line.done.map((done, i) => done < line.runs[i]), name: data.optimizers[line.optimizer].name,
    label: (i) => `${data.optimizers[line.optimizer].name} ${line.settings[i]}, ${line.done[i]} of ${line.runs[i]} runs`,
    groups: (i) => [line.groups[i]],
  }));
}

function trialSeries(problem, metric) {
  return problem.trials[metric].filter(({ optimizer }) => !hiddenOptimizers.has(optimizer)).map((line) => ({
    optimizer: line.optimizer, x: line.trials, mean: line.mean, low: line.low, high: line.high, singles: [], hollow: [],
    name: data.optimizers[line.optimizer].name, label: () => data.optimizers[line.optimizer].name, groups: () => line.groups,
  }));
}

// The corners of a line that rises in steps, from 0 at the first position.
function stairs(start, positions, heights, end) {
  const x = [start], mean = [positions[0] === start ? heights[0] : 0], marked = positions[0] === start ? [0] : [];
  positions.forEach((position, i) => {
    if (position === start || heights[i] === mean.at(-1)) return;
    x.push(position, position);
    mean.push(mean.at(-1), heights[i]);
    marked.push(x.length - 1);
  });
  return { x: [...x, end], mean: [...mean, mean.at(-1)], marked };
}

function shareSeries(lines, shape) {
  return lines.filter(({ optimizer }) => !hiddenOptimizers.has(optimizer)).map((line) => ({
    optimizer: line.optimizer, low: [], high: [], singles: [], hollow: [], censored: line.censored,
    name: line.name, label: () => line.name, groups: () => (line.group === undefined ? [] : [line.group]), ...shape(line),
  }));
}

function targetSeries(problem, target) {
  return shareSeries(problem.targets[target], (line) => stairs(0, line.steps, line.reached, line.end));
}

function profileSeries(_, target) {
  return shareSeries(data.profiles[target], (line) => stairs(1, line.factors, line.share, 1.5 * Math.max(2, line.factors.at(-1))));
}

// Targets begin with the name of a metric: "test_accuracy 0.9".
const titleOf = (name) => data.titles[name] ?? name.replace(/^\S+/, (metric) => data.titles[metric]?.replace(" (%)", "") ?? metric);

const lowerIsBetter = (metric) => data.better[metric] === "lower";

const probe = (metric) => data.probes.find((name) => metric === name || metric.startsWith(`${name}/`));

// The metrics that a chart offers, the one it begins with first.
function offered(figure, problem) {
  const { chart, kind } = figure.dataset;
  if (shares(chart)) return Object.keys((chart === "profiles" ? data : problem)[chart]);
  if (chart !== "curves") return prefer(Object.keys(problem[chart]), [exactly(problem.select), exactly(problem.metric)]);
  const names = Object.keys(problem.curves);
  if (kind === "probe") return names.filter((name) => probe(name) === figure.dataset.probe).sort((a, b) => a.includes("/") - b.includes("/"));
  const others = names.filter((name) => !probe(name));
  if (kind === "training") return prefer(others, [/^train_loss_epoch$/, /^train_/]);
  const evaluated = others.some((name) => /^(train_eval|validation|test)_/.test(name));
  return evaluated ? prefer(others, [exactly(problem.metric), /^test_(?!loss)/, /^test/, /^validation_(?!loss)/, /^validation/]) : [];
}

// Whether a metric begins on a logarithmic axis: a cost, or a probe that spans more than a power of ten.
function suitsLog(metric, values) {
  const known = values.filter(finite);
  if (!known.length || Math.min(...known) <= 0) return false;
  return lowerIsBetter(metric) || (probe(metric) !== undefined && !metric.includes("fraction") && Math.max(...known) > 10 * Math.min(...known));
}

const exactly = (name) => ({ test: (other) => other === name });

function prefer(names, patterns) {
  const first = patterns.map((pattern) => names.find((name) => pattern.test(name))).find(Boolean) ?? names[0];
  return first === undefined ? [] : [first, ...names.filter((name) => name !== first)];
}

const SERIES = { curves: curveSeries, rates: rateSeries, trials: trialSeries, targets: targetSeries, profiles: profileSeries };

function setUp(area) {
  const problem = data.problems[Number(area.dataset.charts)];
  const control = (name, within = area) => within.querySelector(`[data-control="${name}"]`);
  const figures = all("figure", area);
  const update = () => {
    const options = { lines: control("lines")?.value, by: control("by")?.value, smoothing: Number(control("smoothing")?.value ?? 1), single: control("single")?.checked };
    for (const figure of figures) {
      const metric = control("metric", figure).value;
      const kind = figure.dataset.chart;
      const series = metric ? SERIES[kind](problem, metric, options) : [];
      const xLabel = { rates: "learning rate", trials: "trials", targets: "step", profiles: "times as many steps as the fastest" }[kind] ?? options.by;
      const logX = kind === "rates" || Boolean((control("logX", figure) ?? control("logX"))?.checked);
      const what = { rates: "final values by learning rate", trials: "expected best by number of trials", targets: "reached, percent of runs by step", profiles: "reached, percent of problems by factor of the fewest steps" }[kind] ?? `by ${options.by}`;
      const outside = draw(figure.querySelector(".plot"), {
        kind, series, xLabel, logX, logY: Boolean(control("logY", figure)?.checked), whole: Boolean(control("whole", figure)?.checked), higher: !lowerIsBetter(metric), share: data.percent.includes(metric),
        title: `${metric ? titleOf(metric) : "no metric"} ${what}, ${series.length} lines. Arrow keys move over the points; Enter shows the runs. The tables below hold the final values.`,
      });
      const caption = figure.querySelector("[data-caption]");
      if (caption && metric) caption.textContent = curveCaption(problem, metric, options, series, outside);
    }
  };
  for (const figure of figures) {
    figure.querySelector(".plot").dataset.plot = `${area.dataset.charts}-${figure.dataset.chart}-${figure.dataset.probe ?? figure.dataset.kind ?? ""}`;
    const select = control("metric", figure);
    const names = offered(figure, problem);
    for (const metric of names) select.append(new Option(titleOf(metric), metric));
    figure.hidden = !names.length && figure.dataset.kind === "evaluation";
    // The axis that suits a metric; the reader may choose the other one.
    const suit = () => {
      if (shares(figure.dataset.chart)) return;
      const found = problem[figure.dataset.chart][select.value] ?? [];
      control("logY", figure).checked = suitsLog(select.value, found.flatMap((line) => line.mean));
    };
    suit();
    if (figure.dataset.chart === "profiles") control("logX", figure).checked = true;
    select.addEventListener("change", suit);
  }
  const seconds = control("by")?.querySelector("[value=second]");
  if (seconds && !problem.lines.some((line) => line.chosen && line.perStep)) {
    seconds.disabled = true;
    for (const note of all("[data-note]", area)) note.textContent = "No seconds: the runs were trained together, so none has a time of its own.";
  }
  if (control("lines") && problem.lines.every((line) => line.chosen)) control("lines").closest("label").hidden = true;
  for (const group of all(".controls", area)) group.hidden = false;
  area.addEventListener("change", update);
  new ResizeObserver(update).observe(area);
  return update;
}

function curveCaption(problem, metric, options, series, outside) {
  const curves = problem.curves[metric];
  const window = Math.max(...curves.map((curve) => curve.window));
  const seeds = Math.max(...curves.map((curve) => curve.seeds.length));
  const sentences = [`${titleOf(metric)}: ${seeds > 1 ? `mean over ${problem.pairing}s` : "one seed"}${!options.single && series.some((s) => s.low.some(finite)) ? " with its 95 % interval, point by point" : ""}.`];
  if (window > 1) sentences.push(`Each point is the mean of ${window} recorded values.`);
  if (options.smoothing > 1) sentences.push(`Smoothed: lines and limits are means of the last ${options.smoothing} points.`);
  if (series.some((s) => s.published.length)) sentences.push("○: published.");
  if (series.some((s) => s.lost)) sentences.push("×: a run ended here; the mean is not drawn beyond.");
  if (outside) sentences.push("Triangle at the edge: a line that ends outside the drawn range, with its final value.");
  return sentences.join(" ");
}

// --- Tables -------------------------------------------------------------------------------------

function key(cell) {
  const text = (cell?.textContent ?? "").trim();
  if (!cell?.classList.contains("number")) return text.toLowerCase();
  const number = text.replace(/,/g, "").replace("−", "-").match(/-?\d[\d.]*(e[-+]?\d+)?/);
  return number ? parseFloat(number[0]) : null;
}

function sortBy(table, column, direction) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: key(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.key === b.key) return 0;
    if (a.key === null || a.key === "") return 1; // what is missing is last either way
    if (b.key === null || b.key === "") return -1;
    return direction * (typeof a.key === "number" ? a.key - b.key : a.key.localeCompare(b.key, undefined, { numeric: true }));
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

for (const table of all("[data-sortable]")) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => sortBy(table, column, cell.getAttribute("aria-sort") === "ascending" ? -1 : 1));
  });
}

const filter = document.getElementById("filter");
const statusChoice = document.getElementById("status");
const clear = document.getElementById("clear");
const rows = all("#runs-table tbody tr").map((row) => ({ row, text: row.textContent.toLowerCase() }));
let groups = null; // numbers of the settings that are shown; null for all

function filterRuns() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { row, text } of rows) {
    const wanted = (!groups || groups.includes(Number(row.dataset.group))) && (!statusChoice.value || row.dataset.status === statusChoice.value) && words.every((word) => text.includes(word));
    row.hidden = !wanted;
    count += wanted;
  }
  document.getElementById("shown").textContent = `${count} of ${rows.length} runs`;
  clear.hidden = !(groups || statusChoice.value || words.length);
}

function onlyGroups(wanted, scroll) {
  groups = wanted;
  filter.value = "";
  statusChoice.value = "";
  filterRuns();
  if (scroll) document.getElementById("runs").scrollIntoView();
}

filter.addEventListener("input", filterRuns);
statusChoice.addEventListener("change", filterRuns);
clear.addEventListener("click", () => { onlyGroups(null); filter.focus(); });
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-groups]");
  if (link) onlyGroups(link.dataset.groups.split(" ").map(Number));
  else if (event.target.closest('a[href^="#run-"]')) onlyGroups(null);
});
all("#runs .controls").forEach((controls) => { controls.hidden = false; });
filterRuns();

// --- Long rankings ------------------------------------------------------------------------------

for (const button of all("[data-all]")) {
  const table = button.previousElementSibling;
  table.classList.add("folded");
  button.hidden = false;
  button.addEventListener("click", () => { table.classList.remove("folded"); button.hidden = true; });
}

// --- Theme --------------------------------------------------------------------------------------

const root = document.documentElement;
const themeButton = document.getElementById("theme");
const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  themeButton.textContent = `Theme: ${theme}`;
}

themeButton.hidden = false;
themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % 3]));
let onScreen = "system";
addEventListener("beforeprint", () => { onScreen = root.dataset.theme ?? "system"; setTheme("light"); });
addEventListener("afterprint", () => setTheme(onScreen));

// --- Begin --------------------------------------------------------------------------------------

const updates = all("[data-charts]").map(setUp);
const boxes = all("[data-optimizer]");

function showOptimizers(wanted) {
  for (const box of boxes) {
    box.checked = wanted(Number(box.dataset.optimizer));
    if (box.checked) hiddenOptimizers.delete(Number(box.dataset.optimizer));
    else hiddenOptimizers.add(Number(box.dataset.optimizer));
  }
  for (const box of boxes) box.closest("li").classList.toggle("grey", isGrey(Number(box.dataset.optimizer)));
  for (const update of updates) update();
}

for (const box of boxes) {
  const own = Number(box.dataset.optimizer);
  box.addEventListener("change", () => showOptimizers((optimizer) => (optimizer === own ? box.checked : !hiddenOptimizers.has(optimizer))));
  box.closest("label").addEventListener("dblclick", () => showOptimizers((optimizer) => optimizer === own));
}
for (const button of all("[data-only]")) {
  button.addEventListener("click", () => showOptimizers((optimizer) => optimizer === Number(button.dataset.only)));
  button.hidden = false;
}
for (const button of all("[data-show]")) {
  const wanted = { all: () => true, none: () => false, best: (optimizer) => data.leading.includes(optimizer) }[button.dataset.show];
  button.addEventListener("click", () => showOptimizers(wanted));
  button.closest(".controls").hidden = false;
}
showOptimizers(() => true);
