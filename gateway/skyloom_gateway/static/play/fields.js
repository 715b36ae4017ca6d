/**
 * A form for any JSON schema. A field has an `element` to show and a `value()`, which throws BadField for what is not there to
 * be read. What a schema forbids can be sent all the same: what the server says to it is worth seeing.
 */

import { el } from "/skyloom/dom.js";

const LONG_TEXT = 120; // strings that may be longer get more than a line
const DEEP = 6; // objects in objects; what is deeper is written as JSON

export class BadField extends Error {}

/**
 * @param {any} schema @param {(schema: any) => any} resolve  follows references
 * @param {any} [given] the value to begin with; undefined takes the schema's default
 * @param {string} [label] @param {number} [depth]
 * @returns {{element: Element, value: () => any}}
 */
export function field(schema, resolve, given, label = "", depth = 0) {
  const plain = flatten(schema, resolve);
  const start = given !== undefined ? given : (plain.default ?? plain.examples?.[0]);
  if ("const" in plain) return fixed(plain.const, label);
  if (Array.isArray(plain.enum)) return choice(plain.enum, start, label);
  const variants = variantsOf(plain, resolve);
  if (variants) return oneOf(variants, resolve, start, label, depth);
  if (plain.type === "object" && depth < DEEP && (plain.properties || plain.additionalProperties === false)) return object(plain, resolve, start, label, depth);
  if (plain.type === "array" && depth < DEEP && (plain.items || plain.prefixItems)) return list(plain, resolve, start, label, depth);
  if (plain.type === "string") return text(plain, start, label);
  if (plain.type === "integer" || plain.type === "number") return number(plain, start, label);
  if (plain.type === "boolean") return choice([true, false], start ?? false, label);
  if (plain.type === "null") return fixed(null, label);
  return json(start ?? (plain.type === "array" ? [] : {}), label);
}

/** A schema without references and with its allOf put together. */
function flatten(schema, resolve) {
  const plain = resolve(schema);
  if (!plain || typeof plain !== "object") return {};
  if (!Array.isArray(plain.allOf)) return plain;
  const { allOf, ...own } = plain;
  return [...allOf.map((part) => flatten(part, resolve)), own].reduce((all, part) => ({
    ...all, ...part,
    ...(all.properties || part.properties ? { properties: { ...all.properties, ...part.properties } } : {}),
    ...(all.required || part.required ? { required: [...(all.required ?? []), ...(part.required ?? [])] } : {}),
  }), {});
}

function variantsOf(plain, resolve) {
  const several = plain.anyOf ?? plain.oneOf;
  if (Array.isArray(several) && several.length) return several.map((each) => flatten(each, resolve));
  return Array.isArray(plain.type) ? plain.type.map((type) => ({ ...plain, type })) : null;
}

/** Whether a value may be meant for this schema; only its outermost shape is looked at. */
function suits(schema, value) {
  if ("const" in schema) return schema.const === value;
  if (Array.isArray(schema.enum)) return schema.enum.includes(value);
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  if (schema.type === "integer") return Number.isInteger(value);
  return schema.type === undefined || schema.type === type;
}

function fixed(value, label) {
  return { element: named(label, el("code", { class: "fixed" }, JSON.stringify(value))), value: () => value };
}

function choice(values, start, label) {
  const select = el("select", { data: { field: label } }, ...values.map((value, n) => el("option", { value: n, selected: value === start }, typeof value === "string" ? value : JSON.stringify(value))));
  return { element: named(label, select), value: () => values[Number(select.value)] };
}

function text(schema, start, label) {
  const long = !schema.pattern && !schema.format && !(schema.maxLength <= LONG_TEXT);
  const input = el(long ? "textarea" : "input", {
    rows: long && "1", autocomplete: "off", autocapitalize: "off", spellcheck: "false", data: { field: label },
  });
  input.value = typeof start === "string" ? start : "";
  return { element: named(label, input, hint(schema)), value: () => input.value };
}

function number(schema, start, label) {
  const input = el("input", { inputmode: "decimal", autocomplete: "off", data: { field: label } });
  input.value = typeof start === "number" ? String(start) : schema.minimum !== undefined ? String(schema.minimum) : "0";
  return {
    element: named(label, input, hint(schema)),
    value: () => {
      const value = Number(input.value);
      if (input.value.trim() === "" || !Number.isFinite(value)) throw bad(input, `${label || "value"}: “${input.value}” is no number`);
      return value;
    },
  };
}

function json(start, label) {
  const area = el("textarea", { class: "code", rows: "3", spellcheck: "false", autocomplete: "off", data: { field: label } });
  area.value = JSON.stringify(start, null, 2);
  return {
    element: named(label, area, "as JSON"),
    value: () => {
      try {
        return JSON.parse(area.value);
      } catch (error) {
        throw bad(area, `${label || "value"} is not JSON: ${error.message}`);
      }
    },
  };
}

function oneOf(variants, resolve, start, label, depth) {
  const suited = variants.findIndex((variant) => suits(variant, start));
  let chosen = Math.max(0, suited);
  const box = el("div", { class: "variant" });
  let inner;
  const show = (value) => {
    inner = field(variants[chosen], resolve, value, "", depth + 1);
    const input = inner.element.querySelector("input, textarea, select");
    if (input) Object.assign(input.dataset, { field: label });
    box.replaceChildren(...(variants[chosen].type === "null" ? [] : [inner.element]));
  };
  const select = el("select", { "aria-label": `Kind of ${label || "value"}`, data: { variant: label }, on: { change: () => { chosen = Number(select.value); show(undefined); } } },
    ...variants.map((variant, n) => el("option", { value: n, selected: n === chosen }, variant.title ?? variant.type ?? (variant.const !== undefined ? JSON.stringify(variant.const) : `variant ${n + 1}`))));
  show(suited >= 0 ? start : undefined);
  return { element: group(label, [select, box]), value: () => inner.value() };
}

function object(schema, resolve, start, label, depth) {
  const required = new Set(schema.required ?? []);
  const parts = Object.entries(schema.properties ?? {}).map(([name, part]) => {
    const has = start && typeof start === "object" && Object.hasOwn(start, name);
    const make = (of) => field(of, resolve, has ? start[name] : undefined, name, depth + 1);
    return [name, required.has(name) ? make(part) : optional(name, flatten(part, resolve), make, has)];
  });
  const empty = !parts.length && el("p", { class: "soft small" }, "No fields.");
  return {
    element: depth ? group(label, parts.map(([, part]) => part.element)) : el("div", { class: "object" }, empty, ...parts.map(([, part]) => part.element)),
    value: () => Object.fromEntries(parts.map(([name, part]) => [name, part.value()]).filter(([, value]) => value !== undefined)),
  };
}

/** A field that may be left out: it is made when it is wanted. */
function optional(name, schema, make, wanted) {
  let inner = null;
  const box = el("div", { class: "optional" });
  const show = (on) => {
    inner = on ? make(withoutNull(schema)) : null;
    box.replaceChildren(...(inner ? [inner.element] : []));
  };
  const fallback = schema.default !== undefined ? `, default ${JSON.stringify(schema.default)}` : "";
  const check = el("input", { type: "checkbox", checked: wanted, data: { include: name }, on: { change: () => show(check.checked) } });
  show(wanted);
  const line = el("label", { class: "check small" }, check, el("span", {}, el("b", {}, name), el("span", { class: "soft" }, ` optional${fallback}`)));
  return { element: el("div", { class: "optional-field" }, line, box), value: () => inner?.value() };
}

/** Where null is what leaving out means, it is no choice of its own. */
function withoutNull(schema) {
  const several = schema.anyOf ?? schema.oneOf;
  if (schema.default !== null || !Array.isArray(several)) return schema;
  const { anyOf, oneOf: _, default: __, ...rest } = schema;
  const some = several.filter((each) => each.type !== "null");
  return some.length === 1 ? { ...rest, ...some[0] } : { ...rest, [anyOf ? "anyOf" : "oneOf"]: some };
}

function list(schema, resolve, start, label, depth) {
  const tuple = schema.prefixItems;
  const given = Array.isArray(start) ? start : [];
  const items = el("div", { class: "items" });
  const parts = [];
  const add = (value) => {
    const part = field(tuple?.[parts.length] ?? schema.items, resolve, value, "", depth + 1);
    const remove = el("button", {
      type: "button", class: "quiet", "aria-label": `Remove from ${label || "the list"}`, on: { click: () => { parts.splice(parts.indexOf(part), 1); row.remove(); } },
    }, "Remove");
    const row = el("div", { class: "list-item" }, part.element, !tuple && remove);
    parts.push(part);
    items.append(row);
  };
  const count = tuple ? tuple.length : Math.max(given.length, schema.minItems ?? 0);
  for (let n = 0; n < count; n += 1) add(given[n]);
  const more = el("button", { type: "button", class: "quiet", data: { add: label }, on: { click: () => add(undefined) } }, "Add one");
  return { element: group(label, [items, !tuple && more, hint(schema) && el("span", { class: "hint" }, hint(schema))]), value: () => parts.map((part) => part.value()) };
}

function group(label, children) {
  return el("fieldset", {}, label && el("legend", {}, label), ...children);
}

function named(label, control, note = "") {
  if (!label) return el("div", { class: "field" }, control, note && el("span", { class: "hint" }, note));
  return el("label", { class: "field" }, el("span", { class: "field-name" }, label), control, note && el("span", { class: "hint" }, note));
}

/** What the schema says to a person: its description and its limits. */
function hint({ description, minLength, maxLength, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems, maxItems, format, pattern }) {
  const span = (low, high, what) => (low === undefined && high === undefined ? "" : low === undefined ? `up to ${count(high)}${what}` : high === undefined ? `${count(low)}${what} or more` : `${count(low)} to ${count(high)}${what}`);
  return [
    description, format, span(minLength, maxLength, " characters"), span(told(minimum), told(maximum), ""), span(minItems, maxItems, " items"),
    exclusiveMinimum !== undefined && `above ${exclusiveMinimum}`, exclusiveMaximum !== undefined && `below ${exclusiveMaximum}`, !description && pattern,
  ].filter(Boolean).join(" · ");
}

const count = (number) => number.toLocaleString("en");
const told = (bound) => (Math.abs(bound) < Number.MAX_SAFE_INTEGER ? bound : undefined); // a machine's limit tells nobody anything

function bad(control, message) {
  control.setAttribute("aria-invalid", "true");
  control.addEventListener("input", () => control.removeAttribute("aria-invalid"), { once: true });
  control.focus();
  return new BadField(message);
}
