// Requests as raw bytes: every HTTP library would put right what the corpus spells wrongly.

import { createConnection } from "node:net";

const ANSWER_LIMIT = 4_000; // milliseconds: an app that waits for a body that never comes
const KEPT = 4_096; // bytes of an answer

// Sends latin-1 text, and gives { status, text }. A connection that is closed, or that stays silent, is status 0.
export function send(port, message, limit = ANSWER_LIMIT) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: "127.0.0.1" });
    let text = "";
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ status: Number(/^HTTP\/1\.[01] (\d{3})/.exec(text.replace(/^HTTP\/1\.1 100[^]*?\r\n\r\n/, ""))?.[1] ?? 0), text });
    };
    const timer = setTimeout(done, limit);
    socket.on("data", (chunk) => { if (text.length < KEPT) text += chunk.toString("latin1"); });
    socket.on("end", done);
    socket.on("error", done);
    socket.on("connect", () => socket.write(Buffer.from(message, "latin1")));
  });
}

// Does all, so many at a time.
export async function eachOf(items, atOnce, act) {
  const queue = items[Symbol.iterator]();
  await Promise.all(Array.from({ length: atOnce }, async () => { for (const item of queue) await act(item); }));
}
