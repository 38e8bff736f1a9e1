// Answers from an edge bundle, in browsers and Node, without dependencies.
//
//   import { Bundle } from "kg-bundle";
//   const bundle = new Bundle(await (await fetch("model.bundle")).arrayBuffer());
//   bundle.predictTails("Latvia", "uses_currency", { k: 5 });   // [{ id, name, score }, ...]
//   bundle.labels;   // names that people know, by id; null where there are none, else answers have
//                    // them too: [{ id, name, label, score }, ...]
//
// Entities and relations go by name (string) or id (number), entities by label too, where one alone has
// it. FORMAT.md describes the file. This one works wherever it is copied to: import it as
// "./kg_bundle.js".
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
    const known = version >= 1 && version <= 3;
    if (!known || length % 16 || length > Math.min(bytes.length - 16, LONGEST)) {
      throw new Error(`damaged bundle, or of version ${version}; this reader knows 1 to 3`);
    }
    this.header = parsed(decoded(bytes.subarray(16, 16 + length)));
    check(this.header, bytes.length - 16 - length, version);
    this.arrays = Object.create(null);
    for (const [name, about] of Object.entries(this.header.arrays)) {
      this.arrays[name] = view(buffer, 16 + length, about);
    }
    this.entities = this.#names("entities");
    this.relations = this.#names("relations");
    const { labels = null } = this.header; // names that people know, empty where there is none
    this.labels = labels && this.#texts(labels);
    this.ids = {};
  }

  /** The score of a triple, as an answer to (head, relation, ?). */
  score(head, relation, tail) {
    return this.scores(head, relation, "tail")[this.#id(tail, "entities")];
  }

  /** The k best answers to (head, relation, ?), but those to exclude; of all or the candidates. */
  predictTails(head, relation, { k = 10, exclude = [], candidates = null } = {}) {
    return this.#best(this.scores(head, relation, "tail"), k, exclude, candidates);
  }

  /** The k best answers to (?, relation, tail), but those to exclude; of all or the candidates. */
  predictHeads(relation, tail, { k = 10, exclude = [], candidates = null } = {}) {
    return this.#best(this.scores(tail, relation, "head"), k, exclude, candidates);
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
    if (this.header.hidden) this.#addLayer(vector, row, side, query);
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
    } else if (dtype === "int8") {
      const unit = this.arrays.entity_scale.values[id];
      for (let k = 0; k < out.length; k += 1) out[k] = values[first + k] * unit;
    } else {
      this.#putTogether(id, out);
    }
    return out;
  }

  /** Puts a vector together from the pieces that its codes name. */
  #putTogether(id, out) {
    const { values, shape: [, width] } = this.arrays.entity;
    const { values: books, shape: [pieces, entries, length] } = this.arrays.entity_codebooks;
    const half = entries === 16; // two codes in a byte
    let place = 0;
    for (let piece = 0; piece < pieces; piece += 1) {
      let code = values[id * width + (half ? piece >> 1 : piece)];
      if (half) code = piece % 2 ? code >> 4 : code & 15;
      const start = (piece * entries + code) * length;
      for (let k = start; k < start + length; k += 1) out[place++] = books[k];
    }
    if (this.header.normalize) {
      const norm = Math.sqrt(out.reduce((sum, value) => sum + value * value, 0));
      for (let k = 0; k < out.length; k += 1) out[k] /= Math.max(norm, 1e-6);
    }
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

  /** Passes a vector through the hidden layer and adds what comes out to `query`. */
  #addLayer(vector, relation, side, query) {
    const { inner, outer, bias } = this.header.hidden;
    const [into, out] = [this.arrays[inner], this.arrays[outer]];
    const shift = this.#part(bias[side], relation);
    const added = new Float64Array(query.length);
    for (let unit = 0; unit < into.shape[0]; unit += 1) {
      let sum = shift(unit);
      for (let i = 0; i < vector.length; i += 1) sum += vector[i] * into.get(unit * vector.length + i);
      if (sum <= 0) continue;
      for (let j = 0; j < added.length; j += 1) added[j] += sum * out.get(unit * added.length + j);
    }
    for (let j = 0; j < added.length; j += 1) query[j] += added[j];
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

  #best(scores, k, exclude, candidates) {
    const may = candidates && new Set(candidates.map((name) => this.#id(name, "entities")));
    const banned = new Set(exclude.map((name) => this.#id(name, "entities")));
    const best = []; // sorted, the best first; ties go to the lower id
    for (let id = 0; id < scores.length; id += 1) {
      const score = scores[id];
      if (may && !may.has(id)) continue;
      if (banned.has(id) || (best.length >= k && !(score > best[k - 1]?.score))) continue;
      let place = best.length;
      while (place > 0 && best[place - 1].score < score) place -= 1;
      const label = this.labels ? { label: this.labels[id] } : {};
      best.splice(place, 0, { id, name: this.entities[id], ...label, score });
      if (best.length > k) best.pop();
    }
    return best;
  }

  #names(kind) {
    const count = this.header[kind];
    const found = this.header.names[kind];
    if (found === null) return Array.from({ length: count }, (_, i) => String(i));
    const names = this.#texts(found);
    demand(new Set(names).size === count, `two ${kind} have one name`);
    return names;
  }

  #texts(found) {
    const text = this.arrays[found.text].values;
    const ends = this.arrays[found.ends].values;
    const rising = ends.every((end, i) => end >= (i ? ends[i - 1] : 0));
    demand(rising && ends[ends.length - 1] === text.length, "names end elsewhere");
    return Array.from(ends, (end, i) => decoded(text.subarray(i ? ends[i - 1] : 0, end)));
  }

  #id(name, kind) {
    if (!this.ids[kind]) this.ids[kind] = new Map(this[kind].map((known, i) => [known, i]));
    const named = typeof name === "string";
    const id = named ? (this.ids[kind].get(name) ?? this.#labelled(name, kind)) : name;
    if (!Number.isInteger(id) || id < 0 || id >= this[kind].length) {
      throw new Error(`${JSON.stringify(name)} is none of the ${this[kind].length} ${kind}`);
    }
    if (!named && this.#misleading(kind)) {
      throw new Error(
        `${name} may be a name or an id, since names here are numbers: give the name as text, ` +
          `"${id}", or for the id its name, ${JSON.stringify(this[kind][id])}`,
      );
    }
    return id;
  }

  /** The id of the one entity that people call by a text, in any letter case. */
  #labelled(text, kind) {
    const names = this[kind];
    const folded = (word) => word.toUpperCase().toLowerCase(); // "Straße" is "STRASSE" too
    const labels = (kind === "entities" && this.labels) || [];
    const found = [];
    for (let id = 0; id < labels.length; id += 1) {
      if (labels[id] && folded(labels[id]) === folded(text)) found.push(id);
    }
    if (found.length === 1) return found[0];
    let told = `is none of the ${names.length} ${kind}`;
    if (kind === "entities") {
      told += this.labels ? ", nor the label of one" : ", and the bundle has no labels";
    }
    if (found.length) {
      const some = found.slice(0, 6).map((id) => names[id]);
      told = `is the label of ${some.join(", ")}: give one of these`;
    }
    throw new Error(`${JSON.stringify(text)} ${told}`);
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

// The header: everything is looked at before anything is made of it, as the NumPy reader does.

const LONGEST = 1 << 20; // bytes of a header
const DEEPEST = 16;
const MOST_ARRAYS = 64;
const GREATEST = 3.4028234663852886e38; // of float32
const FLOATS = ["float32", "float16"];

function demand(right, message) {
  if (!right) throw new Error(`damaged bundle: ${message}`);
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decoded(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new Error("damaged bundle: text that is no UTF-8");
  }
}

const whole = (value, least = 0) => Number.isSafeInteger(value) && value >= least;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads JSON like JSON.parse, but no key twice, no number too large, and not deep. */
function parsed(text) {
  const token =
    /[ \t\n\r]*(?:([[\]{},:])|("[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*")|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(true|false|null))/y;
  const next = () => {
    const found = token.exec(text);
    demand(found, "the header is no JSON");
    return found;
  };
  const value = (found, depth) => {
    const [, sign, string, number, word] = found;
    if (string !== undefined) return JSON.parse(string);
    if (word !== undefined) return JSON.parse(word);
    if (number !== undefined) {
      demand(Number.isFinite(Number(number)), "a number is too large");
      return Number(number);
    }
    demand(sign === "{" || sign === "[", "the header is no JSON");
    demand(depth < DEEPEST, "the header is nested too deep");
    const close = sign === "{" ? "}" : "]";
    const made = sign === "{" ? Object.create(null) : [];
    let item = next();
    if (item[1] === close) return made;
    for (;;) {
      if (sign === "[") {
        made.push(value(item, depth + 1));
      } else {
        demand(item[2] !== undefined, "the header is no JSON");
        const key = JSON.parse(item[2]);
        demand(!(key in made), "the header has a key twice");
        demand(next()[1] === ":", "the header is no JSON");
        made[key] = value(next(), depth + 1);
      }
      const after = next()[1];
      if (after === close) return made;
      demand(after === ",", "the header is no JSON");
      item = next();
    }
  };
  const made = value(next(), 0);
  demand(/^[ \t\n\r]*$/.test(text.slice(token.lastIndex)), "the header is no JSON");
  return made;
}

/** Refuses a header that does not describe `size` bytes of arrays. */
function check(header, size, version) {
  demand(isObject(header), "the header is no object");
  const layered = "hidden" in header;
  demand(version === 3 || layered === (version === 2), "a hidden layer makes version 2");
  for (const key of ["entities", "relations", "dim", "kernel", "arrays", "query", "names"]) {
    demand(key in header, "the header lacks a key");
  }
  demand("candidate" in header, "the header lacks a key");
  const { entities, relations, dim, kernel, arrays, query, candidate, names } = header;
  demand(whole(entities, 1) && whole(relations, 1) && whole(dim, 1), "a count is wrong");
  demand(relations <= Math.max(size, 65536), "there are more relations than bytes");
  demand(typeof kernel === "string" && Object.hasOwn(KERNELS, kernel), "the kernel is unknown");
  demand(isObject(arrays) && Object.keys(arrays).length <= MOST_ARRAYS, "arrays are wrong");
  const spans = Object.values(arrays).map((about) => span(about, size));
  spans.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  for (let i = 1; i < spans.length; i += 1) {
    demand(spans[i - 1][1] <= spans[i][0], "two arrays overlap");
  }

  const array = (name) => (typeof name === "string" ? arrays[name] : undefined);
  const like = (name, dtypes, ...shape) => {
    const about = array(name);
    if (!about || !dtypes.includes(about.dtype) || about.shape.length !== shape.length) return false;
    return shape.every((number, i) => about.shape[i] === number);
  };
  if (version === 3) {
    const [pieces, entries, length] = array("entity_codebooks")?.shape ?? [];
    const fit = (entries === 16 || entries === 256) && pieces * length === dim;
    demand(fit && like("entity_codebooks", ["float32"], pieces, entries, length), "codebooks are wrong");
    demand(!("normalize" in header) || typeof header.normalize === "boolean", "normalize is wrong");
    const each = entries === 16 ? Math.ceil(pieces / 2) : pieces;
    demand(like("entity", ["uint8"], entities, each), "codes are wrong");
  } else {
    demand(like("entity", [...FLOATS, "int8"], entities, dim), "entity vectors are wrong");
    const scaled = arrays.entity.dtype !== "int8" || like("entity_scale", ["float32"], entities);
    demand(scaled, "there is no entity_scale");
  }
  const floats = [version === 3 ? "float16" : "float32"];
  const bias = !("entity_bias" in arrays) || like("entity_bias", floats, entities);
  demand(bias, "entity_bias is wrong");

  const part = (about, ...shape) => {
    if (!isObject(about)) return false;
    const keys = Object.keys(about);
    if (keys.length === 1 && keys[0] === "constant") {
      const { constant } = about;
      return typeof constant === "number" && Math.abs(constant) <= GREATEST && shape.length === 1;
    }
    if (!keys.every((key) => ["array", "negate", "transpose"].includes(key))) return false;
    const { negate = false, transpose = false } = about;
    if (typeof negate !== "boolean" || typeof transpose !== "boolean") return false;
    return like(about.array, FLOATS, relations, ...(transpose ? shape.reverse() : shape));
  };
  const width = (parts) => {
    demand(isObject(parts), "a map is no object");
    let out = dim;
    if ("matrix" in parts) {
      const { matrix } = parts;
      const about = isObject(matrix) ? array(matrix.array) : undefined;
      demand(about && about.shape.length === 3, "a matrix is wrong");
      out = about.shape[matrix.transpose ? 1 : 2];
      demand(out && part(matrix, dim, out), "a matrix is wrong");
    } else {
      demand(part(parts.scale, dim) && part(parts.cross, dim), "a map is wrong");
    }
    demand(part(parts.shift, out), "a shift is wrong");
    return out;
  };
  for (const maps of candidate === null ? [query] : [query, candidate]) {
    const sides = isObject(maps) ? Object.keys(maps) : [];
    demand(sides.length && sides.every((side) => ["head", "tail"].includes(side)), "maps are wrong");
    demand(sides.length === Object.keys(query).length, "maps are wrong");
  }
  const { hidden: layer = { bias: {} } } = header;
  demand(isObject(layer) && isObject(layer.bias), "the layer is wrong");
  for (const side of Object.keys(query)) {
    const out = width(query[side]);
    if (layered) {
      const units = array(layer.inner)?.shape[0];
      const sizes = units && like(layer.inner, FLOATS, units, dim);
      demand(sizes && like(layer.outer, FLOATS, units, out), "the layer is wrong");
      demand(part(layer.bias[side], units), "the layer's biases are wrong");
    }
    const other = candidate === null ? dim : width(candidate[side]);
    demand(out === other, "queries and candidates are of different lengths");
    demand(kernel !== "complex_modulus" || out % 2 === 0, "a vector is no complex one");
  }
  demand(isObject(names), "names are wrong");
  const { labels = null } = header;
  const texts = [[names.entities, entities], [names.relations, relations], [labels, entities]];
  for (const [found, count] of texts) {
    if (found === null) continue;
    demand(isObject(found) && like(found.ends, ["uint32"], count), "no names");
    const text = array(found.text);
    demand(text && text.dtype === "uint8" && text.shape.length === 1, "no names");
  }
}

/** Where an array begins and ends. */
function span(about, size) {
  demand(isObject(about), "an array is no object");
  const { dtype, shape, offset } = about;
  demand(typeof dtype === "string" && Object.hasOwn(ARRAYS, dtype), "a dtype is unknown");
  demand(Array.isArray(shape) && shape.length >= 1 && shape.length <= 3, "a shape is wrong");
  demand(shape.every((number) => whole(number)), "a shape is wrong");
  demand(whole(offset) && offset % 16 === 0, "an offset is wrong");
  // Beyond 2**53 a product is no longer exact, but then it is far too large.
  const length = shape.reduce((product, number) => product * number, 1);
  const stop = offset + length * ARRAYS[dtype].BYTES_PER_ELEMENT;
  demand(stop <= size, "an array lies outside the file");
  return [offset, stop];
}

/** Views an array of the file; `get(i)` returns a number whatever the dtype. */
function view(buffer, base, { dtype, shape, offset }) {
  const length = shape.reduce((product, number) => product * number, 1);
  const values = new ARRAYS[dtype](buffer, base + offset, length);
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
