/** The model that the page is about, of those that the service has. @module */

import { card, h, table } from './dom.js';
import { percent } from './format.js';

/** @type {string | null} Its name; null for the first, whose routes need none. */
let chosen = new URLSearchParams(location.search).get('model');

/** Name of the model; null for the first of the service. */
export function chosenModel() {
  return chosen;
}

/**
 * Makes the page about another model, whose name stands in its address from now on.
 * @param {string | null} name
 */
export function chooseModel(name) {
  chosen = name;
  history.replaceState(null, '', `${location.pathname}${name === null ? '' : `?model=${encodeURIComponent(name)}`}${location.hash}`);
}

/**
 * Path of a route of the model.
 * @param {'predict' | 'health/model'} start
 * @param {string} [end]
 */
export function ofModel(start, end = '') {
  return `${start}${chosen === null ? '' : `/${encodeURIComponent(chosen)}`}${end}`;
}

/**
 * Path of a route of the console, about the model.
 * @param {string} path
 */
export function ofConsole(path) {
  return `console/${path}${chosen === null ? '' : `?model=${encodeURIComponent(chosen)}`}`;
}

/**
 * The models to choose from.
 * @param {any[]} found `in_service` of `/info`.
 * @param {string} chosen
 * @param {(name: string) => void} choose
 */
export function modelsCard(found, chosen, choose) {
  const name = (/** @type {any} */ one) =>
    h('button', { type: 'button', 'aria-pressed': String(one.name === chosen), onclick: () => choose(one.name) }, one.name);
  return card(
    'Models',
    { class: 'models' },
    table(
      'Models of this service',
      ['Name', 'State', 'Version', 'Stage', 'Aliases', 'Canary', 'Shadow'],
      found.map((one) => [
        name(one),
        one.version === null ? 'no version' : one.pinned === null ? 'in service' : 'pinned',
        one.version ?? '–',
        one.stage === null || one.stage === 'None' ? '–' : one.stage,
        one.aliases.join(', ') || '–',
        one.canary_version === null ? '–' : `${one.canary_version} for ${percent(one.canary_percent / 100, 1)}`,
        one.shadow_version ?? '–',
      ]),
    ),
  );
}
