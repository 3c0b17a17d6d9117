/** The view Model: which version is served, why, how good it is, and orders to change it. @module */

import { ask, mayAsk, report } from './api.js';
import { chosenModel, modelsCard, ofConsole, ofModel } from './chosen.js';
import { card, facts, h, put, table } from './dom.js';
import { duration, moment, number, percent, signed } from './format.js';
import { onFigures } from './stream.js';

const PARTS = ['fit', 'validation', 'test'];
const MEASURES = { rmse: 'RMSE', mae: 'MAE', r2: 'R²' };

/** What each check of the service has found, in a few words. */
const CHECKS = {
  digest: 'its files are whole: they have the digest that was noted for them',
  artifact: 'its files could be read as data; no code of the model was run',
  agreement: 'its signature, feature plan and booster fit each other',
  metrics: 'the metrics of its run are within the limits that are set',
  interface: 'callers of the version before can call it',
  kernels: 'its raw scores are LightGBM’s, bit for bit, on all rows compared',
  prediction: 'its predictions for an example row, and for rows like it, are finite',
};

/** Seconds between looks at the report while the view is visible. */
const PERIOD = 5;

/**
 * The view Model.
 * @param {HTMLElement} root
 * @param {() => Promise<void>} reload Has all views look at the model again.
 * @param {(name: string) => void} choose Has all views show another model.
 * @returns {import('./main.js').View}
 */
export function modelView(root, reload, choose) {
  /** @type {any} */
  let model = null;
  /** @type {any} */
  let shadow = null;
  let shown = '';
  let listed = '';
  let ticks = 0;
  const parts = h('div', { class: 'parts' });
  const outcome = h('div', { 'aria-live': 'polite' });
  const version = h('input', { id: 'pin-version', type: 'text', inputmode: 'numeric', size: 6, autocomplete: 'off' });
  const rollback = h('button', { type: 'button', hidden: true });
  const shadowBox = h('div', {});
  const orders = card(
    'Orders',
    { class: 'orders' },
    h('p', { class: 'about' }, 'They need the operator’s key (ADMIN_API_KEY).'),
    h(
      'div',
      { class: 'buttons' },
      h('button', { type: 'button', onclick: () => order(undefined) }, 'Look for another version now'),
      rollback,
    ),
    h(
      'form',
      {
        class: 'buttons',
        onsubmit: (event) => {
          event.preventDefault();
          if (version.value.trim()) order({ version: version.value.trim() });
        },
      },
      h('label', { for: 'pin-version' }, 'Version ', version),
      h('button', { type: 'submit' }, 'Pin'),
      h('button', { type: 'button', onclick: () => order({ version: null }) }, 'Unpin'),
    ),
    outcome,
  );
  const cardBox = h('div', {});
  const models = h('div', {});
  put(root, models, h('div', { class: 'columns' }, parts, shadowBox, orders), cardBox);

  /** @param {{version: string | null} | undefined} content */
  async function order(content) {
    mayAsk('admin');
    put(outcome, h('p', { class: 'note' }, 'The service is looking …'));
    try {
      const found = await ask(ofModel('health/model', '/reload'), { role: 'admin', ...(content ? { json: content } : { body: '' }) });
      put(outcome, h('p', { class: 'note' }, said(found)));
    } catch (problem) {
      put(outcome, h('p', { class: 'note fault', role: 'alert' }, problem.message));
    }
    await reload();
    await show();
  }

  async function show() {
    await showHealth();
    const wanted = chosenModel();
    const found = await ask(ofConsole('card')).catch(() => null);
    if (wanted === chosenModel()) put(cardBox, found && cardCard(found));
  }

  /** Shows the models, where there are several. */
  async function showModels() {
    const found = await ask('info').catch(() => null);
    if (!found || found.in_service.length < 2) return;
    const now = JSON.stringify([found.in_service, chosenModel()]);
    if (now !== listed) put(models, modelsCard(found.in_service, chosenModel() ?? found.model_name, choose));
    listed = now;
  }

  /** Shows the report, unless it says what is shown already. */
  async function showHealth() {
    await showModels();
    const wanted = chosenModel();
    try {
      const health = await report(ofModel('health/model'));
      if (wanted !== chosenModel()) return;
      const now = JSON.stringify([{ ...health, age_seconds: 0, next_look_seconds: 0 }, model]);
      if (now === shown) return;
      shown = now;
      const before = health.store.entries.find((entry) => Number(entry) < Number(health.version));
      rollback.hidden = before === undefined;
      rollback.onclick = () => order({ version: before });
      put(rollback, `Roll back to version ${before}`);
      put(parts, ...content(health, model));
    } catch (problem) {
      shown = '';
      put(parts, h('p', { class: 'note', role: 'alert' }, problem.message));
    }
    showShadow();
  }

  function showShadow() {
    put(shadowBox, shadow && shadowCard(shadow));
    shadowBox.hidden = shadow === null;
  }

  onFigures((figures) => {
    shadow = figures.shadow;
    if (root.hidden) return;
    showShadow();
    ticks += 1;
    if (ticks % PERIOD === 0) showHealth();
  });

  return {
    setModel(next) {
      model = next;
      if (!root.hidden) show();
    },
    show,
  };
}

/**
 * @param {any} health `/health/model`.
 * @param {any} model
 */
function content(health, model) {
  return [
    identity(health, model),
    card(
      'How it was chosen',
      {},
      facts([
        ['Rule', health.resolved_by],
        ['Pinned to', health.pinned],
        ['Source', health.source === 'registry' ? 'a registry' : 'MODEL_PATH'],
        ['Registry', health.age_seconds === null ? 'has not answered yet' : health.stale ? 'did not answer the last look' : null],
        ['Last look', refresh(health.last_refresh?.outcome === 'refused' ? { ...health.last_refresh, reason: null } : health.last_refresh)],
        ['Kept on disk', health.store.entries.join(', ')],
      ]),
      ...lookUps(health.look_ups),
    ),
    model && figuresCard(model),
    checks(health, model),
    ...['canary', 'shadow'].filter((role) => health[role]).map((role) => rollout(role, health[role])),
  ].filter(Boolean);
}

/**
 * The rules that were tried, unless the first of them has found the version.
 * @param {any[]} tried
 */
function lookUps(tried) {
  if (tried.every((one) => one.outcome === 'found')) return [];
  const rows = tried.map((one) => {
    const version = one.version ? ` version ${one.version}` : '';
    return /** @type {[string, string]} */ ([one.rule, `${one.outcome.replace('_', ' ')}${version}${one.reason ? `: ${one.reason}` : ''}`]);
  });
  return [h('p', { class: 'about tried' }, 'Rules that were tried:'), facts(rows)];
}

/**
 * @param {any} health
 * @param {any} model
 */
function identity(health, model) {
  const backends = Object.entries(health.engine?.backends ?? {}).map(([name, one]) => `${name} (${one.device})`);
  return card(
    'Identity',
    {},
    facts([
      ['Name', health.name],
      ['Version', health.version ?? 'none is loaded'],
      ['Stage', health.stage !== 'None' && health.stage],
      ['Aliases', health.aliases.join(', ')],
      ['Digest', health.digest && h('code', {}, health.digest.slice(0, 16))],
      ['Run', model?.run_id && h('code', {}, model.run_id)],
      ['Loaded', health.loaded_at && `${moment(health.loaded_at)}, in ${duration(health.load_seconds)}`],
      ['Loading', health.loading && `version ${health.loading.version}: ${health.loading.stage}, ${duration(health.loading.seconds)}`],
      ['Forest', model && `${number(model.trees)} trees, ${model.objective}`],
      ['Features', model && `${model.features.length} sent, ${model.model_features} in the forest`],
      ['Stored rows', model && model.reference_rows > 0 && number(model.reference_rows)],
      ['Evaluated by', health.engine && `${health.engine.forest.evaluator}, on ${backends.join(', ')}`],
      ['Switched off', health.engine?.disabled_reason],
    ]),
  );
}

/**
 * Metrics of the run: those of the parts of the data as a table, as `madrone train` names them, and the others.
 * @param {any} model
 */
function figuresCard(model) {
  const parts = PARTS.filter((part) => Object.keys(MEASURES).some((measure) => `${part}_${measure}` in model.metrics));
  const measures = Object.entries(MEASURES).filter(([measure]) => PARTS.some((part) => `${part}_${measure}` in model.metrics));
  const rows = measures.map(([measure, name]) => [name, ...parts.map((part) => number(model.metrics[`${part}_${measure}`]))]);
  const others = Object.entries(model.metrics).filter(([name]) => !parts.some((part) => name.startsWith(`${part}_`)));
  if (parts.length + others.length === 0) return null;
  return card(
    'Figures of its run',
    {},
    parts.length > 0 && table('Error by part of the data', ['Measure', ...parts], rows),
    facts(others.map(([name, value]) => [name.replaceAll('_', ' '), number(value)])),
  );
}

/**
 * @param {any} health
 * @param {any} model
 */
function checks(health, model) {
  const faults = health.not_finite.map((one) => h('li', { class: 'fault' }, one.message));
  const refusal = health.last_refusal;
  return card(
    'Checks',
    {},
    model && h('p', { class: 'about' }, `Version ${model.version} passed these before it was served:`),
    model && h('ul', { class: 'checks' }, ...model.facts.checks.map((check) => h('li', {}, CHECKS[check] ?? check)), ...faults),
    refusal
      ? h('p', { class: 'note warning' }, `Version ${refusal.version} was refused: ${refusal.reason} (${moment(refusal.at)})`)
      : h('p', { class: 'about' }, 'No version was refused.'),
    ...health.store.quarantined.map((text) => h('p', { class: 'note warning' }, `Damaged on disk: ${text}`)),
  );
}

/**
 * @param {string} role
 * @param {any} found
 */
function rollout(role, found) {
  return card(
    role === 'canary' ? 'Canary' : 'Shadow',
    {},
    facts([
      ['Alias', found.alias],
      ['Share of requests', percent(found.percent / 100, 1)],
      ['Version', found.version ?? 'none'],
      ['Last look', refresh(found.last_refresh)],
    ]),
  );
}

/** @param {any} shadow */
function shadowCard(shadow) {
  return card(
    'Shadow compared',
    {},
    facts([
      ['Version', shadow.version],
      ['Predictions compared', number(shadow.compared)],
      ['Mean difference', shadow.mean_difference === null ? null : signed(shadow.mean_difference)],
      ['Mean size of the differences', shadow.mean_size === null ? null : number(shadow.mean_size)],
      ...Object.entries(shadow.rows).map(([outcome, rows]) => /** @type {[string, string]} */ ([`Rows ${outcome}`, number(rows)])),
    ]),
  );
}

/** @param {any} shown `/console/card`. */
function cardCard(shown) {
  const { data } = shown;
  return card(
    'Model card',
    { class: 'wide' },
    h('p', {}, shown.title),
    h('p', { class: 'about' }, `${data.target}${data.unit ? ` in ${data.unit}` : ''}, from ${number(data.rows)} rows of ${data.source}`),
    h(
      'div',
      { class: 'pictures' },
      ...shown.pictures.map((one) => h('img', { src: ofConsole(`card/${one.file}`), alt: one.text, loading: 'lazy', width: 1200, height: 900 })),
    ),
  );
}

/** @param {any} found A look into the registry, or an order. */
function said(found) {
  if (found.outcome === 'pending') return 'It takes longer than a request may; the service goes on, and this page will show the outcome.';
  return refresh(found);
}

/** @param {any} found */
function refresh(found) {
  if (!found) return null;
  const about = found.version === null || found.version === undefined ? '' : ` (version ${found.version})`;
  const reason = [found.reason, found.detail].filter(Boolean).join(' – ');
  return `${found.outcome.replaceAll('_', ' ')}${about}${reason ? `: ${reason}` : ''}, ${moment(found.at)}`;
}
