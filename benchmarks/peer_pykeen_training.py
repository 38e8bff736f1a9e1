"""One PyKEEN training process that times epochs on demand; driven by ``train_throughput.py``.

It speaks a line protocol on standard input and output: each line read is a number of steps to run,
each line written tells the seconds they took. Run as a separate process so that the allocator's
settings can be chosen by environment variables, in PyKEEN's favour or not.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time

import numpy as np
import torch


def main() -> None:
    """Build PyKEEN's model and loop for the workload given, then time runs until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="TransE, RotatE or ComplEx")
    parser.add_argument("--floats", type=int, required=True, help="floats per entity")
    parser.add_argument("--triples", required=True, help=".npy file, int64 (n, 3), h r t")
    parser.add_argument("--entities", type=int, required=True)
    parser.add_argument("--relations", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--negatives", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)

    from pykeen.losses import NSSALoss
    from pykeen.models import ComplEx, RotatE, TransE
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    triples = torch.from_numpy(np.load(arguments.triples))

    def factory_of(steps: int) -> CoreTriplesFactory:
        return CoreTriplesFactory.create(
            mapped_triples=triples[: steps * arguments.batch_size],
            num_entities=arguments.entities,
            num_relations=arguments.relations,
        )

    factory = factory_of(1)
    loss = NSSALoss(margin=9.0, adversarial_temperature=1.0)
    common = {"triples_factory": factory, "loss": loss, "random_seed": 0}
    if arguments.model == "TransE":
        model = TransE(embedding_dim=arguments.floats, scoring_fct_norm=1, **common)
    elif arguments.model == "RotatE":
        model = RotatE(embedding_dim=arguments.floats // 2, **common)
    else:
        model = ComplEx(embedding_dim=arguments.floats // 2, **common)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        some = factory_of(int(line))
        # A loop that has trained its number of epochs trains no more when asked for as many again.
        loop = SLCWATrainingLoop(
            model=model,
            triples_factory=some,
            optimizer=optimizer,
            negative_sampler="basic",
            negative_sampler_kwargs={"num_negs_per_pos": arguments.negatives},
        )
        begun = time.perf_counter()
        loop.train(
            triples_factory=some,
            num_epochs=1,
            batch_size=arguments.batch_size,
            use_tqdm=False,
            use_tqdm_batch=False,
            clear_optimizer=False,
        )
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    main()
