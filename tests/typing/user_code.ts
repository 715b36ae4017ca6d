// What a user of skyloom.d.ts writes; the lines marked as errors are refused by the compiler.
import { connect, Client, RequestError, SessionLost, type Push } from "./skyloom.js";

interface Message {
  user: string;
  text: string;
}

const client: Client = await connect({ auth: { scheme: "guest", name: "ada" }, giveUpAfter: Infinity });
const other = await connect("ws://127.0.0.1:8000/ws", { auth: async () => ({ scheme: "ticket", ticket: "x" }) });

const stop: () => void = client.on<Message>("chat.message", (message, push) => console.log(message.text, push.seq));
const joined = await client.request<{ members: string[] }>("chat.join", { room: "lobby" }, { timeout: 5 });
console.log(joined.members.length, client.status === "suspended", client.limits.frame_bytes ?? 0);

client.addEventListener("session", ({ detail }) => console.log(detail.recovered, detail.first));
client.addEventListener("status", ({ detail }) => console.log(detail.retryIn ?? detail.reason));

try {
  for await (const push of client.pushes<Message>("chat.message")) {
    const typed: Push<Message> = push;
    console.log(typed.body.user);
  }
} catch (error) {
  if (error instanceof SessionLost) console.log(error.sent);
  else if (error instanceof RequestError) console.log(error.code, error.details["room"]);
}
client.notify("chat.typing", { room: "lobby" });
stop();
other.close();

// @ts-expect-error: there is no such status
console.log(client.status === "open");
// @ts-expect-error: the hello needs an auth
await connect({ timeout: 3 });
// @ts-expect-error: an answer is unknown until its type is named
(await client.request("chat.rooms")).rooms;
// @ts-expect-error: only the client changes it
client.status = "closed";
