/** The view Try: one row, its prediction as it is typed, why, and what if. @module */

import { ask, mayAsk, Problem } from './api.js';
import { curveChart, spreadChart } from './chart.js';
import { card, drawn, h, put, table } from './dom.js';
import { rowForm } from './form.js';
import { number, percent, shown } from './format.js';
import { placeMap } from './map.js';
import { ofOutput, waterfall } from './waterfall.js';

const PAUSE_MS = 150;
const POINTS = 60;
const MOST_CLASSES = 8;

const MAP_TEXT = 'Drag the pin, or move it with the arrow keys. The map shows what the model itself holds.';

/** Statuses of a service, or of a model, that cannot explain. */
const NO_EXPLANATION = [404, 405, 501];

/**
 * The view Try.
 * @param {HTMLElement} root
 * @returns {import('./main.js').View}
 */
export function tryView(root) {
  /** @type {ReturnType<typeof makeView> | null} */
  let view = null;
  /** @type {any} */
  let model = null;
  return {
    setModel(next, reason) {
      if (next === null) {
        view?.close();
        view = model = null;
        put(root, h('p', { class: 'note', role: 'alert' }, reason));
        return;
      }
      if (view && model.digest === next.digest && model.version === next.version) {
        view.start(); // the service may have been away
        return;
      }
      const row = view?.close() ?? {};
      model = next;
      view = makeView(next, row);
      put(root, view.element);
      view.start();
    },
  };
}

/**
 * The view of one model.
 * @param {any} model
 * @param {Record<string, any>} before Row of the model before, whose values are kept where the features are the same.
 */
function makeView(model, before) {
  const example = model.example ?? middle(model);
  const output = { place: 0 };
  let level = model.default_interval_level;
  let chosen = model.features[0].name;
  let answer = /** @type {any} */ (null);
  let curve = /** @type {any} */ (null);
  let timer = 0;
  let explains = true;
  let unit = '';
  let running = new AbortController();

  const form = rowForm(model, changed);
  form.write({ ...example, ...before });

  const big = h('p', { class: 'big', 'aria-live': 'polite' });
  const interval = h('p', { class: 'interval' });
  const classes = h('div', {});
  const notes = h('div', {});
  const summary = h('p', { class: 'summary', 'aria-hidden': 'true' });
  const spread = h('div', { class: 'draw' });
  const why = h('div', {});
  const curveBox = h('div', { class: 'draw' });
  const curveText = h('div', {});
  const curveTable = h('div', {});
  const redrawSpread = drawn(spread, drawSpread);
  const redrawCurve = drawn(curveBox, drawCurve);

  const features = h(
    'select',
    { id: 'curve-feature', onchange: () => pickFeature(features.value) },
    ...model.features.map((feature) => h('option', {}, feature.name)),
  );
  const levels = h(
    'select',
    {
      id: 'interval-level',
      onchange: () => {
        level = Number(levels.value);
        predict();
      },
    },
    ...model.interval_levels.map((one) => h('option', { value: one, selected: one === level }, percent(one))),
  );
  const outputs = outputNames(model);
  const outputSelect = h(
    'select',
    {
      id: 'output',
      onchange: () => {
        output.place = outputSelect.selectedIndex;
        showAnswer();
        showCurve();
      },
    },
    ...outputs.map((name) => h('option', {}, name)),
  );
  const map = model.facts.map && placeMap(model.facts.map, movePin);

  const element = h(
    'div',
    { class: 'try' },
    card(
      'Row',
      { class: 'row' },
      form.element,
      h('div', { class: 'buttons' }, h('button', { type: 'button', onclick: reset }, model.example ? 'Example row' : 'Middle row')),
    ),
    h(
      'div',
      { class: 'stack' },
      card(
        'Prediction',
        { class: 'prediction' },
        h(
          'div',
          { class: 'choices' },
          model.interval_levels.length > 0 && h('label', { for: 'interval-level' }, 'Interval ', levels),
          outputs.length > 1 && h('label', { for: 'output' }, 'Class ', outputSelect),
        ),
        big,
        interval,
        spread,
        classes,
        notes,
      ),
      card('Why', { class: 'why' }, why),
    ),
    h(
      'div',
      { class: 'stack' },
      map && card('Where', {}, map.element, h('p', { class: 'about' }, MAP_TEXT)),
      card('What if', { class: 'curve' }, h('label', { for: 'curve-feature' }, 'Feature ', features), curveBox, curveText, curveTable),
    ),
    summary,
  );

  function changed() {
    followMap();
    clearTimeout(timer);
    timer = setTimeout(predict, PAUSE_MS);
  }

  function reset() {
    form.write(example);
    changed();
  }

  function followMap() {
    if (!map) return;
    const row = form.read();
    map.move(row[model.facts.map.latitude], row[model.facts.map.longitude]);
  }

  /**
   * @param {number} latitude
   * @param {number} longitude
   */
  function movePin(latitude, longitude) {
    form.write({ [model.facts.map.latitude]: latitude, [model.facts.map.longitude]: longitude });
    changed();
  }

  /** Predicts the row, and forgets the answers to rows before. */
  async function predict() {
    clearTimeout(timer);
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const row = form.read();
    element.setAttribute('aria-busy', 'true');
    try {
      const found = await asked(row, signal);
      if (signal.aborted) return;
      answer = found;
      form.setFaults([]);
      showAnswer();
      await loadCurve(row, signal);
    } catch (problem) {
      if (!signal.aborted) showProblem(problem);
    } finally {
      if (!signal.aborted) element.removeAttribute('aria-busy');
    }
  }

  /**
   * The answer for a row, with its explanation where the service gives one.
   * @param {any} row
   * @param {AbortSignal} signal
   */
  async function asked(row, signal) {
    if (explains) {
      try {
        return await ask(`predict/explain${asksInterval()}`, { json: row, signal });
      } catch (problem) {
        if (!NO_EXPLANATION.includes(problem.status)) throw problem;
        explains = false;
        put(why, h('p', { class: 'note' }, `No explanation: ${reasonOf(problem)}`));
      }
    }
    return ask(`predict${asksInterval()}`, { json: row, signal });
  }

  /** Takes the target's unit from the model card, which may come late. */
  async function nameUnit() {
    const shownCard = await ask('console/card').catch(() => null);
    unit = shownCard?.data.unit ?? '';
    showAnswer();
  }

  /** The query that asks for intervals of the chosen level. */
  function asksInterval() {
    return level ? `?interval=${level}` : '';
  }

  function showAnswer() {
    if (answer === null) return;
    const prediction = ofOutput(answer.prediction, output.place);
    const named = answer.label === undefined ? '' : ` ${shown(answer.label)}`;
    put(big, number(prediction), h('span', { class: 'unit' }, ` ${meaning(model) || unit}${named}`));
    const bounds = answer.confidence_interval;
    put(interval, bounds && `${percent(bounds.level)} interval: ${number(bounds.lower)} to ${number(bounds.upper)}`);
    put(summary, h('strong', {}, number(prediction)), bounds && ` ${number(bounds.lower)} to ${number(bounds.upper)}`);
    put(classes, answer.probabilities && probabilityTable(answer.probabilities, (model.labels ?? outputs).map(String)));
    put(notes, ...answer.warnings.map((text) => h('p', { class: 'note warning' }, text)));
    redrawSpread();
    if (answer.explanation) put(why, waterfall(answer.explanation, explained(answer.explanation), pickFeature));
  }

  /** @param {any} explanation */
  function explained(explanation) {
    return Array.isArray(explanation.base_value) ? Math.min(output.place, explanation.base_value.length - 1) : 0;
  }

  /** @param {any} problem */
  function showProblem(problem) {
    const errors = problem instanceof Problem ? problem.errors : [];
    const others = form.setFaults(errors);
    answer = curve = null;
    put(big, h('span', { class: 'unit' }, 'No prediction'));
    put(summary, 'No prediction');
    put(interval);
    put(classes);
    put(
      notes,
      h('p', { class: 'note fault', role: 'alert' }, [problem.message, ...others].join(' ')),
      problem.status === 401 && keyButton(predict),
    );
    redrawSpread();
    redrawCurve();
    if (explains) put(why);
    put(curveTable);
  }

  /** @param {number} width */
  function drawSpread(width) {
    if (answer === null) return null;
    const histogram = model.facts.reference?.prediction[output.place] ?? null;
    const prediction = ofOutput(answer.prediction, output.place);
    return spreadChart({ prediction, interval: answer.confidence_interval, histogram }, width);
  }

  /** @param {string} name */
  function pickFeature(name) {
    chosen = features.value = name;
    loadCurve(form.read(), running.signal);
  }

  /**
   * @param {any} row
   * @param {AbortSignal} signal
   */
  async function loadCurve(row, signal) {
    const feature = chosen;
    try {
      const found = await ask(`predict/curve${asksInterval()}`, { json: { row, feature, points: POINTS }, signal });
      if (signal.aborted || feature !== chosen) return;
      curve = found;
      put(curveText);
    } catch (problem) {
      if (signal.aborted || feature !== chosen) return;
      curve = null;
      put(curveText, h('p', { class: 'note' }, `No curve: ${reasonOf(problem)}`));
    }
    showCurve();
  }

  function showCurve() {
    redrawCurve();
    put(curveTable, curve && valuesTable(curve, output.place));
  }

  /** @param {number} width */
  function drawCurve(width) {
    if (curve === null) return null;
    const of = (/** @type {any[] | null} */ list) => list && list.map((value) => ofOutput(value, output.place));
    return curveChart(
      {
        feature: curve.feature,
        values: curve.values,
        predictions: of(curve.predictions),
        lower: of(curve.lower),
        upper: of(curve.upper),
        at: curve.at && { value: curve.at.value, prediction: ofOutput(curve.at.prediction, output.place) },
        unit: model.features.find((feature) => feature.name === curve.feature).unit,
      },
      width,
      (value) => {
        form.write({ [curve.feature]: value });
        changed();
      },
    );
  }

  return {
    element,
    start() {
      followMap();
      predict();
      nameUnit();
    },
    /** Ends what runs, and gives the row. */
    close() {
      clearTimeout(timer);
      running.abort();
      return form.read();
    },
  };
}

/** @param {() => void} then */
function keyButton(then) {
  const onclick = () => {
    mayAsk('api');
    then();
  };
  return h('button', { type: 'button', onclick }, 'Enter the key');
}

/** @param {any} problem */
function reasonOf(problem) {
  return problem.status === 404 || problem.status === 405 ? 'this service does not offer it.' : problem.message;
}

/**
 * A row for a model without an example: the middle of each range.
 * @param {any} model
 */
function middle(model) {
  /** @type {Record<string, any>} */
  const row = {};
  for (const feature of model.features) {
    const range = feature.training_range ?? feature.physical_range ?? [0, 0];
    const edges = model.facts.reference?.numbers[feature.name]?.edges ?? [];
    const value = edges.length > 0 ? edges[Math.floor(edges.length / 2)] : (range[0] + range[1]) / 2;
    if (feature.type === 'category') row[feature.name] = feature.categories?.[0] ?? null;
    else if (feature.type === 'boolean') row[feature.name] = false;
    else row[feature.name] = feature.type === 'integer' ? Math.round(value) : value;
  }
  return row;
}

/**
 * Names of the outputs: the labels of a classifier, or numbers.
 * @param {any} model
 * @returns {string[]}
 */
function outputNames(model) {
  if (model.labels && model.output === 'probabilities') return model.labels.map(String);
  const count = model.facts.reference?.prediction.length ?? 1;
  return count > 1 ? Array.from({ length: count }, (_, place) => String(place)) : [];
}

/** @param {any} model */
function meaning(model) {
  return { value: '', score: 'score', probability: 'probability', probabilities: 'probability', raw_score: 'raw score' }[model.output] ?? '';
}

/**
 * @param {number[]} probabilities
 * @param {string[]} names
 */
function probabilityTable(probabilities, names) {
  const order = probabilities.map((_, place) => place).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, MOST_CLASSES).map((place) => [names[place] ?? String(place), percent(probabilities[place], 1)]);
  return table('Probabilities', ['Class', 'Probability'], rows);
}

/**
 * The values behind the chart, for those who do not see it.
 * @param {any} curve
 * @param {number} output
 */
function valuesTable(curve, output) {
  const rows = curve.values.map((value, place) => [
    shown(value),
    number(ofOutput(curve.predictions[place], output)),
    ...(curve.lower ? [number(ofOutput(curve.lower[place], output)), number(ofOutput(curve.upper[place], output))] : []),
  ]);
  const head = [curve.feature, 'Prediction', ...(curve.lower ? ['Lower', 'Upper'] : [])];
  return h('details', {}, h('summary', {}, 'Values'), table(`Prediction by ${curve.feature}`, head, rows));
}
