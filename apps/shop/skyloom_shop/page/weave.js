/** A picture for goods that have none: a piece of cloth whose threads follow from the sku. */

import { hueOf } from "/skyloom/dom.js";

const WIDTH = 120;
const HEIGHT = 60;

/** How a warp thread goes: over how many wefts, under how many, and how far the next thread is shifted. */
const BINDINGS = [[1, 1, 1], [2, 2, 1], [1, 2, 1], [2, 1, 2], [3, 1, 1], [1, 3, 2], [2, 2, 2]];

/** @param {string} sku @returns {SVGElement} */
export function weave(sku) {
  const seed = [...sku].reduce((hash, character) => Math.imul(hash ^ character.codePointAt(0), 0x01000193) >>> 0, 0x811c9dc5);
  const [over, under, shift] = BINDINGS[seed % BINDINGS.length];
  const pitch = [3, 3.75, 5][(seed >>> 4) % 3];
  const thick = pitch * [0.62, 0.72, 0.82][(seed >>> 7) % 3];
  const stripe = [0, 3, 4, 5][(seed >>> 10) % 4]; // every so manieth warp thread has the second colour
  const wefts = [];
  for (let y = pitch / 2; y < HEIGHT; y += pitch) wefts.push(`M0 ${y}H${WIDTH}`);
  const warps = [[], []];
  for (let n = 0, x = pitch / 2; x < WIDTH; n += 1, x += pitch) {
    for (let row = -((n * shift) % (over + under)); row * pitch < HEIGHT; row += over + under) {
      const top = row * pitch + (pitch - thick) / 2;
      warps[stripe && n % stripe === 0 ? 1 : 0].push(`M${x} ${top}V${top + over * pitch - (pitch - thick)}`);
    }
  }
  const picture = node("svg", { class: `weave hue-${hueOf(sku)}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" });
  picture.append(
    node("path", { class: "weft", d: wefts.join(""), "stroke-width": thick }),
    node("path", { class: "warp", d: warps[0].join(""), "stroke-width": thick }),
    node("path", { class: "warp second", d: warps[1].join(""), "stroke-width": thick }));
  return picture;
}

function node(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
