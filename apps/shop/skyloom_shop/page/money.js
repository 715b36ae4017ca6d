/** Amounts: whole numbers of minor units everywhere, hundredths of a coin, and decimals only where somebody reads them. */

import { el } from "/skyloom/dom.js";

const decimals = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** 12345 is "123.45", in the reader's own way to write it. @param {number} minor */
export function amount(minor) {
  return decimals.format(`${minor}e-2`); // as text, so that no binary fraction comes between
}

/** The amount with its coin. @param {number} minor @param {object} [data] */
export function money(minor, data = {}) {
  return el("span", { class: "money", data }, amount(minor));
}
