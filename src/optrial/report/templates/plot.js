// One chart: axes, lines, names at their ends, marks for what lies outside, and a cross-hair.
//
// plot: {kind, series, xLabel, logX, logY, higher, share, whole, title}; kind is "curves", "rates", "trials", "targets" or
// "profiles". A series holds optimizer, style, name, label(i), x, mean, low, high, singles, lost (its last point is the last
// before a run diverged), hollow, done, faint, published, groups(i).
const SVG = "http://www.w3.org/2000/svg";
const NAME_GAP = 14, NARROW = 480;
const ruler = document.createElement("canvas").getContext("2d");
const shares = (kind) => kind === "targets" || kind === "profiles";
const last = (s) => s.mean.findLastIndex(finite);

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// Draws a chart and returns the number of points that lie outside its range.
function draw(holder, plot) {
  const width = Math.max(260, holder.clientWidth), height = Math.round(Math.min(400, Math.max(240, width * 0.62)));
  plot.series.sort((a, b) => isGrey(b.optimizer) - isGrey(a.optimizer)); // colours lie above grey
  const frame = { left: 54, right: width - 14, top: 10, bottom: height - 42, width, height };
  const ranges = { x: horizontalRange(plot), y: verticalRange(plot) };
  const y = axis(ranges.y, plot.logY, frame.bottom, frame.top);
  const names = namesThatFit(plot, y, frame);
  frame.right -= Math.max(0, ...names.map((entry) => entry.width + 16));
  const x = axis(ranges.x, plot.logX, frame.left, frame.right);
  holder.querySelector("svg")?.remove();
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": plot.title, tabindex: 0 })) svg.setAttribute(key, value);
  holder.prepend(svg);
  drawAxes(svg, plot, ranges, x, y, frame);
  const layers = { lines: clipped(svg, `lines-${holder.dataset.plot}`, frame, 1), marks: clipped(svg, `marks-${holder.dataset.plot}`, frame, 6) };
  plot.series.forEach((s, index) => drawSeries(layers, s, index, x, y, plot));
  const outside = drawMarks(svg, plot, x, y, frame, new Set(names.map(({ s }) => s)));
  drawNames(svg, names, x, y, frame);
  crossHair(holder, svg, plot, x, y, frame);
  return outside;
}

// A group of which only the parts within the frame, and a margin above and below, are drawn.
function clipped(svg, id, frame, margin) {
  const rect = { x: frame.left - 6, y: frame.top - margin, width: frame.right - frame.left + 12, height: frame.bottom - frame.top + 2 * margin };
  add(add(add(svg, "defs", {}), "clipPath", { id }), "rect", rect);
  return add(svg, "g", { "clip-path": `url(#${id})` });
}

// --- Ranges and axes ----------------------------------------------------------------------------

function horizontalRange({ kind, series, logX }) {
  const range = extent(series.flatMap((s) => s.x), logX);
  if (logX || kind === "rates" || kind === "trials") return range;
  return [0, Math.max(...series.flatMap((s) => s.x), 0) * 1.01 || 1];
}

// The values that decide the range: those near the best, unless the whole range is asked for. Of curves, the first part, where all
// of them change most, does not decide.
function verticalRange(plot) {
  const { kind, series, logY, whole, higher } = plot;
  if (shares(kind)) return [-2, 102];
  const usable = (value) => finite(value) && (!logY || value > 0);
  let points = series.flatMap((s) => s.mean.map((mean, i) => ({ s, i, mean }))).filter(({ mean }) => usable(mean));
  if (!whole && kind === "curves") {
    const ends = series.filter((s) => usable(s.mean[last(s)]));
    const near = nearBest(ends.map((s) => s.mean[last(s)]), higher, logY);
    const kept = new Set(ends.filter((_, i) => near[i]));
    const start = (logY ? 0.02 : 0.2) * Math.max(0, ...series.flatMap((s) => s.x));
    points = points.filter(({ s, i }) => kept.has(s) && (s.x[i] >= start || i === last(s)));
  } else if (!whole) {
    const near = nearBest(points.map(({ mean }) => mean), higher, logY);
    points = points.filter((_, i) => near[i]);
  }
  const means = points.map(({ mean }) => mean);
  const [low, high] = extent(means, logY);
  // Intervals and single runs widen the range up to three times, so that a wide one does not squeeze everything else.
  const [least, most] = logY ? [low * low / high, high * high / low] : [2 * low - high, 2 * high - low];
  const around = kind === "trials" ? [] : points.flatMap(({ s, i }) => [s.low[i], s.high[i], ...s.singles.map((run) => run[i])]).filter(usable);
  const published = series.flatMap((s) => (s.published ?? []).map((point) => point[1]));
  const range = extent([...means, ...around.map((value) => Math.min(most, Math.max(least, value))), ...published], logY);
  return plot.share && !logY ? [Math.max(range[0], -0.01), Math.min(range[1], 1.01)] : range;
}

// Accuracies are fractions, shown in percent.
const unitOf = (plot) => (plot.share && !shares(plot.kind) ? 100 : 1);

function drawAxes(svg, plot, ranges, x, y, frame) {
  const count = Math.max(3, (frame.right - frame.left) / 80), unit = unitOf(plot);
  const ticksOf = plot.logX ? logTicks : plot.kind === "trials" || (plot.xLabel === "epoch" && ranges.x[1] > 3) ? wholeTicks : linearTicks;
  for (const { value, label } of (plot.logY ? logTicks : linearTicks)(unit * ranges.y[0], unit * ranges.y[1], 6)) {
    add(svg, "path", { class: "grid", d: `M${frame.left},${y(value / unit)}H${frame.right}` });
    add(svg, "text", { class: "axis", x: frame.left - 7, y: y(value / unit) + 4, "text-anchor": "end" }, label);
  }
  for (const { value, label } of ticksOf(...ranges.x, count)) {
    add(svg, "path", { class: "tick", d: `M${x(value)},${frame.bottom}v5` });
    add(svg, "text", { class: "axis", x: x(value), y: frame.bottom + 18, "text-anchor": "middle" }, label);
  }
  add(svg, "path", { class: "tick", d: `M${frame.left},${frame.bottom}H${frame.right}` });
  add(svg, "text", { class: "axis", x: (frame.left + frame.right) / 2, y: frame.height - 6, "text-anchor": "middle" }, plot.xLabel);
  if (!plot.series.length) add(svg, "text", { class: "axis", x: frame.width / 2, y: frame.height / 2, "text-anchor": "middle" }, "nothing to draw");
}

// --- Lines --------------------------------------------------------------------------------------

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

const styleOf = (s) => s.style ?? data.optimizers[s.optimizer];

// The colour of a line: that of its optimizer, blended into the background or the text.
function colourOf(s) {
  if (isGrey(s.optimizer)) return "var(--grey)";
  const { colour, shade } = styleOf(s);
  const plain = `var(--line-${colour})`;
  return shade ? `color-mix(in srgb, ${plain} ${100 * (1 - Math.abs(shade))}%, var(--${shade < 0 ? "background" : "text"}))` : plain;
}

function drawSeries({ lines, marks }, s, index, x, y, plot) {
  const style = styleOf(s), grey = isGrey(s.optimizer), colour = colourOf(s);
  const dashes = style.dashes.map((length) => 2 * length).join(" ") || "none";
  const rates = plot.kind === "rates";
  for (const values of s.singles) {
    add(lines, "path", { class: "single", style: `stroke:${colour}`, d: path(values.map((v, i) => [x(s.x[i]), y(v)])) });
  }
  if (rates && !grey) {
    s.x.forEach((at, i) => {
      if (y(s.low[i]) !== null && y(s.high[i]) !== null) add(lines, "path", { class: "bar", style: `stroke:${colour}`, d: `M${x(at)},${y(s.low[i])}V${y(s.high[i])}` });
    });
  } else if (plot.kind === "curves" && !grey && !s.faint && !s.singles.length) {
    add(lines, "path", { class: "band", style: `fill:${colour}`, d: area(s, x, y, plot.logY ? Number.MIN_VALUE : -Infinity) });
  }
  const means = s.mean.map((value, i) => [x(s.x[i]), y(value)]);
  add(lines, "path", { class: s.faint ? "mean faint" : "mean", style: `stroke:${colour};stroke-dasharray:${dashes}`, d: path(means) });
  const known = means.flatMap(([px, py], i) => (px === null || py === null ? [] : [i]));
  const every = rates ? 1 : Math.max(1, Math.ceil(known.length / 7));
  if (!s.faint && !grey) {
    known.forEach((i, place) => {
      const final = place === known.length - 1;
      if (s.marked ? !s.marked.includes(i) : (place + index) % every && !final) return;
      if (final && s.lost) return;
      add(marks, "path", { class: `marker${s.hollow[i] ? " hollow" : ""}`, transform: `translate(${means[i]})`, d: style.marker, style: s.hollow[i] ? `stroke:${colour}` : `fill:${colour}` });
    });
  }
  const end = means[known.at(-1)];
  if (s.lost && end) drawCross(marks, ...end, colour);
  if (s.censored && means.length) add(marks, "path", { class: "end", style: `stroke:${colour}`, d: `M${means.at(-1)[0]},${means.at(-1)[1] - 6}v12` });
  for (const [at, value] of s.published ?? []) {
    if (y(value) !== null) add(marks, "circle", { class: "marker hollow published", cx: x(at), cy: y(value), r: 4, style: `stroke:${colour}` });
  }
}

function drawCross(svg, x, y, colour) {
  add(svg, "path", { class: "end", style: `stroke:${colour}`, d: `M${x - 5},${y - 5}l10,10m0,-10l-10,10` });
}

// Marks at the edge: a triangle with its value for a point outside the range, × where no run finished. Several at one place are
// stacked from the edge; grey lines have no value.
function drawMarks(svg, plot, x, y, frame, named) {
  const stacks = new Map();
  let outside = 0;
  const mark = (s, px, below, text) => {
    const grey = isGrey(s.optimizer), key = `${Math.round(px / 12)} ${below}`;
    const row = stacks.get(key) ?? 0;
    if (!grey && !s.faint) stacks.set(key, row + 1);
    const py = below ? frame.bottom - 6 - 13 * row : frame.top + 6 + 13 * row;
    if (text === undefined) return drawCross(svg, px, py, colourOf(s));
    add(svg, "path", { class: "outside", style: `fill:${colourOf(s)}`, d: below ? `M${px - 5},${py - 3}h10l-5,8Z` : `M${px - 5},${py + 3}h10l-5,-8Z` });
    const left = px < frame.right - 44;
    if (!grey && !s.faint && text) add(svg, "text", { class: "axis value", x: px + (left ? 8 : -8), y: py + 4, "text-anchor": left ? "start" : "end" }, text);
  };
  if (shares(plot.kind)) return 0;
  for (const s of plot.series) {
    s.mean.forEach((value, i) => {
      const px = x(s.x[i]), py = y(value);
      if (plot.kind === "rates" && !s.done[i]) return mark(s, px, plot.higher);
      if (plot.kind === "curves" && (i !== last(s) || s.lost)) return;
      if (px === null || py === null || (py <= frame.bottom + 1 && py >= frame.top - 1)) return;
      outside += 1;
      mark(s, px, py > frame.bottom, plot.kind === "curves" && named.has(s) ? "" : shown(unitOf(plot) * value, 3));
    });
  }
  return outside;
}

// --- Names at the ends of lines -----------------------------------------------------------------

// Names of the coloured lines, if there is room for them; those too long are in the legend only. A line that ends outside has its
// value, too.
function namesThatFit(plot, y, frame) {
  if (frame.width < NARROW) return [];
  ruler.font = "12px system-ui, sans-serif";
  const named = plot.series.filter((s) => !isGrey(s.optimizer) && !s.faint && last(s) >= 0).map((s) => {
    const value = s.mean[last(s)], outside = y(value) > frame.bottom + 1 || y(value) < frame.top - 1;
    const text = s.name + (plot.kind === "curves" && outside ? ` ${shown(unitOf(plot) * value, 3)}` : "");
    return { s, text, width: ruler.measureText(text).width };
  });
  return named.length * NAME_GAP > frame.bottom - frame.top ? [] : named.filter((entry) => entry.width < 0.25 * frame.width);
}

// Moves names apart: down from the highest, then up again from the bottom of the frame.
function drawNames(svg, names, x, y, frame) {
  const rows = names.map(({ s, text }) => {
    const end = Math.min(frame.bottom, Math.max(frame.top, y(s.mean[last(s)])));
    return { s, text, end, at: end, px: Math.min(frame.right, x(s.x[last(s)])) };
  }).sort((a, b) => a.at - b.at);
  rows.forEach((row, i) => { if (i) row.at = Math.max(row.at, rows[i - 1].at + NAME_GAP); });
  let limit = frame.bottom;
  for (const row of rows.toReversed()) { row.at = Math.min(row.at, limit); limit = row.at - NAME_GAP; }
  for (const { s, text, end, at, px } of rows) {
    const early = px < frame.right - 30; // a line that ended before the others
    add(svg, "path", { class: "lead", style: `stroke:${colourOf(s)};stroke-dasharray:${early ? "1 4" : "none"}`, d: `M${px + 7},${end}L${frame.right + 12},${at}h4` });
    add(svg, "text", { class: "axis name", x: frame.right + 19, y: at + 4 }, text);
  }
}

// --- Cross-hair ---------------------------------------------------------------------------------

// The index of the value that a series has at a pixel; -1 for none.
function indexAt(s, px, x, kind) {
  if (shares(kind)) return s.x.findLastIndex((value) => x(value) <= px + 0.5);
  let best = -1, least = kind === "rates" ? 3 : Infinity;
  s.x.forEach((value, i) => {
    const distance = Math.abs(x(value) - px);
    if (distance <= least && finite(s.mean[i])) { least = distance; best = i; }
  });
  const beyond = best >= 0 && px > x(s.x[last(s)]) + 3;
  return beyond ? -1 : best;
}

// Shows all values at one place of the x axis, best first. The pointer or the arrow keys choose place and line; Enter shows its runs.
function crossHair(holder, svg, plot, x, y, frame) {
  const tip = holder.querySelector(".tip") ?? holder.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  tip.setAttribute("role", "status");
  tip.hidden = true;
  const places = [...new Map(plot.series.flatMap((s) => s.x.filter((_, i) => finite(s.mean[i])).map((value) => [x(value), value]))).entries()].filter(([px]) => px !== null).sort((a, b) => a[0] - b[0]);
  const layer = add(svg, "g", { class: "hair" });
  let place = -1, chosen = null, rows = [];
  const hide = () => { place = -1; chosen = null; tip.hidden = true; layer.replaceChildren(); };
  const show = () => {
    const [px, value] = places[place];
    rows = plot.series.map((s) => ({ s, i: indexAt(s, px, x, plot.kind) })).filter(({ i }) => i >= 0);
    rows.sort((a, b) => (plot.higher || shares(plot.kind) ? -1 : 1) * (a.s.mean[a.i] - b.s.mean[b.i]));
    if (!rows.some(({ s }) => s === chosen)) chosen = rows[0]?.s ?? null;
    layer.replaceChildren();
    add(layer, "path", { class: "cursor", d: `M${px},${frame.top}V${frame.bottom}` });
    for (const { s, i } of rows) {
      const py = y(s.mean[i]);
      if (py <= frame.bottom + 1 && py >= frame.top - 1) add(layer, "circle", { class: s === chosen ? "ring chosen" : "ring", style: `stroke:${colourOf(s)}`, cx: px, cy: py, r: s === chosen ? 6 : 3.5 });
    }
    fillTip(tip, plot, rows, chosen, value);
    placeTip(tip, holder, px * (svg.clientWidth / frame.width), frame);
  };
  const runs = () => { const row = rows.find(({ s }) => s === chosen); if (row) onlyGroups(row.s.groups(row.i), true); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = frame.width / box.width;
    const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
    if (!places.length || px < frame.left - 12 || px > frame.right + 12) return hide();
    const before = place;
    place = places.reduce((best, [at], i) => (Math.abs(at - px) < Math.abs(places[best][0] - px) ? i : best), 0);
    if (before !== place) show();
    const nearest = rows.reduce((a, b) => (Math.abs(y(b.s.mean[b.i]) - py) < Math.abs(y(a.s.mean[a.i]) - py) ? b : a), rows[0]);
    if (nearest && nearest.s !== chosen) { chosen = nearest.s; show(); }
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("click", runs);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter") return runs();
    if (event.key === "Escape") return hide();
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key], across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if ((!along && !across) || !places.length) return;
    event.preventDefault();
    if (place < 0) place = along === -1 ? places.length - 1 : 0;
    else if (along) place = Math.max(0, Math.min(places.length - 1, place + along));
    else chosen = rows[(rows.findIndex(({ s }) => s === chosen) + across + rows.length) % rows.length]?.s;
    show();
  });
}

function fillTip(tip, plot, rows, chosen, value) {
  const unit = unitOf(plot), many = rows.length > 12;
  tip.classList.toggle("many", many);
  const head = Object.assign(document.createElement("b"), { textContent: `${plot.xLabel} ${shown(value)}` });
  const list = document.createElement("ol");
  for (const { s, i } of rows) {
    const interval = !many && finite(s.low[i]) && finite(s.high[i]) ? ` (${shown(unit * s.low[i])} to ${shown(unit * s.high[i])})` : "";
    const item = document.createElement("li");
    item.classList.toggle("chosen", s === chosen);
    const dot = document.createElement("i");
    dot.style.background = colourOf(s);
    item.append(dot, ` ${s.label(i)}: ${shown(unit * s.mean[i])}${interval}`);
    list.append(item);
  }
  tip.replaceChildren(head, list);
  tip.hidden = false;
}

// Beside the line, where it hides no value on it; below the chart on a narrow screen.
function placeTip(tip, holder, at, frame) {
  const free = holder.clientWidth - tip.offsetWidth;
  const right = at + 14 <= free, left = at - 14 - tip.offsetWidth;
  const below = holder.clientWidth < NARROW || (!right && left < 0);
  tip.style.left = `${below ? Math.max(0, Math.min(free, at - tip.offsetWidth / 2)) : right ? at + 14 : left}px`;
  tip.style.top = below ? `${frame.height + 2}px` : "4px";
}
