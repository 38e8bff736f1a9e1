from __future__ import annotations

import subprocess
import sys


def test_pykeen_can_be_imported_after_us() -> None:
    """PyKEEN registers all optimiser classes of the process by name and refuses namesakes."""
    code = "import dglke_distill.runs.train_run\n"
    code += "from pykeen.optimizers import optimizer_resolver as r"
    code += "; print(r.lookup('adagrad').__module__, r.lookup('adam').__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["torch.optim.adagrad", "torch.optim.adam"], done.stderr
