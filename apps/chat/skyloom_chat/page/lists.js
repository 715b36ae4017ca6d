/** The lists beside the conversation: rooms and members. */

import { avatar, byId, counted, el, reconcile } from "/skyloom/dom.js";

const alphabet = new Intl.Collator();

export const ROOM_NAME = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * @param {object} state
 * @param {Map<string, import("./room.js").Room>} state.rooms  those the reader is in
 * @param {import("./directory.js").Directory} state.directory   all there are
 * @param {string} state.active @param {string} state.filter
 * @param {(name: string) => void} open @param {(name: string) => void} join
 */
export function drawRooms({ rooms, directory: { rooms: all, listed }, active, filter }, open, join) {
  const wanted = filter.toLowerCase();
  const matches = (name) => name.toLowerCase().includes(wanted);
  const joined = [...rooms.values()].filter((room) => matches(room.name));
  const others = [...all].filter(([name]) => !rooms.has(name) && matches(name));
  others.sort(([a, m], [b, n]) => n - m || alphabet.compare(a, b));
  reconcile(byId("joined"), joined.map((room) => {
    const members = room.joined ? room.memberCount : (all.get(room.name) ?? 0);
    const current = room.name === active;
    return {
      key: room.name,
      signature: `${current} ${room.unread} ${members}`,
      build: () => roomItem(room.name, members, room.unread, current, () => open(room.name)),
    };
  }));
  reconcile(byId("others"), others.map(([name, members]) => ({
    key: name,
    signature: String(members),
    build: () => otherItem(name, members, () => join(name)),
  })));
  byId("joined-section").hidden = !joined.length;
  byId("others-section").hidden = !others.length;
  const none = byId("no-rooms");
  none.hidden = Boolean(joined.length || others.length);
  none.textContent = noRooms(filter, listed);
  none.classList.toggle("hinted", listed && !filter); // where there is a hint, it says so
  const submit = byId("room-submit");
  submit.hidden = !filter;
  submit.textContent = rooms.has(filter) ? "Open" : all.has(filter) ? "Join" : "Create";
}

/** The members of a room; called at every change of anything, so it looks first whether they are the same. */
export function drawMembers(room, me) {
  const list = byId("member-list");
  const signature = `${room.name} ${room.membersVersion} ${me}`;
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  const names = [...room.members].sort((a, b) => (b === me) - (a === me) || alphabet.compare(a, b));
  reconcile(list, names.map((name) => ({
    key: name,
    signature: String(name === me),
    build: () => el("li", { class: "member", data: { testid: "member", user: name } },
      avatar(name), el("span", { class: "member-name", dir: "auto", title: name }, name), name === me && el("span", { class: "you" }, "you")),
  })));
  byId("room-count").textContent = counted(room.memberCount, "member");
}

/** Who is typing, as a sentence. */
export function typingText(names) {
  if (!names.length) return "";
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return "Several people are typing…";
}

function noRooms(filter, listed) {
  if (!listed) return "Loading the rooms…";
  return filter ? `No room matches “${filter}”.` : "There are no rooms yet.";
}

function roomItem(name, members, unread, current, open) {
  return el("li", {},
    el("button", {
      type: "button", class: unread ? "room-item has-unread" : "room-item", "aria-current": current && "true",
      data: { testid: "room-item", room: name }, on: { click: open },
    },
      ...nameOf(name),
      ...(unread
        ? [el("span", { class: "badge", data: { testid: "unread" } }, unread > 99 ? "99+" : String(unread)), unseen(" unread")]
        : memberCount(members))));
}

function otherItem(name, members, join) {
  return el("li", {},
    el("button", { type: "button", class: "room-item", data: { testid: "join-room", room: name }, on: { click: join } },
      unseen("Join "), ...nameOf(name), ...memberCount(members), el("span", { class: "join", "aria-hidden": "true" }, "Join")));
}

function nameOf(room) {
  return [el("span", { class: "hash", "aria-hidden": "true" }, "#"), el("span", { class: "room-name", title: room }, room), " "];
}

function memberCount(members) {
  const words = counted(members, "member");
  const count = String(members);
  return [
    el("span", { class: "count", title: words, data: { testid: "member-count" } }, count), unseen(words.slice(count.length)),
  ];
}

/** Words that only screen readers need. */
function unseen(words) {
  return el("span", { class: "unseen" }, words);
}
