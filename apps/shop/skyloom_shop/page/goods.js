/** The goods, drawn: a card for each, with its price, what is left of it, and how many are in the cart. */

import { byId, el, reconcile } from "/skyloom/dom.js";
import { QUANTITY_MAX } from "./cart.js";
import { money } from "./money.js";
import { weave } from "./weave.js";

const FEW = 5; // so few left is worth saying
const FIND_FROM = 9; // fewer goods are found by looking

/**
 * @param {object} state
 * @param {Map<string, {sku: string, name: string, price: number, available: number}> | null} state.goods  null: not loaded
 * @param {import("./cart.js").Cart} state.cart @param {number | null} state.balance @param {string} state.trouble
 * @param {(sku: string, qty: number) => void} take
 */
export function drawGoods({ goods, cart, balance, trouble }, take) {
  const all = goods ? [...goods.values()] : [];
  const find = byId("find");
  find.hidden = all.length < FIND_FROM;
  const words = find.hidden ? [] : find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = all.filter(({ name, sku }) => words.every((word) => `${name} ${sku}`.toLowerCase().includes(word)));
  const locked = cart.placedAt !== null;
  reconcile(byId("goods-list"), wanted.map((item) => {
    const qty = cart.quantity(item.sku);
    const dear = balance !== null && item.price > balance;
    return {
      key: item.sku,
      signature: JSON.stringify([item, qty, dear, locked, cart.full]),
      build: () => card(item, qty, dear, locked, cart.full, take),
    };
  }));
  const none = byId("goods-none");
  none.hidden = wanted.length > 0;
  none.textContent = noGoods(goods, words, trouble);
}

function noGoods(goods, words, trouble) {
  if (!goods) return trouble || "Loading the goods…";
  return words.length ? `Nothing is called “${words.join(" ")}”.` : "There is nothing to buy here yet.";
}

function card(item, qty, dear, locked, full, take) {
  const { sku, name, price, available } = item;
  return el("li", { class: available ? "item" : "item sold-out", data: { testid: "item", sku } },
    weave(sku),
    el("div", { class: "item-text" },
      el("h3", { class: "item-name", dir: "auto", title: name, data: { testid: "item-name" } }, name),
      el("p", { class: "item-facts" }, money(price, { testid: "price" }), stock(available)),
      dear && el("p", { class: "small warn", data: { testid: "dear" } }, "Above your balance")),
    qty ? stepper(item, qty, locked, take)
      : el("button", {
        type: "button", class: "add", disabled: locked || full || !available, data: { testid: "add" }, on: { click: () => take(sku, 1) },
      }, ...(!available ? ["Sold out"] : full ? ["Cart is full"] : ["Add", el("span", { class: "wide" }, " to cart")]),
      el("span", { class: "unseen" }, ` ${name}`)));
}

function stock(available) {
  const few = available <= FEW ? "small stock few" : "small stock";
  return el("span", { class: few, data: { testid: "stock" } }, available ? (available <= FEW ? `Only ${available} left` : `${available} in stock`) : "Sold out");
}

/**
 * One less, how many, one more. As wide as the button it replaces, so that a double click on that changes nothing more.
 * @param {{sku: string, name: string, available: number}} item
 */
export function stepper({ sku, name, available }, qty, locked, take) {
  const step = (label, text, to, id, off) => el("button", {
    type: "button", disabled: locked || off, "aria-label": label, data: { testid: id }, on: { click: () => take(sku, to) },
  }, text);
  return el("div", { class: "stepper", role: "group", "aria-label": `${name} in the cart` },
    step(`One ${name} less`, "−", qty - 1, "less", false),
    el("span", { class: "qty", data: { testid: "qty" } }, String(qty)),
    step(`One ${name} more`, "+", qty + 1, "more", qty >= Math.min(QUANTITY_MAX, available)));
}
