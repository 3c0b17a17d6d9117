/** The page: its tabs, the state of the service above them, and the model that all views show. @module */

import { ask } from './api.js';
import { dataView } from './data.js';
import { put } from './dom.js';
import { liveView } from './live.js';
import { modelView } from './model.js';
import { connect, onFigures } from './stream.js';
import { tryView } from './try.js';

const VIEWS = ['try', 'model', 'live', 'data'];

/**
 * The model in use: `/predict/model/info`, and `/console/model` as `facts`.
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

/** Start of the service, version and digest of the model that the views were made from. */
let known = '';

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
  const now = [figures.started, figures.model_version, figures.digest].join(' ');
  if (known !== '' && now !== known) loadModel();
  known = now;
}

async function loadModel() {
  try {
    const [info, facts] = await Promise.all([ask('predict/model/info'), ask('console/model')]);
    put(element('model-name'), `${info.name} · version ${info.version}`);
    document.title = `${info.name} – Madrone`;
    for (const view of Object.values(views)) view.setModel({ ...info, facts }, '');
  } catch (problem) {
    put(element('model-name'));
    for (const view of Object.values(views)) view.setModel(null, problem.message);
  }
}

function start() {
  views.try = tryView(element('view-try'));
  views.model = modelView(element('view-model'), loadModel);
  views.live = liveView(element('view-live'));
  views.data = dataView(element('view-data'));
  addEventListener('hashchange', showView);
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
