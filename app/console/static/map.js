/** A map of what the model itself knows: lines and places of its feature plan, its stored rows, and the row's place. */

import { svg } from './dom.js';
import { number, ticks } from './format.js';

const WIDTH = 460;
const MARGIN_SHARE = 0.03;
const LABEL_HEIGHT = 14;

/**
 * @typedef {object} PlaceMap
 * @property {SVGElement} element
 * @property {(latitude: number, longitude: number) => void} move Moves the pin.
 */

/**
 * A map with a pin that can be dragged, and moved by the arrow keys.
 * @param {any} map As `/console/model` has it.
 * @param {(latitude: number, longitude: number) => void} moved Called when the user moves the pin.
 * @returns {PlaceMap}
 */
export function placeMap(map, moved) {
  const [south, north] = widened(map.south_north);
  const [west, east] = widened(map.west_east);
  const squeeze = Math.max(0.1, Math.cos(((south + north) / 2) * (Math.PI / 180)));
  const scale = WIDTH / ((east - west) * squeeze);
  const height = Math.min((north - south) * scale, 1.5 * WIDTH);
  const upward = height / (north - south);
  const across = (/** @type {number} */ longitude) => ((longitude - west) / (east - west)) * WIDTH;
  const down = (/** @type {number} */ latitude) => (north - latitude) * upward;
  let [latitude, longitude] = [(south + north) / 2, (west + east) / 2];

  const pin = svg(
    'g',
    {
      class: 'pin',
      tabindex: 0,
      role: 'slider',
      'aria-label': 'Place; the arrow keys move it, with Shift further',
      'aria-valuemin': south,
      'aria-valuemax': north,
      onkeydown: byKey,
    },
    svg('circle', { class: 'halo', r: 16 }),
    svg('path', { d: 'M0,0C-4,-8 -9,-11 -9,-18A9,9 0 1 1 9,-18C9,-11 4,-8 0,0Z' }),
    svg('circle', { class: 'hole', cy: -18, r: 3.4 }),
  );
  const element = svg(
    'svg',
    { class: 'map', viewBox: `0 0 ${WIDTH} ${height.toFixed(1)}`, onpointerdown: grab },
    ...grid(),
    ...cells(),
    ...map.lines.map(([, vertices]) =>
      svg('polyline', { class: 'outline', points: vertices.map(([a, b]) => `${across(b).toFixed(1)},${down(a).toFixed(1)}`).join(' ') }),
    ),
    ...places(),
    pin,
  );

  function grid() {
    const width = { x1: 0, x2: WIDTH };
    const whole = { y1: 0, y2: height };
    return [
      ...ticks(south, north, 5).flatMap((value) => [
        svg('line', { class: 'grid', ...width, y1: down(value), y2: down(value) }),
        svg('text', { class: 'degrees', x: 4, y: down(value) - 4 }, `${number(value)}°`),
      ]),
      ...ticks(west, east, 5).flatMap((value) => [
        svg('line', { class: 'grid', ...whole, x1: across(value), x2: across(value) }),
        svg('text', { class: 'degrees', x: across(value) + 4, y: height - 5 }, `${number(value)}°`),
      ]),
    ];
  }

  function cells() {
    if (!map.rows) return [];
    const most = Math.max(...map.rows.cells.map(([, , count]) => count));
    const side = map.rows.size;
    return map.rows.cells.map(([a, b, count]) =>
      svg('rect', {
        class: 'cell',
        x: across(b).toFixed(1),
        y: down(a + side).toFixed(1),
        width: (across(b + side) - across(b)).toFixed(1),
        height: (down(a) - down(a + side)).toFixed(1),
        'fill-opacity': (0.15 + 0.75 * Math.sqrt(count / most)).toFixed(2),
      }),
    );
  }

  /** Dots for all places, and names where there is room for them. */
  function places() {
    /** @type {[number, number, number][]} Left, right and middle of each name. */
    const taken = [];
    return map.places.flatMap(([name, a, b]) => {
      const [x, y] = [across(b), down(a)];
      if (x < 0 || x > WIDTH || y < 0 || y > height) return [];
      const toLeft = x > WIDTH * 0.72;
      const length = name.length * 6.4 + 8;
      const [left, right] = toLeft ? [x - length, x] : [x, x + length];
      const dot = svg('circle', { class: 'town', cx: x.toFixed(1), cy: y.toFixed(1), r: 2 });
      const clash = taken.some(([l, r, m]) => left < r && right > l && Math.abs(m - y) < LABEL_HEIGHT);
      if (clash) return [dot];
      taken.push([left, right, y]);
      const anchor = toLeft ? 'end' : 'start';
      return [dot, svg('text', { class: 'town', x: (x + (toLeft ? -5 : 5)).toFixed(1), y: (y + 4).toFixed(1), 'text-anchor': anchor }, name)];
    });
  }

  /**
   * @param {number} a
   * @param {number} b
   */
  function move(a, b) {
    if (!Number.isFinite(a) || !Number.isFinite(b)) return;
    [latitude, longitude] = [a, b];
    const [x, y] = [Math.max(0, Math.min(WIDTH, across(b))), Math.max(0, Math.min(height, down(a)))];
    pin.setAttribute('transform', `translate(${x.toFixed(1)},${y.toFixed(1)})`);
    pin.setAttribute('aria-valuenow', String(a));
    pin.setAttribute('aria-valuetext', `latitude ${number(a)}, longitude ${number(b)}`);
  }

  /**
   * Moves the pin as far as the map goes, and tells of it.
   * @param {number} a
   * @param {number} b
   */
  function moveTo(a, b) {
    const inside = (/** @type {number} */ value, /** @type {[number, number]} */ [low, high]) =>
      Number(Math.max(low, Math.min(high, value)).toFixed(4));
    move(inside(a, map.south_north), inside(b, map.west_east));
    moved(latitude, longitude);
  }

  /** @param {KeyboardEvent} event */
  function byKey(event) {
    const step = ((north - south) / 100) * (event.shiftKey ? 5 : 1);
    const [up, right] = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    if (up === 0 && right === 0) return;
    event.preventDefault();
    moveTo(latitude + up * step, longitude + right * step);
  }

  /** @param {PointerEvent} event */
  function grab(event) {
    event.preventDefault();
    pin.focus();
    element.setPointerCapture(event.pointerId);
    const drag = (/** @type {PointerEvent} */ at) => {
      const box = element.getBoundingClientRect();
      const [x, y] = [((at.clientX - box.left) / box.width) * WIDTH, ((at.clientY - box.top) / box.height) * height];
      moveTo(north - y / upward, west + (x / WIDTH) * (east - west));
    };
    drag(event);
    element.addEventListener('pointermove', drag);
    const release = () => element.removeEventListener('pointermove', drag);
    element.addEventListener('pointerup', release, { once: true });
    element.addEventListener('pointercancel', release, { once: true });
  }

  move(latitude, longitude);
  return { element, move };
}

/**
 * @param {[number, number]} ends
 * @returns {[number, number]}
 */
function widened([low, high]) {
  const room = (high - low) * MARGIN_SHARE || 0.5;
  return [low - room, high + room];
}
