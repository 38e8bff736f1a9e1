// The map of a model's entities on a canvas; answers lie over it.

import { written } from "/names.js";

const LABELS = 10;
const WAYS = {
  umap: "UMAP of their vectors. Neighbours are alike; distances between groups mean little.",
};
const REACH = 14; // pixels between the pointer and a point that it means

export class EntityMap {
  /**
   * @param {HTMLElement} figure of the page's template
   * @param {(name: string) => void} picked called with the entity that is chosen
   * @param {(text: string) => void} announce says something to screen readers
   */
  constructor(figure, picked, announce) {
    Object.assign(this, { figure, picked, announce });
    this.canvas = figure.querySelector("canvas");
    this.tip = figure.querySelector(".tip");
    this.points = [];
    this.marks = [];
    this.here = null;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.point(this.nearest(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("click", (event) => {
      const found = this.nearest(event);
      if (found) this.picked(found.name);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** Show the entities of /api/map. */
  show(map) {
    this.points = map.names.map((name, i) => (
      { name, said: map.labels[i] ?? name, place: map.places[i], role: map.role[i] }));
    this.coloured = map.roles.length > 0;
    const shares = map.shares?.map((share) => `${(100 * share).toFixed(0)}%`);
    const [shown, all] = [map.names.length, map.entities].map((n) => n.toLocaleString("en"));
    const which = shown === all ? `all ${all} entities` : `${shown} of ${all} entities`;
    this.canvas.setAttribute("aria-label",
      `Map of ${which}. Arrow keys go from one to the next, Enter asks about it.`);
    this.figure.querySelector("figcaption").textContent =
      `Map of ${which}: ` + (shares ? "the first two principal components of their vectors, " +
        `${shares[0]} and ${shares[1]} of the variance.` : WAYS[map.projection]) +
      (map.roles.length ? " Colours: what an entity is in most of its facts." : "");
    const legend = map.roles.map(({ side, relation }, i) => [`role-${i}`, `${side} of ${relation}`]);
    if (map.roles.length && map.role.includes(-1)) legend.push(["", "other"]);
    this.figure.querySelector(".legend").replaceChildren(...legend.map(([colour, text]) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("i"), { className: colour }));
      item.append(written(text));
      return item;
    }));
    this.draw();
  }

  /** Mark what /api/answers returned; null for nothing. */
  mark(found) {
    this.marks = !found ? [] : [
      { name: found.entity, said: found.label ?? found.entity, place: found.place, asked: true },
      ...found.answers.map(({ name, label, place }, i) => (
        { name, said: label ?? name, place, number: String(i + 1) })),
    ];
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !this.points.length) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    this.locate(width, height);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const size = this.points.length > 600 ? 2.3 : 3.2;
    for (const known of [false, true]) {
      pen.globalAlpha = (known || !this.coloured ? 0.75 : 0.5) * (this.marks.length ? 0.5 : 1);
      for (const { x, y, role } of this.points) {
        if ((role >= 0) !== known) continue;
        pen.fillStyle = colour(known ? `role-${role}` : "other");
        dot(pen, x, y, size);
      }
    }
    pen.globalAlpha = 1;
    const labelled = this.marks.slice(0, LABELS + 1);
    const mark = ({ x, y, asked }, radius) => {
      pen.fillStyle = colour(asked ? "ink" : "accent");
      pen.strokeStyle = colour("card");
      pen.lineWidth = 2;
      dot(pen, x, y, radius, true);
    };
    for (const one of this.marks.slice(LABELS + 1)) mark(one, 3);
    this.label(pen, labelled, width, height, colour);
    for (const one of labelled.reverse()) mark(one, one.asked ? 7 : 4.5);
    if (this.here) {
      pen.strokeStyle = colour("ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(this.here.x, this.here.y, 8, 0, 7);
      pen.stroke();
    }
  }

  /** Give every point its pixel: one scale for both axes, so that distances are true. */
  locate(width, height) {
    const everything = [...this.points, ...this.marks];
    const [xs, ys] = [0, 1].map((axis) => everything.map((point) => point.place[axis]));
    const range = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)],
      [Infinity, -Infinity]);
    const [[left, right], [low, high]] = [range(xs), range(ys)];
    const margin = 18;
    const scale = Math.min((width - 2 * margin) / (right - left || 1),
      (height - 2 * margin) / (high - low || 1));
    for (const point of everything) {
      point.x = width / 2 + (point.place[0] - (left + right) / 2) * scale;
      point.y = height / 2 - (point.place[1] - (low + high) / 2) * scale;
    }
  }

  /** Write the names of marks, or their numbers alone, where they hide none of the others. */
  label(pen, marks, width, height, colour) {
    const taken = marks.map(({ x, y }) => [x - 5, y - 5, x + 5, y + 5]);
    pen.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    const free = (text, { x, y, asked }) => {
      const wide = pen.measureText(text).width;
      const gap = asked ? 11 : 8;
      const places = [[x + gap, y], [x - gap - wide, y], [x - wide / 2, y - 15],
        [x - wide / 2, y + 15], [x + gap, y - 13], [x + gap, y + 13],
        [x - gap - wide, y - 13], [x - gap - wide, y + 13]];
      return places.map(([a, b]) => [a, b - 7, a + wide, b + 7]).find(([a, b, c, d]) =>
        a >= 2 && c <= width - 2 && b >= 2 && d <= height - 2 &&
        taken.every(([e, f, g, h]) => c < e || a > g || d < f || b > h));
    };
    for (const mark of marks) {
      const label = mark.asked ? mark.said : `${mark.number} ${mark.said}`;
      for (const text of [label.length > 30 ? `${label.slice(0, 29)}…` : label, mark.number]) {
        const place = text && free(text, mark);
        if (!place) continue;
        taken.push(place);
        pen.strokeStyle = colour("card");
        pen.lineWidth = 4;
        pen.strokeText(text, place[0], place[1] + 7);
        pen.fillStyle = colour("ink");
        pen.fillText(text, place[0], place[1] + 7);
        break;
      }
    }
  }

  nearest(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [null, REACH];
    for (const point of [...this.points, ...this.marks]) { // of equally near ones a mark
      const distance = Math.hypot(point.x - x, point.y - y);
      if (distance <= least) [best, least] = [point, distance];
    }
    return best;
  }

  /** Point at an entity, or at none. */
  point(found) {
    if (found === this.here) return;
    this.here = found;
    this.tip.hidden = !found;
    if (found) {
      this.tip.textContent = found.said;
      const width = this.canvas.clientWidth;
      const room = width - this.tip.offsetWidth;
      this.tip.style.left = `${Math.max(0, Math.min(room, found.x + 12))}px`;
      this.tip.style.top = `${found.y + 12}px`;
    }
    this.draw();
  }

  key(event) {
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (way && this.points.length) {
      event.preventDefault();
      this.point(this.here ? this.beside(this.here, way) : this.marks[0] || this.points[0]);
      this.announce(this.here.said);
    } else if (event.key === "Enter" && this.here) {
      event.preventDefault();
      this.picked(this.here.name);
    } else if (event.key === "Escape") {
      this.point(null);
    }
  }

  /** Return the nearest entity in a direction; going sideways counts as a detour. */
  beside(from, [right, down]) {
    let [best, least] = [from, Infinity];
    for (const point of [...this.marks, ...this.points]) {
      const [dx, dy] = [point.x - from.x, point.y - from.y];
      const ahead = dx * right + dy * down;
      const aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (ahead <= 0.5 || aside > 2 * ahead || point.name === from.name) continue;
      if (ahead + 2 * aside < least) [best, least] = [point, ahead + 2 * aside];
    }
    return best;
  }
}

function dot(pen, x, y, radius, outlined = false) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  if (outlined) pen.stroke();
  pen.fill();
}
