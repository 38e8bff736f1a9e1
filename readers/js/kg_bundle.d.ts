/** One answer, best first. */
export interface Answer {
  id: number;
  name: string;
  /** The name that people know, empty where there is none; only of a bundle with labels. */
  label?: string;
  score: number;
}

/** How many answers, and which entities are none. */
export interface Choice {
  k?: number;
  exclude?: (string | number)[];
  candidates?: (string | number)[] | null;
}

/**
 * A model read from a bundle. Entities and relations go by name (string) or id (number), entities by
 * label too, where one alone has it.
 */
export class Bundle {
  /** Throws an Error where the content is no bundle, or damaged. */
  constructor(buffer: ArrayBuffer);
  /** What the file says about itself. */
  readonly header: Record<string, unknown>;
  readonly entities: string[];
  readonly relations: string[];
  /** Names that people know for the entities, empty where one has none; null without any. */
  readonly labels: string[] | null;
  score(head: string | number, relation: string | number, tail: string | number): number;
  predictTails(head: string | number, relation: string | number, choice?: Choice): Answer[];
  predictHeads(relation: string | number, tail: string | number, choice?: Choice): Answer[];
  /** Scores of all entities by id; `side` is what is asked for. */
  scores(
    known: string | number,
    relation: string | number,
    side: "tail" | "head",
  ): Float32Array;
}
