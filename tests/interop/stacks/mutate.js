// Requests of the corpus with random changes: what is near an attack that is known may be one that is not.

const ODD = [..."\"'\\%+&;=.,:?{}[]<>()/_-~$@!#|`^* \t\r\n\0\v\x7f\x85\xa0\xff"];
const TYPES = ["application/x-www-form-urlencoded", "application/json", "text/plain", "application/xml", "application/jwt", "multipart/form-data; boundary=b",
  "application/x-www-form-urlencoded; charset=utf-16", "application/vnd.api+json", ""];
const PIECES = ["eyJ", "id_token=", "access_token=", "&", ";", "\"}", "{\"", "%22", "%5C", "\\u0022", "\\\\", "&#34;", "<!--", "-->", "<![CDATA[", "]]>", "%00", "=".repeat(3),
  "{\"a\":1}", "[", "]", "\xef\xbb\xbf", "%EF%BB%BF", "--b\r\n", "\r\n\r\n", "x".repeat(4096), " ".repeat(8192)];

// Numbers from a seed (mulberry32), so that a case can be made again.
export function numbers(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const code = (letter) => letter.charCodeAt(0);
const hex = (letter) => code(letter).toString(16).padStart(2, "0");
const ESCAPES = [
  (letter) => `%${hex(letter)}`, (letter) => `%25${hex(letter)}`, (letter) => `\\u00${hex(letter)}`, (letter) => `&#${code(letter)};`, (letter) => `&#x${hex(letter)};`,
  (letter) => `%u00${hex(letter)}`, (letter) => `\\x${hex(letter)}`, (letter) => `%5Cu00${hex(letter)}`, (letter) => `=${hex(letter).toUpperCase()}`,
];
const CHANGES = [
  (text, at, one) => text.slice(0, at) + one(ODD) + text.slice(at),
  (text, at, one) => text.slice(0, at) + one(PIECES) + text.slice(at),
  (text, at, one, below) => text.slice(0, at) + text.slice(at + 1 + below(3)),
  (text, at, one, below) => text.slice(0, at) + text.slice(at, at + 1 + below(40)) + text.slice(at),
  (text, at, one) => (at < text.length ? text.slice(0, at) + one(ESCAPES)(text[at]) + text.slice(at + 1) : text),
  // A run of letters, each escaped the same way.
  (text, at, one, below) => {
    const [escape, end] = [one(ESCAPES), at + 1 + below(30)];
    return text.slice(0, at) + [...text.slice(at, end)].map(escape).join("") + text.slice(end);
  },
  (text) => JSON.stringify(text),
  (text, at, one) => `${one(["a", "id_token", "data", "_"])}=${encodeURIComponent(text)}`,
  (text, at, one) => `{${JSON.stringify(one(["a", "id_token", "_"]))}:${JSON.stringify(text)}}`,
  (text, at, one) => one(PIECES) + text,
  (text, at, one) => text + one(PIECES),
];

// Changes body, query or a field of the head in one to three places.
export function mutated(message, random) {
  const one = (list) => list[random(list.length)];
  const end = message.indexOf("\r\n\r\n");
  let [first, ...fields] = message.slice(0, end).split("\r\n");
  let body = message.slice(end + 4);
  const change = (text) => one(CHANGES)(text, random(text.length + 1), one, random);
  for (let left = 1 + random(3); left > 0; left--) {
    const kind = random(8);
    const at = fields.findIndex((field) => /^(authorization|cookie|x-|cf-)/i.test(field));
    if (kind === 0) fields = fields.map((field) => (/^content-type:/i.test(field) ? `Content-Type: ${one(TYPES)}` : field));
    else if (kind === 1 && at >= 0) fields[at] = fields[at].replace(/^([^:]*: )(.*)$/s, (_, name, value) => name + change(value).replaceAll(/[\r\n\0]/g, " "));
    else if (body === "" && first.includes("?")) first = first.replace(/\?(\S*) /, (_, query) => `?${change(query).replaceAll(/[\s\0]/g, "+")} `);
    else if (body !== "") body = change(body);
  }
  fields = fields.map((field) => (/^content-length:/i.test(field) ? `Content-Length: ${body.length}` : field));
  return `${first}\r\n${fields.join("\r\n")}\r\n\r\n${body}`;
}
