/** Whether there is a connection, and the form to begin one. */

import { byId } from "./dom.js";

let countdown = 0;

/** Show how the connection is doing: `detail` of the client's status event. */
export function showStatus({ status, reason, closeCode, retryIn }) {
  clearInterval(countdown);
  const label = byId("status");
  label.dataset.status = status;
  byId("banner").hidden = status === "open";
  byId("retry").hidden = status !== "connecting" || retryIn === null;
  byId("retry").textContent = "Try now";
  byId("send").disabled = status !== "open";
  if (status === "open") label.textContent = "Connected";
  else if (status === "closed") {
    label.textContent = "Signed out";
    byId("banner-text").textContent = closeCode === 4409 ? "You are connected elsewhere with this session." : `Signed out: ${reason}`;
    byId("retry").hidden = false;
    byId("retry").textContent = "Sign in again";
  } else {
    const until = retryIn === null ? 0 : performance.now() + retryIn * 1000;
    const tell = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      label.textContent = left ? `Retrying in ${left} s` : "Connecting…";
      byId("banner-text").textContent = left ? `Connection lost. Trying again in ${left} s.` : "Connecting…";
      if (!byId("sign-in").hidden && retryIn !== null) byId("sign-in-note").textContent = "The server does not answer. Trying again…";
    };
    tell();
    if (until) countdown = setInterval(tell, 500);
  }
}

/** Back to the form, with `name` filled in. */
export function showSignIn(name) {
  byId("chat").hidden = true;
  byId("sign-in").hidden = false;
  busy(false);
  document.title = "Skyloom chat";
  byId("name").value = name;
  byId("name").focus();
}

/** The form while it waits for the gateway. */
export function busy(on) {
  byId("sign-in-button").disabled = on;
  byId("sign-in-button").textContent = on ? "Connecting…" : "Enter";
  byId("name").readOnly = on;
  byId("sign-in-note").textContent = "You join as a guest; no password is needed.";
}
