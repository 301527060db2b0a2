/** Lists of a projection's views: their names, made of values as the projector makes them, and the
 * script that reads a page of one. */
import { createHash, createHmac } from "node:crypto";
import { inflateSync } from "node:zlib";

import { InvalidTokenError, ViewError } from "./errors.js";

/** A value of a view's key. Bytes are those of a binary column. */
export type ListValue = string | number | bigint | boolean | Date | Uint8Array;

/** A page of a list: documents by id, the newest first. `cursor` asks for the next page, undefined:
 * that was all. `total`: of the whole list at this moment. */
export interface Listed<T> {
  readonly documents: Map<string, T>;
  readonly cursor: string | undefined;
  readonly total: number;
}

/** What a view's key is made of, as the projector tells. */
export interface KeyPartOfView {
  readonly kind: string;
  readonly fold?: string;
  readonly pads?: boolean;
  readonly variable?: string;
}

/** How a collation's equal texts are spelled as one. */
export interface Folding {
  readonly table: Readonly<Record<string, string>>;
  readonly beyond: string;
  readonly pads: boolean;
}

export const MOST = 1000; // documents a page
const MASKED = 32; // hexadecimal digits
const DIGITS_MAX = 400; // of a decimal, before or behind the point
const CURSOR = /^(-?(?:inf|[0-9]{1,32}(?:\.[0-9]{1,32})?(?:e[-+]?[0-9]{1,3})?)):([^]*)$/;

// KEYS: list, hash. ARGV: score and id of the last entry of the page before ('' and '': none), how
// many. Gives the number of entries, whether more follow, ids with scores, documents.
export const PAGE = `
local function before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local total, from = redis.call('ZCARD', KEYS[1]), 0
if ARGV[1] ~= '' then
  from = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf')
  local last = from + redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
  while from < last do
    local middle = math.floor((from + last) / 2)
    if before(redis.call('ZREVRANGE', KEYS[1], middle, middle)[1], ARGV[2]) then
      last = middle
    else
      from = middle + 1
    end
  end
end
local found = redis.call('ZREVRANGE', KEYS[1], from, from + tonumber(ARGV[3]) - 1, 'WITHSCORES')
local ids = {}
for at = 1, #found, 2 do ids[#ids + 1] = found[at] end
local documents = {}
if #ids > 0 then documents = redis.call('HMGET', KEYS[2], unpack(ids)) end
return {total, (from + #ids < total) and 1 or 0, found, documents}
`;
export const PAGE_SHA = createHash("sha1").update(PAGE).digest("hex");

/** Return a view's name as it stands in keys. */
export function shortName(view: string): string {
  return view.startsWith("by_") ? view.slice(3) : view;
}

/** Read a folding that the projector has written. */
export function parseFolding(packed: string): Folding {
  const text = inflateSync(Buffer.from(packed, "base64")).toString();
  const said = JSON.parse(text) as { table: Record<string, string> } & Omit<Folding, "table">;
  const table = Object.assign(Object.create(null) as Record<string, string>, said.table);
  return { ...said, table };
}

/** Return the name of the list of these values. Throws ViewError. */
export function listName(
  view: string,
  values: readonly ListValue[],
  parts: readonly KeyPartOfView[],
  foldings: ReadonlyMap<string, Folding>,
  secrets: Readonly<Record<string, string>>,
): string {
  if (values.length !== parts.length) {
    throw new ViewError(`the key of ${view} has ${parts.length} parts, not ${values.length}`);
  }
  const texts = parts.map((part, at) => text(view, values[at]!, part, foldings, secrets));
  return `${shortName(view)}:${texts.join("|")}`;
}

function text(
  view: string,
  value: ListValue,
  part: KeyPartOfView,
  foldings: ReadonlyMap<string, Folding>,
  secrets: Readonly<Record<string, string>>,
): string {
  let said = spelled(view, value, part.kind);
  if (part.fold !== undefined) said = folded(said, foldings.get(part.fold)!);
  else if (part.pads) said = said.replace(/ +$/, "");
  if (part.variable === undefined) {
    const code = (found: string) => found.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");
    return said.replace(/[%|\x00-\x1f\x7f]/g, (found) => `%${code(found)}`);
  }
  const secret = secrets[part.variable] ?? process.env[part.variable];
  if (!secret) throw new ViewError(`values of ${view} are masked: give the key ${part.variable}`);
  return createHmac("sha256", secret).update(said).digest("hex").slice(0, MASKED);
}

function folded(said: string, { table, beyond, pads }: Folding): string {
  let found = "";
  for (const character of said) {
    found += table[character] ?? (beyond && character.length > 1 ? beyond : character);
  }
  return pads ? found.replace(/ +$/, "") : found;
}

function spelled(view: string, value: ListValue, kind: string): string {
  if (value instanceof Uint8Array) {
    const hex = Buffer.from(value).toString("hex");
    return kind === "uuid" && value.length === 16 ? uuid(hex) : hex;
  }
  if (value instanceof Date) return value.toISOString().slice(0, 10);
  const said = typeof value === "boolean" ? (value ? "1" : "0") : String(value);
  switch (kind) {
    case "flag":
      if (/^(true|false)$/i.test(said)) return said.toLowerCase() === "true" ? "1" : "0";
      return decimal(view, said) === "0" ? "0" : "1";
    case "decimal":
      return decimal(view, said);
    case "whole": {
      const digits = Number.isInteger(value) ? String(BigInt(value as number)) : said;
      if (!/^[-+]?[0-9]{1,100}$/.test(digits)) {
        throw new ViewError(`a part of the key of ${view} is a whole number`);
      }
      return String(BigInt(digits));
    }
    case "uuid":
      return uuid(said);
    case "hex":
      return said.toLowerCase();
    default:
      return said;
  }
}

/** Write all digits of a number, but for zeros that say nothing. */
function decimal(view: string, said: string): string {
  const found = /^([-+]?)([0-9]*)\.?([0-9]*)(?:e([-+]?[0-9]{1,9}))?$/i.exec(said.trim());
  const digits = found === null ? "" : found[2]! + found[3]!;
  const exponent = Number(found?.[4] ?? 0);
  if (found === null || digits === "" || Math.abs(exponent) > DIGITS_MAX) {
    throw new ViewError(`a part of the key of ${view} is a number`);
  }
  const point = found[2]!.length + exponent;
  const padded = "0".repeat(Math.max(0, 1 - point)) + digits.padEnd(point, "0");
  const at = Math.max(1, point);
  const whole = padded.slice(0, at).replace(/^0+(?=[0-9])/, "");
  const fraction = padded.slice(at).replace(/0+$/, "");
  const number = fraction === "" ? whole : `${whole}.${fraction}`;
  return found[1] === "-" && number !== "0" ? `-${number}` : number;
}

function uuid(said: string): string {
  const bare = said.replace(/urn:|uuid:/gi, "").replace(/^[{}]+|[{}]+$|-/g, "").toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(bare)) return said.toLowerCase(); // other bytes, in hexadecimal
  return bare.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Return score and id of the entry that a page ended with. */
export function readCursor(cursor: string | undefined): [string, string] {
  if (cursor === undefined) return ["", ""];
  const found = CURSOR.exec(cursor);
  if (found === null) throw new InvalidTokenError("not a cursor of a list");
  return [found[1]!, found[2]!];
}
