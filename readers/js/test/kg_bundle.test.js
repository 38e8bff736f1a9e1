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
  // Entry e of each codebook is the number e, so that codes are the vector.
  "codes of 8 bits": {
    entity: ["uint8", [3, 2], new Uint8Array(EXACT)],
    entity_codebooks: ["float32", [2, 256, 1], new Float32Array(512).map((_, i) => i % 256)],
  },
  "codes of 4 bits": {
    entity: ["uint8", [3, 1], new Uint8Array([0x01, 0x12, 0x30])],
    entity_codebooks: ["float32", [2, 16, 1], new Float32Array(32).map((_, i) => i % 16)],
  },
};

// TransE under L1: the tail's vector is about the head's and the relation's together.
function packed(entity, layered = false, more = {}) {
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
  const text = Buffer.from(JSON.stringify({ ...header, ...more }));
  const padded = Buffer.concat([text, Buffer.alloc((16 - (text.length % 16)) % 16, " ")]);
  const start = Buffer.alloc(16);
  start.write("KGBUNDLE");
  start.writeUInt32LE("entity_codebooks" in entity ? 3 : layered ? 2 : 1, 8);
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

test("a vector of codes is normalised where the header says so", () => {
  const bundle = new Bundle(content(packed(KINDS["codes of 8 bits"], false, { normalize: true })));
  const root = Math.sqrt(5); // vectors are (1, 0), (2, 1) / root, (0, 1)
  const scores = [...bundle.scores("Latvia", "uses", "tail")]; // the query is (2, 1)
  const expected = [-2, -(2 - 2 / root) - (1 - 1 / root), -2];
  scores.forEach((score, i) => assert.ok(Math.abs(score - expected[i]) < 1e-6));
});

test("entities go by label too, where one alone has it", () => {
  const labelled = (labels) => {
    const text = new TextEncoder().encode(labels.join(""));
    let end = 0;
    const ends = labels.map((word) => (end += new TextEncoder().encode(word).length));
    const arrays = {
      labels_text: ["uint8", [text.length], text],
      labels_ends: ["uint32", [3], new Uint32Array(ends)],
    };
    const more = { labels: { text: "labels_text", ends: "labels_ends" } };
    return new Bundle(content(packed({ ...KINDS.float32, ...arrays }, false, more)));
  };
  const bundle = labelled(["Land", "money", ""]);
  assert.equal(bundle.score("land", "uses", "MONEY"), bundle.score("Latvia", "uses", "Euro"));
  for (const text of ["silver", ""]) {
    const message = `"${text}" is none of the 3 entities, nor the label of one`;
    assert.throws(() => bundle.scores(text, "uses", "tail"), { message });
  }
  const alike = labelled(["Straße", "STRASSE", "Euro!"]);
  const message = '"strasse" is the label of Latvia, Euro: give one of these';
  assert.throws(() => alike.scores("strasse", "uses", "tail"), { message });
  const bare = new Bundle(content(packed(KINDS.float32)));
  assert.throws(() => bare.scores("land", "uses", "tail"), {
    message: '"land" is none of the 3 entities, and the bundle has no labels',
  });
  assert.throws(() => bare.scores("Euro", "Latvia", "tail"), {
    message: '"Latvia" is none of the 2 relations',
  });
});

test("what is damaged is refused", () => {
  const bytes = packed(KINDS.float32);
  const version = Buffer.from(bytes);
  version.writeUInt32LE(4, 8);
  const codes = Buffer.from(bytes);
  codes.writeUInt32LE(3, 8);
  const layer = Buffer.from(bytes);
  layer.writeUInt32LE(2, 8);
  const dim = Buffer.from(bytes.toString("latin1").replace('"dim":2', '"dim":9'), "latin1");
  for (const [data, problem] of [
    [Buffer.concat([Buffer.from("NOBUNDLE"), bytes.subarray(8)]), /no bundle/],
    [version, /of version 4; this reader knows 1 to 3/],
    [codes, /codebooks are wrong/],
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
