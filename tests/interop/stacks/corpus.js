// The attack corpus of fixtures/attacks (its README has the format), filled in and turned into raw requests.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";

const CALLBACK = "/login/callback";
const CUT = "{{CUT}}"; // in a chunked body: here a chunk ends
const FILES = ["places", "tokens", "headers", "paths"];

// Every case of a mode: { name, …the case }. Each place that is `crossed` is also sent to every path, and in one mode each place to
// a path that is not a callback. A token in a header is read alike everywhere, so that `bearer` crosses its header alone.
export function casesOf(directory, mode) {
  const files = Object.fromEntries(FILES.map((file) => [file, read(directory, file)]));
  const concerns = (each) => !each.modes || each.modes.includes(mode);
  if (mode === "relying-party") return [...files.paths, ...files.headers].filter(concerns);
  const places = files.places.filter(concerns);
  const elsewhere = mode !== "oidc-form-post" ? [] : places.map((place) => crossing({ name: "elsewhere", path: "/elsewhere" }, place));
  const crossed = places.filter((place) => place.crossed && (mode !== "bearer" || place.modes));
  const products = files.paths.filter(concerns).flatMap((path) => crossed.map((place) => crossing(path, place)));
  return [...places, ...files.tokens.filter(concerns), ...elsewhere, ...products];
}

function read(directory, file) {
  return JSON.parse(readFileSync(join(directory, `${file}.json`), "utf8")).map((each) => ({ ...each, name: `${file}: ${each.name}` }));
}

function crossing(path, place) {
  const name = `${path.name} × ${place.name}`;
  const query = [place.query, path.query].filter((each) => each !== undefined).join("&");
  const headers = [...(path.headers ?? []), ...(place.headers ?? [])];
  return { ...path, ...place, name, headers, path: path.path, query: query === "" ? undefined : query, isProduct: true };
}

// The raw request of a case. `values` has `token`, `honest`, `field`, `who` and `issuer`; `more` are headers of ours.
export function request(each, values, more = []) {
  const fill = (text) => text.replaceAll(/\{\{([A-Z]+)(?::([a-z0-9]+))?\}\}/g, (_, name, form) => placeholder(name, form, values));
  const body = each.body === undefined ? undefined : encoded(fill(each.body), each.encoding);
  const method = each.method ?? (body === undefined ? "GET" : "POST");
  const path = fill(each.path ?? CALLBACK);
  const headers = (each.headers ?? []).map(([name, value]) => [fill(name), fill(value)]);
  const has = (wanted) => headers.some(([name]) => name.trim().toLowerCase() === wanted);
  if (!has("host")) headers.unshift(["Host", "app.example"]);
  if (!has("connection")) headers.push(["Connection", "close"]);
  if (body !== undefined && !has("content-length") && !has("transfer-encoding")) headers.push(["Content-Length", String(body.length)]);
  headers.push(...more);
  const target = each.query === undefined ? path : `${path}?${fill(each.query)}`;
  return `${method} ${target} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body ?? ""}`;
}

function placeholder(name, form, { token, honest, field, who, issuer }) {
  const value = { CUT, CALLBACK, TOKEN: token, HONEST: honest, FIELD: field, WHO: who, ISSUER: issuer }[name];
  if (name === "PAD") return "x".repeat(Number(form));
  if (value === undefined) throw new Error(`no placeholder {{${name}}} is known`);
  const half = Math.floor(value.length / 2);
  const escaped = (prefix, length) => [...Buffer.from(value)].map((byte) => prefix + byte.toString(16).padStart(length, "0")).join("");
  switch (form) {
    case undefined: return value;
    case "basic": return Buffer.from(`x:${value}`).toString("base64");
    case "bare": return Buffer.from(`x:${value}`).toString("base64").replaceAll("=", "");
    case "user": return Buffer.from(`${value}:`).toString("base64");
    case "ibm037": return [...value].map((letter) => `%${ibm037(letter).toString(16)}`).join("");
    case "base64": return Buffer.from(value).toString("base64");
    case "percent": return escaped("%", 2);
    case "json": return escaped("\\u", 4);
    case "head": return value.slice(0, half);
    case "tail": return value.slice(half);
    default: throw new Error(`no form {{${name}:${form}}} is known`);
  }
}

// EBCDIC, as far as tokens go.
function ibm037(letter) {
  for (const [first, last, code] of [["a", "i", 0x81], ["j", "r", 0x91], ["s", "z", 0xa2], ["A", "I", 0xc1], ["J", "R", 0xd1], ["S", "Z", 0xe2], ["0", "9", 0xf0]]) {
    if (letter >= first && letter <= last) return code + letter.charCodeAt(0) - first.charCodeAt(0);
  }
  return { "-": 0x60, "_": 0x6d, ".": 0x4b }[letter];
}

function encoded(body, encoding) {
  const bytes = Buffer.from(body, "latin1");
  switch (encoding) {
    case undefined: return body;
    case "gzip": return gzipSync(bytes).toString("latin1");
    case "deflate": return deflateSync(bytes).toString("latin1");
    case "br": return brotliCompressSync(bytes).toString("latin1");
    case "utf-16le": return wide(body, 2, true);
    case "utf-16be": return wide(body, 2, false);
    case "utf-32le": return wide(body, 4, true);
    case "utf-32be": return wide(body, 4, false);
    case "chunked": return [...body.split(CUT).map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`), "0\r\n\r\n"].join("");
    default: throw new Error(`no encoding ${encoding} is known`);
  }
}

// Every character, which may here be past one byte, as so many bytes.
function wide(body, size, little) {
  const bytes = Buffer.alloc(body.length * size);
  [...body].forEach((letter, at) => bytes[little ? "writeUIntLE" : "writeUIntBE"](letter.charCodeAt(0), at * size, size));
  return bytes.toString("latin1");
}
