/** The form for one row: a field for each feature, with its range, categories and place among training rows. @module */

import { h, put } from './dom.js';
import { number } from './format.js';

const MOST_OPTIONS = 2000;
const STEPS = 200;

/** Characters of a category from which its field has a line of its own. */
const LONG = 14;

/** End of the range of a 32-bit integer. A range that reaches so far is a type's, and says nothing of the values. */
const LIMIT_OF_A_TYPE = 2 ** 31 - 1;

/**
 * A field of the form.
 * @typedef {object} Field
 * @property {HTMLElement} element
 * @property {() => any} read Value as a request has it; undefined to leave the feature out.
 * @property {(value: any) => void} write
 * @property {(message: string) => void} setFault
 */

/**
 * @typedef {object} RowForm
 * @property {HTMLElement} element
 * @property {() => Record<string, any>} read The row.
 * @property {(row: Record<string, any>) => void} write Sets the features that the row has.
 * @property {(errors: {field: string, message: string}[]) => string[]} setFaults Shows faults beside their fields, and
 *   gives those that belong to no field.
 */

/**
 * A form for a model's row.
 * @param {any} model
 * @param {() => void} changed Called at each change.
 * @returns {RowForm}
 */
export function rowForm(model, changed) {
  const reference = model.facts.reference;
  /** @type {Map<string, Field>} */
  const fields = new Map();
  model.features.forEach((feature, place) => {
    const id = `feature-${place}`;
    const make = feature.type === 'category' || feature.type === 'boolean' ? choice : quantity;
    fields.set(feature.name, make(id, feature, reference, changed));
  });
  return {
    element: h('div', { class: 'fields' }, ...[...fields.values()].map((field) => field.element)),
    read() {
      const entries = [...fields].map(([name, field]) => [name, field.read()]);
      return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
    },
    write(row) {
      for (const [name, value] of Object.entries(row)) fields.get(name)?.write(value);
    },
    setFaults(errors) {
      const messages = new Map(errors.map((error) => [error.field, error.message]));
      for (const [name, field] of fields) field.setFault(messages.get(name) ?? '');
      return errors.filter((error) => !fields.has(error.field)).map((error) => `${error.field} ${error.message}`);
    },
  };
}

/**
 * A row for a model without an example: the middle of each range, and each first category.
 * @param {any} model
 */
export function middleRow(model) {
  /** @type {Record<string, any>} */
  const row = {};
  for (const feature of model.features) {
    const [low, high] = rangeOf(feature) ?? [0, 0];
    const edges = model.facts.reference?.numbers[feature.name]?.edges ?? [];
    const value = edges.length > 0 ? edges[Math.floor(edges.length / 2)] : (low + high) / 2;
    if (feature.type === 'category') row[feature.name] = feature.categories?.[0] ?? null;
    else if (feature.type === 'boolean') row[feature.name] = false;
    else row[feature.name] = feature.type === 'integer' ? Math.round(value) : value;
  }
  return row;
}

/**
 * Range of a feature's values, as far as the model tells one.
 * @param {any} feature
 * @returns {[number, number] | null}
 */
function rangeOf(feature) {
  const range = feature.training_range ?? feature.physical_range;
  return range && range.every((end) => Math.abs(end) < LIMIT_OF_A_TYPE) ? range : null;
}

/** @param {any} feature */
function takesMissing(feature) {
  return feature.type === 'category' || feature.nullable || !feature.required;
}

/**
 * What stands around the control of a field.
 * @param {string} id
 * @param {any} feature
 * @param {any} control
 * @param {...any} more
 */
function frame(id, feature, control, ...more) {
  const fault = h('p', { class: 'fault', id: `${id}-fault` });
  const about = h('p', { class: 'about', id: `${id}-about` }, [feature.description, feature.unit].filter(Boolean).join(', in '));
  const place = h('p', { class: 'about place', id: `${id}-place` });
  control.setAttribute('aria-describedby', `${id}-fault ${id}-about ${id}-place`);
  const element = h(
    'div',
    { class: 'field' },
    h('div', { class: 'field-head' }, h('label', { for: id }, feature.name), control),
    about,
    ...more,
    place,
    fault,
  );
  /** @param {string} message */
  const setFault = (message) => {
    control.setAttribute('aria-invalid', String(message !== ''));
    put(fault, message);
  };
  return { element, place, setFault };
}

/**
 * A field for a number, with a slider. Where the training rows are known, the slider goes through their percentiles, so
 * that each of its parts has as many rows.
 * @param {string} id
 * @param {any} feature
 * @param {any} reference
 * @param {() => void} changed
 * @returns {Field}
 */
function quantity(id, feature, reference, changed) {
  const known = reference?.numbers[feature.name];
  const scale = scaleOf(known, rangeOf(feature));
  const placeholder = takesMissing(feature) && 'missing';
  const input = h('input', { id, type: 'text', inputmode: 'decimal', autocomplete: 'off', spellcheck: 'false', placeholder });
  const slider = scale && h('input', { type: 'range', min: 0, max: STEPS, 'aria-label': `${feature.name}, slider` });
  const { element, place, setFault } = frame(id, feature, input, slider);
  const read = () => {
    const text = input.value.trim().replace('−', '-');
    if (text === '') return takesMissing(feature) ? null : undefined;
    return Number.isFinite(Number(text)) ? Number(text) : text; // the service says what is wrong with a text
  };
  const follow = () => {
    const value = read();
    if (!slider) return;
    if (typeof value !== 'number') {
      slider.setAttribute('aria-valuetext', value ?? 'missing');
      put(place);
      return;
    }
    const share = scale.shareOf(value);
    slider.value = String(Math.round(STEPS * share));
    slider.setAttribute('aria-valuetext', number(value));
    put(place, known?.edges.length > 1 && rank(scale, value, share));
  };
  input.addEventListener('input', () => {
    follow();
    changed();
  });
  slider?.addEventListener('input', () => {
    input.value = neat(scale.valueAt(slider.valueAsNumber / STEPS), feature.type === 'integer');
    follow();
    changed();
  });
  return {
    element,
    read,
    write(value) {
      input.value = value === null || value === undefined ? '' : String(value);
      follow();
    },
    setFault,
  };
}

/**
 * A field for a category or a boolean.
 * @param {string} id
 * @param {any} feature
 * @param {any} reference
 * @param {() => void} changed
 * @returns {Field}
 */
function choice(id, feature, reference, changed) {
  const values = feature.type === 'boolean' ? [false, true] : (feature.categories ?? []).slice(0, MOST_OPTIONS);
  const shares = reference?.categories[feature.name];
  const text = (value) => {
    const place = shares ? shares.values.indexOf(value) : -1;
    return place < 0 ? String(value) : `${value} (${Math.round(100 * shares.shares[place])} % of training rows)`;
  };
  const options = values.map((value, place) => h('option', { value: place }, text(value)));
  const missing = takesMissing(feature);
  if (missing) options.unshift(h('option', { value: '' }, 'missing'));
  const isLong = values.some((value) => text(value).length > LONG);
  const select = h('select', { id, onchange: changed, class: isLong && 'long' }, ...options);
  const { element, setFault } = frame(id, feature, select);
  return {
    element,
    read: () => (select.value === '' ? null : values[Number(select.value)]),
    write(value) {
      const place = values.indexOf(value);
      select.value = place < 0 ? (missing ? '' : '0') : String(place);
    },
    setFault,
  };
}

/**
 * @typedef {object} Scale
 * @property {(value: number) => number} shareOf Share of the slider's way, from 0 to 1.
 * @property {(share: number) => number} valueAt
 * @property {number} low
 * @property {number} high
 */

/**
 * Scale of a slider: by the bins of the training rows, or even between two ends.
 * @param {any} histogram
 * @param {[number, number] | null | undefined} range
 * @returns {Scale | null}
 */
function scaleOf(histogram, range) {
  const bins = histogram?.edges.length > 1 ? histogram : range && { edges: range, shares: [1] };
  if (!bins || !(bins.edges[0] < bins.edges.at(-1))) return null;
  const edges = bins.edges;
  const upwards = [0];
  for (const share of bins.shares) upwards.push(upwards.at(-1) + share);
  /** @type {(from: number[], to: number[], at: number) => number} */
  const along = (from, to, at) => {
    const place = Math.max(1, Math.min(from.length - 1, from.findIndex((one) => one >= at)));
    if (at > from.at(-1)) return to.at(-1);
    if (at <= from[0]) return to[0];
    const part = (at - from[place - 1]) / (from[place] - from[place - 1] || 1);
    return to[place - 1] + part * (to[place] - to[place - 1]);
  };
  return {
    low: edges[0],
    high: edges.at(-1),
    shareOf: (value) => Math.min(1, along(edges, upwards, value)),
    valueAt: (share) => along(upwards, edges, share),
  };
}

/**
 * Where a value is among the training rows.
 * @param {Scale} scale
 * @param {number} value
 * @param {number} share
 */
function rank(scale, value, share) {
  if (value < scale.low) return `below all training rows (from ${number(scale.low)})`;
  if (value > scale.high) return `above all training rows (up to ${number(scale.high)})`;
  return `above ${Math.round(100 * share)} % of training rows`;
}

/**
 * A number with no more digits than a slider deserves.
 * @param {number} value
 * @param {boolean} whole
 */
function neat(value, whole) {
  return String(whole ? Math.round(value) : Number(value.toPrecision(5)));
}
