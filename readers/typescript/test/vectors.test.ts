/** The cases that the projector, the Python reader and this package agree on. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import {
  type DocumentKey,
  documentId,
  InvalidTokenError,
  type KeyPart,
  NotComparableError,
  Position,
  type ListValue,
  ViewError,
} from "../src/index.js";
import { type KeyPartOfView, listName, parseFolding, readCursor } from "../src/lists.js";

type Part = { number?: string; text?: string; bytes?: string };
type Vectors = {
  includes: { case: string; position: string; token: string; includes: boolean | string }[];
  ids: { key: Part | Part[]; id: string }[];
  lists: { view: string; values: ListValue[]; parts: KeyPartOfView[]; name: string }[];
  folding: string;
  wrong_values: { kind: string; value: ListValue }[];
  cursors: { cursor: string; score: string; id: string }[];
  wrong_cursors: string[];
};

const VECTORS = JSON.parse(readFileSync(process.env.VECTORS!, "utf-8")) as Vectors;

function outcome(position: string, token: string): boolean | string {
  try {
    return Position.parse(position).includes(token);
  } catch (error) {
    if (error instanceof InvalidTokenError) return "invalid";
    if (error instanceof NotComparableError) return "incomparable";
    throw error;
  }
}

function part({ number, text, bytes }: Part): KeyPart {
  if (number !== undefined) return BigInt(number);
  return text ?? Buffer.from(bytes!, "hex");
}

test("each shared case of position and token comes out as it is written down", () => {
  for (const vector of VECTORS.includes) {
    assert.equal(outcome(vector.position, vector.token), vector.includes, vector.case);
  }
  assert.ok(VECTORS.includes.length > 60);
});

test("values give the list that the projector keeps", () => {
  const foldings = new Map([["x", parseFolding(VECTORS.folding)]]);
  for (const { view, values, parts, name } of VECTORS.lists) {
    assert.equal(listName(view, values, parts, foldings, { K: "secret" }), name);
  }
  for (const { kind, value } of VECTORS.wrong_values) {
    assert.throws(() => listName("by_x", [value], [{ kind }], foldings, {}), ViewError);
  }
  assert.equal(listName("by_x", [1e21], [{ kind: "decimal" }], foldings, {}), "x:1" + "0".repeat(21));
  assert.equal(listName("by_x", [1e-7], [{ kind: "decimal" }], foldings, {}), "x:0.0000001");
  assert.equal(listName("by_x", [-0], [{ kind: "whole" }], foldings, {}), "x:0");
  for (const { cursor, score, id } of VECTORS.cursors) {
    assert.deepEqual(readCursor(cursor), [score, id]);
  }
  for (const cursor of VECTORS.wrong_cursors) {
    assert.throws(() => readCursor(cursor), InvalidTokenError, cursor);
  }
});

test("keys give the field that the projector writes", () => {
  for (const { key, id } of VECTORS.ids) {
    const found: DocumentKey = Array.isArray(key) ? key.map(part) : part(key);
    assert.equal(documentId(found), id);
  }
  assert.equal(documentId(7), "7");
  for (const wrong of [1.5, 2 ** 53, null, undefined, [1], [], [[1], 2]]) {
    assert.throws(() => documentId(wrong as DocumentKey), TypeError);
  }
});
