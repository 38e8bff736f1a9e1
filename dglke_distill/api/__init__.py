"""What ``import dglke_distill as kd`` offers: each command of the command line as one call."""
