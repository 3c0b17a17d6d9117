/** The page: its tabs, the state of the service above them, and the model that all views show. @module */

import { ask } from './api.js';
import { chooseModel, chosenModel, ofConsole, ofModel } from './chosen.js';
import { dataView } from './data.js';
import { h, put } from './dom.js';
import { liveView } from './live.js';
import { modelView } from './model.js';
import { connect, onFigures, reconnect } from './stream.js';
import { tryView } from './try.js';

const VIEWS = ['try', 'model', 'live', 'data'];

/**
 * The model in use: `/predict/model/info`, `/console/model` as `facts`, and `isOneOfSeveral`.
 * @typedef {Record<string, any>} Model
 */

/**
 * A view.
 * @typedef {object} View
 * @property {(model: Model | null, reason: string) => void} setModel Told of the model at first and whenever it changes;
 *   null with the reason while there is none.
 * @property {() => void} [show] Told that the view is visible.
 */

/** @type {Record<string, View>} */
const views = {};

/** Start of the service, name, version and digest of the model that the views were made from. */
let known = '';

/** @type {string[]} Names of the models, the first one first. */
let names = [];

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Name of the view in the address. */
function wanted() {
  const name = location.hash.slice(1);
  return VIEWS.includes(name) ? name : 'try';
}

function showView() {
  const name = wanted();
  for (const other of VIEWS) {
    const tab = element(`tab-${other}`);
    tab.setAttribute('aria-selected', String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    element(`view-${other}`).hidden = other !== name;
  }
  views[name]?.show?.();
}

/** @param {KeyboardEvent} event */
function moveTab(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const place = VIEWS.indexOf(wanted());
  let next = step === undefined ? place : (place + step + VIEWS.length) % VIEWS.length;
  if (event.key === 'Home') next = 0;
  else if (event.key === 'End') next = VIEWS.length - 1;
  else if (step === undefined) return;
  event.preventDefault();
  location.hash = VIEWS[next];
  element(`tab-${VIEWS[next]}`).focus();
}

/**
 * @param {string} kind One of the classes of the state's dot.
 * @param {string} text
 */
function showStatus(kind, text) {
  const status = element('status');
  if (element('status-text').textContent === text && status.dataset.kind === kind) return;
  status.dataset.kind = kind;
  element('status-text').textContent = text;
}

/** @param {any} figures */
function follow(figures) {
  showStatus(figures.status, figures.problems[0] ?? figures.status);
  const now = [figures.started, figures.model_name, figures.model_version, figures.digest].join(' ');
  if (known !== '' && now !== known) loadModel();
  known = now;
}

async function loadModel() {
  const wanted = chosenModel();
  try {
    const [info, facts] = await Promise.all([ask(ofModel('predict', '/model/info')), ask(ofConsole('model')), loadNames()]);
    if (wanted !== chosenModel()) return;
    put(element('model-name'), names.length > 1 ? `version ${info.version}` : `${info.name} · version ${info.version}`);
    document.title = `${info.name} – Madrone`;
    for (const view of Object.values(views)) view.setModel({ ...info, facts, isOneOfSeveral: names.length > 1 }, '');
  } catch (problem) {
    if (wanted !== chosenModel()) return;
    put(element('model-name'));
    for (const view of Object.values(views)) view.setModel(null, problem.message);
  }
}

/** Shows the models to choose from, where there are several. */
async function loadNames() {
  names = (await ask('info')).models;
  if (names.length < 2) return;
  const shown = chosenModel() ?? names[0];
  put(element('model'), ...names.map((name) => h('option', { value: name, selected: name === shown }, name)));
  element('model-choice').hidden = false;
}

/**
 * Has all views show another model.
 * @param {string} name
 */
function choose(name) {
  chooseModel(name === names[0] ? null : name);
  known = '';
  for (const view of Object.values(views)) view.setModel(null, 'The model is being loaded …');
  reconnect();
  loadModel();
}

function start() {
  views.try = tryView(element('view-try'));
  views.model = modelView(element('view-model'), loadModel, choose);
  views.live = liveView(element('view-live'));
  views.data = dataView(element('view-data'));
  addEventListener('hashchange', showView);
  element('model').addEventListener('change', (event) => choose(/** @type {HTMLSelectElement} */ (event.target).value));
  document.querySelector('[role=tablist]').addEventListener('keydown', moveTab);
  document.querySelector('[data-skip]').addEventListener('click', (event) => {
    event.preventDefault(); // the fragment of the address names the view
    element('main').focus();
  });
  showView();
  onFigures(follow);
  loadModel();
  connect((connected) => {
    if (!connected) showStatus('lost', 'Connection lost, trying again …');
  });
}

start();
