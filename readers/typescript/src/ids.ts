/** Ids of documents: from the key of a row to the field of the hash, as the projector writes it. */

/** One column of a primary key. Bytes are those of a binary column. */
export type KeyPart = number | bigint | string | Uint8Array;
/** A primary key; an array of several parts for a composite one. */
export type DocumentKey = KeyPart | readonly KeyPart[];

/** Return the id of the row with this primary key.
 *
 * Whole numbers and text stand for themselves. Of bytes, 16 become a UUID, others hex. The parts of
 * a composite key are joined with `:`; in them `%` and `:` are written `%25` and `%3A`. */
export function documentId(key: DocumentKey): string {
  if (!Array.isArray(key)) return text(key as KeyPart);
  if (key.length < 2) throw new TypeError("a composite key has at least two parts");
  const parts = key.map((part) => text(part).replaceAll("%", "%25").replaceAll(":", "%3A"));
  return parts.join(":");
}

function text(part: KeyPart): string {
  if (typeof part === "string") return part;
  if (typeof part === "bigint") return part.toString();
  if (typeof part === "number") {
    if (Number.isSafeInteger(part)) return part.toString();
    throw new TypeError("a number in a key is whole and safe; use a bigint above 2^53");
  }
  if (!(part instanceof Uint8Array)) throw new TypeError("this cannot be part of a key");
  const hex = Buffer.from(part).toString("hex");
  if (part.length !== 16) return hex;
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
