/** The playground: what the contract lists can be sent, and what travels can be seen. */

import { RequestError, SkyloomError } from "/skyloom.js";
import { byId, el } from "/skyloom/dom.js";
import { Entrance, guest } from "/skyloom/entrance.js";
import { Contract } from "./contract.js";
import { BadField, field } from "./fields.js";
import { Frames } from "./frames.js";
import { Line } from "./line.js";

const AGAIN_SECONDS = 3; // between two tries to load the contract
const GROUPS = { request: "Requests", notify: "Notifies, without an answer", push: "Pushes" };

/** @type {import("/skyloom.js").Client | null} */
let client = null;
/** @type {Contract | null} */
let contract = null;
/** @type {Map<string, import("./contract.js").Operation>} */
let operations = new Map();
let current = null;
/** The body as a form, or null while it is written as JSON. */
let form = null;
let wasConnected = false;
let loading = 0;
/** What was written for each route, by its address. @type {Map<string, any>} */
const written = new Map();
const frames = new Frames();
const line = new Line((way, data) => frames.add(way, data));

// The connection

function dialing(fresh) {
  client = fresh;
}

function entered({ session, recovered, first }) {
  const text = first ? "A new session" : recovered ? "The session is taken up where it was: nothing is lost" : "A new session; the old one is gone, with what it had joined";
  frames.note(`${text} (${session.slice(0, 8)}…)`, first || recovered ? "good" : "bad");
  if (!recovered) loadContract(); // another server may have another one
  showSend();
}

function statusChanged(status) {
  if (wasConnected && status !== "connected") frames.note("The connection is gone", "bad");
  wasConnected = status === "connected";
  showSend();
}

function left() {
  client = null;
  pick(null);
  written.clear();
  byId("frames").replaceChildren();
  byId("auth").value = "";
  location.hash = "";
}

/** The hello's auth: what is written there as JSON, else a guest of that name. */
function auth(name) {
  const given = byId("auth").value.trim();
  if (!given) return guest(name);
  try {
    return JSON.parse(given);
  } catch (error) {
    throw new Error(`The auth is not JSON: ${error.message}`, { cause: error });
  }
}

// The contract

async function loadContract() {
  clearTimeout(loading);
  let fresh;
  try {
    fresh = await Contract.load();
  } catch (error) {
    if (!contract) byId("routes-none").textContent = `No contract yet: ${error.message}. Trying again…`;
    loading = setTimeout(loadContract, AGAIN_SECONDS * 1000);
    return;
  }
  if (contract && fresh.same(contract)) {
    if (!current) pickFromAddress();
    return;
  }
  contract = fresh;
  operations = new Map(contract.operations.map((operation) => [`${operation.kind}:${operation.route}`, operation]));
  drawRoutes();
  pickFromAddress();
}

function drawRoutes() {
  const apps = grouped([...operations.values()]);
  const sections = [...apps].map(([app, all]) => el("section", {},
    el("h2", {}, app),
    ...Object.entries(GROUPS).map(([kind, title]) => {
      const some = all.filter((operation) => operation.kind === kind);
      return some.length > 0 && el("div", {}, el("h3", {}, title), el("ul", {}, ...some.map((operation) => el("li", {},
        el("a", { href: addressOf(operation), data: { testid: "route", kind, route: operation.route } }, operation.route)))));
    })));
  const none = el("p", { class: "soft small" }, "The apps here have no routes.");
  document.querySelector(".routes").replaceChildren(...(sections.length ? sections : [none]));
  drawSelect(apps);
}

/** The same routes for a narrow window, where a list beside the rest has no room. */
function drawSelect(apps) {
  const groups = [...apps].flatMap(([app, all]) => Object.entries(GROUPS).map(([kind, title]) => {
    const some = all.filter((operation) => operation.kind === kind);
    return some.length > 0 && el("optgroup", { label: `${app}: ${title.toLowerCase()}` },
      ...some.map((operation) => el("option", { value: addressOf(operation) }, operation.route)));
  })).filter(Boolean);
  const select = byId("route-select");
  select.disabled = !groups.length;
  select.replaceChildren(...(groups.length ? groups : [el("option", {}, "No routes")]));
}

function grouped(all) {
  const groups = new Map();
  for (const operation of all) groups.set(operation.app, [...(groups.get(operation.app) ?? []), operation]);
  return groups;
}

const addressOf = ({ kind, route }) => `#${kind}:${encodeURIComponent(route)}`;

function pickFromAddress() {
  const wanted = operations.get(decodeURIComponent(location.hash.slice(1)));
  const first = [...operations.values()].find(({ kind }) => kind === "request");
  pick(wanted ?? first ?? null);
}

// The route

function pick(operation) {
  keep();
  current = operation;
  for (const link of document.querySelectorAll(".routes a")) {
    if (operation && link.getAttribute("href") === addressOf(operation)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("route-select").value = operation ? addressOf(operation) : "";
  byId("route-title").textContent = operation?.route ?? "Pick a route";
  byId("route-kind").textContent = operation?.kind ?? "";
  byId("route-about").replaceChildren(...marked(operation?.about ?? "The list has what this gateway answers and what it pushes."));
  for (const id of ["answer", "errors", "schema", "body-form"]) byId(id).hidden = true;
  byId("body-error").textContent = byId("sent").textContent = "";
  form = null;
  if (!operation) return;
  byId("schema").hidden = false;
  byId("schema-text").textContent = JSON.stringify(expanded(operation.schema), null, 2);
  byId("errors").hidden = !operation.errors.length;
  byId("error-list").replaceChildren(...operation.errors.flatMap(({ code, about }) => [el("dt", {}, el("code", {}, code)), el("dd", { class: "soft" }, about)]));
  if (operation.kind === "push") {
    frames.only(operation.route);
    return;
  }
  if ([...operations.values()].some(({ kind, route }) => kind === "push" && route === byId("only").value)) frames.only("");
  byId("body-form").hidden = false;
  showForm(written.get(operation.route));
  showSend();
}

/** A text of the contract's, with what stands between backticks as code. */
function marked(text) {
  return text.split("`").map((part, n) => (n % 2 ? el("code", {}, part) : part));
}

/** The schema with its references followed, for reading; a type inside itself stays a reference. */
function expanded(schema, inside = []) {
  if (Array.isArray(schema)) return schema.map((part) => expanded(part, inside));
  if (!schema || typeof schema !== "object") return schema;
  if (typeof schema.$ref === "string") {
    if (inside.includes(schema.$ref)) return schema;
    return expanded(contract.resolve(schema), [...inside, schema.$ref]);
  }
  return Object.fromEntries(Object.entries(schema).map(([name, part]) => [name, expanded(part, inside)]));
}

function showForm(value) {
  form = field(current.schema, (schema) => contract.resolve(schema), value);
  byId("fields").replaceChildren(form.element);
  shownAs("form");
}

function showJson(value) {
  form = null;
  byId("json").value = JSON.stringify(value, null, 2);
  shownAs("json");
}

function shownAs(what) {
  byId("fields").hidden = what !== "form";
  byId("json").hidden = what !== "json";
  byId("as-form").setAttribute("aria-pressed", String(what === "form"));
  byId("as-json").setAttribute("aria-pressed", String(what === "json"));
}

/** The body as it is written now. Throws BadField. */
function body() {
  if (form) return form.value();
  try {
    return JSON.parse(byId("json").value);
  } catch (error) {
    throw new BadField(`This is not JSON: ${error.message}`);
  }
}

/** Remember what is written for this route, as far as it can be read. */
function keep() {
  if (!current || current.kind === "push") return;
  try {
    written.set(current.route, body());
  } catch (error) {
    if (!(error instanceof BadField)) throw error; // half a number is not worth keeping
  }
}

function attempt(fn) {
  byId("body-error").textContent = "";
  try {
    fn(body());
  } catch (error) {
    if (!(error instanceof BadField || error instanceof SkyloomError)) throw error;
    byId("body-error").textContent = error.message;
  }
}

/** In a narrow window either the route or the frames are in view. */
function view(what) {
  byId("panes").dataset.view = what;
  byId("view-route").setAttribute("aria-pressed", String(what === "route"));
  byId("view-frames").setAttribute("aria-pressed", String(what === "frames"));
  if (what === "frames") frames.toEnd();
}

// Sending

function showSend() {
  byId("send").disabled = client?.status !== "connected";
  byId("send").textContent = current?.kind === "notify" ? "Send, without an answer" : "Send";
}

function send(event) {
  event.preventDefault();
  attempt((value) => {
    if (current.kind === "notify") {
      client.notify(current.route, value);
      byId("sent").textContent = "Sent.";
    } else ask(current, value);
  });
}

async function ask(operation, value) {
  const began = performance.now();
  byId("sent").textContent = "Waiting for the answer…";
  byId("answer").hidden = true;  // it is the last request's
  byId("answer-head").textContent = "";
  let head, answer, good = false;
  try {
    answer = await client.request(operation.route, value);
    [head, good] = ["Answered", true];
  } catch (error) {
    if (!(error instanceof SkyloomError)) throw error;
    head = error instanceof RequestError ? `${error.code} (${error.kind}${error.retryable ? ", worth trying again" : ""})` : error.name;
    answer = error instanceof RequestError ? { message: error.message, details: error.details } : { message: error.message };
  }
  if (operation !== current) return;
  byId("sent").textContent = "";
  byId("answer").hidden = false;
  byId("answer").dataset.good = String(good);
  byId("answer-head").textContent = `${head} after ${Math.round(performance.now() - began)} ms`;
  byId("answer-body").textContent = JSON.stringify(answer, null, 2);
}

// Listening to the reader

addEventListener("hashchange", () => {
  if (!contract || !client) return;
  pickFromAddress();
  byId("route-title").focus({ preventScroll: true });
});
byId("route-select").addEventListener("change", () => {
  location.hash = byId("route-select").value;
  view("route");
});
byId("view-route").addEventListener("click", () => view("route"));
byId("view-frames").addEventListener("click", () => view("frames"));
byId("body-form").addEventListener("submit", send);
byId("as-json").addEventListener("click", () => form && attempt(showJson));
byId("as-form").addEventListener("click", () => !form && attempt(showForm));
byId("body-form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !byId("send").disabled) send(event);
});
byId("cut-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const seconds = Number(byId("cut-seconds").value);
  frames.note(seconds ? `Cut for ${seconds} s` : "Cut", "bad");
  line.cut(seconds);
  setTimeout(() => client?.retry(), seconds * 1000 + 1);
});

new Entrance("play", { dialing, entered, left, auth, status: statusChanged, WebSocket: line.WebSocket }).begin();
