/** Charts, as SVG. Each has a text for screen readers. @module */

import { svg } from './dom.js';
import { number, percent, shown, ticks } from './format.js';

const MARGIN = { top: 10, right: 12, bottom: 38 };

/** Height of a row of a chart, and width of a character in the charts' texts. */
const ROW = 24;
const CHARACTER = 7.2;

/** Least range of a curve: of probabilities, and of other predictions as a share of their size. */
const LEAST_PROBABILITIES = 0.1;
const LEAST_SHARE = 0.01;

/**
 * A scale from values to pixels.
 * @param {number} low
 * @param {number} high
 * @param {number} start
 * @param {number} end
 */
function linear(low, high, start, end) {
  const span = high - low || 1;
  return (/** @type {number} */ value) => start + ((value - low) / span) * (end - start);
}

/**
 * @param {(number | null)[]} values
 * @param {number} [share] Room on both sides.
 * @returns {[number, number]}
 */
function extent(values, share = 0.06) {
  const known = values.filter((value) => Number.isFinite(value));
  const low = Math.min(...known);
  const high = Math.max(...known);
  const room = (high - low) * share || Math.abs(high) * share || 1;
  return [low - room, high + room];
}

/** @param {[number, number][]} points */
function path(points) {
  return `M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join('L')}`;
}

/**
 * What a prediction would be for other values of one feature, with its interval.
 * @typedef {object} Curve
 * @property {string} feature
 * @property {boolean} isNumber Whether its values are numbers on a scale.
 * @property {any[]} values Numbers, ascending, or categories.
 * @property {number[]} predictions
 * @property {number[] | null} lower
 * @property {number[] | null} upper
 * @property {{value: any, prediction: number}} at The row itself.
 * @property {string} unit Of the feature.
 * @property {boolean} isProbability Whether its predictions are probabilities.
 */

/**
 * The chart of a curve: a line for numbers, and a row for each category.
 * @param {Curve} curve
 * @param {number} width
 * @param {(value: any) => void} pick Called with the value that is clicked on.
 */
export function curveChart(curve, width, pick) {
  const { feature, predictions } = curve;
  const [least, most] = [Math.min(...predictions), Math.max(...predictions)].map((value) => markOf(curve)(value));
  const label = `Prediction by ${feature}: from ${least} to ${most}.`;
  return curve.isNumber ? lineChart(curve, label, width, pick) : rowChart(curve, label, width, pick);
}

/**
 * Range of the predictions. It is so large that the marks of the axis differ, and that what makes no difference looks
 * like it.
 * @param {Curve} curve
 * @returns {[number, number]}
 */
function predictionRange({ predictions, lower, upper, at, isProbability }) {
  const [low, high] = extent([...predictions, ...(lower ?? []), ...(upper ?? []), at.prediction]);
  const least = isProbability ? LEAST_PROBABILITIES : LEAST_SHARE * Math.max(Math.abs(low), Math.abs(high));
  const room = Math.max(0, (least - (high - low)) / 2);
  return isProbability ? [Math.max(0, low - room), Math.min(1, high + room)] : [low - room, high + room];
}

/** @param {Curve} curve */
function markOf({ isProbability }) {
  return isProbability ? percent : number;
}

/**
 * @param {Curve} curve
 * @param {string} label
 * @param {number} width
 * @param {(value: number) => void} pick
 */
function lineChart(curve, label, width, pick) {
  const { feature, values, predictions, lower, upper, at, unit } = curve;
  const height = Math.max(200, Math.min(300, width * 0.5));
  const [low, high] = predictionRange(curve);
  const [first, last] = values.length > 1 ? [values[0], values[values.length - 1]] : extent(values);
  const y = linear(low, high, height - MARGIN.bottom, MARGIN.top);
  const marks = ticks(low, high, height / 50).map((value) => ({ at: y(value), text: markOf(curve)(value) }));
  const start = 14 + CHARACTER * Math.max(...marks.map(({ text }) => text.length));
  const end = width - MARGIN.right;
  const x = linear(first, last, start, end);
  const points = (/** @type {number[]} */ list) => list.map((value, place) => /** @type {[number, number]} */ ([x(values[place]), y(value)]));
  const title = unit ? `${feature}, ${unit}` : feature;
  const parts = [
    ...marks.map(({ at: up, text }) =>
      svg(
        'g',
        { class: 'axis' },
        svg('line', { x1: start, x2: end, y1: up, y2: up }),
        svg('text', { x: start - 8, y: up + 4, 'text-anchor': 'end' }, text),
      ),
    ),
    ...ticks(first, last, Math.max(3, (end - start) / 80)).map((value) =>
      svg('text', { class: 'mark', x: x(value), y: height - MARGIN.bottom + 18, 'text-anchor': x(value) > end - 16 ? 'end' : 'middle' }, shown(value)),
    ),
    svg('text', { class: 'mark', x: width / 2, y: height - 4, 'text-anchor': 'middle' }, cut(title, width)),
  ];
  if (lower && upper) parts.push(svg('path', { class: 'band', d: `${path([...points(upper), ...points(lower).reverse()])}Z` }));
  if (values.length > 1) parts.push(svg('path', { class: 'line', d: path(points(predictions)) }));
  else parts.push(svg('circle', { class: 'point', cx: x(values[0]), cy: y(predictions[0]), r: 4 }));
  if (typeof at.value === 'number' && at.value >= first && at.value <= last) {
    parts.push(svg('line', { class: 'here', x1: x(at.value), x2: x(at.value), y1: MARGIN.top, y2: height - MARGIN.bottom }));
    parts.push(svg('circle', { class: 'here', cx: x(at.value), cy: y(at.prediction), r: 5 }));
  } else {
    parts.push(svg('line', { class: 'here', x1: start, x2: end, y1: y(at.prediction), y2: y(at.prediction) }));
    parts.push(svg('text', { class: 'mark', x: end, y: y(at.prediction) - 5, 'text-anchor': 'end' }, `this row: ${shown(at.value)}`));
  }
  const onclick = (/** @type {MouseEvent} */ event) => {
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const value = first + ((event.clientX - box.left - start) / (end - start)) * (last - first);
    pick(Number(Math.max(first, Math.min(last, value)).toPrecision(5)));
  };
  return svg('svg', { class: 'chart pick', role: 'img', 'aria-label': label, width, height, onclick }, ...parts);
}

/**
 * @param {Curve} curve
 * @param {string} label
 * @param {number} width
 * @param {(value: any) => void} pick
 */
function rowChart(curve, label, width, pick) {
  const { values, predictions, lower, upper, at } = curve;
  const here = values.indexOf(at.value);
  const rows = values.map((value, place) => ({ text: shown(value), value, low: lower?.[place], high: upper?.[place], prediction: predictions[place] }));
  if (here < 0) rows.push({ text: shown(at.value), value: at.value, low: undefined, high: undefined, prediction: at.prediction });
  const longest = Math.max(...rows.map(({ text }) => text.length));
  const start = Math.min(width * 0.4, 14 + CHARACTER * longest);
  const [low, high] = predictionRange(curve);
  const x = linear(low, high, start, width - MARGIN.right);
  const bottom = MARGIN.top + ROW * rows.length;
  const parts = ticks(low, high, Math.max(3, (width - start) / 80)).flatMap((value) => [
    svg('g', { class: 'axis' }, svg('line', { x1: x(value), x2: x(value), y1: MARGIN.top, y2: bottom })),
    svg('text', { class: 'mark', x: x(value), y: bottom + 16, 'text-anchor': x(value) > width - 24 ? 'end' : 'middle' }, markOf(curve)(value)),
  ]);
  rows.forEach(({ text, low: from, high: to, prediction }, place) => {
    const y = MARGIN.top + ROW * (place + 0.5);
    const isHere = place === (here < 0 ? rows.length - 1 : here);
    parts.push(svg('text', { class: isHere ? 'mark this' : 'mark', x: start - 8, y: y + 4, 'text-anchor': 'end' }, cut(text, start - 8)));
    if (from !== undefined && to !== undefined) parts.push(svg('line', { class: 'whisker', x1: x(from), x2: x(to), y1: y, y2: y }));
    parts.push(svg('circle', { class: isHere ? 'here' : 'point', cx: x(prediction), cy: y, r: isHere ? 6 : 4 }));
  });
  const onclick = (/** @type {MouseEvent} */ event) => {
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const place = Math.floor((event.clientY - box.top - MARGIN.top) / ROW);
    pick(rows[Math.max(0, Math.min(rows.length - 1, place))].value);
  };
  return svg('svg', { class: 'chart pick', role: 'img', 'aria-label': label, width, height: bottom + 24, onclick }, ...parts);
}

/**
 * A text that fits into a width.
 * @param {string} text
 * @param {number} width
 */
function cut(text, width) {
  const most = Math.max(3, Math.floor(width / CHARACTER));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/**
 * A prediction and its interval, over the predictions for the training rows.
 * @param {object} given
 * @param {number} given.prediction
 * @param {{lower: number, upper: number} | null} given.interval
 * @param {{edges: number[], shares: number[]} | null} given.histogram
 * @param {number} width
 */
export function spreadChart({ prediction, interval, histogram }, width) {
  const height = 84;
  const base = height - 22;
  const bins = histogram && histogram.edges.length > 1 ? histogram : null;
  const [low, high] = extent([prediction, interval?.lower, interval?.upper, ...(bins?.edges ?? [])], 0.03);
  const x = linear(low, high, 6, width - 6);
  const parts = [];
  if (bins) {
    const heights = bins.shares.map((share, place) => share / (bins.edges[place + 1] - bins.edges[place] || Infinity));
    const top = Math.max(...heights);
    heights.forEach((density, place) => {
      const [left, right] = [x(bins.edges[place]), x(bins.edges[place + 1])];
      const size = (density / top) * (base - 16);
      parts.push(svg('rect', { class: 'bin', x: left, y: base - size, width: Math.max(0, right - left), height: size }));
    });
  }
  parts.push(svg('line', { class: 'base', x1: 0, x2: width, y1: base, y2: base }));
  if (interval) {
    const [left, right] = [x(interval.lower), x(interval.upper)];
    parts.push(svg('rect', { class: 'range', x: left, y: base - 5, width: right - left, height: 10, rx: 5 }));
  }
  parts.push(svg('circle', { class: 'here', cx: x(prediction), cy: base, r: 7 }));
  for (const value of ticks(low, high, width / 90)) {
    const anchor = x(value) < 20 ? 'start' : x(value) > width - 20 ? 'end' : 'middle';
    parts.push(svg('text', { class: 'mark', x: x(value), y: height - 2, 'text-anchor': anchor }, number(value)));
  }
  const range = interval ? `, interval from ${number(interval.lower)} to ${number(interval.upper)}` : '';
  const others = bins ? `, among the model's predictions from ${number(bins.edges[0])} to ${number(bins.edges.at(-1))}` : '';
  const label = `Prediction ${number(prediction)}${range}${others}.`;
  return svg('svg', { class: 'chart', role: 'img', 'aria-label': label, width, height }, ...parts);
}

/**
 * The last values of a figure, oldest first; null where it is not known.
 * @param {(number | null)[]} values
 * @param {number} width
 * @param {number} slots Values that fill the width.
 */
export function sparkline(values, width, slots) {
  const height = 44;
  const [, high] = extent([0, ...values], 0.08);
  const x = linear(0, slots - 1, 1, width - 1);
  const y = linear(0, high, height - 2, 2);
  /** @type {[number, number][]} */
  const points = [];
  values.forEach((value, place) => {
    if (value !== null && Number.isFinite(value)) points.push([x(slots - values.length + place), y(value)]);
  });
  const parts = [svg('line', { class: 'base', x1: 0, x2: width, y1: height - 1, y2: height - 1 })];
  if (points.length > 1) {
    const [left, right] = [points[0][0], points[points.length - 1][0]];
    parts.push(svg('path', { class: 'area', d: `${path([[left, height - 1], ...points, [right, height - 1]])}Z` }));
    parts.push(svg('path', { class: 'line', d: path(points) }));
  }
  return svg('svg', { class: 'chart', 'aria-hidden': 'true', width, height }, ...parts);
}

/**
 * A bar from one value to another, on a scale that other bars have too.
 * @param {number} from
 * @param {number} to
 * @param {[number, number]} scale
 * @param {string} kind Class of the bar.
 */
export function stepBar(from, to, scale, kind) {
  const x = linear(scale[0], scale[1], 0, 100);
  const [left, right] = [x(Math.min(from, to)), x(Math.max(from, to))];
  return svg(
    'svg',
    { class: 'step', 'aria-hidden': 'true', viewBox: '0 0 100 16', preserveAspectRatio: 'none' },
    svg('rect', { class: kind, x: left, y: 2, width: Math.max(0.6, right - left), height: 12 }),
  );
}
