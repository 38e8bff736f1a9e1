"""Components for dglke-distill, one file each."""
