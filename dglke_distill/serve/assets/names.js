// How names are written: as text, in their own direction, broken where their parts end.

export function written(name) {
  const made = document.createElement("bdi");
  for (const part of name.split(/(?<=[/._])/)) made.append(part, document.createElement("wbr"));
  return made;
}
