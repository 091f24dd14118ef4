// Checks that print a line each and are counted.

import { isDeepStrictEqual } from "node:util";

const DETAIL_LIMIT = 1000;

export const counts = { passed: 0, failed: 0 };

export function check(name, holds, detail) {
  counts[holds ? "passed" : "failed"]++;
  console.log(`${holds ? "ok    " : "FAILED"} ${name}`);
  if (holds || detail === undefined) return;
  const text = typeof detail === "string" ? detail : JSON.stringify(detail);
  console.log(`       ${text.length > DETAIL_LIMIT ? `${text.slice(0, DETAIL_LIMIT)}…` : text}`);
}

export function checkEqual(name, actual, expected) {
  check(name, isDeepStrictEqual(actual, expected), { expected, actual });
}

export async function section(title, body) {
  if (!title.includes(process.env.INTEROP_ONLY ?? "")) return;
  console.log(`\n# ${title}`);
  try {
    await body();
  } catch (error) {
    check(`${title}: runs to its end`, false, error?.stack ?? String(error));
  }
}

export const fail = (message) => { throw new Error(message); };
