// The page: a question, put to one model or two.

import { Combobox } from "/combobox.js";
import { EntityMap } from "/map.js";
import { written } from "/names.js";
import { whyButton } from "/why.js";

const at = (id) => document.getElementById(id);
const form = at("question");
const announce = (text) => { at("status").textContent = text; };
const kept = new Map(); // answers that never change: what models are, and their maps
const columns = new Map(); // by model: what is on the page
const PROJECTIONS = { pca: "principal components", umap: "UMAP" };
let asking = 0;

async function call(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const address = `/api/${path}?${new URLSearchParams(given)}`.replace(/\?$/, "");
  const answer = await fetch(address).catch(() => {
    throw Object.assign(new Error("The server does not answer; is it still running?"), { names: [] });
  });
  const body = await answer.json();
  if (!answer.ok) {
    const { error, field, suggestions } = body;
    throw Object.assign(new Error(error), { field, names: suggestions });
  }
  return body;
}

function once(path, model, projection = "") {
  const key = `${path} ${projection} ${model}`;
  if (!kept.has(key)) {
    const asked = call(path, { model, projection });
    asked.catch(() => kept.delete(key));
    kept.set(key, asked);
  }
  return kept.get(key);
}

const side = () => form.elements.side.value;

const entity = new Combobox(at("entity"), async (text) => {
  const { names, labels, descriptions } = await call("entities", { model: at("model").value, text });
  return names.map((name, i) => ({
    name, label: labels[i], note: labels[i] ? [name, descriptions[i]].filter(Boolean).join(" · ") : "",
  }));
}, () => {
  if (relation.value) return ask();
  at("relation").focus();
  relation.suggest("");
}, announce);

const relation = new Combobox(at("relation"), async (text) => {
  const { names, known } = await call("relations", {
    model: at("model").value, text, entity: entity.value, side: side(), limit: 100,
  });
  return names.map((name, i) => ({ name, note: known?.[i] ? `${known[i]} known` : "" }));
}, () => (entity.value ? ask() : at("entity").focus()), announce);

function question() {
  return {
    model: at("model").value, with: at("other").value, entity: entity.value,
    relation: relation.value, side: side(), k: at("k").value, known: at("hide").checked ? "hide" : "",
    projection: at("projection").value,
  };
}

function called(name, label) {
  return label ? `${label} (${name})` : name;
}

function triple({ entity, relation, side }) {
  return side === "tail" ? `(${entity}, ${relation}, ?)` : `(?, ${relation}, ${entity})`;
}

function chosen() {
  return [at("model").value, at("other").value].filter((name) => name);
}

/** Put the question to the models chosen. */
async function ask(remember = true) {
  const asked = question();
  const missing = ["entity", "relation"].find((field) => !asked[field]);
  at("message").hidden = !missing;
  if (missing) {
    at("message").textContent = `Choose ${missing === "entity" ? "an entity" : "a relation"} first.`;
    at(missing).focus();
    return;
  }
  if (remember) history.pushState(null, "", `?${new URLSearchParams(asked)}`);
  at("triple").replaceChildren(written(triple(asked)));
  at("triple").hidden = false;
  document.title = `${triple(asked)} · dglke-distill`;
  const number = ++asking;
  arrange();
  const { with: _, model: __, ...rest } = asked;
  const found = await Promise.all(chosen().map((model) =>
    call("answers", { ...rest, model }).catch((error) => error)));
  if (number !== asking) return;
  const label = found.find((one) => one.label)?.label;
  if (label) {
    const labelled = triple({ ...asked, entity: called(found.find((one) => one.label).entity, label) });
    at("triple").replaceChildren(written(labelled));
    document.title = `${labelled} · dglke-distill`;
  }
  for (const [i, model] of chosen().entries()) {
    const column = columns.get(model);
    if (found[i] instanceof Error) refuse(column, found[i]);
    else answer(column, found[i], found.length > 1 ? found[1 - i] : null);
  }
  announce(found.map((one) => one.answers?.[0]?.label ?? one.answers?.[0]?.name ?? one.message ?? "no answers").join("; "));
}

/** Lay out a column per model chosen, in their order. */
function arrange() {
  const names = chosen();
  for (const name of names) {
    if (!columns.has(name)) columns.set(name, build(name));
    draw(name, columns.get(name));
  }
  at("models").className = names.length > 1 ? "two" : "one";
  const wanted = names.map((name) => columns.get(name).section);
  if ([...at("models").children].some((child, i) => child !== wanted[i]) ||
    at("models").children.length !== wanted.length) at("models").replaceChildren(...wanted);
}

/** Show questions to begin with. */
function offer(examples) {
  at("examples").hidden = !examples.length;
  at("examples").replaceChildren("Try ", ...examples.map((one) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "example" });
    button.append(written(triple({ ...one, entity: one.label ?? one.entity })));
    button.addEventListener("click", () => {
      entity.value = one.entity;
      relation.value = one.relation;
      form.elements.side.value = one.side;
      ask();
    });
    return button;
  }));
}

function build(name) {
  const section = at("model-template").content.cloneNode(true).firstElementChild;
  const part = (selector) => section.querySelector(selector);
  part("h3").textContent = name;
  const map = new EntityMap(part("figure"), look, announce);
  const column = { section, part, map };
  part(".parts").classList.add("unasked");
  once("model", name).then((about) => {
    column.about = about;
    part(".card").textContent = about.sentences.join(" ");
    if (name === at("model").value) offer(about.examples);
    if (about.no_facts) part(".facts").textContent = `Known facts are not marked: ${about.no_facts}.`;
    if (name === at("model").value) allowHiding();
  }).catch((error) => refuse(column, error));
  column.drawn = "";
  return column;
}

/** Draw the map of a column as it is chosen; what was asked for last counts. */
function draw(name, column) {
  const wanted = at("projection").value;
  if (column.drawn === wanted) return;
  column.drawn = wanted;
  const caption = column.part("figcaption");
  if (caption.textContent) {
    caption.textContent = "The map is being laid out …";
    column.map.mark(null); // answers have other places now
  }
  once("map", name, wanted).then((found) => {
    if (column.drawn !== wanted) return;
    column.part("figure").hidden = false;
    column.map.show(found);
  }).catch((error) => {
    if (column.drawn !== wanted) return;
    if (caption.textContent) caption.textContent = error.message;
    else column.part("figure").hidden = true;
  });
}

/** Known facts can be hidden where they are known. */
async function allowHiding() {
  const about = await once("model", at("model").value).catch(() => null);
  at("hide").disabled = !about || about.facts === null;
  if (at("hide").disabled) at("hide").checked = false;
}

function answer({ part, map }, found, other) {
  part(".parts").classList.remove("unasked");
  part(".problem").hidden = true;
  part("table").hidden = !found.answers.length;
  const ranks = new Map(other?.answers?.map(({ name }, i) => [name, i + 1]));
  part("tbody").replaceChildren(...found.answers.map(({ name, label, score, probability, known }, i) => {
    const row = document.createElement("tr");
    const cell = (content, className = "number") => {
      const made = document.createElement("td");
      made.className = className;
      made.append(content);
      row.append(made);
      return made;
    };
    cell(String(i + 1));
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Ask about it";
    button.append(written(label ?? name));
    button.addEventListener("click", () => look(name));
    const place = cell(button, "");
    if (label && label !== name) place.append(Object.assign(document.createElement("small"), { className: "muted", textContent: name }));
    if (known) place.append(Object.assign(document.createElement("span"), { className: "known", textContent: "known" }));
    if (found.known !== null) {
      const whole = found.side === "tail" ? { head: found.entity, tail: name } : { head: name, tail: found.entity };
      const asked = { model: found.model, relation: found.relation, ...whole, answer: label ?? name };
      place.append(whyButton(row, asked, call, announce));
    }
    const shownScore = cell(score.toFixed(4));
    if (probability != null) {
      shownScore.append(Object.assign(document.createElement("small"), { className: "muted", title: "probability", textContent: ` p ${probability.toFixed(3)}` }));
    }
    cell(ranks.has(name) ? String(ranks.get(name)) : "–", "number theirs");
    return row;
  }));
  if (found.known !== null) {
    const among = found.answers.filter(({ known }) => known).length;
    part(".facts").textContent = !found.known ? "No facts are known."
      : at("hide").checked ? `Known facts are left out: ${found.known}.`
      : `Known facts: ${found.known}, of which ${among} among these answers.`;
  }
  map.mark(found);
}

function refuse({ part, map }, error) {
  part("table").hidden = true;
  const problem = part(".problem");
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  problem.replaceChildren(text + (error.names?.length ? ". Did you mean:" : "."), document.createElement("br"));
  const fields = { entity, relation };
  for (const name of fields[error.field] ? error.names : []) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.addEventListener("click", () => {
      fields[error.field].value = name;
      ask();
    });
    problem.append(button);
  }
  problem.hidden = false;
  map.mark(null);
}

/** Go on with another entity: asked as before if the question is whole. */
function look(name) {
  entity.value = name;
  if (relation.value) {
    ask();
  } else {
    at("relation").focus();
    relation.suggest("");
  }
  scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

/** Read the question from the address, and ask it if it is whole. */
function restore() {
  const given = new URLSearchParams(location.search);
  const choose = (id, value) => {
    if ([...at(id).options].some((option) => option.value === value)) at(id).value = value;
  };
  if (given.has("model")) choose("model", given.get("model"));
  if (given.has("with")) choose("other", given.get("with"));
  if (given.has("k")) choose("k", given.get("k"));
  if (given.has("projection")) choose("projection", given.get("projection"));
  entity.value = given.get("entity") ?? "";
  relation.value = given.get("relation") ?? "";
  form.elements.side.value = given.get("side") === "head" ? "head" : "tail";
  at("hide").checked = given.get("known") === "hide";
  allowHiding();
  if (entity.value && relation.value) ask(false);
  else {
    columns.clear();
    at("triple").hidden = true;
    arrange();
  }
}

async function start() {
  const { given, offered, projections } = await call("models");
  at("projection").append(...projections.map((name) => new Option(PROJECTIONS[name], name)));
  at("projection-choice").hidden = projections.length < 2;
  const short = (name) => { // paths differ in their ends
    const said = name.replace(/\/checkpoint\/?$/, "");
    return said.length > 30 ? `…${said.slice(-29)}` : said;
  };
  const options = (names) => names.map((name) => new Option(short(name), name));
  at("model").append(...options([...given, ...offered]));
  at("other").append(new Option("none", ""), ...options([...given, ...offered]));
  at("other").value = given[1] ?? "";
  at("other-choice").hidden = given.length + offered.length < 2;
  restore();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("change", async (event) => {
  if (event.target === at("entity") || event.target === at("relation")) return;
  if (at("other").value === at("model").value) at("other").value = "";
  await allowHiding();
  if (entity.value && relation.value) ask();
  else arrange();
});
addEventListener("popstate", restore);
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    at("entity").focus();
    at("entity").select();
  }
});
start().catch((error) => {
  at("message").textContent = error.message;
  at("message").hidden = false;
});
