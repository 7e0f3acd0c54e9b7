"use strict";
// The page shows whole paths without this script, which shows them up to any step.
const values = JSON.parse(document.getElementById("values").textContent);
const slider = document.getElementById("step");
const shown = document.getElementById("shown");
const play = document.getElementById("play");
const speed = document.getElementById("speed");
const chart = document.getElementById("chart").dataset;
const cursor = document.getElementById("cursor");
const last = Number(slider.max);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const SECONDS = 8; // for all steps, at speed 1
const drawn = [".track", ".curve"].map((kind) => [...document.querySelectorAll(kind)].map((group) => {
  const lines = [...group.querySelectorAll("polyline")];
  return { group, lines, points: lines[0].getAttribute("points").split(" "), head: group.querySelector(".marker") };
}));

function show(step) {
  slider.value = step;
  slider.setAttribute("aria-valuetext", `step ${step} of ${last}`);
  shown.textContent = `step ${step}`;
  for (const { lines, points, head } of drawn.flat()) {
    const reached = points.slice(0, step + 1);
    lines.forEach((line) => line.setAttribute("points", reached.join(" ")));
    head.setAttribute("transform", `translate(${reached.at(-1)})`);
  }
  values.forEach((own, index) => {
    const cell = document.querySelector(`[data-value="${index}"]`);
    cell.textContent = step < own.length ? String(own[step]) : cell.dataset.end;
  });
  const x = Number(chart.left) + (chart.right - chart.left) * step / last;
  cursor.setAttribute("transform", `translate(${x - chart.right} 0)`);
}

let timer = null;
function stop() {
  cancelAnimationFrame(timer);
  timer = null;
  play.textContent = "Play";
}
function start() {
  let from = Number(slider.value) >= last ? 0 : Number(slider.value);
  let before = null;
  play.textContent = "Pause";
  const frame = (now) => {
    from += before === null ? 0 : (now - before) / 1000 * last / SECONDS * speed.value;
    before = now;
    // Where motion is to be reduced, ten still pictures take the place of the film.
    const grain = calm.matches ? Math.max(1, Math.ceil(last / 10)) : 1;
    show(Math.min(last, Math.floor(from / grain) * grain));
    if (from < last) timer = requestAnimationFrame(frame);
    else { show(last); stop(); }
  };
  timer = requestAnimationFrame(frame);
}

play.addEventListener("click", () => (timer === null ? start() : stop()));
slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
document.querySelectorAll("[data-path]").forEach((box) => box.addEventListener("change", () => {
  for (const groups of drawn) groups[Number(box.dataset.path)].group.style.display = box.checked ? "" : "none";
}));
document.getElementById("controls").hidden = false;
