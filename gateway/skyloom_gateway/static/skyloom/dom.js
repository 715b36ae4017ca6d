/** Building elements. Texts from people go in as text only, never as markup. */

/**
 * An element: `el("li", {class: "x", data: {room: "lobby"}}, "text", child)`.
 * @param {string} tag @param {Record<string, any>} [properties] @param {...(Node | string | null | undefined | false)} children
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "on") for (const [event, fn] of Object.entries(value)) element.addEventListener(event, fn);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null && child !== false));
  return element;
}

/**
 * Make `parent` hold one element for each of `entries`, keeping those whose key and signature are unchanged, so that
 * selection, focus and animations survive.
 * @param {Element} parent @param {{key: string, signature: string, build: () => Element}[]} entries
 */
export function reconcile(parent, entries) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let cursor = parent.firstElementChild;
  for (const { key, signature, build } of entries) {
    let element = old.get(key);
    if (!element || element.dataset.signature !== signature) {
      const fresh = build();
      fresh.dataset.key = key;
      fresh.dataset.signature = signature;
      if (element) {
        if (cursor === element) cursor = fresh;
        const focused = element.contains(document.activeElement) && document.activeElement.dataset.testid;
        element.replaceWith(fresh);
        if (focused !== false) refocus(fresh, focused);
      }
      element = fresh;
    }
    old.delete(key);
    if (element === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(element, cursor);
  }
  for (const gone of old.values()) gone.remove();
}

/** Where the focus was: on the control of that name, else on the first that can have it. */
function refocus(element, name) {
  const controls = [...element.querySelectorAll("button:not(:disabled), input:not(:disabled)")];
  (controls.find((control) => control.dataset.testid === name) ?? controls[0])?.focus();
}

/** A round badge with a person's initials, in a colour that is always the same for that name. */
export function avatar(name) {
  return el("span", { class: `avatar hue-${hueOf(name)}`, "aria-hidden": "true" }, initials(name));
}

export function hueOf(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % 8;
}

export function initials(name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [...words[0]][0] + [...words[1]][0] : [...(words[0] ?? "?")].slice(0, 2).join("");
  return letters.toUpperCase();
}

export function byId(id) {
  return document.getElementById(id);
}

/** "1 member", "3 members". */
export function counted(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
