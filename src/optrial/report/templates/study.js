"use strict";
// Draws the curves from the data in the page, and makes its tables sort and filter. All that is
// drawn is also in the tables, which need no script.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const finite = (value) => value !== null && Number.isFinite(value);

// --- Axes ---------------------------------------------------------------------------------------

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const length = Math.max(0, Math.floor(high / step + 1e-9) - first + 1);
  return Array.from({ length }, (_, i) => ({ value: (first + i) * step, label: shown((first + i) * step) }));
}

function wholeTicks(low, high, count) {
  const every = Math.max(1, Math.ceil((high - low) / count));
  const first = Math.ceil(low);
  return Array.from({ length: Math.floor((high - first) / every) + 1 }, (_, i) => ({ value: first + i * every, label: String(first + i * every) }));
}

function logTicks(low, high, count) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  const every = Math.max(1, Math.ceil((to - from) / count));
  const factors = to - from <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = from; power <= to; power += every) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push({ value, label: shown(value) });
    }
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, count); // less than one factor of the scale
}

function shown(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) {
    const [digits, power] = Number(value.toPrecision(4)).toExponential().split("e");
    const raised = String(Number(power)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return (digits === "1" ? "" : `${digits}·`.replace("-", "−")) + `10${raised}`;
  }
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

// The range of finite values; on a linear axis a few that are far away, as of a run about to
// diverge, do not squeeze all others.
function extent(values, log) {
  const sorted = values.filter((value) => finite(value) && (!log || value > 0)).sort((a, b) => a - b);
  if (!sorted.length) return log ? [0.1, 1] : [0, 1];
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  let low = sorted[0], high = sorted.at(-1);
  if (!log) {
    const spread = at(0.9) - at(0.1);
    high = Math.min(high, at(0.9) + 4 * spread || high);
    low = Math.max(low, at(0.1) - 4 * spread || low);
  }
  if (low === high) return log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const margin = 0.04;
  return log ? [low * (low / high) ** margin, high * (high / low) ** margin] : [low - margin * (high - low), high + margin * (high - low)];
}

function axis(range, log, first, last) {
  const [low, high] = log ? range.map(Math.log10) : range;
  return (value) => {
    if (!finite(value) || (log && value <= 0)) return null;
    const share = ((log ? Math.log10(value) : value) - low) / (high - low);
    return Math.min(1e4, Math.max(-1e4, first + share * (last - first)));
  };
}

// --- One plot -----------------------------------------------------------------------------------

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// Stretches of points that are all known, as the d of a path.
function path(points) {
  let d = "", open = false;
  for (const [x, y] of points) {
    if (x === null || y === null) open = false;
    else { d += `${open ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`; open = true; }
  }
  return d;
}

function area(series, x, y, floor) {
  let d = "", upper = [], lower = [];
  const close = () => {
    if (upper.length > 1) d += `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
    upper = []; lower = [];
  };
  series.x.forEach((at, i) => {
    const points = [y(series.high[i]), y(finite(series.low[i]) ? Math.max(series.low[i], floor) : null)];
    if (x(at) === null || points.includes(null)) return close();
    upper.push(`${x(at).toFixed(1)},${points[0].toFixed(1)}`);
    lower.push(`${x(at).toFixed(1)},${points[1].toFixed(1)}`);
  });
  close();
  return d;
}

// plot: {kind, series, xLabel, logX, logY, title}; kind is "curves", "rates" or "trials"; a series holds optimizer, label, x, mean, low,
// high, singles, lost (its last point is the last before a run diverged), hollow, groups.
function draw(holder, plot) {
  const width = Math.max(260, holder.clientWidth), height = Math.round(Math.min(360, Math.max(230, width * 0.62)));
  const frame = { left: 54, right: width - 10, top: 8, bottom: height - 42 };
  const { series, logX, logY } = plot;
  const bySteps = plot.kind === "curves" || shares(plot.kind);
  const xRange = extent(series.flatMap((s) => s.x), logX);
  // Limits of the best of several trials are as wide as the search, and say little side by side.
  const limits = plot.kind === "trials" ? [] : series.flatMap((s) => [...s.high, ...s.singles.flat()]);
  const published = series.flatMap((s) => (s.published ?? []).map((point) => point[1]));
  const means = series.flatMap((s) => s.mean);
  // On a logarithmic axis, an interval that nearly reaches 0 would squeeze everything else.
  const least = means.reduce((low, mean) => (finite(mean) && mean > 0 ? Math.min(low, mean) : low), Infinity);
  if (plot.kind !== "trials") limits.push(...series.flatMap((s) => s.low).filter((low) => !logY || low > least / 3));
  const yRange = extent([...means, ...limits, ...published], logY);
  if (plot.share && !logY) yRange.splice(0, 2, Math.max(yRange[0], -0.01), Math.min(yRange[1], 1.01));
  if (shares(plot.kind)) yRange.splice(0, 2, -2, 102);
  const x = axis(bySteps && !logX ? [Math.min(0, xRange[0]), xRange[1]] : xRange, logX, frame.left, frame.right);
  const y = axis(yRange, logY, frame.bottom, frame.top);
  holder.querySelector("svg")?.remove();
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", plot.title);
  svg.setAttribute("tabindex", "0");
  holder.prepend(svg);
  const ticksOf = logX ? logTicks : bySteps ? linearTicks : wholeTicks;
  const xTicks = ticksOf(logX ? xRange[0] : Math.max(0, xRange[0]), xRange[1], width / 90);
  const unit = plot.share && !shares(plot.kind) ? 100 : 1; // accuracies are fractions, shown in percent
  const yTicks = (logY ? logTicks : linearTicks)(...yRange, 6).map(({ value }) => ({ value, label: shown(unit * value) }));
  for (const { value, label } of yTicks) {
    add(svg, "path", { class: "grid", d: `M${frame.left},${y(value)}H${frame.right}` });
    add(svg, "text", { class: "axis", x: frame.left - 7, y: y(value) + 4, "text-anchor": "end" }, label);
  }
  for (const { value, label } of xTicks) {
    add(svg, "path", { class: "tick", d: `M${x(value)},${frame.bottom}v5` });
    add(svg, "text", { class: "axis", x: x(value), y: frame.bottom + 18, "text-anchor": "middle" }, label);
  }
  add(svg, "path", { class: "tick", d: `M${frame.left},${frame.bottom}H${frame.right}` });
  add(svg, "text", { class: "axis", x: (frame.left + frame.right) / 2, y: height - 6, "text-anchor": "middle" }, plot.xLabel);
  if (!series.length) add(svg, "text", { class: "axis", x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to draw");
  const id = `clip-${holder.dataset.plot}`;
  add(add(add(svg, "defs", {}), "clipPath", { id }), "rect", { x: frame.left - 6, y: frame.top - 6, width: frame.right - frame.left + 12, height: frame.bottom - frame.top + 12 });
  const inside = add(svg, "g", { "clip-path": `url(#${id})` });
  series.sort((a, b) => isGrey(b.optimizer) - isGrey(a.optimizer)); // colours lie above grey
  series.forEach((s, index) => drawSeries(inside, s, index, x, y, plot, frame));
  const points = series.flatMap((s, own) => s.x.map((at, i) => ({ s, i, own, px: x(at), py: y(s.mean[i]) })).filter((p) => p.px !== null && p.py !== null));
  watch(holder, svg, points, plot, width);
}

// The colour of a line: that of its optimizer, blended into the background or the text.
function shaded({ colour, shade }) {
  const plain = `var(--line-${colour})`;
  if (!shade) return plain;
  return `color-mix(in srgb, ${plain} ${100 * (1 - Math.abs(shade))}%, var(--${shade < 0 ? "background" : "text"}))`;
}

function drawSeries(svg, s, index, x, y, plot, frame) {
  const style = s.style ?? data.optimizers[s.optimizer];
  const grey = isGrey(s.optimizer);
  const colour = grey ? "var(--rule)" : shaded(style);
  const dashes = style.dashes.map((length) => 2 * length).join(" ") || "none";
  for (const values of s.singles) {
    add(svg, "path", { class: "single", style: `stroke:${colour}`, d: path(values.map((v, i) => [x(s.x[i]), y(v)])) });
  }
  const bars = plot.kind === "rates";
  if (bars) {
    s.x.forEach((at, i) => {
      if (y(s.low[i]) !== null && y(s.high[i]) !== null) add(svg, "path", { class: "bar", style: `stroke:${colour}`, d: `M${x(at)},${y(s.low[i])}V${y(s.high[i])}` });
    });
  } else if (plot.kind === "curves" && !grey && !s.faint && !s.singles.length) {
    add(svg, "path", { class: "band", style: `fill:${colour}`, d: area(s, x, y, plot.logY ? Number.MIN_VALUE : -Infinity) });
  }
  const means = s.mean.map((value, i) => [x(s.x[i]), y(value)]);
  add(svg, "path", { class: s.faint ? "mean faint" : "mean", style: `stroke:${colour};stroke-dasharray:${dashes}`, d: path(means) });
  const known = means.flatMap(([px, py], i) => (px === null || py === null ? [] : [i]));
  const every = bars ? 1 : Math.max(1, Math.ceil(known.length / 7));
  if (!s.faint && !grey) {
    known.forEach((i, place) => {
      const last = place === known.length - 1;
      if (s.marked ? !s.marked.includes(i) : (place + index) % every && !last) return;
      if (last && s.lost) return;
      add(svg, "path", { class: `marker${s.hollow[i] ? " hollow" : ""}`, transform: `translate(${means[i]})`, d: style.marker, style: s.hollow[i] ? `stroke:${colour}` : `fill:${colour}` });
    });
  }
  const crosses = bars
    ? s.x.flatMap((at, i) => (s.done[i] ? [] : [[x(at), plot.higher ? frame.bottom : frame.top]]))
    : s.lost && known.length ? [means[known.at(-1)]] : [];
  if (s.censored && means.length) add(svg, "path", { class: "end", style: `stroke:${colour}`, d: `M${means.at(-1)[0]},${means.at(-1)[1] - 6}v12` });
  for (const [at, value] of s.published ?? []) {
    if (y(value) !== null) add(svg, "circle", { class: "marker hollow published", cx: x(at), cy: y(value), r: 4, style: `stroke:${colour}` });
  }
  for (const [px, py] of crosses) add(svg, "path", { class: "end", style: `stroke:${colour}`, d: `M${px - 5},${py - 5}l10,10m0,-10l-10,10` });
}

// Names the point under the pointer, or the one that the arrow keys have come to.
function watch(holder, svg, points, plot, width) {
  const tip = holder.querySelector(".tip") ?? holder.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  tip.setAttribute("role", "status");
  tip.hidden = true;
  let ring = null, current = null;
  const show = (point) => {
    current = point;
    ring?.remove();
    tip.hidden = !point;
    if (!point) return;
    ring = add(svg, "circle", { class: "ring", cx: point.px, cy: point.py, r: 7 });
    const { s, i } = point;
    const unit = plot.share && !shares(plot.kind) ? 100 : 1;
    const interval = finite(s.low[i]) && finite(s.high[i]) ? ` (${shown(unit * s.low[i])} to ${shown(unit * s.high[i])})` : "";
    tip.textContent = `${s.label(i)}: ${shown(unit * s.mean[i])}${interval} at ${plot.xLabel} ${shown(s.x[i])}`;
    const scale = svg.clientWidth / width;
    tip.style.left = `${Math.max(0, Math.min(point.px * scale + 12, holder.clientWidth - 200))}px`;
    tip.style.top = `${point.py * scale + 12}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null, least = 30 ** 2;
    for (const point of points) {
      const distance = (point.px - at[0]) ** 2 + (point.py - at[1]) ** 2;
      if (distance < least) { least = distance; best = point; }
    }
    if (best !== current) show(best);
  });
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("click", () => current && onlyGroups(current.s.groups(current.i), true));
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && current) return onlyGroups(current.s.groups(current.i), true);
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key], across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if ((!along && !across) || !points.length) return;
    event.preventDefault();
    if (!current) return show(points[0]);
    const count = Math.max(...points.map((p) => p.own)) + 1;
    for (let own = current.own, tries = 0; tries < count; tries++) {
      own = (own + (across ?? 0) + count) % count;
      const line = points.filter((p) => p.own === own);
      if (!line.length) continue;
      if (along) return show(line[Math.max(0, Math.min(line.length - 1, line.indexOf(current) + along))]);
      return show(line.reduce((a, b) => (Math.abs(b.px - current.px) < Math.abs(a.px - current.px) ? b : a)));
    }
  });
}

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

function curveSeries(problem, metric, options) {
  const chosen = problem.curves[metric].filter(({ line }) => {
    const { optimizer, chosen } = problem.lines[line];
    return !hiddenOptimizers.has(optimizer) && (chosen || options.lines === "all");
  });
  return chosen.map((curve) => {
    const line = problem.lines[curve.line];
    const unit = { step: 1, epoch: 1 / line.perEpoch, second: line.perStep }[options.by];
    const name = `${data.optimizers[line.optimizer].name} ${line.setting}`.trim();
    const tidy = (values) => smooth(values, options.smoothing);
    return {
      optimizer: line.optimizer, style: line.style, x: curve.steps.map((step) => step * unit),
      published: curve.published.map(([step, value]) => [step * unit, value]),
      mean: tidy(curve.mean), low: tidy(curve.low), high: tidy(curve.high),
      singles: options.single ? curve.values.map(tidy) : [],
      lost: curve.mean.at(-1) === null, hollow: [], faint: options.lines === "all" && !line.chosen,
      label: () => name, groups: () => [line.group],
    };
  });
}

function rateSeries(problem, metric) {
  return problem.rates[metric].filter(({ optimizer }) => !hiddenOptimizers.has(optimizer)).map((line) => ({
    optimizer: line.optimizer, x: line.rates, mean: line.mean, low: line.low, high: line.high, singles: [],
    done: line.done, hollow: line.done.map((done, i) => done < line.runs[i]),
    label: (i) => `${data.optimizers[line.optimizer].name} ${line.settings[i]}, ${line.done[i]} of ${line.runs[i]} runs`,
    groups: (i) => [line.groups[i]],
  }));
}

function trialSeries(problem, metric) {
  return problem.trials[metric].filter(({ optimizer }) => !hiddenOptimizers.has(optimizer)).map((line) => ({
    optimizer: line.optimizer, x: line.trials, mean: line.mean, low: line.low, high: line.high, singles: [], hollow: [],
    label: () => data.optimizers[line.optimizer].name, groups: () => line.groups,
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
    label: () => line.name, groups: () => (line.group === undefined ? [] : [line.group]), ...shape(line),
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
  if (chart !== "curves") return prefer(Object.keys(problem[chart]), [/^validation_(?!loss)/, /^validation/, /^test_(?!loss)/, /^test/]);
  const names = Object.keys(problem.curves);
  if (kind === "probe") return names.filter((name) => probe(name) === figure.dataset.probe).sort((a, b) => a.includes("/") - b.includes("/"));
  const others = names.filter((name) => !probe(name));
  return kind === "training" ? prefer(others, [/^train_loss_epoch$/, /^train_/]) : prefer(others, [exactly(problem.metric), /^test_(?!loss)/, /^test/, /^validation_(?!loss)/, /^validation/]);
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
const shares = (kind) => kind === "targets" || kind === "profiles";

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
      draw(figure.querySelector(".plot"), {
        kind, series, xLabel, logX, logY: Boolean(control("logY", figure)?.checked), higher: !lowerIsBetter(metric), share: data.percent.includes(metric),
        title: `${metric ? titleOf(metric) : "no metric"} ${what}, ${series.length} lines. Arrow keys move over the points; Enter shows the runs. The tables below hold the final values.`,
      });
      const caption = figure.querySelector("[data-caption]");
      if (caption && metric) caption.textContent = curveCaption(problem, metric, options, series);
    }
  };
  for (const figure of figures) {
    figure.querySelector(".plot").dataset.plot = `${area.dataset.charts}-${figure.dataset.chart}-${figure.dataset.probe ?? figure.dataset.kind ?? ""}`;
    const select = control("metric", figure);
    for (const metric of offered(figure, problem)) select.append(new Option(titleOf(metric), metric));
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

function curveCaption(problem, metric, options, series) {
  const curves = problem.curves[metric];
  const window = Math.max(...curves.map((curve) => curve.window));
  const seeds = Math.max(...curves.map((curve) => curve.seeds.length));
  const sentences = [`${titleOf(metric)}: ${seeds > 1 ? "mean over seeds" : "one seed"}${!options.single && series.some((s) => s.low.some(finite)) ? " with its 95 % interval, point by point" : ""}.`];
  if (window > 1) sentences.push(`Each point is the mean of ${window} recorded values.`);
  if (options.smoothing > 1) sentences.push(`Smoothed: lines and limits are means of the last ${options.smoothing} points.`);
  if (series.some((s) => s.published.length)) sentences.push("○: published.");
  if (series.some((s) => s.lost)) sentences.push("×: a run ended here; the mean is not drawn beyond.");
  return sentences.join(" ");
}

// --- Tables -------------------------------------------------------------------------------------

function key(cell) {
  const text = (cell?.textContent ?? "").trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return cell?.classList.contains("number") ? (Number.isNaN(number) ? null : number) : text.toLowerCase();
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

function showOptimizers(shown) {
  for (const box of boxes) {
    box.checked = shown(Number(box.dataset.optimizer));
    if (box.checked) hiddenOptimizers.delete(Number(box.dataset.optimizer));
    else hiddenOptimizers.add(Number(box.dataset.optimizer));
  }
  for (const update of updates) update();
}

for (const box of boxes) {
  const own = Number(box.dataset.optimizer);
  box.addEventListener("change", () => showOptimizers((optimizer) => (optimizer === own ? box.checked : !hiddenOptimizers.has(optimizer))));
  box.closest("label").addEventListener("dblclick", () => showOptimizers((optimizer) => optimizer === own));
}
for (const button of all("[data-show]")) {
  const shown = { all: () => true, none: () => false, best: (optimizer) => data.leading.includes(optimizer) }[button.dataset.show];
  button.addEventListener("click", () => showOptimizers(shown));
  button.closest(".controls").hidden = false;
}
for (const update of updates) update();
