/** Elements of the page, made without a framework. @module */

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Sets what an element has: `on…` are listeners, the other names are attributes. Null and false leave one out.
 * @param {Element} element
 * @param {Record<string, any>} properties
 * @param {Child[]} children
 */
function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...present(children));
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function present(children) {
  return children
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * An HTML element.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, properties, children);
  return element;
}

/**
 * An SVG element.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {any}
 */
export function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  fill(element, properties, children);
  return element;
}

/**
 * Gives an element other children.
 * @param {Element} element
 * @param {...Child} children
 */
export function put(element, ...children) {
  element.replaceChildren(...present(children));
}

/**
 * A box with a heading.
 * @param {string} title
 * @param {Record<string, any>} properties
 * @param {...Child} children
 */
export function card(title, properties, ...children) {
  return h('section', { ...properties, class: `card ${properties.class ?? ''}` }, h('h2', {}, title), ...children);
}

/**
 * Names and values.
 * @param {[string, Child][]} rows
 */
export function facts(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== false);
  return h('dl', { class: 'facts' }, ...shown.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

/**
 * A table that scrolls by itself where it is too wide, also by the keyboard.
 * @param {string} caption Its name, for screen readers.
 * @param {string[]} head
 * @param {Child[][]} rows
 */
export function table(caption, head, rows) {
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ...head.map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, ...rows.map((row) => h('tr', {}, ...row.map((cell) => h('td', {}, cell))))),
    ),
  );
}

/**
 * Draws into an element for its width, and again whenever that changes.
 * @param {HTMLElement} element
 * @param {(width: number) => Child} draw
 * @returns {() => void} Draws anew.
 */
export function drawn(element, draw) {
  let width = 0;
  const redraw = () => width > 0 && put(element, draw(width));
  new ResizeObserver(() => {
    const now = Math.floor(element.clientWidth);
    if (now === width) return;
    width = now;
    redraw();
  }).observe(element);
  return redraw;
}
