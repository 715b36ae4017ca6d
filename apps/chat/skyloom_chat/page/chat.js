/** The chat page: what the reader does becomes requests, what the gateway pushes becomes rooms redrawn. */

import { ConnectionLost, RequestError, RequestTimeout, SessionLost } from "/skyloom.js";
import { byId, counted } from "/skyloom/dom.js";
import { Entrance } from "/skyloom/entrance.js";
import { recall, record } from "/skyloom/memory.js";
import { Directory } from "./directory.js";
import { ROOM_NAME, drawMembers, drawRooms, typingText } from "./lists.js";
import { PAGE_MESSAGES, Room } from "./room.js";
import { Timeline } from "./timeline.js";

const TYPING_EVERY_SECONDS = 3; // how often a typing reader tells the others
const REJOIN_SECONDS = 5; // between one try to be back in a room and the next
const TEXT_CHARACTERS_MAX = 2000;
const UNSURE = new Set(["gateway.outcome_unknown", "gateway.deadline_exceeded"]); // it may have been sent

const ROOMS = "skyloom.chat.rooms";

/** @type {import("/skyloom.js").Client | null} */
let client = null;
let active = "";
let typedAt = 0;
const directory = new Directory(() => client, () => redraw());
/** @type {Map<string, Room>} */
const rooms = new Map();
/** What is pushed about rooms whose join is not answered yet: a push may overtake the answer. @type {Map<string, (() => void)[]>} */
const early = new Map();
const timeline = new Timeline({
  older: () => loadOlder(rooms.get(active)),
  retry: (draft) => say(rooms.get(active), draft),
  discard: (draft) => { rooms.get(active).discard(draft); timeline.draw(); },
});
const text = byId("text");
const roomName = byId("room-name");
const chat = byId("chat");

// Signing in and out

function dialing(fresh) {
  client = fresh;
  client.on("chat.message", (message) => afterJoin(message.room, () => heard(message)));
  client.on("chat.joined", ({ room, user, time }) => afterJoin(room, () => moved(room, user, "joined", time)));
  client.on("chat.left", ({ room, user, time }) => afterJoin(room, () => moved(room, user, "left", time)));
  client.on("chat.returned", ({ room }) => rejoin(room));
  client.on("chat.typing", ({ room, user }) => {
    rooms.get(room)?.typed(user, seconds());
    drawTyping();
  });
}

async function entered({ recovered, first }) {
  if (first) for (const room of remembered()) rooms.set(room, new Room(room));
  if (recovered) return;
  const wanted = decodeURIComponent(location.hash.slice(1));
  await Promise.all([directory.refresh(), ...[...rooms.keys()].map((room) => join(room, { open: false }))]);
  if (!first) return;
  if (ROOM_NAME.test(wanted) && !rooms.has(wanted) && directory.rooms.has(wanted)) await join(wanted);
  else if (rooms.has(wanted)) open(wanted);
  else {
    showEmpty();
    if (matchMedia("(hover: hover)").matches) roomName.focus(); // the form that had the focus is gone
  }
}

function left() {
  client = null;
  record(ROOMS, null, "tab");
  location.hash = "";
  rooms.clear();
  active = "";
  directory.clear();
}

// Rooms

async function join(name, { open: opens = true } = {}) {
  const pushes = [];
  early.set(name, pushes);
  try {
    const answer = await client.request("chat.join", { room: name });
    const room = rooms.get(name) ?? new Room(name);
    rooms.set(name, room);
    const missed = room.enter(answer, client.user, seconds());
    if (!reading(name)) room.unread += missed;
    directory.rooms.set(name, room.memberCount);
    early.delete(name);
    for (const push of pushes) push();
    remember();
    for (const draft of room.drafts.filter(({ state }) => state === "waiting")) say(room, draft);
    if (opens) open(name);
    else if (name === active) {
      timeline.draw(missed);
      if (missed) byId("announcer").textContent = counted(missed, "new message");
    }
    redraw();
  } catch (error) {
    if (error.code === "chat.room_not_found" && rooms.has(name)) forget(name);
    else if (error instanceof SessionLost && !rooms.has(name)) setTimeout(() => join(name, { open: opens })); // a new session
    else if (!(error instanceof ConnectionLost)) {
      roomError(error);
      if (rooms.has(name) && (error.retryable || error instanceof RequestTimeout)) setTimeout(() => rejoin(name), REJOIN_SECONDS * 1000);
    }
  } finally {
    if (early.get(name) === pushes) early.delete(name);
  }
}

/** Once more into a room of the reader's: one that the new session could not enter, or of which something was missed. */
function rejoin(name) {
  roomError(null);
  if (rooms.has(name) && client?.status === "connected") join(name, { open: false });
}

/** Handle a push of a room: at once, or after the answer to the join that is on its way. */
function afterJoin(name, handle) {
  const waiting = early.get(name);
  if (waiting) waiting.push(handle);
  else handle();
}

async function create(name) {
  try {
    await client.request("chat.create_room", { room: name });
  } catch (error) {
    if (error.code !== "chat.room_exists") throw error; // it came into being meanwhile: join it
  }
  await join(name);
}

async function submitRoom(event) {
  event.preventDefault();
  const name = wantedRoom();
  roomError(null);
  if (!name) return;
  if (!ROOM_NAME.test(name)) {
    roomError({ message: "Use up to 64 letters, digits, “-” and “_”." });
    return;
  }
  try {
    if (rooms.has(name)) open(name);
    else if (directory.rooms.has(name)) await join(name);
    else await create(name);
    roomName.value = "";
    redraw();
  } catch (error) {
    roomError(error);
  }
}

function wantedRoom() {
  return roomName.value.trim().replace(/^#/, "").replace(/\s+/g, "-");
}

function roomError(error) {
  byId("room-error").textContent = error ? error.message : "";
  roomName.setAttribute("aria-invalid", error ? "true" : "false");
}

function open(name) {
  const room = rooms.get(name);
  if (!room) return;
  const before = rooms.get(active);
  if (before && before !== room) {
    before.text = text.value;
    before.firstUnread = null;
  }
  if (active !== name) text.value = room.text;
  active = name;
  const others = room.messages.filter((message) => message.user !== client.user);
  room.firstUnread = room.unread ? others.at(-room.unread)?.id ?? null : null;
  room.unread = 0;
  chat.dataset.pane = "room";
  byId("empty").hidden = true;
  byId("room").hidden = false;
  byId("room-title").textContent = `# ${name}`;
  text.placeholder = `Message #${name}`;
  grow();
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  timeline.open(room, client.user);
  showMembers(matchMedia("(min-width: 1100px)").matches);
  redraw();
  // A keyboard that jumps up unasked is a nuisance on a phone.
  if (matchMedia("(hover: hover)").matches) text.focus();
}

async function leave() {
  const name = active;
  try {
    await client.request("chat.leave", { room: name });
  } catch (error) {
    console.warn("chat: leaving", name, error.message); // the session leaves when it ends; here the room goes now
  }
  forget(name);
  await directory.refresh();
  if ([document.body, byId("leave")].includes(document.activeElement)) focusRooms();
}

/** Where the focus goes when what had it is gone. */
function focusRooms() {
  (document.querySelector(".room-item[aria-current]") ?? document.querySelector(".room-item") ?? byId("empty-action")).focus();
}

function forget(name) {
  rooms.delete(name);
  remember();
  if (active === name) showEmpty();
  redraw();
}

function showEmpty() {
  active = "";
  text.value = "";
  history.replaceState(null, "", location.pathname);
  chat.dataset.pane = "rooms";
  byId("room").hidden = true;
  byId("empty").hidden = false;
  showMembers(false);
  redraw();
}

const remember = () => record(ROOMS, JSON.stringify([...rooms.keys()]), "tab");

function remembered() {
  try {
    const names = JSON.parse(recall(ROOMS, "tab") ?? "[]");
    return names.filter((name) => ROOM_NAME.test(name));
  } catch {
    return []; // another program wrote there
  }
}

// Messages

function heard(message) {
  const room = rooms.get(message.room);
  if (!room?.add(message)) return;
  if (!reading(room.name) && message.user !== client.user) room.unread += 1;
  if (message.room === active) {
    if (timeline.atEnd) room.trim();
    timeline.draw(1);
    byId("announcer").textContent = `${message.user}: ${message.text}`;
    drawTyping();
  }
  redraw();
}

function moved(name, user, verb, time) {
  const room = rooms.get(name);
  if (!room) return;
  room.moved(user, verb, time);
  directory.rooms.set(name, room.memberCount);
  if (name === active) timeline.draw();
  redraw();
}

async function say(room, draft) {
  Object.assign(draft, { state: "sending", reason: "", time: seconds() });
  timeline.draw();
  timeline.toEnd();
  try {
    const { id, time } = await client.request("chat.say", { room: room.name, text: draft.text });
    room.discard(draft);
    room.add({ id, time, room: room.name, user: client.user, text: draft.text });
  } catch (error) {
    // With `unsure` the message may be stored: the next join's history tells.
    draft.unsure = error.sent === true || UNSURE.has(error.code);
    if (error instanceof SessionLost && !draft.unsure) draft.state = "waiting"; // for the new session to be in the room
    else {
      draft.state = "failed";
      draft.reason = draft.unsure ? "No answer; it may not have been sent." : error instanceof RequestError ? `Not sent: ${error.message}` : "Not sent: no connection.";
      byId("announcer").textContent = draft.reason;
    }
  }
  if (room.name === active) timeline.draw();
}

function submitText(event) {
  event.preventDefault();
  const words = text.value.trim();
  const room = rooms.get(active);
  if (!words || !room || client.status === "closed") return;
  text.value = "";
  typedAt = 0;
  grow();
  say(room, room.draft(words.slice(0, TEXT_CHARACTERS_MAX)));
}

async function loadOlder(room) {
  if (!room || room.complete || room.loadingOlder || room.oldestId === null || client.status !== "connected") return;
  room.loadingOlder = true;
  if (room.name === active) timeline.draw();
  try {
    const answer = await client.request("chat.history", { room: room.name, before: room.oldestId, limit: PAGE_MESSAGES });
    room.prepend(answer);
  } catch (error) {
    console.warn("chat: no older messages:", error.message); // the button stays, to try again
  }
  room.loadingOlder = false;
  if (room.name === active) timeline.draw();
}

function typing() {
  const now = seconds();
  if (!text.value.trim() || now - typedAt < TYPING_EVERY_SECONDS || client?.status !== "connected") return;
  typedAt = now;
  client.notify("chat.typing", { room: active });
}

// Drawing

function redraw() {
  drawRooms({ rooms, directory, active, filter: wantedRoom() }, open, (name) => join(name));
  const room = rooms.get(active);
  if (room) drawMembers(room, client.user);
  const unread = [...rooms.values()].reduce((sum, each) => sum + each.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${active ? `#${active} · ` : ""}Skyloom chat`;
  const some = directory.rooms.size > 0;
  byId("empty-title").textContent = byId("hint-title").textContent = some ? "Pick a room" : "Start the first room";
  byId("empty-text").textContent = some ? "Open one from the list, or make a new one." : "Nobody has made one yet. Give yours a short name.";
  byId("hint-text").textContent = some ? "Tap one to join it, or type a name above to make your own." : "Nobody has made one yet. Type a short name above.";
  byId("hint").hidden = active !== "" || !directory.listed;
  drawTyping();
}

function drawTyping() {
  const names = rooms.get(active)?.typing(seconds()).filter((name) => name !== client?.user) ?? [];
  byId("typing").textContent = typingText(names);
}

function showMembers(on) {
  byId("members").hidden = !on;
  byId("show-members").setAttribute("aria-expanded", String(on));
}

function hideMembers() {
  showMembers(false);
  byId("show-members").focus();
}

/** Whether the reader has this room before their eyes. */
function reading(name) {
  return name === active && !document.hidden && (chat.dataset.pane === "room" || !matchMedia("(max-width: 720px)").matches);
}

/** The text field grows with what is typed, as far as its max-height lets it. */
function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

const seconds = () => Date.now() / 1000;

// Listening to the reader

byId("room-form").addEventListener("submit", submitRoom);
roomName.addEventListener("input", () => {
  roomError(null);
  redraw();
  if (!rooms.has(wantedRoom()) && !directory.rooms.has(wantedRoom())) directory.search();
});
roomName.addEventListener("focus", () => directory.search());
byId("empty-action").addEventListener("click", () => roomName.focus());
byId("leave").addEventListener("click", leave);
byId("back").addEventListener("click", () => {
  chat.dataset.pane = "rooms";
  focusRooms();
});
byId("show-members").addEventListener("click", () => {
  showMembers(byId("members").hidden);
  if (!byId("members").hidden) byId("hide-members").focus(); // where they come over the conversation
});
byId("hide-members").addEventListener("click", hideMembers);
byId("room").addEventListener("click", (event) => {
  const over = !byId("members").hidden && !matchMedia("(min-width: 1100px)").matches;
  if (over && !event.target.closest("#show-members")) showMembers(false);
});
byId("composer").addEventListener("submit", submitText);
text.addEventListener("input", () => { grow(); typing(); });
text.addEventListener("keydown", (event) => {
  // While an input method composes, Enter belongs to it.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submitText(event);
});
document.addEventListener("keydown", (event) => {
  if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp") && rooms.size) {
    event.preventDefault();
    const names = [...rooms.keys()];
    const step = event.key === "ArrowDown" ? 1 : -1;
    open(names[(names.indexOf(active) + step + names.length) % names.length]);
  } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !chat.hidden) {
    event.preventDefault();
    chat.dataset.pane = "rooms";
    roomName.focus();
  } else if (event.key === "Escape" && !byId("members").hidden && !matchMedia("(min-width: 1100px)").matches) hideMembers();
});
document.addEventListener("visibilitychange", () => {
  const room = rooms.get(active);
  if (!room || !reading(active)) return;
  room.unread = 0;
  redraw();
});
setInterval(() => {
  drawTyping();
  const changed = [...rooms.values()].filter((room) => room.giveUpMissing(seconds()));
  if (changed.includes(rooms.get(active))) timeline.draw();
}, 1000);

new Entrance("chat", { dialing, entered, left, status: (status) => { byId("send").disabled = status === "connecting" || status === "closed"; } }).begin();
