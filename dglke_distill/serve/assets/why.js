// Why an answer: the train facts that support it, in a row below it.

import { written } from "/names.js";

/**
 * Make the button that shows and hides the row.
 *
 * row: of the answer. asked: what /api/explanation is given. call: asks it. announce: tells the
 * status.
 */
export function whyButton(row, asked, call, announce) {
  const button = Object.assign(document.createElement("button"), {
    type: "button", className: "why", textContent: "why?", title: "Train facts that support it",
  });
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-label", `Why ${asked.answer}?`);
  let below = null;
  button.addEventListener("click", async () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (below) {
      below.hidden = open;
      return;
    }
    below = document.createElement("tr");
    below.className = "because";
    const cell = below.insertCell();
    cell.colSpan = row.cells.length;
    cell.append("…");
    row.after(below);
    const { answer: _, ...question } = asked;
    try {
      const found = await call("explanation", { ...question, k: 3 });
      cell.replaceChildren(...told(found));
      announce(cell.textContent);
    } catch (error) {
      cell.replaceChildren(line(error.message, "wrong"));
      announce(error.message);
    }
  });
  return button;
}

function line(text, className = "muted") {
  return Object.assign(document.createElement("p"), { className, textContent: text });
}

function told({ facts, paths, in_train: itself, whole, warnings, notes, labels, relation }) {
  const label = new Map(labels.map(({ name, label }) => [name, label]));
  const said = (name) => label.get(name) ?? name;
  const fact = ({ head, relation, tail }) => written(`(${said(head)}, ${relation}, ${said(tail)})`);
  const list = (title, items) => {
    const made = document.createElement("ul");
    for (const [parts, note] of items) {
      const item = document.createElement("li");
      for (const part of parts) item.append(fact(part), " ");
      item.append(Object.assign(document.createElement("small"), { className: "muted", textContent: note }));
      made.append(item);
    }
    return [line(title, ""), made];
  };
  return [
    ...warnings.map((text) => line(`Note: ${text}.`)),
    ...(itself ? [line("It is a train fact itself, which is not counted.")] : []),
    ...(facts.length
      ? list("Like it in train:", facts.map((one) => [[one.fact], `cosine ${one.similarity.toFixed(3)}`]))
      : [line(`No like fact: train has no other of ${relation}.`)]),
    ...(paths.length
      ? list("Paths in train:", paths.map((one) => [one.facts,
        `so connected, ${one.sampled ? "about " : ""}${one.hits} of ${one.pairs} pairs have the relation`]))
      : [line("No path of up to three facts whose kind tells of the relation.")]),
    ...notes.map((text) => line(`Note: ${text}.`)),
    ...(whole ? [] : [line("Note: some edges of hubs were left out.")]),
  ];
}
