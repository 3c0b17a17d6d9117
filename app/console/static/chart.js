/** Charts, as SVG. Each has a text for screen readers. @module */

import { svg } from './dom.js';
import { number, shown, ticks } from './format.js';

const MARGIN = { top: 10, right: 12, bottom: 38, left: 52 };

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
 * @param {object} curve
 * @param {string} curve.feature
 * @param {any[]} curve.values Numbers, or categories.
 * @param {number[]} curve.predictions
 * @param {number[] | null} curve.lower
 * @param {number[] | null} curve.upper
 * @param {{value: any, prediction: number} | null} curve.at The row itself.
 * @param {string} curve.unit
 * @param {number} width
 * @param {(value: any) => void} pick Called with the value that is clicked on.
 */
export function curveChart({ feature, values, predictions, lower, upper, at, unit }, width, pick) {
  const height = Math.max(200, Math.min(300, width * 0.5));
  const isNumber = values.every((value) => typeof value === 'number');
  const places = isNumber ? values : values.map((_, place) => place);
  const ends = [at?.prediction ?? null];
  const [low, high] = extent([...predictions, ...(lower ?? []), ...(upper ?? []), ...ends]);
  const [first, last] = isNumber ? [Math.min(...places), Math.max(...places)] : [-0.5, places.length - 0.5];
  const x = linear(first, last, MARGIN.left, width - MARGIN.right);
  const y = linear(low, high, height - MARGIN.bottom, MARGIN.top);
  const line = predictions.map((value, place) => /** @type {[number, number]} */ ([x(places[place]), y(value)]));
  const marks = isNumber
    ? ticks(first, last, width / 90).map((value) => ({ at: value, text: number(value) }))
    : values.map((value, place) => ({ at: place, text: shown(value).slice(0, Math.max(3, 60 / values.length)) }));
  const parts = [
    ...ticks(low, high, height / 50).map((value) =>
      svg(
        'g',
        { class: 'axis' },
        svg('line', { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
        svg('text', { x: MARGIN.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, number(value)),
      ),
    ),
    ...marks.map(({ at: value, text }) =>
      svg('text', { class: 'mark', x: x(value), y: height - MARGIN.bottom + 18, 'text-anchor': 'middle' }, text),
    ),
    svg(
      'text',
      { class: 'mark', x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 4, 'text-anchor': 'middle' },
      unit ? `${feature}, ${unit}` : feature,
    ),
  ];
  if (isNumber) {
    if (lower && upper) {
      const band = [
        ...upper.map((value, place) => /** @type {[number, number]} */ ([x(places[place]), y(value)])),
        ...lower.map((value, place) => /** @type {[number, number]} */ ([x(places[place]), y(value)])).reverse(),
      ];
      parts.push(svg('path', { class: 'band', d: `${path(band)}Z` }));
    }
    parts.push(svg('path', { class: 'line', d: path(line) }));
  } else {
    line.forEach(([across, up], place) => {
      if (lower && upper) {
        parts.push(svg('line', { class: 'whisker', x1: across, x2: across, y1: y(lower[place]), y2: y(upper[place]) }));
      }
      parts.push(svg('circle', { class: 'point', cx: across, cy: up, r: 4 }));
    });
  }
  const here = at && (isNumber ? at.value : values.indexOf(at.value));
  if (at && typeof here === 'number' && here >= first && here <= last) {
    parts.push(svg('line', { class: 'here', x1: x(here), x2: x(here), y1: MARGIN.top, y2: height - MARGIN.bottom }));
    parts.push(svg('circle', { class: 'here', cx: x(here), cy: y(at.prediction), r: 5 }));
  }
  const [least, most] = [Math.min(...predictions), Math.max(...predictions)];
  const label = `Prediction by ${feature}: from ${number(least)} to ${number(most)}.`;
  const onclick = (/** @type {MouseEvent} */ event) => {
    const box = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    const value = first + ((event.clientX - box.left - MARGIN.left) / (width - MARGIN.left - MARGIN.right)) * (last - first);
    const clamped = Math.max(first, Math.min(last, value));
    pick(isNumber ? Number(clamped.toPrecision(5)) : values[Math.max(0, Math.min(values.length - 1, Math.round(value)))]);
  };
  return svg('svg', { class: 'chart pick', role: 'img', 'aria-label': label, width, height, onclick }, ...parts);
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
