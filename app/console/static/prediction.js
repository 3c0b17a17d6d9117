/** The prediction for a row: its number or its class, the interval, and what the service remarks. @module */

import { spreadChart, stepBar } from './chart.js';
import { card, drawn, h, put } from './dom.js';
import { number, percent } from './format.js';
import { classNames, greatest, meaning, ofOutput, outputNames, probabilitiesOf } from './output.js';

const MOST_CLASSES = 8;

/** Characters of a class from which it is written smaller. */
const LONG = 14;

/** Choice of the class that is explained: the most probable one, whichever that is. */
const MOST_PROBABLE = 'most probable';

/**
 * The card of a prediction, and a line that stands below a narrow page.
 * @param {any} model
 * @param {{predict: () => void, show: () => void}} told Told that the level of the intervals, or the output that is
 *   explained, is another one.
 */
export function predictionCard(model, told) {
  const outputs = outputNames(model);
  const isClassifier = model.output === 'probabilities';
  let answer = /** @type {any} */ (null);
  let unit = '';

  const big = h('p', { class: 'big', 'aria-live': 'polite' });
  const interval = h('p', { class: 'interval' });
  const spread = h('div', { class: 'draw' });
  const classes = h('div', {});
  const notes = h('div', {});
  const summary = h('p', { class: 'summary', 'aria-hidden': 'true' });
  const redraw = drawn(spread, draw);
  const levels = h(
    'select',
    { id: 'interval-level', onchange: told.predict },
    ...model.interval_levels.map((one) => h('option', { value: one, selected: one === model.default_interval_level }, percent(one))),
  );
  const output = h(
    'select',
    {
      id: 'output',
      onchange: () => {
        show();
        told.show();
      },
    },
    isClassifier && h('option', { value: MOST_PROBABLE }, MOST_PROBABLE),
    ...outputs.map((name, place) => h('option', { value: place }, name)),
  );
  const element = card(
    'Prediction',
    { class: 'prediction' },
    h(
      'div',
      { class: 'choices' },
      model.interval_levels.length > 0 && h('label', { for: 'interval-level' }, 'Interval ', levels),
      outputs.length > 1 && h('label', { for: 'output' }, isClassifier ? 'Explain the class ' : 'Output ', output),
    ),
    big,
    interval,
    spread,
    classes,
    notes,
  );

  /** Place of the output that is shown and explained. */
  function place() {
    if (output.value !== MOST_PROBABLE) return Number(output.value);
    return answer === null ? 0 : greatest(answer.prediction);
  }

  function show() {
    const [main, what] = headline(model, answer, place());
    big.classList.toggle('long', main.length > LONG);
    put(big, main, h('span', { class: 'unit' }, ` ${what || unit}`));
    const bounds = answer.confidence_interval;
    put(interval, bounds && `${percent(bounds.level)} interval: ${number(bounds.lower)} to ${number(bounds.upper)}`);
    put(summary, h('strong', {}, main), bounds ? ` ${number(bounds.lower)} to ${number(bounds.upper)}` : ` ${what || unit}`);
    const probabilities = probabilitiesOf(model, answer);
    put(classes, probabilities && classTable(probabilities, classNames(model)));
    const other = answer.model_version !== model.version && `Version ${answer.model_version} answered, not version ${model.version}.`;
    put(notes, other && h('p', { class: 'note' }, other), ...answer.warnings.map((text) => h('p', { class: 'note warning' }, text)));
    redraw();
  }

  /** @param {number} width */
  function draw(width) {
    if (answer === null || isClassifier) return null;
    const histogram = model.facts.reference?.prediction[place()] ?? null;
    if (histogram === null && answer.confidence_interval === null) return null;
    return spreadChart({ prediction: ofOutput(answer.prediction, place()), interval: answer.confidence_interval, histogram }, width);
  }

  return {
    element,
    summary,
    place,
    /** Level of the intervals that is chosen; null of a model that has none. */
    level: () => (model.interval_levels.length > 0 ? Number(levels.value) : null),
    /** @param {any} found Answer of the service. */
    show(found) {
      answer = found;
      show();
    },
    /** @param {string} text Unit of the target. */
    name(text) {
      unit = text;
      if (answer !== null) show();
    },
    /** @param {...import('./dom.js').Child} problem What is wrong, where there is no prediction. */
    fail(...problem) {
      answer = null;
      put(big, h('span', { class: 'unit' }, 'No prediction'));
      put(summary, 'No prediction');
      put(interval);
      put(classes);
      put(notes, ...problem);
      redraw();
    },
  };
}

/**
 * A prediction in large, and what it is: the label of a class with its probability, or a number.
 * @param {any} model
 * @param {any} answer
 * @param {number} place Output that is shown.
 * @returns {[string, string]}
 */
function headline(model, answer, place) {
  const probabilities = probabilitiesOf(model, answer);
  if (probabilities === null) {
    const prediction = ofOutput(answer.prediction, place);
    return [model.output === 'probability' ? percent(prediction, 1) : number(prediction), meaning(model)];
  }
  const most = greatest(probabilities);
  return [classNames(model)[most] ?? String(most), `with probability ${percent(probabilities[most], 1)}`];
}

/**
 * Probabilities of the classes, the greatest first.
 * @param {number[]} probabilities
 * @param {string[]} names
 */
function classTable(probabilities, names) {
  const order = probabilities.map((_, place) => place).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, MOST_CLASSES).map((place) =>
    h(
      'tr',
      {},
      h('th', { scope: 'row' }, names[place] ?? String(place)),
      h('td', { class: 'bar' }, stepBar(0, probabilities[place], [0, 1], 'share')),
      h('td', { class: 'amount' }, percent(probabilities[place], 1)),
    ),
  );
  const more = order.length - rows.length;
  return h(
    'table',
    { class: 'bars' },
    h('caption', {}, `Probabilities${more > 0 ? ` of the ${rows.length} most probable of ${number(order.length)} classes` : ''}`),
    h('thead', { class: 'hidden' }, h('tr', {}, ...['Class', 'Bar', 'Probability'].map((text) => h('th', { scope: 'col' }, text)))),
    h('tbody', {}, ...rows),
  );
}
