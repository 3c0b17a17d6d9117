/** Requests to the service, and its keys, which are kept in memory only. @module */

/** @typedef {'api' | 'admin'} Role The key that a route needs: API_KEY or ADMIN_API_KEY. */

/** @type {Record<Role, string | null>} */
const keys = { api: null, admin: null };

/** @type {Partial<Record<Role, Promise<boolean>>>} Questions for a key that are open. */
const asking = {};

/** @type {Set<Role>} Keys that the user did not want to give; asked for again only by a button. */
const declined = new Set();

const TEXTS = {
  api: ['API key', 'Predictions of this service need a key (API_KEY).'],
  admin: ['Admin key', 'This needs the key of the operator (ADMIN_API_KEY).'],
};

/**
 * Lets the next request ask for a key, although the user did not give it before.
 * @param {Role} role
 */
export function mayAsk(role) {
  declined.delete(role);
}

/** An answer with an error, as problem details (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status 0 if there was no answer.
   * @param {string} detail
   * @param {{field: string, message: string}[]} [errors]
   */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/**
 * Sends a request. On 401 the user is asked for the key, and the request is sent again.
 * @param {string} path Relative to the page, so that a proxy may put a prefix before it.
 * @param {{role?: Role, json?: any, body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} An answer whose status says success.
 * @throws {Problem} The answer is an error, or there is none.
 */
export async function send(path, { role = 'api', json, body, headers = {}, signal } = {}) {
  for (;;) {
    const key = keys[role];
    const response = await fetch(path, {
      method: json === undefined && body === undefined ? 'GET' : 'POST',
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        Accept: 'application/json',
        ...(json === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
        ...(key === null ? {} : { 'X-API-Key': key }),
      },
      signal,
    }).catch((error) => {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, 'The service does not answer.');
    });
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    if (keys[role] !== key) continue; // given meanwhile, for another request
    const fault = key === null ? '' : problem.message;
    if (key === null && declined.has(role)) throw problem;
    if (!(await askForKey(role, fault))) throw problem;
  }
}

/**
 * Sends a request, and reads the JSON of its answer.
 * @param {string} path
 * @param {Parameters<typeof send>[1]} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, options) {
  return (await send(path, options)).json();
}

/**
 * A report of the service's health, which comes with 503 too while something is wrong.
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function report(path) {
  const headers = keys.admin === null ? {} : { 'X-API-Key': keys.admin };
  const response = await fetch(path, { headers }).catch(() => {
    throw new Problem(0, 'The service does not answer.');
  });
  if (response.ok || response.status === 503) return response.json();
  throw await problemOf(response);
}

/**
 * Asks the user for a key.
 * @param {Role} role
 * @param {string} [fault] What is wrong with the one before.
 * @returns {Promise<boolean>} Whether one was given.
 */
function askForKey(role, fault = '') {
  asking[role] ??= openDialog(role, fault).finally(() => delete asking[role]);
  return asking[role];
}

/**
 * @param {Role} role
 * @param {string} fault
 * @returns {Promise<boolean>}
 */
async function openDialog(role, fault) {
  const other = asking[role === 'api' ? 'admin' : 'api'];
  if (other) await other;
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('key-dialog'));
  const input = /** @type {HTMLInputElement} */ (document.getElementById('key-input'));
  const [title, text] = TEXTS[role];
  element('key-title').textContent = title;
  element('key-text').textContent = `${text} The page forgets it when it is closed.`;
  element('key-fault').textContent = fault;
  input.value = '';
  element('key-cancel').onclick = () => dialog.close('');
  dialog.querySelector('form').onsubmit = (event) => {
    event.preventDefault();
    dialog.close('given');
  };
  dialog.returnValue = '';
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
  const given = dialog.returnValue === 'given' && input.value !== '';
  keys[role] = given ? input.value : null;
  input.value = '';
  if (given) declined.delete(role);
  else declined.add(role);
  return given;
}

/**
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body.detail ?? `The service answered ${response.status}.`, body.errors);
}

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}
