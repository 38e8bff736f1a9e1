// Answers from an edge bundle, in browsers and Node, without dependencies.
//
//   import { Bundle } from "./bundle_reader.js";
//   const bundle = new Bundle(await (await fetch("model.bundle")).arrayBuffer());
//   bundle.predictTails("Latvia", "uses_currency", { k: 5 });   // [{ id, name, score }, ...]
//
// Entities and relations go by name (string) or id (number). export/bundle.py describes the file.
// Node before 22 wants the ending .mjs, or a package.json of `{"type": "module"}` beside it.

const MAGIC = "KGBUNDLE";
const ARRAYS = {
  float32: Float32Array,
  float16: Uint16Array, // decoded on use: not every engine has a Float16Array
  int8: Int8Array,
  uint8: Uint8Array,
  uint32: Uint32Array,
};

export class Bundle {
  /** @param {ArrayBuffer} buffer the file's content; throws an Error where it is no bundle. */
  constructor(buffer) {
    const bytes = new Uint8Array(buffer);
    if (bytes.length < 16 || String.fromCharCode(...bytes.subarray(0, 8)) !== MAGIC) {
      throw new Error("no bundle");
    }
    const start = new DataView(buffer);
    const version = start.getUint32(8, true);
    const length = start.getUint32(12, true);
    if (version !== 1 || 16 + length > bytes.length) {
      throw new Error(`damaged bundle, or of version ${version}; this reader knows 1`);
    }
    this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(16, 16 + length)));
    this.arrays = {};
    for (const [name, about] of Object.entries(this.header.arrays)) {
      this.arrays[name] = view(buffer, 16 + length, about);
    }
    const { entities, dim } = this.header;
    if (this.arrays.entity.shape[0] !== entities || this.arrays.entity.shape[1] !== dim) {
      throw new Error("damaged bundle: the entity table has another shape");
    }
    this.entities = this.#names("entities");
    this.relations = this.#names("relations");
    this.ids = {};
  }

  /** The score of a triple, as an answer to (head, relation, ?). */
  score(head, relation, tail) {
    return this.scores(head, relation, "tail")[this.#id(tail, "entities")];
  }

  /** The k best answers to (head, relation, ?), but those to exclude. */
  predictTails(head, relation, { k = 10, exclude = [] } = {}) {
    return this.#best(this.scores(head, relation, "tail"), k, exclude);
  }

  /** The k best answers to (?, relation, tail), but those to exclude. */
  predictHeads(relation, tail, { k = 10, exclude = [] } = {}) {
    return this.#best(this.scores(tail, relation, "head"), k, exclude);
  }

  /** Scores of all entities, a Float32Array by id; side is "tail" or "head", what is asked for. */
  scores(known, relation, side) {
    const { entities, dim, kernel } = this.header;
    const entity = this.#id(known, "entities");
    const row = this.#id(relation, "relations");
    const compare = KERNELS[kernel];
    if (!compare) throw new Error(`unknown kernel ${kernel}`);
    const toQuery = this.#map(this.header.query[side], row, dim);
    const toCandidate = this.header.candidate && this.#map(this.header.candidate[side], row, dim);
    const vector = new Float32Array(dim);
    const query = toQuery(this.#vector(entity, vector)).slice();
    const scores = new Float32Array(entities);
    const bias = this.arrays.entity_bias;
    for (let i = 0; i < entities; i += 1) {
      this.#vector(i, vector);
      const candidate = toCandidate ? toCandidate(vector) : vector;
      scores[i] = compare(query, candidate) + (bias ? bias.get(i) : 0);
    }
    return scores;
  }

  /** Decodes an entity's vector into `out`. */
  #vector(id, out) {
    const { dtype, values } = this.arrays.entity;
    const first = id * out.length;
    if (dtype === "float32") {
      out.set(values.subarray(first, first + out.length));
    } else if (dtype === "float16") {
      for (let k = 0; k < out.length; k += 1) out[k] = HALVES[values[first + k]];
    } else {
      const unit = this.arrays.entity_scale.values[id];
      for (let k = 0; k < out.length; k += 1) out[k] = values[first + k] * unit;
    }
    return out;
  }

  /** Returns the function that maps a vector by one relation; its result is overwritten. */
  #map(parts, relation, dim) {
    const shift = this.#part(parts.shift, relation);
    if (parts.matrix) {
      const { transpose } = parts.matrix;
      const matrix = this.#part(parts.matrix, relation);
      const [rows, columns] = this.arrays[parts.matrix.array].shape.slice(1);
      const width = transpose ? rows : columns;
      const out = new Float32Array(width);
      return (vector) => {
        for (let j = 0; j < width; j += 1) {
          let sum = shift(j);
          for (let i = 0; i < dim; i += 1) {
            sum += vector[i] * matrix(transpose ? j * columns + i : i * columns + j);
          }
          out[j] = sum;
        }
        return out;
      };
    }
    const scale = this.#part(parts.scale, relation);
    const cross = this.#part(parts.cross, relation);
    const half = dim % 2 ? 0 : dim / 2;
    const out = new Float32Array(dim);
    return (vector) => {
      for (let k = 0; k < dim; k += 1) {
        const other = vector[(k + half) % dim];
        out[k] = scale(k) * vector[k] + cross(k) * other + shift(k);
      }
      return out;
    };
  }

  /** Returns a relation's coefficients as a function of the position. */
  #part(part, relation) {
    if ("constant" in part) return () => part.constant;
    const array = this.arrays[part.array];
    const size = array.shape.slice(1).reduce((product, number) => product * number, 1);
    const row = new Float32Array(size);
    const sign = part.negate ? -1 : 1;
    for (let k = 0; k < size; k += 1) row[k] = sign * array.get(relation * size + k);
    return (k) => row[k];
  }

  #best(scores, k, exclude) {
    const banned = new Set(exclude.map((name) => this.#id(name, "entities")));
    const best = []; // sorted, the best first; ties go to the lower id
    for (let id = 0; id < scores.length; id += 1) {
      const score = scores[id];
      if (banned.has(id) || (best.length >= k && !(score > best[k - 1]?.score))) continue;
      let place = best.length;
      while (place > 0 && best[place - 1].score < score) place -= 1;
      best.splice(place, 0, { id, name: this.entities[id], score });
      if (best.length > k) best.pop();
    }
    return best;
  }

  #names(kind) {
    const count = this.header[kind];
    const found = this.header.names[kind];
    if (found === null) return Array.from({ length: count }, (_, i) => String(i));
    const text = this.arrays[found.text].values;
    const ends = this.arrays[found.ends].values;
    if (ends.length !== count) throw new Error(`damaged bundle: ${ends.length} names of ${kind}`);
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return Array.from(ends, (end, i) => decoder.decode(text.subarray(i ? ends[i - 1] : 0, end)));
  }

  #id(name, kind) {
    if (!this.ids[kind]) this.ids[kind] = new Map(this[kind].map((known, i) => [known, i]));
    const id = typeof name === "string" ? this.ids[kind].get(name) : name;
    if (!Number.isInteger(id) || id < 0 || id >= this[kind].length) {
      throw new Error(`${JSON.stringify(name)} is none of the ${this[kind].length} ${kind}`);
    }
    if (typeof name !== "string" && this.#misleading(kind)) {
      throw new Error(
        `${name} may be a name or an id, since names here are numbers: give the name as text, ` +
          `"${id}", or for the id its name, ${JSON.stringify(this[kind][id])}`,
      );
    }
    return id;
  }

  /** Whether a name is a number other than its id. */
  #misleading(kind) {
    const number = (name) => name.trim() !== "" && Number.isInteger(Number(name));
    this.numerals ??= {};
    this.numerals[kind] ??= this[kind].some((name, i) => number(name) && name !== String(i));
    return this.numerals[kind];
  }
}

function squaredDistance(query, candidate) {
  let sum = 0;
  for (let k = 0; k < query.length; k += 1) sum += (query[k] - candidate[k]) ** 2;
  return sum;
}

const KERNELS = {
  dot(query, candidate) {
    let sum = 0;
    for (let k = 0; k < query.length; k += 1) sum += query[k] * candidate[k];
    return sum;
  },
  l1(query, candidate) {
    let sum = 0;
    for (let k = 0; k < query.length; k += 1) sum += Math.abs(query[k] - candidate[k]);
    return -sum;
  },
  l2(query, candidate) {
    return -Math.sqrt(squaredDistance(query, candidate));
  },
  l2_squared(query, candidate) {
    return -squaredDistance(query, candidate);
  },
  complex_modulus(query, candidate) {
    const half = query.length / 2;
    let sum = 0;
    for (let k = 0; k < half; k += 1) {
      const real = query[k] - candidate[k];
      const imaginary = query[half + k] - candidate[half + k];
      sum += Math.sqrt(real * real + imaginary * imaginary);
    }
    return -sum;
  },
};

/** Views an array of the file; `get(i)` returns a number whatever the dtype. */
function view(buffer, base, { dtype, shape, offset }) {
  const kind = ARRAYS[dtype];
  if (!kind) throw new Error(`damaged bundle: unknown dtype ${dtype}`);
  const length = shape.reduce((product, number) => product * number, 1);
  const values = new kind(buffer, base + offset, length); // a RangeError where it lies outside
  const get = dtype === "float16" ? (i) => HALVES[values[i]] : (i) => values[i];
  return { dtype, shape, values, get };
}

/** Every float16, by its bits. */
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});
