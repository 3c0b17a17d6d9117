/** What the prediction would be for other values of one feature. @module */

import { curveChart } from './chart.js';
import { card, drawn, h, put, table } from './dom.js';
import { number, shown } from './format.js';
import { meaning, ofOutput, scoredClass } from './output.js';

/**
 * The card of a what-if curve.
 * @param {any} model
 * @param {object} given
 * @param {() => number} given.output Place of the output that is shown.
 * @param {() => void} given.changed Told that another feature is chosen.
 * @param {(feature: string, value: any) => void} given.pick Told which value is clicked on.
 */
export function curveCard(model, { output, changed, pick }) {
  let curve = /** @type {any} */ (null);
  const box = h('div', { class: 'draw', tabindex: 0, role: 'region', 'aria-label': 'Curve' });
  const about = h('p', { class: 'about' });
  const text = h('div', {});
  const values = h('div', {});
  const redraw = drawn(box, draw);
  const features = h(
    'select',
    { id: 'curve-feature', onchange: changed },
    ...model.features.map((feature) => h('option', {}, feature.name)),
  );
  const element = card('What if', { class: 'curve' }, h('label', { for: 'curve-feature' }, 'Feature ', features), about, box, text, values);

  /** @param {number} width */
  function draw(width) {
    if (curve === null) return null;
    const of = (/** @type {any[] | null} */ list) => list && list.map((value) => ofOutput(value, output()));
    const feature = model.features.find((one) => one.name === curve.feature);
    return curveChart(
      {
        feature: curve.feature,
        isNumber: feature.type === 'number' || feature.type === 'integer',
        values: curve.values,
        predictions: of(curve.predictions),
        lower: of(curve.lower),
        upper: of(curve.upper),
        at: { value: curve.at.value, prediction: ofOutput(curve.at.prediction, output()) },
        unit: feature.unit,
        isProbability: meaning(model) === 'probability',
      },
      width,
      (value) => pick(curve.feature, feature.type === 'integer' ? Math.round(value) : value),
    );
  }

  function show() {
    const scored = scoredClass(model, output());
    put(about, curve && meaning(model) === 'probability' && `Probability${scored ? ` of the class ${scored}` : ''}`);
    redraw();
    const isOpen = values.querySelector('details')?.open ?? false;
    put(values, curve && valuesTable(curve, output(), isOpen));
  }

  return {
    element,
    show,
    feature: () => features.value,
    /** @param {string} name Feature that is chosen. */
    choose(name) {
      features.value = name;
    },
    /** @param {any} found Answer of the service. */
    take(found) {
      curve = found;
      put(text);
      show();
    },
    /** @param {string} [reason] Why there is no curve. */
    clear(reason = '') {
      curve = null;
      put(text, reason && h('p', { class: 'note' }, reason));
      show();
    },
  };
}

/**
 * The values behind the chart, for those who do not see it.
 * @param {any} curve
 * @param {number} output
 * @param {boolean} open
 */
function valuesTable(curve, output, open) {
  const rows = curve.values.map((value, place) => [
    shown(value),
    number(ofOutput(curve.predictions[place], output)),
    ...(curve.lower ? [number(curve.lower[place]), number(curve.upper[place])] : []),
  ]);
  const head = [curve.feature, 'Prediction', ...(curve.lower ? ['Lower', 'Upper'] : [])];
  return h('details', { open }, h('summary', {}, 'Values'), table(`Prediction by ${curve.feature}`, head, rows));
}
