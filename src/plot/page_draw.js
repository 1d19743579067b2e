// Draws the view on the canvas, and lets the reader change it.

function drawAxes(scale) {
  const across = Math.max(2, (scale.right - margin.left) / 110);
  const down = Math.max(2, (scale.bottom - margin.top) / 60);
  paper.fillStyle = colourOf("--faint");
  paper.lineWidth = 1;
  paper.strokeStyle = colourOf("--grid");
  paper.textAlign = "right";
  for (const tick of (view.log ? logTicks : linearTicks)(scale.y, down)) {
    const y = Math.round(scale.toY(tick)) + 0.5;
    stroke([[margin.left, y], [scale.right, y]]);
    paper.fillText(shortNumber(tick), margin.left - 8, y + 4);
  }
  paper.strokeStyle = colourOf("--axis");
  paper.textAlign = "center";
  for (const tick of linearTicks(scale.x, across)) {
    const x = Math.round(scale.toX(tick)) + 0.5;
    stroke([[x, scale.bottom], [x, scale.bottom + 5]]);
    paper.fillText(shortNumber(tick), x, scale.bottom + 19);
  }
  stroke([[margin.left, scale.bottom + 0.5], [scale.right, scale.bottom + 0.5]]);
  paper.fillText(data.x_label, (margin.left + scale.right) / 2, scale.height - 8);
  paper.textAlign = "left";
  paper.fillText(data.y_label, 4, margin.top - 12);
}

function stroke(points) {
  paper.beginPath();
  points.forEach(([x, y], i) => (i === 0 ? paper.moveTo(x, y) : paper.lineTo(x, y)));
  paper.stroke();
}

// The points that are shown, and one more on either side, in pixels.
function pixels(curve, values, scale) {
  const begin = Math.max(0, lowerBound(curve.x, scale.x[0]) - 1);
  const end = Math.min(curve.x.length, lowerBound(curve.x, scale.x[1]) + 1);
  const points = [];
  for (let i = begin; i < end; ++i) {
    if (drawable(values[i])) points.push([scale.toX(curve.x[i]), scale.toY(values[i])]);
  }
  return points;
}

function drawCurve(curve, colour, scale) {
  const line = curve.mark === "line";
  const points = pixels(curve, curve.smooth, scale);
  paper.strokeStyle = paper.fillStyle = colour;
  paper.lineJoin = "round";
  if (line && curve.smooth !== curve.y) {
    paper.globalAlpha = 0.25;
    paper.lineWidth = 1;
    stroke(pixels(curve, curve.y, scale));
  }
  paper.globalAlpha = line ? 1 : 0.7;
  paper.lineWidth = line ? 2 : 1.3;
  stroke(points);
  paper.globalAlpha = 1;
  if (!line || points.length === 1) for (const point of points) dot(point, 3.5);
}

function dot([x, y], radius) {
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
  paper.fill();
}

function drawFloor(scale) {
  if (data.floor === null || !drawable(data.floor)) return;
  const y = scale.toY(data.floor);
  paper.strokeStyle = paper.fillStyle = colourOf("--faint");
  paper.lineWidth = 1.5;
  paper.setLineDash([6, 5]);
  stroke([[margin.left, y], [scale.right, y]]);
  paper.setLineDash([]);
  paper.fillText(`${data.floor_label} ${data.floor.toPrecision(4)}`, margin.left + 8, y - 6);
}

// Small triangles that stand on the axis.
function drawResumes(group, scale) {
  paper.fillStyle = colourOf(group.colour);
  for (const step of group.resumes) {
    if (step < scale.x[0] || step > scale.x[1]) continue;
    const x = scale.toX(step);
    paper.beginPath();
    paper.moveTo(x, scale.bottom - 7);
    paper.lineTo(x - 4, scale.bottom);
    paper.lineTo(x + 4, scale.bottom);
    paper.fill();
  }
}

function clipped(scale, draw) {
  paper.save();
  paper.beginPath();
  paper.rect(margin.left - 4, margin.top - 4, scale.right - margin.left + 8,
    scale.bottom - margin.top + 5);
  paper.clip();
  draw();
  paper.restore();
}

function draw() {
  const scale = makeScale();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(scale.width * ratio);
  canvas.height = Math.round(scale.height * ratio);
  paper.scale(ratio, ratio);
  paper.font = getComputedStyle(document.body).font;
  drawAxes(scale);
  clipped(scale, () => {
    for (const mark of ["line", "points"]) {
      for (const group of shownGroups()) {
        for (const curve of group.curves) {
          if (curve.mark === mark) drawCurve(curve, colourOf(group.colour), scale);
        }
      }
    }
    drawFloor(scale);
    for (const group of shownGroups()) drawResumes(group, scale);
  });
  drawDrag(scale);
  drawReadout(scale);
  byId("whole").disabled = !view.x;
  const part = (range) => range.map(shortNumber).join(" to ");
  canvas.setAttribute("aria-label", `${data.title}: ${data.x_label} ${part(scale.x)}, ` +
    `${data.y_label} ${part(scale.y)}`);
}

// A drag that is flat chooses steps alone, and the losses fit themselves.
const kFlat = 24, kLeastDrag = 6;

function draggedBox(scale) {
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const [from, to] = view.drag.map(([x, y]) => [clamp(x, margin.left, scale.right),
    clamp(y, margin.top, scale.bottom)]);
  const flat = Math.abs(from[1] - to[1]) < kFlat;
  return {
    left: Math.min(from[0], to[0]), right: Math.max(from[0], to[0]), flat,
    top: flat ? margin.top : Math.min(from[1], to[1]),
    bottom: flat ? scale.bottom : Math.max(from[1], to[1]),
  };
}

function drawDrag(scale) {
  if (!view.drag) return;
  const box = draggedBox(scale);
  paper.globalAlpha = 0.15;
  paper.fillStyle = colourOf("--faint");
  paper.fillRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  paper.globalAlpha = 1;
}

function zoomToDrag() {
  const scale = makeScale();
  const box = draggedBox(scale);
  view.drag = null;
  if (box.right - box.left >= kLeastDrag) {
    view.x = [scale.fromX(box.left), scale.fromX(box.right)];
    view.y = box.flat ? null : [scale.fromY(box.bottom), scale.fromY(box.top)];
  }
}

// Of each curve that is shown, its point nearest to the pointer's step.
function rowsAt(step, scale) {
  const rows = [];
  for (const group of shownGroups()) {
    for (const curve of group.curves) {
      const i = nearest(curve.x, step);
      if (curve.x[i] < scale.x[0] || curve.x[i] > scale.x[1]) continue;
      rows.push({ name: curve.name, colour: group.colour, x: curve.x[i], y: curve.smooth[i] });
    }
  }
  return rows;
}

// Names are set as text, never as markup.
function element(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

function drawReadout(scale) {
  const readout = byId("readout");
  const [x, y] = view.pointer || [-1, -1];
  const rows = x >= margin.left && x <= scale.right && !view.drag ? rowsAt(scale.fromX(x), scale) : [];
  readout.hidden = rows.length === 0;
  if (readout.hidden) return;
  const at = rows.reduce((a, b) =>
    (Math.abs(scale.toX(a.x) - x) <= Math.abs(scale.toX(b.x) - x) ? a : b)).x;
  paper.strokeStyle = colourOf("--axis");
  paper.lineWidth = 1;
  stroke([[scale.toX(at), margin.top], [scale.toX(at), scale.bottom]]);
  readout.replaceChildren();
  const table = element("table", "", readout);
  element("caption", `${data.x_label} ${shortNumber(at)}`, table);
  for (const row of rows) {
    paper.fillStyle = colourOf(row.colour);
    if (drawable(row.y)) dot([scale.toX(row.x), scale.toY(row.y)], 4);
    const line = element("tr", "", table);
    element("td", row.name, line).style.color = `var(${row.colour})`;
    element("td", row.y.toPrecision(5), line);
    element("td", row.x === at ? "" : `at ${shortNumber(row.x)}`, line);
  }
  for (const group of shownGroups()) {
    const near = group.resumes.find((step) => Math.abs(scale.toX(step) - x) <= 5);
    if (near !== undefined) element("div", `▲ ${group.name} resumed at ${near}`, readout);
  }
  const left = x + 16 + readout.offsetWidth < scale.width ? x + 16 : x - 16 - readout.offsetWidth;
  readout.style.left = `${Math.max(0, left)}px`;
  readout.style.top = `${Math.max(0, Math.min(y, scale.bottom - readout.offsetHeight))}px`;
}

function buildLegend() {
  const legend = byId("legend");
  for (const group of data.groups) {
    const button = element("button", "", legend);
    const swatch = element("span", "", button);
    swatch.className = "swatch";
    swatch.style.background = `var(${group.colour})`;
    element("span", group.name, button);
    button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      group.shown = !group.shown;
      button.setAttribute("aria-pressed", String(group.shown));
      draw();
    };
  }
  if (data.groups.some((group) => group.resumes.length > 0)) {
    element("span", "▲ resumed", legend).className = "note";
  }
}

let drawIsDue = false;

// Once a frame, however many events come.
function drawSoon() {
  if (drawIsDue) return;
  drawIsDue = true;
  requestAnimationFrame(() => {
    drawIsDue = false;
    draw();
  });
}

function showAll() {
  view.x = view.y = null;
  draw();
}

function listen() {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.onpointerdown = (event) => {
    if (event.button === 0) view.drag = [place(event), place(event)];
  };
  window.onpointermove = (event) => {
    if (event.buttons === 0) view.drag = null;  // let go outside of the window
    if (!view.drag && event.target !== canvas) return;
    view.pointer = place(event);
    if (view.drag) view.drag[1] = view.pointer;
    drawSoon();
  };
  window.onpointerup = () => {
    if (!view.drag) return;
    zoomToDrag();
    draw();
  };
  window.onpointercancel = () => {
    view.drag = null;
    draw();
  };
  canvas.onpointerleave = () => {
    view.pointer = null;
    draw();
  };
  canvas.ondblclick = showAll;
  byId("whole").onclick = showAll;
  byId("log").onchange = (event) => {
    view.log = event.target.checked;
    view.y = null;
    draw();
  };
  byId("smoothing").oninput = smooth;
  matchMedia("(prefers-color-scheme: dark)").onchange = draw;
  new ResizeObserver(draw).observe(canvas);
}

function smooth() {
  view.smoothing = Number(byId("smoothing").value);
  smoothAll();
  draw();
}

document.title = data.title;
document.querySelector("h1").textContent = data.title;
buildLegend();
listen();
smooth();
