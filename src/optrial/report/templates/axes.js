"use strict";
// Scales, ticks and ranges of the charts.
const finite = (value) => value !== null && value !== undefined && Number.isFinite(value);

function shown(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) {
    const [factor, power] = Number(value.toPrecision(digits)).toExponential().split("e");
    const raised = String(Number(power)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return (factor === "1" ? "" : `${factor}·`.replace("-", "−")) + `10${raised}`;
  }
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

// --- Ticks: {value, label}, within the range and about `count` of them --------------------------

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const length = Math.max(0, Math.floor(high / step + 1e-9) - first + 1);
  const values = Array.from({ length }, (_, i) => (first + i) * step);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const plain = decimals < 5 && Math.max(Math.abs(low), Math.abs(high)) < 1e6;
  return values.map((value) => ({ value, label: plain ? value.toFixed(decimals).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, "") : shown(value) }));
}

function wholeTicks(low, high, count) {
  const every = Math.max(1, Math.ceil((high - low) / count));
  const first = Math.ceil(low);
  const length = Math.max(0, Math.floor((high - first) / every) + 1);
  return Array.from({ length }, (_, i) => ({ value: first + i * every, label: String(first + i * every) }));
}

// 1, 2, 5 of each power of ten; powers alone where these are too many; linear where too few.
function logTicks(low, high, count) {
  const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
  const within = (factors, every) => {
    const values = [];
    for (let power = from; power <= to; power += every) {
      for (const factor of factors) values.push(Number(`${factor}e${power}`));
    }
    return values.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  };
  const sets = [within([1, 2, 5], 1), ...[1, 2, 3, 4, 6, 8].map((every) => within([1], every))].filter((values) => values.length >= 3);
  const values = sets.find((set) => set.length <= Math.max(4, count)) ?? sets.at(-1);
  if (values) return values.map((value) => ({ value, label: shown(value) }));
  return [4, 6, 9, 14].map((finer) => linearTicks(low, high, finer)).find((ticks) => ticks.length >= 3) ?? linearTicks(low, high, 20);
}

// --- Ranges -------------------------------------------------------------------------------------

// Whether each value is near the best one: within five times the distance of the best third.
function nearBest(values, higher, log) {
  const scaled = values.map((value) => (log ? Math.log(value) : value));
  const best = scaled.reduce((a, b) => (higher ? Math.max(a, b) : Math.min(a, b)), scaled[0]);
  const distances = scaled.map((value) => Math.abs(value - best));
  const sorted = distances.filter((distance) => distance > 0).sort((a, b) => a - b);
  const limit = 5 * sorted[Math.floor(sorted.length / 3)];
  return distances.map((distance) => !(distance > limit));
}

// The smallest and the largest of the values, with a margin.
function extent(values, log) {
  const known = values.filter((value) => finite(value) && (!log || value > 0));
  if (!known.length) return log ? [0.1, 1] : [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  if (low === high) return log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const margin = 0.05;
  return log ? [low * (low / high) ** margin, high * (high / low) ** margin] : [low - margin * (high - low), high + margin * (high - low)];
}

// A function from data to pixels; null for what has no place on the axis.
function axis(range, log, first, last) {
  const [low, high] = log ? range.map(Math.log10) : range;
  return (value) => {
    if (!finite(value) || (log && value <= 0)) return null;
    const share = ((log ? Math.log10(value) : value) - low) / (high - low);
    return Math.min(1e4, Math.max(-1e4, first + share * (last - first)));
  };
}
