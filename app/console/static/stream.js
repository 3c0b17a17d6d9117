/** The figures of the service, as they come once a second while the page is visible. @module */

import { ofConsole } from './chosen.js';

const RETRY_MS = 3000;

/** @type {Set<(figures: any) => void>} */
const listeners = new Set();

/** @type {(connected: boolean) => void} */
let tell = () => {};

/** @type {EventSource | null} */
let source = null;

/**
 * Listens from now on.
 * @param {(figures: any) => void} listener
 */
export function onFigures(listener) {
  listeners.add(listener);
}

/**
 * Connects, and goes on connecting.
 * @param {(connected: boolean) => void} onConnection Told whether figures come.
 */
export function connect(onConnection) {
  tell = onConnection;
  document.addEventListener('visibilitychange', follow);
  follow();
}

/** Connects anew, for the figures of another model. */
export function reconnect() {
  source?.close();
  source = null;
  follow();
}

/** Opens or closes the connection, as the page becomes visible or hidden. */
function follow() {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (source === null || source.readyState === EventSource.CLOSED) {
    open();
  }
}

function open() {
  const opened = new EventSource(ofConsole('live'));
  source = opened;
  opened.onmessage = (event) => {
    tell(true);
    const figures = JSON.parse(event.data);
    for (const listener of listeners) listener(figures);
  };
  opened.onerror = () => {
    tell(false);
    // A browser asks again by itself after a lost connection, but not after a refusal.
    if (opened.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MS);
  };
}
