"""Training by many processes on many machines, over ``dgl.distributed``.

DGL's servers keep the parts of the graph and of the entity table; trainers pull the rows that a
batch needs and push what moves them. All trainers take each step together.
"""
