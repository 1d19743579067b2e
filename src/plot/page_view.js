// What the page shows: the data, and `view`, which says what of it. From these two alone everything is
// drawn anew each time, so that no control needs to know of another. page_draw.js follows.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const canvas = document.querySelector("canvas");
const paper = canvas.getContext("2d");
const margin = { left: 58, right: 18, top: 26, bottom: 44 };
const kColours = 6;

// x and y: [low, high], or null for all there is. drag and pointer: in pixels of the canvas.
const view = { x: null, y: null, log: false, smoothing: 0, drag: null, pointer: null };
data.groups.forEach((group, i) => Object.assign(group, { shown: true, colour: `--c${i % kColours}` }));

const shownGroups = () => data.groups.filter((group) => group.shown);
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// The mean of up to `reach` points on either side. The windows grow from nothing at the left, so that
// the steep beginning of a loss curve stays steep.
function smoothed(values, reach) {
  const sums = [0];
  for (const value of values) sums.push(sums[sums.length - 1] + value);
  return values.map((_, i) => {
    const near = Math.min(reach, Math.floor(i / 3));
    const end = Math.min(i + near + 1, values.length);
    return (sums[end] - sums[i - near]) / (end - i + near);
  });
}

// Points on either side, of the slider's place: finer where little is smoothed.
function reachOf(curve) {
  if (curve.mark !== "line") return 0;
  return Math.round((view.smoothing / 100) ** 2 * curve.y.length * 0.1);
}

function smoothAll() {
  let most = 0;
  for (const group of data.groups) {
    for (const curve of group.curves) {
      const reach = reachOf(curve);
      curve.smooth = reach > 0 ? smoothed(curve.y, reach) : curve.y;
      const spacing = (curve.x[curve.x.length - 1] - curve.x[0]) / (curve.x.length - 1);
      most = Math.max(most, reach > 0 ? Math.round(reach * spacing) : 0);
    }
  }
  byId("smoothed").textContent = most > 0 ? `± ${most} steps` : "off";
}

// The index of the first value that is not below `wanted`; x rises.
function lowerBound(x, wanted) {
  let low = 0, high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < wanted) low = middle + 1; else high = middle;
  }
  return low;
}

function nearest(x, wanted) {
  const i = lowerBound(x, wanted);
  return i > 0 && (i === x.length || wanted - x[i - 1] < x[i] - wanted) ? i - 1 : i;
}

// The lowest and highest, with room on both sides where they are one.
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  if (high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high))) return [low, high];
  const room = Math.abs(low) / 10 || 1;
  return [low - room, high + room];
}

const drawable = (value) => !view.log || value > 0;

function ranges() {
  const curves = shownGroups().flatMap((group) => group.curves);
  const x = view.x || extent(curves.flatMap((c) => [c.x[0], c.x[c.x.length - 1]]));
  if (view.y) return { x, y: view.y };
  const values = [];
  for (const curve of curves) {
    const end = lowerBound(curve.x, x[1] + 1e-9);
    for (let i = lowerBound(curve.x, x[0]); i < end; ++i) {
      if (drawable(curve.y[i])) values.push(curve.y[i]);
    }
  }
  if (!view.x && data.floor !== null && drawable(data.floor)) values.push(data.floor);
  const [low, high] = extent(values);
  if (view.log) {
    const room = (high / Math.max(low, high * 1e-12)) ** 0.04;
    return { x, y: low > 0 ? [low / room, high * room] : [high / 1e3 || 0.1, high || 1] };
  }
  const room = (high - low) * 0.04;
  return { x, y: [low - room, high + room] };
}

// From data to pixels and back, of what is shown now.
function makeScale() {
  const range = ranges();
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const across = width - margin.left - margin.right, down = height - margin.top - margin.bottom;
  const bend = view.log ? Math.log : (v) => v, unbend = view.log ? Math.exp : (v) => v;
  const [low, high] = range.y.map(bend);
  const [first, last] = range.x;
  return {
    ...range, width, height, right: width - margin.right, bottom: height - margin.bottom,
    toX: (x) => margin.left + (x - first) / (last - first) * across,
    toY: (y) => margin.top + (high - bend(y)) / (high - low) * down,
    fromX: (x) => first + (x - margin.left) / across * (last - first),
    fromY: (y) => unbend(high - (y - margin.top) / down * (high - low)),
  };
}

// Multiples of 1, 2 or 5 times a power of ten, about `count` of them.
function linearTicks([low, high], count) {
  const wanted = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= wanted * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step); i <= high / step + 1e-9; ++i) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

function logTicks([low, high], count) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; ++power) {
    for (const factor of [1, 2, 5]) ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  }
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  return inside.length >= 3 ? inside : linearTicks([low, high], count);
}

const shortNumber = (value) => String(Number(value.toPrecision(6)));
