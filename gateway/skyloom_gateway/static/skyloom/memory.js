/** What the browser remembers, for the tab or for all tabs. Where it may not (storage is blocked or full), the page does. */

const forgetful = { tab: new Map(), browser: new Map() };

/**
 * @param {string} key @param {"tab" | "browser"} [where] @returns {string | null}
 */
export function recall(key, where = "browser") {
  if (forgetful[where].has(key)) return forgetful[where].get(key);
  try {
    return storage(where).getItem(key);
  } catch {
    return null;
  }
}

/** Remember `text`, or forget with null. @param {string} key @param {string | null} text @param {"tab" | "browser"} [where] */
export function record(key, text, where = "browser") {
  try {
    if (text === null) storage(where).removeItem(key);
    else storage(where).setItem(key, text);
  } catch {
    forgetful[where].set(key, text);
  }
}

function storage(where) {
  return where === "tab" ? sessionStorage : localStorage;
}
