/** The view Try: one row, its prediction as it is typed, why, and what if. @module */

import { ask, mayAsk, Problem } from './api.js';
import { ofConsole, ofModel } from './chosen.js';
import { curveCard } from './curve.js';
import { card, h, put } from './dom.js';
import { middleRow, rowForm } from './form.js';
import { placeMap } from './map.js';
import { scoredClass } from './output.js';
import { predictionCard } from './prediction.js';
import { waterfall } from './waterfall.js';

const PAUSE_MS = 150;
const POINTS = 60;

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
  const example = model.example ?? middleRow(model);
  let explanation = /** @type {any} */ (null);
  let timer = 0;
  let explains = true;
  let answered = '';
  let running = new AbortController();

  const form = rowForm(model, changed);
  form.write({ ...example, ...before });
  const prediction = predictionCard(model, { predict, show: showOutput });
  const curve = curveCard(model, {
    output: prediction.place,
    changed: () => loadCurve(form.read(), running.signal),
    pick(feature, value) {
      form.write({ [feature]: value });
      changed();
    },
  });
  const why = h('div', {});
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
    h('div', { class: 'stack' }, prediction.element, card('Why', { class: 'why' }, why)),
    h('div', { class: 'stack' }, map && card('Where', {}, map.element, h('p', { class: 'about' }, MAP_TEXT)), curve.element),
    prediction.summary,
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
      const answer = await asked(row, signal);
      if (signal.aborted) return;
      form.setFaults([]);
      prediction.show(answer);
      explanation = answer.explanation ?? null;
      showWhy();
      answered = answer.request_id;
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
        return await ask(ofModel('predict', `/explain${query()}`), { json: row, signal });
      } catch (problem) {
        if (!NO_EXPLANATION.includes(problem.status)) throw problem;
        explains = false;
        put(why, h('p', { class: 'note' }, `No explanation: ${reasonOf(problem)}`));
      }
    }
    return ask(ofModel('predict', query()), { json: row, signal });
  }

  /** The query that asks for intervals of the chosen level. */
  function query() {
    const level = prediction.level();
    return level === null ? '' : `?interval=${level}`;
  }

  /**
   * @param {any} row
   * @param {AbortSignal} signal
   */
  async function loadCurve(row, signal) {
    const feature = curve.feature();
    try {
      /** @type {Record<string, string>} */
      const headers = answered ? { 'X-Request-ID': answered } : {}; // with a canary, the id decides which version answers
      const found = await ask(ofModel('predict', `/curve${query()}`), { json: { row, feature, points: POINTS }, headers, signal });
      if (!signal.aborted && feature === curve.feature()) curve.take(found);
    } catch (problem) {
      if (!signal.aborted && feature === curve.feature()) curve.clear(`No curve: ${reasonOf(problem)}`);
    }
  }

  /** @param {string} feature */
  function pickFeature(feature) {
    curve.choose(feature);
    loadCurve(form.read(), running.signal);
  }

  function showWhy() {
    if (explanation) put(why, waterfall(explanation, prediction.place(), scoredClass(model, prediction.place()), pickFeature));
  }

  function showOutput() {
    showWhy();
    curve.show();
  }

  /** @param {any} problem */
  function showProblem(problem) {
    const others = form.setFaults(problem instanceof Problem ? problem.errors : []);
    prediction.fail(
      h('p', { class: 'note fault', role: 'alert' }, [problem.message, ...others].join(' ')),
      problem.status === 401 && keyButton(predict),
    );
    explanation = null;
    if (explains) put(why);
    curve.clear();
  }

  /** Takes the target's unit from the model card, which may come late. */
  async function nameUnit() {
    const shownCard = await ask(ofConsole('card')).catch(() => null);
    prediction.name(shownCard?.data.unit ?? '');
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
  if (problem.status === 404 || problem.status === 405) return 'this service does not offer it.';
  return [problem.message, ...(problem.errors ?? []).map((one) => `${one.field} ${one.message}`)].join(' ');
}
