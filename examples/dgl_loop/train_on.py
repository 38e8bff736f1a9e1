"""A zoo model trained on in a plain DGL loop: DGL's loader, torch's optimiser, our samplers."""

import dgl
import torch
from torch.nn.functional import softplus

import dglke_distill as kd
from dglke_distill.sampling.edges import RelationSampler
from dglke_distill.sampling.negatives import build_sampler

model, data = kd.load("complex-cldr-dim32"), kd.load_dataset("cldr")
graph = kd.to_dgl(data)
negatives = build_sampler("uniform", graph, count=32, filtered=True, sharing="private")
edges = torch.arange(graph.num_edges())
loader = dgl.dataloading.DataLoader(
    graph, edges, RelationSampler(negatives), batch_size=1024, shuffle=True
)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
for epoch in range(3):
    total = 0.0
    for _, positive, negative, _ in loader:
        margins = model(positive)[negative.edata["positive"]] - model(negative)
        loss = softplus(-margins).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(margins)
    print(f"epoch {epoch}: loss {total / (32 * len(edges)):.4f}")
