/** The view Live: what the service does now. @module */

import { ask, mayAsk } from './api.js';
import { sparkline } from './chart.js';
import { card, drawn, facts, h, put, table } from './dom.js';
import { bytes, duration, moment, number, percent, shown } from './format.js';
import { onFigures } from './stream.js';

const SECONDS = 120;
const MOST_PREDICTIONS = 20;

/** PSI from which a shift is major; it fills the bar. */
const MAJOR = 0.25;

/**
 * Figures of one second, made from two readings.
 * @typedef {object} Rates
 * @property {number} requests
 * @property {number} rows
 * @property {number} failed
 * @property {number | null} median
 * @property {number | null} slow The 99th percentile.
 * @property {number} queued
 */

/** @type {[keyof Rates, string, (value: any) => string][]} */
const TILES = [
  ['requests', 'Requests a second', number],
  ['rows', 'Rows a second', number],
  ['median', 'Median latency', duration],
  ['slow', '99th percentile', duration],
  ['failed', 'Errors a second', number],
  ['queued', 'Rows in the queue', number],
];

/**
 * The view Live.
 * @param {HTMLElement} root
 * @returns {import('./main.js').View}
 */
export function liveView(root) {
  /** @type {any} */
  let before = null;
  /** @type {import('./main.js').Model | null} */
  let model = null;
  /** @type {Rates[]} */
  const history = [];
  const tiles = TILES.map(([key, title, format]) => tile(title, format, () => history.map((one) => one[key])));
  const parts = [
    part('Drift', (figures) => figures.drift, driftTable),
    part('Load', loadFigures, facts),
    part('Errors and refusals', (figures) => ({ errors: figures.errors, refused: figures.refused }), errorTable),
    part('Coverage of the intervals', (figures) => figures.coverage, coverageTable),
    part('GPU', (figures) => ({ gpus: figures.gpus, gpu_reason: figures.gpu_reason }), gpuTable),
  ];
  const predictions = h('div', {});
  const about = h('p', { class: 'about', hidden: true });
  put(
    root,
    about,
    h('div', { class: 'tiles' }, ...tiles.map((one) => one.element)),
    h(
      'div',
      { class: 'columns' },
      ...parts.map((one) => one.element),
    ),
    card(
      'Last predictions',
      {},
      h('p', { class: 'about' }, 'They need the operator’s key (ADMIN_API_KEY).'),
      h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: showPredictions }, 'Show them')),
      predictions,
    ),
  );

  async function showPredictions() {
    try {
      mayAsk('admin');
      const page = await ask(`predictions?limit=${MOST_PREDICTIONS}${model?.isOneOfSeveral ? `&model_name=${encodeURIComponent(model.name)}` : ''}`, { role: 'admin' });
      put(predictions, page.predictions.length > 0 ? predictionTable(page.predictions) : h('p', { class: 'about' }, 'There are none in the log.'));
    } catch (problem) {
      put(predictions, h('p', { class: 'note fault', role: 'alert' }, problem.message));
    }
  }

  onFigures((figures) => {
    if (before !== null && before.started === figures.started && figures.time > before.time) {
      history.push(rates(before, figures));
      if (history.length > SECONDS) history.shift();
    }
    before = figures;
    if (root.hidden) return;
    for (const one of tiles) one.draw();
    for (const one of parts) one.show(figures);
  });

  return {
    setModel(next) {
      if (next?.name !== model?.name) put(predictions);
      model = next;
      about.hidden = !next?.isOneOfSeveral;
      put(about, next && `Drift, coverage and the last predictions are those of ${next.name}; all else is of all models together.`);
    },
  };
}

/**
 * A figure with its last minutes.
 * @param {string} title
 * @param {(value: any) => string} format
 * @param {() => (number | null)[]} values
 */
function tile(title, format, values) {
  const value = h('p', { class: 'tile-value' }, '–');
  const line = h('div', { class: 'draw' });
  const redraw = drawn(line, (width) => sparkline(values(), width, SECONDS));
  return {
    element: h('section', { class: 'card tile' }, h('h2', {}, title), value, line),
    draw() {
      put(value, format(values().at(-1)));
      redraw();
    },
  };
}

/**
 * A box that is made anew only when what it shows has changed, so that nobody loses their place in it.
 * @param {string} title
 * @param {(figures: any) => any} pick The figures that it shows.
 * @param {(picked: any) => import('./dom.js').Child} make
 */
function part(title, pick, make) {
  const box = h('div', {});
  let last = '';
  return {
    element: card(title, {}, box),
    show(figures) {
      const picked = pick(figures);
      const now = JSON.stringify(picked);
      if (now !== last) put(box, make(picked));
      last = now;
    },
  };
}

/**
 * @param {any} before
 * @param {any} now
 * @returns {Rates}
 */
function rates(before, now) {
  const seconds = now.time - before.time;
  const sum = (/** @type {Record<string, number>} */ counts) => Object.values(counts).reduce((all, one) => all + one, 0);
  const failed = (/** @type {any} */ figures) => (figures.requests['4xx'] ?? 0) + (figures.requests['5xx'] ?? 0);
  const fresh = before.latency.counts.length === now.latency.counts.length ? before.latency.counts : now.latency.counts.map(() => 0);
  const counts = now.latency.counts.map((count, place) => count - fresh[place]);
  return {
    requests: (sum(now.requests) - sum(before.requests)) / seconds,
    rows: (now.rows - before.rows) / seconds,
    failed: (failed(now) - failed(before)) / seconds,
    median: quantile(now.latency.bounds, counts, 0.5),
    slow: quantile(now.latency.bounds, counts, 0.99),
    queued: now.rows_queued,
  };
}

/**
 * A quantile by the buckets of a histogram, even within each, as Prometheus has it; null without a request.
 * @param {number[]} bounds
 * @param {number[]} counts
 * @param {number} share
 */
function quantile(bounds, counts, share) {
  const total = counts.reduce((all, one) => all + one, 0);
  if (total === 0) return null;
  let left = share * total;
  for (const [place, count] of counts.entries()) {
    if (left <= count && count > 0) {
      const low = place === 0 ? 0 : bounds[place - 1];
      return place < bounds.length ? low + (bounds[place] - low) * (left / count) : low;
    }
    left -= count;
  }
  return bounds.at(-1) ?? null;
}

/**
 * @param {any} figures
 * @returns {[string, string][]}
 */
function loadFigures(figures) {
  return [
    ['Requests in progress', number(figures.in_progress)],
    ['Rows being answered', number(figures.rows_held)],
    ['Rows that wait', number(figures.rows_queued)],
    ['Wait of small requests', duration(figures.wait_seconds)],
    ['Rows predicted since the start', number(figures.rows)],
    ['Running for', duration(figures.time - figures.started)],
  ];
}

/** @param {any} figures */
function errorTable(figures) {
  const rows = [
    ...Object.entries(figures.errors).map(([kind, count]) => [kind.replaceAll('_', ' '), number(count)]),
    ...Object.entries(figures.refused).map(([reason, count]) => [`refused: ${reason.replaceAll('_', ' ')}`, number(count)]),
  ];
  if (rows.length === 0) return h('p', { class: 'about' }, 'None since the start.');
  return table('Errors since the start', ['Kind', 'Requests'], rows);
}

/** @param {any} drift */
function driftTable(drift) {
  if (drift === null) return h('p', { class: 'about' }, 'Drift is not watched.');
  const window = `${number(drift.rows)} rows of the last ${duration(drift.window_seconds)}`;
  const rows = [...drift.features, ...drift.prediction.map((one) => ({ ...one, name: drift.prediction.length > 1 ? `prediction ${one.name}` : 'prediction' }))];
  return h(
    'div',
    {},
    h('p', { class: 'about' }, `${drift.state}: ${window}`),
    rows.some((one) => one.psi !== null) &&
      table(
        'Drift by feature',
        ['Feature', 'PSI', 'Level'],
        rows.map((one) => [one.name, psiBar(one), one.level ?? '–']),
      ),
  );
}

/** @param {any} shift */
function psiBar(shift) {
  if (shift.psi === null) return '–';
  const value = Math.min(MAJOR, shift.psi);
  return h('span', { class: 'psi' }, h('meter', { min: 0, max: MAJOR, low: 0.1, high: 0.2, optimum: 0, value, 'aria-label': `PSI of ${shift.name}` }), number(shift.psi));
}

/** @param {any[]} versions */
function coverageTable(versions) {
  const measured = versions.filter((one) => one.interval_coverage !== null || one.rmse !== null);
  if (measured.length === 0) {
    const state = versions[0]?.state ?? 'no outcomes';
    return h('p', { class: 'about' }, `Not known: ${state}. Outcomes come by POST /outcomes.`);
  }
  return table(
    'Error by version',
    ['Version', 'Rows', 'Coverage', 'Should be', 'RMSE'],
    measured.map((one) => [one.model_version, number(one.rows), percent(one.interval_coverage, 1), percent(one.interval_level), number(one.rmse)]),
  );
}

/** @param {any} figures */
function gpuTable(figures) {
  if (figures.gpus.length === 0) return h('p', { class: 'about' }, `None: ${figures.gpu_reason ?? 'no device'}.`);
  return table(
    'GPUs',
    ['Device', 'In use', 'Memory', 'Temperature'],
    figures.gpus.map((one) => [
      one.name,
      one.utilization_percent === null ? '–' : `${number(one.utilization_percent)} %`,
      `${bytes(one.memory_used_bytes)} of ${bytes(one.memory_total_bytes)}`,
      one.temperature_celsius === null ? '–' : `${number(one.temperature_celsius)} °C`,
    ]),
  );
}

/** @param {any[]} rows Rows of the prediction log. */
function predictionTable(rows) {
  return table(
    'Last predictions',
    ['Time', 'Version', 'Kind', 'Prediction', 'Actual', 'Features'],
    rows.map((row) => [
      moment(row.created_at),
      row.model_version,
      row.prediction_type,
      shown(row.prediction),
      row.actual === undefined || row.actual === null ? '–' : shown(row.actual),
      Object.entries(row.features)
        .map(([name, value]) => `${name} ${shown(value)}`)
        .join(', '),
    ]),
  );
}
