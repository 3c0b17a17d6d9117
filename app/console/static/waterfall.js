/** Contributions of the features to a prediction: from the base value down to the score, one row each. @module */

import { stepBar } from './chart.js';
import { h } from './dom.js';
import { number, shown, signed } from './format.js';
import { ofOutput } from './output.js';

const MOST_ROWS = 12;

/** Share of the chart's width below which a contribution is called nothing. */
const NOTHING = 1e-4;

/**
 * The waterfall of an explanation.
 * @param {any} explanation As `/predict/explain` answers it.
 * @param {number} output Place of the output that is shown.
 * @param {string} scored Class that the raw score is the score of, if any.
 * @param {(feature: string) => void} pick Called with a feature whose curve is wanted.
 */
export function waterfall(explanation, output, scored, pick) {
  const base = ofOutput(explanation.base_value, output);
  const end = ofOutput(explanation.raw_score, output);
  const all = explanation.contributions.map((one) => ({ ...one, amount: ofOutput(one.contribution, output) }));
  all.sort((one, other) => Math.abs(other.amount) - Math.abs(one.amount));
  const shownOnes = all.length > MOST_ROWS ? all.slice(0, MOST_ROWS - 1) : all;
  const rest = all.slice(shownOnes.length);
  let others = explanation.other ? ofOutput(explanation.other.contribution, output) : 0;
  let count = explanation.other?.features ?? 0;
  for (const one of rest) {
    others += one.amount;
    count += 1;
  }
  const steps = shownOnes.map((one) => ({ name: one.feature, features: one.features, value: one.value, amount: one.amount }));
  if (count > 0) steps.push({ name: `${count} others`, features: [], value: undefined, amount: others });
  let at = base;
  const reached = [base, end];
  for (const step of steps) reached.push((at += step.amount));
  const room = (Math.max(...reached) - Math.min(...reached)) * 0.02 || 1;
  /** @type {[number, number]} */
  const scale = [Math.min(...reached) - room, Math.max(...reached) + room];
  at = base;
  const rows = steps.map((step) => {
    const from = at;
    at += step.amount;
    const isNothing = Math.abs(step.amount) < NOTHING * (scale[1] - scale[0]);
    const kind = isNothing ? 'end' : step.amount < 0 ? 'less' : 'more';
    return h(
      'tr',
      {},
      h('th', { scope: 'row' }, nameOf(step, pick), valueOf(step)),
      h('td', { class: 'bar' }, stepBar(from, at, scale, kind)),
      h('td', { class: `amount ${kind}` }, isNothing && step.amount !== 0 ? '≈ 0' : signed(step.amount)),
    );
  });
  return h(
    'table',
    { class: 'bars waterfall' },
    h('caption', {}, `Contributions to the ${explanation.units}${scored ? ` of the class ${scored}` : ''}`),
    h('thead', { class: 'hidden' }, h('tr', {}, ...['Feature', 'Bar', 'Contribution'].map((text) => h('th', { scope: 'col' }, text)))),
    h('tbody', {}, ends('Base value', base, scale), ...rows, ends(upper(explanation.units), end, scale)),
  );
}

/** @param {string} text */
function upper(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/**
 * @param {any} step
 * @param {(feature: string) => void} pick
 */
function nameOf(step, pick) {
  const feature = step.features === undefined ? step.name : step.features[0];
  if (feature === undefined) return step.name;
  return h('button', { type: 'button', class: 'plain', title: `Show the curve of ${feature}`, onclick: () => pick(feature) }, step.name);
}

/** @param {any} step */
function valueOf(step) {
  return step.value === undefined ? null : h('span', { class: 'value' }, shown(step.value));
}

/**
 * The first or the last row.
 * @param {string} name
 * @param {number} value
 * @param {[number, number]} scale
 */
function ends(name, value, scale) {
  return h(
    'tr',
    { class: 'end' },
    h('th', { scope: 'row' }, name),
    h('td', { class: 'bar' }, stepBar(value - (scale[1] - scale[0]) * 0.006, value, scale, 'end')),
    h('td', { class: 'amount' }, number(value)),
  );
}
