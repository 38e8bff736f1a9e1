"""One PyKEEN process that ranks triples on demand; driven by ``evaluation.py``.

It speaks a line protocol: each line ``first last`` read on standard input asks it to rank those
rows of the test split; the line written is the seconds it took. The ranks of the last request are
then in the file given by ``--ranks``. It is a separate process so that the allocator's settings can
be chosen by environment variables, in PyKEEN's favour or not.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

import numpy as np
import torch


def main() -> None:
    """Build PyKEEN's model with the given weights, then rank until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="TransE or ComplEx")
    parser.add_argument(
        "--inputs", required=True, help=".npz: train, valid, test, entity, relation"
    )
    parser.add_argument("--ranks", required=True, help=".npz that receives head and tail ranks")
    parser.add_argument("--batch-size", type=int, default=None, help="default: PyKEEN's choice")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)

    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import ComplEx, TransE
    from pykeen.triples import CoreTriplesFactory

    inputs = np.load(arguments.inputs)
    train, valid, test = (torch.from_numpy(inputs[n]).long() for n in ("train", "valid", "test"))
    entity, relation = (torch.from_numpy(inputs[n]) for n in ("entity", "relation"))
    factory = CoreTriplesFactory(train, num_entities=len(entity), num_relations=len(relation))
    floats = entity.shape[1]
    if arguments.model == "TransE":
        model = TransE(
            triples_factory=factory, embedding_dim=floats, scoring_fct_norm=1, random_seed=0
        )
    else:
        model = ComplEx(triples_factory=factory, embedding_dim=floats // 2, random_seed=0)
        # PyKEEN keeps each complex number's two floats together; ours are in two halves.
        entity, relation = (
            torch.stack(table.chunk(2, dim=1), dim=2).flatten(1) for table in (entity, relation)
        )
    pairs = ((model.entity_representations, entity), (model.relation_representations, relation))
    with torch.no_grad():
        for representations, table in pairs:
            weight = representations[0]._embeddings.weight
            weight.copy_(table.reshape(weight.shape))
    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=False)

    print("ready", flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        evaluator.clear()
        started = time.perf_counter()
        evaluator.evaluate(
            model,
            mapped_triples=test[first:last],
            # The whole test split is filtered, although only a part of it may be ranked.
            additional_filter_triples=[train, valid, test],
            batch_size=arguments.batch_size,
            use_tqdm=False,
        )
        seconds = time.perf_counter() - started
        ranks = {s: np.concatenate(evaluator.ranks[s, "realistic"]) for s in ("head", "tail")}
        np.savez(arguments.ranks, **ranks)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
