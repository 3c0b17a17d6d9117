/** The view Data: predictions for a file. @module */

import { Problem, send } from './api.js';
import { ofModel } from './chosen.js';
import { cells, records } from './csv.js';
import { card, h, put, table } from './dom.js';
import { bytes, number, percent } from './format.js';

const CSV = 'text/csv';
const PARQUET = 'application/vnd.apache.parquet';

const CHUNK_ROWS = 5000;
const MOST_FAULTY_ROWS = 200;
const PREVIEW_ROWS = 8;

/** Where the service names a row in the message of an error. */
const ROW = /\(row (\d+)\)$/;

/**
 * A row that the service refused.
 * @typedef {{row: number, field: string, message: string}} Fault
 */

/**
 * The view Data.
 * @param {HTMLElement} root
 * @returns {import('./main.js').View}
 */
export function dataView(root) {
  /** @type {any} */
  let model = null;
  let running = new AbortController();
  let download = '';
  const file = h('input', { id: 'file', type: 'file', accept: '.csv,.parquet', class: 'hidden', onchange: () => start(file.files[0]) });
  const level = h('select', { id: 'file-level' });
  const levelLabel = h('label', { for: 'file-level' }, 'Interval ', level);
  const columns = h('p', { class: 'about' });
  const state = h('p', { role: 'status', class: 'about' }, 'No file yet.');
  const progress = h('progress', { max: 1, value: 0, hidden: true, 'aria-label': 'Share of the file that is predicted' });
  const stop = h('button', { type: 'button', hidden: true, onclick: () => running.abort() }, 'Stop');
  const results = h('div', {});
  const zone = h(
    'label',
    { class: 'drop', for: 'file', ondragover: over, ondragleave: leave, ondrop: drop },
    h('strong', {}, 'Drop a CSV or Parquet file here'),
    h('span', {}, 'or choose one'),
    file,
  );
  put(
    root,
    h(
      'div',
      { class: 'data' },
      card('File', {}, zone, h('div', { class: 'choices' }, levelLabel), columns),
      card('Predictions', {}, state, progress, h('div', { class: 'buttons' }, stop), results),
    ),
  );

  /** @param {DragEvent} event */
  function over(event) {
    event.preventDefault();
    zone.classList.add('over');
  }

  function leave() {
    zone.classList.remove('over');
  }

  /** @param {DragEvent} event */
  function drop(event) {
    event.preventDefault();
    leave();
    start(event.dataTransfer.files[0]);
  }

  /** @param {File | undefined} given */
  async function start(given) {
    if (!given) return;
    running.abort();
    running = new AbortController();
    const { signal } = running;
    if (download) URL.revokeObjectURL(download);
    put(results);
    stop.hidden = progress.hidden = false;
    progress.value = 0;
    put(state, `Predicting ${given.name} …`);
    const asked = new URLSearchParams();
    if (level.value) asked.set('interval', level.value);
    if (model?.labels) asked.set('output', 'labels');
    const path = ofModel('predict', `/bulk${asked.size > 0 ? `?${asked}` : ''}`); // of one model, whichever is chosen meanwhile
    const told = (/** @type {number} */ share, /** @type {number} */ rows) => {
      progress.value = share;
      put(state, `${number(rows)} rows of ${given.name} predicted`);
    };
    try {
      const found = given.name.toLowerCase().endsWith('.parquet')
        ? await predictWhole(given, path, signal)
        : await predictLines(given, path, signal, told);
      if (signal.aborted) return;
      show(given, found);
    } catch (problem) {
      if (signal.aborted && signal !== running.signal) return;
      put(state, signal.aborted ? 'Stopped.' : '');
      if (!signal.aborted) showProblem(problem);
    } finally {
      if (signal === running.signal) stop.hidden = progress.hidden = true;
      file.value = '';
    }
  }

  /**
   * @param {File} given
   * @param {Found} found
   */
  function show(given, found) {
    const name = `${given.name.replace(/\.[^.]*$/, '')}-predictions.${found.type === CSV ? 'csv' : 'parquet'}`;
    const blob = new Blob(found.parts, { type: found.type });
    download = URL.createObjectURL(blob);
    const rows = found.rows === null ? given.name : `${number(found.rows)} rows of ${given.name}`;
    put(state, `${rows} predicted${found.faults.length > 0 ? `, ${number(found.faults.length)} refused` : ''}.`);
    put(
      results,
      h('p', {}, h('a', { class: 'button primary', href: download, download: name }, `Download ${name}`), ` ${bytes(blob.size)}`),
      found.preview.length > 1 && table('First rows', found.preview[0], found.preview.slice(1).map((row) => row.map(readable))),
      found.faults.length > 0 && faultTable(found.faults),
    );
  }

  /** @param {any} problem */
  function showProblem(problem) {
    const errors = problem instanceof Problem ? problem.errors : [];
    const text = problem instanceof TypeError ? 'The file is not text in UTF-8.' : problem.message;
    put(
      results,
      h('p', { class: 'note fault', role: 'alert' }, text),
      errors.length > 0 && table('Faults', ['Column', 'Fault'], errors.map((one) => [one.field, one.message])),
    );
  }

  return {
    setModel(next) {
      model = next;
      const levels = model?.interval_levels ?? [];
      levelLabel.hidden = levels.length === 0;
      put(
        level,
        h('option', { value: '' }, 'none'),
        ...levels.map((one) => h('option', { value: one, selected: one === model.default_interval_level }, percent(one))),
      );
      put(columns, model && `The first line names the columns: ${model.features.map((feature) => feature.name).join(', ')}. Others are refused. The answer has the rows and columns of the file, and the predictions beside them.`);
    },
  };
}

/**
 * What came of a file.
 * @typedef {object} Found
 * @property {BlobPart[]} parts Of the file to download.
 * @property {string} type
 * @property {number | null} rows Rows that were predicted; null if that is not known.
 * @property {Fault[]} faults
 * @property {string[][]} preview First rows, the names first; the predictions stand before the columns of the file.
 */

/**
 * @param {File} file
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<Found>}
 */
async function predictWhole(file, path, signal) {
  const headers = { 'Content-Type': PARQUET, Accept: PARQUET };
  const response = await send(path, { body: file, headers, signal });
  return { parts: [await response.blob()], type: PARQUET, rows: null, faults: [], preview: [] };
}

/**
 * Predicts a CSV file some rows at a time. The file to download has the columns of the file, and beside them those of
 * the answer, empty in rows that were refused.
 * @param {File} file
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {(share: number, rows: number) => void} told
 * @returns {Promise<Found>}
 */
async function predictLines(file, path, signal, told) {
  /** @type {Found} */
  const found = { parts: [], type: CSV, rows: 0, faults: [], preview: [] };
  let head = '';
  let before = 0;
  let read = 0;
  for await (const chunk of records(file, CHUNK_ROWS)) {
    if (head === '') head = chunk.shift();
    const rows = chunk.map((text, place) => ({ text, number: before + place + 1 }));
    const answers = await predictRows(head, rows, path, signal, found.faults);
    before += rows.length;
    read += chunk.reduce((size, line) => size + line.length + 1, 0);
    if (found.parts.length === 0) add(found, head, answers.head);
    const empty = ','.repeat(answers.head.split(',').length - 1);
    for (const row of rows) add(found, row.text, answers.rows.get(row.number) ?? empty);
    found.rows += answers.rows.size;
    told(Math.min(1, read / file.size), before);
  }
  if (head === '') throw new Problem(0, 'The file is empty.');
  return found;
}

/**
 * @param {Found} found
 * @param {string} line
 * @param {string} answer
 */
function add(found, line, answer) {
  found.parts.push(`${line},${answer}\n`);
  if (found.preview.length <= PREVIEW_ROWS) found.preview.push(cells(`${answer},${line}`));
}

/**
 * Predicts some rows. Those that the service names as faulty are left out, and the others are sent again.
 * @param {string} head
 * @param {{text: string, number: number}[]} rows
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {Fault[]} faults Gets the faults.
 * @returns {Promise<{head: string, rows: Map<number, string>}>} Names of the answer's columns, and its lines by number.
 */
async function predictRows(head, rows, path, signal, faults) {
  let left = rows;
  while (left.length > 0) {
    const body = [head, ...left.map((row) => row.text)].join('\n');
    try {
      const response = await send(path, { body, headers: { 'Content-Type': CSV, Accept: CSV }, signal });
      const [names, ...lines] = (await response.text()).trimEnd().split('\n');
      return { head: names.trim(), rows: new Map(left.map((row, place) => [row.number, lines[place].trim()])) };
    } catch (problem) {
      const faulty = problem instanceof Problem ? faultyRows(problem, left) : [];
      if (faulty.length === 0) throw problem;
      faults.push(...faulty);
      if (faults.length > MOST_FAULTY_ROWS) throw new Problem(422, `More than ${MOST_FAULTY_ROWS} rows are faulty.`, problem.errors);
      const numbers = new Set(faulty.map((fault) => fault.row));
      left = left.filter((row) => !numbers.has(row.number));
    }
  }
  return { head: 'prediction', rows: new Map() };
}

/**
 * @param {Problem} problem
 * @param {{number: number}[]} rows The rows that were sent.
 * @returns {Fault[]}
 */
function faultyRows(problem, rows) {
  return problem.errors.flatMap(({ field, message }) => {
    const place = ROW.exec(message)?.[1];
    const row = place === undefined ? undefined : rows[Number(place)];
    return row ? [{ row: row.number, field, message: message.replace(ROW, '').trim() }] : [];
  });
}

/**
 * A cell with no more digits than one can read.
 * @param {string} cell
 */
function readable(cell) {
  return cell === '' || Number.isNaN(Number(cell)) ? cell : number(Number(cell));
}

/** @param {Fault[]} faults */
function faultTable(faults) {
  const rows = [...faults].sort((one, other) => one.row - other.row).map((one) => [number(one.row), one.field, one.message]);
  return table('Rows that were refused', ['Row', 'Column', 'Fault'], rows);
}
