// A text field with a list of suggestions, after the ARIA pattern of an editable combobox.

import { written } from "/names.js";

/** The field and its list. Names are shown as text, never as markup. */
export class Combobox {
  /**
   * @param {HTMLInputElement} input
   * @param {(text: string) => Promise<{name: string, label?: string, note?: string}[]>} search
   * @param {(name: string) => void} picked called when a suggestion is taken
   * @param {(text: string) => void} announce says something to screen readers
   */
  constructor(input, search, picked, announce) {
    Object.assign(this, { input, search, picked, announce });
    this.list = document.getElementById(input.getAttribute("aria-controls"));
    this.active = -1;
    this.asked = 0;
    this.pending = null;
    input.addEventListener("input", () => this.suggest());
    input.addEventListener("click", () => this.list.hidden && this.suggest());
    input.addEventListener("blur", () => this.close());
    input.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[data-name]");
      if (option) this.take(option.dataset.name);
    });
  }

  get value() { return this.input.value.trim(); }
  set value(name) { this.input.value = name; }

  /** Ask for suggestions and show them; of answers that overtake each other the last one counts. */
  suggest(text = this.input.value) {
    const number = ++this.asked;
    this.pending = this.search(text).then((found) => {
      if (number === this.asked && document.activeElement === this.input) this.show(found);
    }).catch(() => this.close()).finally(() => {
      if (number === this.asked) this.pending = null;
    });
    return this.pending;
  }

  show(found) {
    this.list.replaceChildren(...found.map(({ name, label, note }, i) => {
      const option = document.createElement("li");
      option.id = `${this.input.id}-${i}`;
      option.setAttribute("role", "option");
      option.dataset.name = name;
      option.append(written(label ?? name));
      if (note) option.append(Object.assign(document.createElement("small"), { textContent: note }));
      return option;
    }));
    if (!found.length) {
      const nothing = Object.assign(document.createElement("li"), { textContent: "no such name" });
      nothing.className = "muted";
      nothing.setAttribute("role", "option");
      nothing.setAttribute("aria-disabled", "true");
      this.list.append(nothing);
    }
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.activate(found.length ? 0 : -1);
    this.announce(found.length === 1 ? "1 suggestion" : `${found.length} suggestions`);
  }

  activate(index) {
    const options = this.list.children;
    this.active = index;
    for (const [i, option] of [...options].entries()) {
      option.setAttribute("aria-selected", String(i === index));
    }
    if (index < 0) {
      this.input.removeAttribute("aria-activedescendant");
    } else {
      this.input.setAttribute("aria-activedescendant", options[index].id);
      options[index].scrollIntoView({ block: "nearest" });
    }
  }

  close() {
    this.asked++;
    this.pending = null;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.activate(-1);
  }

  take(name) {
    this.value = name;
    this.close();
    this.picked(name);
  }

  async key(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey) return;
    const open = !this.list.hidden;
    const count = open ? this.list.querySelectorAll("[data-name]").length : 0;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return void this.suggest();
      if (!count) return;
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.activate((this.active + step + count) % count);
    } else if (event.key === "Enter" && (count || this.pending)) {
      event.preventDefault();
      await this.pending; // typed faster than the suggestions came
      const option = this.list.hidden ? null : this.list.children[this.active];
      if (option) this.take(option.dataset.name);
      else this.input.form.requestSubmit();
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      this.close();
    }
  }
}
