// A bundle packed by hand from FORMAT.md, and answers worked out by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { Bundle } from "kg-bundle";

const NAMES = { entities: ["Latvia", "Euro", "Rīga"], relations: ["uses", "capital"] };
const EXACT = [1, 0, 2, 1, 0, 3];
const KINDS = {
  float32: { entity: ["float32", [3, 2], new Float32Array(EXACT)] },
  // As float16: 1 is 3c00, 2 is 4000, 3 is 4200.
  float16: {
    entity: ["float16", [3, 2], new Uint16Array([0x3c00, 0, 0x4000, 0x3c00, 0, 0x4200])],
  },
  int8: {
    entity: ["int8", [3, 2], new Int8Array(EXACT.map((value) => 2 * value))],
    entity_scale: ["float32", [3], new Float32Array([0.5, 0.5, 0.5])],
  },
};

// TransE under L1: the tail's vector is about the head's and the relation's together.
function packed(entity, layered = false) {
  const arrays = { ...entity, shift: ["float32", [2, 2], new Float32Array([1, 1, -1, 3])] };
  if (layered) {
    arrays.inner = ["float32", [1, 2], new Float32Array([1, 1])];
    arrays.outer = ["float32", [1, 2], new Float32Array([1, -1])];
    arrays.bias = ["float32", [2, 1], new Float32Array([-2, 0])];
  }
  const names = {};
  for (const [kind, words] of Object.entries(NAMES)) {
    const text = new TextEncoder().encode(words.join(""));
    let end = 0;
    const ends = words.map((word) => (end += new TextEncoder().encode(word).length));
    arrays[`${kind}_text`] = ["uint8", [text.length], text];
    arrays[`${kind}_ends`] = ["uint32", [ends.length], new Uint32Array(ends)];
    names[kind] = { text: `${kind}_text`, ends: `${kind}_ends` };
  }
  const about = {};
  const parts = [];
  let offset = 0;
  for (const [name, [dtype, shape, values]] of Object.entries(arrays)) {
    about[name] = { dtype, shape, offset };
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    parts.push(bytes, Buffer.alloc((16 - (bytes.length % 16)) % 16));
    offset += Math.ceil(bytes.length / 16) * 16;
  }
  const [one, none] = [{ constant: 1 }, { constant: 0 }];
  const side = (shift) => ({ scale: one, cross: none, shift });
  const header = {
    model: "TransE", dataset: "small", dim: 2, entities: 3, relations: 2, kernel: "l1",
    arrays: about, candidate: null, names,
    query: { tail: side({ array: "shift" }), head: side({ array: "shift", negate: true }) },
  };
  if (layered) {
    const bias = { tail: { array: "bias" }, head: none };
    header.hidden = { inner: "inner", outer: "outer", bias };
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((16 - (text.length % 16)) % 16, " ")]);
  const start = Buffer.alloc(16);
  start.write("KGBUNDLE");
  start.writeUInt32LE(layered ? 2 : 1, 8);
  start.writeUInt32LE(padded.length, 12);
  return Buffer.concat([start, padded, ...parts]);
}

const content = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const pairs = (answers) => answers.map(({ name, score }) => [name, score]);

for (const [kind, entity] of Object.entries(KINDS)) {
  test(`scores and answers, ${kind}`, () => {
    const bundle = new Bundle(content(packed(entity)));
    assert.deepEqual(bundle.entities, NAMES.entities);
    assert.deepEqual([...bundle.scores("Latvia", "uses", "tail")], [-2, 0, -4]);
    assert.deepEqual([...bundle.scores("Euro", "uses", "head")], [0, -2, -4]);
    assert.deepEqual([...bundle.scores(0, 1, "tail")], [-4, -4, 0]);
    assert.equal(bundle.score("Latvia", "capital", "Rīga"), 0);
    const two = pairs(bundle.predictTails("Latvia", "uses", { k: 2 }));
    assert.deepEqual(two, [["Euro", 0], ["Latvia", -2]]);
    const others = pairs(bundle.predictHeads("uses", "Euro", { exclude: ["Latvia"] }));
    assert.deepEqual(others, [["Euro", -2], ["Rīga", -4]]);
    const some = { exclude: ["Euro"], candidates: ["Rīga", "Euro"] };
    assert.deepEqual(pairs(bundle.predictHeads("uses", "Euro", some)), [["Rīga", -4]]);
  });
}

for (const [kind, entity] of Object.entries(KINDS)) {
  test(`a hidden layer adds to the query, ${kind}`, () => {
    const bundle = new Bundle(content(packed(entity, true)));
    assert.deepEqual([...bundle.scores("Latvia", "uses", "tail")], [-2, 0, -4]); // unit below 0
    assert.deepEqual([...bundle.scores("Euro", "uses", "tail")], [-4, -2, -6]);
    assert.deepEqual([...bundle.scores("Euro", "uses", "head")], [-6, -6, -10]);
  });
}

test("what is damaged is refused", () => {
  const bytes = packed(KINDS.float32);
  const version = Buffer.from(bytes);
  version.writeUInt32LE(3, 8);
  const layer = Buffer.from(bytes);
  layer.writeUInt32LE(2, 8);
  const dim = Buffer.from(bytes.toString("latin1").replace('"dim":2', '"dim":9'), "latin1");
  for (const [data, problem] of [
    [Buffer.concat([Buffer.from("NOBUNDLE"), bytes.subarray(8)]), /no bundle/],
    [version, /of version 3/],
    [layer, /makes version 2/],
    [bytes.subarray(0, bytes.length - 40), /./],
    [dim, /./],
    [Buffer.alloc(0), /no bundle/],
  ]) {
    assert.throws(() => new Bundle(content(data)), (error) => {
      assert.equal(error.constructor, Error);
      assert.match(error.message, problem);
      return true;
    });
  }
});
